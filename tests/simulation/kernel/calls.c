/* The calls of the C library that sockets in memory are behind.

   Each such socket has a real one beside it, which is never used: it keeps the descriptor, and
   answers for the options. */
#include "sockets.h"

#include <fcntl.h>
#include <netinet/in.h>

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

static struct sock *by_descriptor[DESCRIPTORS];

/* For a while a call that the program makes; NULL: it is for the real kernel. */
struct sock *sock_of(int fd) {
    return sim.active && fd >= 0 && fd < DESCRIPTORS ? by_descriptor[fd] : NULL;
}

static struct sock *called(int fd) {
    struct sock *sock = sock_of(fd);
    if (sock)
        sim_step();
    return sock;
}

static ssize_t answer(long code) {
    return code < 0 ? sim_error((int)-code) : code;
}

int socket(int family, int type, int protocol) {
    int fd = (int)syscall(SYS_socket, family, type, protocol);
    int kind = type & 0xf;
    if (sim.active && fd >= 0 && fd < DESCRIPTORS && (family == AF_INET || family == AF_INET6)
        && (kind == SOCK_STREAM || kind == SOCK_DGRAM))
        by_descriptor[fd] = sock_new(family, type, fd);
    return fd;
}

int close(int fd) {
    struct sock *sock = called(fd);
    if (sock) {
        by_descriptor[fd] = NULL;
        sock->fd = -1;
        sock_let_go(sock);
    }
    return (int)syscall(SYS_close, fd);
}

int bind(int fd, const struct sockaddr *name, socklen_t length) {
    struct sock *sock = called(fd);
    struct sockaddr_storage wanted = {0};
    if (!sock)
        return (int)syscall(SYS_bind, fd, name, length);
    memcpy(&wanted, name, length);
    if (sock_port(&wanted) && sock_at(&wanted, sock->type, sock->type == SOCK_STREAM))
        return sim_error(EADDRINUSE);
    sock->name = wanted;
    sock_bind(sock);
    return 0;
}

int listen(int fd, int backlog) {
    struct sock *sock = called(fd);
    if (!sock)
        return (int)syscall(SYS_listen, fd, backlog);
    sock_bind(sock);
    sock->listening = true;
    return 0;
}

int connect(int fd, const struct sockaddr *peer, socklen_t length) {
    struct sock *sock = called(fd);
    int64_t lag;
    if (!sock)
        return (int)syscall(SYS_connect, fd, peer, length);
    if (sock->connecting || (sock->type == SOCK_STREAM && sock->connected))
        return sim_error(sock->connecting ? EALREADY : EISCONN);
    memset(&sock->peer, 0, sizeof sock->peer);
    memcpy(&sock->peer, peer, length);
    sock_bind(sock);
    if (sock->type == SOCK_DGRAM) {
        sock->connected = true;
        return 0;
    }
    sock->connecting = true;
    lag = sim_lag(CONNECT_LAG);
    if (lag) {
        sim_later(lag, sock_establish, sock);
        return sim_error(EINPROGRESS);
    }
    sock_establish(sock);
    if (sock->error)
        return (int)answer(sock_receive(sock, NULL, 0));
    return 0;
}

static int give_name(const struct sockaddr_storage *from, int family, struct sockaddr *name,
                     socklen_t *length) {
    socklen_t own = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    struct sockaddr_storage known = *from;
    known.ss_family = (sa_family_t)family;
    memcpy(name, &known, own < *length ? own : *length);
    *length = own;
    return 0;
}

int accept4(int fd, struct sockaddr *name, socklen_t *length, int flags) {
    struct sock *sock = called(fd), *found;
    int made;
    if (!sock)
        return (int)syscall(SYS_accept4, fd, name, length, flags);
    if (!sock->waiting)
        return sim_error(EAGAIN);
    made = (int)syscall(SYS_socket, sock->family, SOCK_STREAM | flags, 0);
    if (made < 0)
        return made;
    found = sock->backlog[0];
    memmove(sock->backlog, sock->backlog + 1, --sock->waiting * sizeof *sock->backlog);
    found->fd = made;
    by_descriptor[made] = found;
    if (name)
        give_name(&found->peer, found->family, name, length);
    return made;
}

int accept(int fd, struct sockaddr *name, socklen_t *length) {
    return accept4(fd, name, length, 0);
}

int getsockname(int fd, struct sockaddr *name, socklen_t *length) {
    struct sock *sock = called(fd);
    if (!sock)
        return (int)syscall(SYS_getsockname, fd, name, length);
    return give_name(&sock->name, sock->family, name, length);
}

int getpeername(int fd, struct sockaddr *name, socklen_t *length) {
    struct sock *sock = called(fd);
    if (!sock)
        return (int)syscall(SYS_getpeername, fd, name, length);
    if (!sock->connected || sock->reset)
        return sim_error(ENOTCONN);
    return give_name(&sock->peer, sock->family, name, length);
}

int getsockopt(int fd, int level, int option, void *value, socklen_t *length) {
    struct sock *sock = called(fd);
    if (sock && level == SOL_SOCKET && option == SO_ERROR) {
        int error = sock->error;
        sock->error = 0;
        memcpy(value, &error, sizeof error);
        *length = sizeof error;
        return 0;
    }
    return (int)syscall(SYS_getsockopt, fd, level, option, value, length);
}

int setsockopt(int fd, int level, int option, const void *value, socklen_t length) {
    struct sock *sock = called(fd);
    if (sock && level == IPPROTO_UDP && option == UDP_GRO)
        sock->takes_trains = *(const int *)value != 0;
    return (int)syscall(SYS_setsockopt, fd, level, option, value, length);
}

