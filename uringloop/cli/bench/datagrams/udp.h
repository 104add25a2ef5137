/* What the C programs of `bench datagrams` share: sockets that hold much, what they have lost, and
   what it has cost. */
#ifndef URINGLOOP_BENCH_UDP_H
#define URINGLOOP_BENCH_UDP_H

#include "../common.h"

#include <sys/epoll.h>
#include <sys/resource.h>

#ifndef SO_MEMINFO      /* Linux 4.12 */
#define SO_MEMINFO 55
#endif
#define SK_MEMINFO_DROPS 8
#define ROOM (8 << 20)
#define LONGEST 65536

static inline int udp_socket(void) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), room = ROOM;
    if (fd < 0)
        fail("socket", errno);
    /* Beyond the system's limit for root only; as much as there is for others. */
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room)
        || setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room)) {
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    }
    return fd;
}

static inline void watch(int epoll, int fd, unsigned tag) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = tag};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
        fail("epoll_ctl", errno);
}

/* How many datagrams it had no room for. */
static inline unsigned dropped(int fd) {
    unsigned told[SK_MEMINFO_DROPS + 1] = {0};
    socklen_t length = sizeof told;
    getsockopt(fd, SOL_SOCKET, SO_MEMINFO, told, &length);
    return told[SK_MEMINFO_DROPS];
}

/* Processor time of this process so far. */
static inline double used(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec
           + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

#endif
