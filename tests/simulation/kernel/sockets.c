/* UDP and TCP in memory.

   What is sent waits in ``sent`` until its packet leaves, when the seed says, in order; then it
   is in the other's ``received``.  Nothing is lost: so what is missing in the end was lost by
   the loop. */
#include "sockets.h"

#include <netinet/in.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
enum { LONGEST = 65507, MOST_SEGMENTS = 64, FIRST_PORT = 40001, MTU_SEGMENT = 1 << 14 };

static struct sock *all;
static int sock_count;
static unsigned next_port;

static void depart(void *what);

/* -- packets ----------------------------------------------------------------------------------- */

static void append(struct packets *queue, struct packet *packet) {
    if (!queue->first)
        queue->last = &queue->first;
    packet->next = NULL;
    *queue->last = packet;
    queue->last = &packet->next;
    queue->bytes += packet->length;
}

static struct packet *pop(struct packets *queue) {
    struct packet *packet = queue->first;
    queue->first = packet->next;
    queue->bytes -= packet->length;
    return packet;
}

static void drop(struct packet *packet) {
    if (packet->lent)
        lent_let_go(packet->lent);
    free(packet->content);
    free(packet);
}

static void drop_all(struct packets *queue) {
    while (queue->first)
        drop(pop(queue));
    queue->bytes = 0;
}

/* -- sockets ----------------------------------------------------------------------------------- */

struct sock *sock_new(int family, int type, int fd) {
    static const size_t rooms[] = {2000, 20000, 70000, 212992, 212992};
    struct sock *sock = calloc(1, sizeof *sock);
    sock->next = all;
    all = sock;
    sock->users = 1;
    sock->number = ++sock_count;
    sock->fd = fd;
    sock->family = family;
    sock->type = type & 0xf;
    sock->room = rooms[sim_pick(5)];
    sock->receive_room = rooms[sim_pick(5)];
    return sock;
}

unsigned sock_port(const struct sockaddr_storage *address) {
    /* IPv6 has it there, too. */
    return ntohs(((const struct sockaddr_in *)address)->sin_port);
}

struct sock *sock_at(const struct sockaddr_storage *address, int type, bool listening) {
    for (struct sock *sock = all; sock; sock = sock->next)
        if (sock->users && sock->bound && sock->type == type && sock->listening == listening
            && sock->family == address->ss_family
            && sock_port(&sock->name) == sock_port(address)
            && (type == SOCK_DGRAM || listening || !sock->mate))
            return sock;
    return NULL;
}

/* A name of its own, if it has none. */
void sock_bind(struct sock *sock) {
    struct sockaddr_in *name = (struct sockaddr_in *)&sock->name;
    if (sock->bound)
        return;
    sock->bound = true;
    sock->name.ss_family = (sa_family_t)sock->family;
    if (!name->sin_port)
        name->sin_port = htons((uint16_t)(FIRST_PORT + next_port++));
    if (sock->family == AF_INET && !name->sin_addr.s_addr)
        name->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (sock->family == AF_INET6)
        ((struct sockaddr_in6 *)name)->sin6_addr = in6addr_loopback;
}

int sock_number(const struct sock *sock) { return sock->number; }

struct sock *sock_hold(struct sock *sock) {
    sock->users++;
    return sock;
}

/* The last descriptor, table and request have let go of it: it is closed now, not before. */
void sock_let_go(void *what) {
    struct sock *sock = what;
    if (--sock->users)
        return;
    sim_note("socket %d is closed", sock->number);
    while (sock->waiting)
        sock_reset(sock->backlog[--sock->waiting]);
    if (sock->type == SOCK_STREAM && sock->received.first)
        sock_reset(sock);                /* as TCP: what nobody has read is answered by a reset */
    else if (sock->type == SOCK_STREAM)
        sock_end_sending(sock);
    drop_all(&sock->received);
}

unsigned sock_poll(const struct sock *sock) {
    unsigned events = 0;
    bool over = sock->reset || (sock->ended && sock->shut);
    if (sock->listening)
        return sock->waiting ? POLLIN : 0;
    if (sock->connecting)
        return 0;
    if (sock->received.first || sock->ended || over || sock->error)
        events |= POLLIN;
    if (sock->error || over || (!sock->full && sock->sent.bytes < sock->room
                                && (sock->type == SOCK_DGRAM || sock->connected)))
        events |= POLLOUT;
    if (sock->error)
        events |= POLLERR;
    if (sock->ended || over)
        events |= POLLRDHUP;
    if (over || (sock->type == SOCK_STREAM && !sock->connected && !sock->listening))
        events |= POLLHUP;
    return events;
}

/* -- connections ------------------------------------------------------------------------------- */

