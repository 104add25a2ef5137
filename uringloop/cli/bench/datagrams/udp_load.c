/* Datagrams out, to a server on this machine: udp_load WAY PORT SIZE SECONDS SOCKETS WINDOW

   WAY echo     from each of SOCKETS sockets WINDOW are under way; an answer lets the next one go
   WAY trains   WINDOW datagrams a system call (UDP_SEGMENT), as fast as they leave
   WAY singles  one a system call, as fast as they leave

   Each datagram of an echo has its number at both ends, which its answer must have too.  What is
   overdue counts as lost, and is replaced. */
#include "udp.h"

#include <stdint.h>

#define OVERDUE 0.2         /* seconds */

struct peer {
    int fd;
    uint64_t next;          /* number of the datagram to be sent */
    uint64_t expected;      /* and of the next answer */
    double heard;
};

static struct { unsigned long sent, answered, lost; } count;
static char memory[LONGEST];
static size_t size;

static void send_next(struct peer *peer) {
    memcpy(memory, &peer->next, sizeof peer->next);
    memcpy(memory + size - sizeof peer->next, &peer->next, sizeof peer->next);
    peer->next++;
    count.sent++;
    if (send(peer->fd, memory, size, 0) < 0)
        fail("send", errno);
}

/* Takes an answer; how many may be sent for it.  -1: there is none. */
static int take(struct peer *peer) {
    uint64_t first, last;
    ssize_t length = recv(peer->fd, memory, sizeof memory, MSG_DONTWAIT);
    if (length < 0) {
        if (errno == EAGAIN)
            return -1;
        fail("recv", errno);
    }
    memcpy(&first, memory, sizeof first);
    memcpy(&last, memory + size - sizeof last, sizeof last);
    if ((size_t)length != size || first != last || first >= peer->next)
        end(1, "an answer is not what was sent", EBADMSG);
    count.answered++;
    if (first < peer->expected) {
        /* It was given up, or has been overtaken. */
        if (!count.lost--)
            end(1, "an answer came twice", EBADMSG);
        return 0;
    }
    int passed = first - peer->expected;
    count.lost += passed;
    peer->expected = first + 1;
    return 1 + passed;
}

static void give_up(struct peer *peer) {
    count.lost += peer->next - peer->expected;
    peer->expected = peer->next;
}

static unsigned long under_way(const struct peer *peers, int sockets) {
    unsigned long all = 0;
    for (int n = 0; n < sockets; n++)
        all += peers[n].next - peers[n].expected;
    return all;
}

/* When the last answer came. */
static double echo(struct peer *peers, int sockets, int window, double until) {
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    double time = now(), heard = time;
    for (int n = 0; n < sockets; n++) {
        watch(epoll, peers[n].fd, n);
        peers[n].heard = time;
        for (int sent = 0; sent < window; sent++)
            send_next(&peers[n]);
    }
    while (time < until || (under_way(peers, sockets) && time < heard + OVERDUE)) {
        struct epoll_event events[64];
        int found = epoll_wait(epoll, events, 64, 50);
        time = now();
        for (int event = 0; event < found; event++) {
            struct peer *peer = &peers[events[event].data.u32];
            for (int more; (more = take(peer)) >= 0;) {
                peer->heard = heard = time = now();
                for (; more && time < until; more--)
                    send_next(peer);
            }
        }
        for (int n = 0; n < sockets && !found && time < until; n++)
            if (time > peers[n].heard + OVERDUE) {
                give_up(&peers[n]);
                peers[n].heard = time;
                for (int sent = 0; sent < window; sent++)
                    send_next(&peers[n]);
            }
    }
    for (int n = 0; n < sockets; n++)
        give_up(&peers[n]);
    return heard;
}

static double flood(int fd, int together, double until) {
    static char train[LONGEST];
    int segment = size;
    double time;
    if (together > 1 && setsockopt(fd, SOL_UDP, UDP_SEGMENT, &segment, sizeof segment))
        end(MISSING, "UDP_SEGMENT", errno);
    do {
        for (int n = 0; n < 16; n++, count.sent += together)
            if (send(fd, train, size * together, 0) < 0)
                fail("send", errno);
        time = now();
    } while (time < until);
    return time;
}

int main(int argc, char **argv) {
    if (argc != 7) {
        fprintf(stderr, "usage: %s WAY PORT SIZE SECONDS SOCKETS WINDOW\n", argv[0]);
        return 2;
    }
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2])),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    double seconds = atof(argv[4]);
    int sockets = atoi(argv[5]), window = atoi(argv[6]);
    size = strtoul(argv[3], NULL, 10);
    if (size < 16 || size > LONGEST || sockets < 1 || window < 1 || window > LONGEST)
        end(2, "an argument", EINVAL);
    alarm((unsigned)seconds + GRACE);
    struct peer *peers = calloc(sockets, sizeof *peers);
    for (int n = 0; n < sockets; n++) {
        peers[n].fd = udp_socket();
        if (connect(peers[n].fd, (void *)&there, sizeof there))
            fail("connect", errno);
    }
    double began = now();
    double ended = !strcmp(argv[1], "echo")
        ? echo(peers, sockets, window, began + seconds)
        : flood(peers[0].fd, !strcmp(argv[1], "trains") ? window : 1, began + seconds);
    printf("{\"began\": %.9f, \"seconds\": %.9f, \"sent\": %lu, \"answered\": %lu, "
           "\"lost\": %lu}\n", began, ended - began, count.sent, count.answered, count.lost);
}
