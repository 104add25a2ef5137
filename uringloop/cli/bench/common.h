/* What the C programs of `python -m uringloop bench` share: endings and the clock. */
#ifndef URINGLOOP_BENCH_COMMON_H
#define URINGLOOP_BENCH_COMMON_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#ifndef UDP_SEGMENT     /* Linux 4.18, <linux/udp.h> */
#define UDP_SEGMENT 103
#endif

/* Whatever happens, a program ends so many seconds after it should have. */
#define GRACE 20
/* The exit status where the kernel does not offer what is to be measured. */
#define MISSING 3

static inline void end(int status, const char *what, int error) {
    fprintf(stderr, "%s: %s\n", what, strerror(error));
    exit(status);
}

static inline void fail(const char *what, int error) {
    end(1, what, error);
}

static inline double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

#endif