/* The handshake is done, or fails. */
void sock_establish(void *what) {
    struct sock *sock = what, *listener = sock_at(&sock->peer, SOCK_STREAM, true), *other;
    sock->connecting = false;
    if (sock->users && (!listener || listener->waiting == BACKLOG)) {
        sock->error = ECONNREFUSED;
        requests_wake(sock, POLLIN | POLLOUT | POLLERR | POLLHUP);
    } else if (sock->users) {
        other = sock_new(sock->family, SOCK_STREAM, -1);
        other->name = listener->name;
        other->peer = sock->name;
        other->bound = other->connected = sock->connected = true;
        other->mate = sock;
        sock->mate = other;
        listener->backlog[listener->waiting++] = other;
        requests_wake(listener, POLLIN);
        requests_wake(sock, POLLOUT);
    }
}

static void one_is_reset(struct sock *sock, int error) {
    if (sock->reset)
        return;
    sock->reset = true;
    sock->error = error;
    drop_all(&sock->sent);
    requests_wake(sock, POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP);
}

void sock_reset(struct sock *sock) {
    sim_note("socket %d is reset", sock->number);
    one_is_reset(sock, 0);
    if (sock->mate)
        one_is_reset(sock->mate, ECONNRESET);
}

void sock_end_sending(struct sock *sock) {
    struct packet *packet;
    if (sock->shut || !sock->mate || sock->reset)
        return;
    sock->shut = true;
    packet = calloc(1, sizeof *packet);
    packet->end = true;
    append(&sock->sent, packet);
    sock_go_on(sock);
}

/* -- on their way ------------------------------------------------------------------------------ */

/* Have the first of what was sent leave, unless that is planned. */
void sock_go_on(void *what) {
    struct sock *sock = what;
    while (!sock->sending && sock->sent.first) {
        int64_t lag = sim_lag(NET_LAG);
        sock->sending = true;
        if (lag) {
            sim_later(lag, depart, sock);
            return;
        }
        depart(sock);
        if (sock->sending || (sock->mate && sock->mate->received.bytes >= sock->mate->receive_room))
            return;
    }
}

static void arrive(struct sock *at, struct packet *packet, size_t from, size_t length) {
    struct packet *part = calloc(1, sizeof *part);
    part->address = packet->address;
    part->content = malloc(length + 1);
    memcpy(part->content, packet->content + from, length);
    part->length = length;
    part->segment = packet->segment && length > packet->segment ? packet->segment : 0;
    append(&at->received, part);
}

static void datagram_arrives(struct sock *sock, struct packet *packet) {
    struct sock *to = sock_at(&packet->address, SOCK_DGRAM, false);
    size_t from = 0, length;
    if (!to) {
        sim_note("nobody is at port %u", sock_port(&packet->address));
        if (sock->connected && sock->users && sim_fault(ICMP)) {
            sock->error = ECONNREFUSED;
            requests_wake(sock, POLLIN | POLLOUT | POLLERR);
        }
        return;
    }
    packet->address = sock->name;
    do {
        length = packet->length - from;
        if (packet->segment && length > packet->segment) {
            size_t whole = (length + packet->segment - 1) / packet->segment;
            if (!to->takes_trains)
                whole = 1;
            else if (sim_fault(TRAIN_PARTS))
                whole = 1 + sim_pick((unsigned)whole);
            if (whole * packet->segment < length)
                length = whole * packet->segment;
        }
        arrive(to, packet, from, length);
        from += length;
    } while (from < packet->length);
    requests_wake(to, POLLIN);
}

static void depart(void *what) {
    struct sock *sock = what, *mate = sock->mate;
    struct packet *packet;
    bool was_full = sock->full || sock->sent.bytes >= sock->room;
    sock->sending = false;
    if (!sock->sent.first)
        return;
    if (mate && mate->received.bytes >= mate->receive_room && !sock->sent.first->end)
        return;                  /* until that has read: see sock_receive */
    packet = pop(&sock->sent);
    if (packet->lent) {
        packet->content = malloc(packet->length + 1);
        lent_copy(packet->lent, packet->lent_from, packet->content, packet->length);
    }
    if (sock->type == SOCK_DGRAM)
        datagram_arrives(sock, packet);
    else if (!mate || !mate->users || mate->reset || sim_fault(RESET))
        sock_reset(sock);
    else if (packet->end) {
        mate->ended = true;
        requests_wake(mate, POLLIN | POLLRDHUP);
    } else {
        arrive(mate, packet, 0, packet->length);
        requests_wake(mate, POLLIN);
    }
    drop(packet);
    if (was_full && !sock->full && sock->sent.bytes < sock->room)
        requests_wake(sock, POLLOUT);
    if (sock->sent.first && !sock->sending) {
        sock->sending = true;
        sim_later(1 + sim_lag(NET_LAG), depart, sock);
    }
}

/* -- sending ----------------------------------------------------------------------------------- */

