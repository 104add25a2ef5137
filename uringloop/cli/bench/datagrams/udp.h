/* What the C programs of `bench datagrams` share: a socket that holds much. */
#ifndef URINGLOOP_BENCH_UDP_H
#define URINGLOOP_BENCH_UDP_H

#include "../common.h"

#include <sys/epoll.h>

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

#endif