int shutdown(int fd, int how) {
    struct sock *sock = called(fd);
    if (!sock)
        return (int)syscall(SYS_shutdown, fd, how);
    if (sock->type != SOCK_STREAM || !sock->connected || sock->reset)
        return sim_error(ENOTCONN);
    if (how != SHUT_RD)
        sock_end_sending(sock);
    return 0;
}

/* -- sending ----------------------------------------------------------------------------------- */

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    struct sock *sock = called(fd);
    long sent;
    if (!sock)
        return syscall(SYS_sendmsg, fd, message, flags);
    sent = sock_send(sock, message, NULL);
    sim_note("socket %d: a call sends: %ld", sock->number, sent);
    return answer(sent);
}

ssize_t sendto(int fd, const void *base, size_t length, int flags, const struct sockaddr *name,
               socklen_t name_length) {
    struct iovec vector = {(void *)(uintptr_t)base, length};
    struct msghdr message = {.msg_name = (void *)(uintptr_t)name, .msg_namelen = name_length,
                             .msg_iov = &vector, .msg_iovlen = 1};
    if (!sock_of(fd))
        return syscall(SYS_sendto, fd, base, length, flags, name, name_length);
    return sendmsg(fd, &message, flags);
}

int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags) {
    struct sock *sock = called(fd);
    unsigned done = 0;
    long sent = 0;
    if (!sock)
        return (int)syscall(SYS_sendmmsg, fd, messages, count, flags);
    while (done < count) {
        sent = sock_send(sock, &messages[done].msg_hdr, NULL);
        if (sent < 0)
            break;                       /* forgotten, if others have left */
        messages[done++].msg_len = (unsigned)sent;
    }
    sim_note("socket %d: a call sends %u: %ld", sock->number, done, sent);
    return done ? (int)done : (int)answer(sent);
}

ssize_t send(int fd, const void *base, size_t length, int flags) {
    return sendto(fd, base, length, flags, NULL, 0);
}

/* -- receiving --------------------------------------------------------------------------------- */

ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
    struct sock *sock = called(fd);
    long length;
    if (!sock)
        return syscall(SYS_recvmsg, fd, message, flags);
    length = sock_receive(sock, message, flags);
    sim_note("socket %d: a call receives: %ld", sock->number, length);
    return answer(length);
}

int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *time) {
    struct sock *sock = called(fd);
    unsigned done = 0;
    long length = 0;
    if (!sock)
        return (int)syscall(SYS_recvmmsg, fd, messages, count, flags, time);
    while (done < count) {
        if (done && sock->error)
            break;                       /* kept for the next call */
        length = sock_receive(sock, &messages[done].msg_hdr, flags);
        if (length < 0)
            break;
        messages[done++].msg_len = (unsigned)length;
    }
    sim_note("socket %d: a call receives %u: %ld", sock->number, done, length);
    return done ? (int)done : (int)answer(length);
}

ssize_t recvfrom(int fd, void *base, size_t length, int flags, struct sockaddr *name,
                 socklen_t *name_length) {
    struct iovec vector = {base, length};
    struct msghdr message = {.msg_name = name, .msg_namelen = name ? *name_length : 0,
                             .msg_iov = &vector, .msg_iovlen = 1};
    ssize_t received;
    if (!sock_of(fd))
        return syscall(SYS_recvfrom, fd, base, length, flags, name, name_length);
    received = recvmsg(fd, &message, flags);
    if (name && received >= 0)
        *name_length = message.msg_namelen;
    return received;
}

ssize_t recv(int fd, void *base, size_t length, int flags) {
    return recvfrom(fd, base, length, flags, NULL, NULL);
}

/* What a Python that was compiled with _FORTIFY_SOURCE calls. */
ssize_t __recv_chk(int fd, void *base, size_t length, size_t room, int flags) {
    (void)room;
    return recv(fd, base, length, flags);
}

ssize_t __recvfrom_chk(int fd, void *base, size_t length, size_t room, int flags,
                       struct sockaddr *name, socklen_t *name_length) {
    (void)room;
    return recvfrom(fd, base, length, flags, name, name_length);
}

/* -- waiting ----------------------------------------------------------------------------------- */

static int look(struct pollfd *polled, nfds_t count) {
    int found = 0, real = real_poll(polled, count, 0);
    if (real < 0)
        return real;
    for (nfds_t i = 0; i < count; i++) {
        struct sock *sock = sock_of(polled[i].fd);
        if (sock)
            polled[i].revents = (short)(sock_poll(sock)
                & ((unsigned)polled[i].events | POLLERR | POLLHUP));
        found += polled[i].revents != 0;
    }
    return found;
}

int poll(struct pollfd *polled, nfds_t count, int timeout) {
    int64_t until = timeout < 0 ? INT64_MAX : sim.now + timeout * (int64_t)MILLISECOND;
    int found;
    if (!sim.active)
        return real_poll(polled, count, timeout);
    sim_step();
    while ((found = look(polled, count)) == 0 && sim.now < until)
        if (!sim_advance(until) && timeout < 0) {
            sim_violation("a call of poll would sleep for ever");
            return sim_error(EINTR);
        }
    return found;
}

int __poll_chk(struct pollfd *polled, nfds_t count, int timeout, size_t room) {
    (void)room;
    return poll(polled, count, timeout);
}

void calls_reset(void) {
    memset(by_descriptor, 0, sizeof by_descriptor);
}