static void has_room(void *what) {
    struct sock *sock = what;
    sock->full = false;
    if (sock->users && sock->sent.bytes < sock->room)
        requests_wake(sock, POLLOUT);
}

static long no_room(struct sock *sock) {
    if (!sock->full) {
        sock->full = true;
        sim_later(1 + sim_pick(400) * MICROSECOND + sim_lag(POLL_LAG), has_room, sock);
    }
    return -EAGAIN;
}

static unsigned segment_of(const struct msghdr *message) {
    const struct cmsghdr *control = message->msg_control;
    uint16_t size = 0;
    if (control && message->msg_controllen >= CMSG_LEN(sizeof size)
        && control->cmsg_level == IPPROTO_UDP && control->cmsg_type == UDP_SEGMENT)
        memcpy(&size, CMSG_DATA(control), sizeof size);
    return size;
}

/* What an error of the network, or a lack of memory, makes of it; 0: nothing. */
static long send_fault(struct sock *sock, size_t length, unsigned segment, bool zerocopy) {
    if (sock->error) {
        int error = sock->error;
        sock->error = 0;
        return -error;
    }
    if (sock->full || sim_fault(SEND_EAGAIN))
        return no_room(sock);
    if (sim_fault(SEND_EINTR))
        return -EINTR;
    if (sock->type == SOCK_DGRAM) {
        if (length > LONGEST && !segment)
            return -EMSGSIZE;
        if (sim_fault(SEND_UNREACHABLE))
            return (long[]){-EHOSTUNREACH, -ENETUNREACH, -EPERM, -ENETDOWN}[sim_pick(4)];
        if (sim_fault(SEND_ENOBUFS))
            return -ENOBUFS;
        if (segment && ((length + segment - 1) / segment > MOST_SEGMENTS || segment > MTU_SEGMENT))
            return -EINVAL;
        if (segment && length > segment && sim_fault(SEGMENTS_REFUSED))
            return (long[]){-EIO, -EINVAL, -EMSGSIZE, -EOPNOTSUPP}[sim_pick(4)];
    }
    if (zerocopy && sim_fault(SEND_ENOMEM))
        return sim_pick(2) ? -ENOMEM : -ENOBUFS;
    if (zerocopy && sim_fault(SEND_EMSGSIZE) && sock->type == SOCK_DGRAM)
        return -EMSGSIZE;
    return zerocopy && sim_fault(SEND_EOPNOTSUPP) ? -EOPNOTSUPP : 0;
}

/* Bytes, or -errno.  ``lent``: the memory is not copied before the packet leaves. */
long sock_send(struct sock *sock, const struct msghdr *message, struct lent *lent) {
    size_t length = 0, at = 0;
    unsigned segment = segment_of(message);
    struct packet *packet;
    long fault;
    for (size_t i = 0; i < message->msg_iovlen; i++)
        length += message->msg_iov[i].iov_len;
    if (sock->type == SOCK_STREAM && (sock->reset || sock->shut))
        return sock->error ? sock_receive(sock, NULL, 0) : -EPIPE;
    if (sock->type == SOCK_STREAM && !sock->connected)
        return -ENOTCONN;
    if (sock->type == SOCK_DGRAM && !sock->connected && !message->msg_namelen)
        return -EDESTADDRREQ;
    fault = send_fault(sock, length, segment, lent != NULL);
    if (fault)
        return fault;
    if (sock->sent.bytes >= sock->room)
        return no_room(sock);
    if (sock->type == SOCK_STREAM && length > sock->room - sock->sent.bytes)
        length = sock->room - sock->sent.bytes;
    if (sock->type == SOCK_STREAM && length > 1 && sim_fault(SEND_SHORT))
        length = 1 + sim_pick((unsigned)length);
    if (sock->type == SOCK_STREAM && !length)
        return 0;
    packet = calloc(1, sizeof *packet);
    packet->length = length;
    packet->segment = segment;
    if (sock->type == SOCK_DGRAM) {
        sock_bind(sock);
        if (message->msg_namelen)
            memcpy(&packet->address, message->msg_name, message->msg_namelen);
        else
            packet->address = sock->peer;
        sim.counts.datagrams_sent += segment ? (length + segment - 1) / segment : 1;
    } else
        sim.counts.bytes_written += length;
    if (lent) {
        packet->lent = lent;
        lent_hold(lent);
    } else {
        packet->content = malloc(length + 1);
        for (size_t i = 0; i < message->msg_iovlen && at < length; i++) {
            size_t part = message->msg_iov[i].iov_len;
            if (part > length - at)
                part = length - at;
            memcpy(packet->content + at, message->msg_iov[i].iov_base, part);
            at += part;
        }
    }
    append(&sock->sent, packet);
    sock_go_on(sock);
    return (long)length;
}

/* -- receiving --------------------------------------------------------------------------------- */

static size_t scatter(struct msghdr *message, size_t from, const char *content, size_t length) {
    size_t done = 0, skip = from;
    for (size_t i = 0; i < message->msg_iovlen && done < length; i++) {
        size_t room = message->msg_iov[i].iov_len, part;
        if (skip >= room) {
            skip -= room;
            continue;
        }
        part = room - skip < length - done ? room - skip : length - done;
        memcpy((char *)message->msg_iov[i].iov_base + skip, content + done, part);
        done += part;
        skip = 0;
    }
    return done;
}

static void tell_segment(struct msghdr *message, int segment) {
    struct cmsghdr *control = message->msg_control;
    if (message->msg_controllen < CMSG_SPACE(sizeof segment)) {
        message->msg_flags |= MSG_CTRUNC;
        message->msg_controllen = 0;
        return;
    }
    control->cmsg_level = IPPROTO_UDP;
    control->cmsg_type = UDP_GRO;
    control->cmsg_len = CMSG_LEN(sizeof segment);
    memcpy(CMSG_DATA(control), &segment, sizeof segment);
    message->msg_controllen = CMSG_SPACE(sizeof segment);
}

static long datagram_receive(struct sock *sock, struct msghdr *message, int flags) {
    struct packet *packet = sock->received.first;
    size_t length;
    if (!packet)
        return -EAGAIN;
    length = scatter(message, 0, packet->content, packet->length);
    message->msg_flags = length < packet->length ? MSG_TRUNC : 0;
    if (message->msg_name) {
        socklen_t name = sock->family == AF_INET ? sizeof(struct sockaddr_in)
                                                 : sizeof(struct sockaddr_in6);
        memcpy(message->msg_name, &packet->address,
               name < message->msg_namelen ? name : message->msg_namelen);
        message->msg_namelen = name;
    }
    if (packet->segment && sock->takes_trains)
        tell_segment(message, (int)packet->segment);
    else
        message->msg_controllen = 0;
    if (!(flags & MSG_PEEK)) {
        sim.counts.datagrams_taken += packet->segment
            ? (packet->length + packet->segment - 1) / packet->segment : 1;
        drop(pop(&sock->received));
    }
    return (long)length;
}

static long stream_receive(struct sock *sock, struct msghdr *message, int flags) {
    size_t room = 0, length = 0;
    for (size_t i = 0; i < message->msg_iovlen; i++)
        room += message->msg_iov[i].iov_len;
    for (struct packet *packet = sock->received.first; packet && length < room;) {
        size_t part = scatter(message, length, packet->content, packet->length);
        length += part;
        if (flags & MSG_PEEK)
            packet = packet->next;
        else if (part == packet->length) {
            drop(pop(&sock->received));
            packet = sock->received.first;
        } else {
            memmove(packet->content, packet->content + part, packet->length - part);
            packet->length -= part;
            sock->received.bytes -= part;
        }
    }
    if (!(flags & MSG_PEEK))
        sim.counts.bytes_read += length;
    if (length && sock->mate && !sock->mate->sending)
        sock_go_on(sock->mate);
    return (long)length;
}

/* Bytes, or -errno.  Without a message: the error that waits. */
long sock_receive(struct sock *sock, struct msghdr *message, int flags) {
    long code = 0;
    if (sock->error && (sock->type == SOCK_DGRAM || !sock->received.first || !message)) {
        code = -sock->error;
        sock->error = 0;
        return code;
    }
    if (sock->type == SOCK_DGRAM)
        return datagram_receive(sock, message, flags);
    if (sock->received.first)
        return stream_receive(sock, message, flags);
    if (!sock->connected && !sock->reset)
        return -ENOTCONN;
    return sock->ended || sock->reset ? 0 : -EAGAIN;
}

void sockets_reset(void) {
    while (all) {
        struct sock *sock = all;
        all = sock->next;
        for (struct packets *queue = &sock->sent; queue;
             queue = queue == &sock->sent ? &sock->received : NULL)
            while (queue->first) {
                struct packet *packet = pop(queue);
                free(packet->content);
                free(packet);
            }
        free(sock);
    }
    sock_count = 0;
    next_port = 0;
}

/* Packets that wait in this socket, or are on their way to or from it. */
long sim_unread(int fd) {
    struct sock *sock = sock_of(fd);
    long count = 0;
    if (!sock)
        return 0;
    for (const struct packet *packet = sock->received.first; packet; packet = packet->next)
        count++;
    for (const struct packet *packet = sock->sent.first; packet; packet = packet->next)
        count++;
    for (const struct sock *other = all; other && sock->type == SOCK_DGRAM; other = other->next)
        for (const struct packet *packet = other->sent.first; packet; packet = packet->next)
            count += other != sock && other->type == SOCK_DGRAM
                && sock_port(&packet->address) == sock_port(&sock->name);
    return count;
}
