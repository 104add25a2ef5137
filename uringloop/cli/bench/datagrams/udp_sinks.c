/* Datagrams in, at many sockets: udp_sinks SOCKETS SECONDS

   Says its ports, counts what comes until its standard input ends, takes what is still there, and
   says what it has counted and what the kernel has dropped for want of room.  Each datagram begins
   with its length: one that is of another, two in one or half of one, ends the program. */
#define _GNU_SOURCE
#include "udp.h"

#include <poll.h>
#include <stdint.h>

#define MOST 256
#define BATCH 64
#define PAUSE 1             /* milliseconds between two looks */
#define QUIET 10            /* and in which nothing comes any more */

static struct { unsigned long datagrams, bytes, dropped; } count;
static char memory[BATCH][LONGEST];
static struct iovec pieces[BATCH];
static struct mmsghdr messages[BATCH];

static void look_at(int n) {
    uint32_t length;
    memcpy(&length, memory[n], sizeof length);
    if (messages[n].msg_len < sizeof length || messages[n].msg_len != length)
        end(1, "a datagram is not what was sent", EBADMSG);
    count.datagrams++;
    count.bytes += length;
}

/* All there is, of each; how many. */
static int take(const int *sinks, int sockets) {
    int all = 0;
    for (int number = 0; number < sockets; number++)
        for (int received; (received = recvmmsg(sinks[number], messages, BATCH, MSG_DONTWAIT,
                                                NULL)) > 0; all += received)
            for (int n = 0; n < received; n++)
                look_at(n);
    return all;
}

/* Nobody waits at the sockets: who sends would wake him up, each time, and be measured doing so. */
static void serve(const int *sinks, int sockets) {
    struct pollfd input = {STDIN_FILENO, POLLIN, 0};
    while (poll(&input, 1, PAUSE) <= 0)
        take(sinks, sockets);
    while (take(sinks, sockets))
        poll(NULL, 0, QUIET);
}

static int sink(int number) {
    int fd = udp_socket();
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof here;
    if (bind(fd, (void *)&here, length) || getsockname(fd, (void *)&here, &length))
        fail("bind", errno);
    printf("%s%d", number ? ", " : "{\"ports\": [", ntohs(here.sin_port));
    return fd;
}

int main(int argc, char **argv) {
    int sockets = argc == 3 ? atoi(argv[1]) : 0, sinks[MOST];
    if (sockets < 1 || sockets > MOST) {
        fprintf(stderr, "usage: %s SOCKETS SECONDS\n", argv[0]);
        return 2;
    }
    alarm((unsigned)atof(argv[2]) + GRACE);
    for (int n = 0; n < BATCH; n++) {
        pieces[n] = (struct iovec){memory[n], LONGEST};
        messages[n].msg_hdr = (struct msghdr){.msg_iov = &pieces[n], .msg_iovlen = 1};
    }
    for (int n = 0; n < sockets; n++)
        sinks[n] = sink(n);
    printf("]}\n");
    fflush(stdout);
    serve(sinks, sockets);
    for (int n = 0; n < sockets; n++)
        count.dropped += dropped(sinks[n]);
    printf("{\"datagrams\": %lu, \"bytes\": %lu, \"dropped\": %lu}\n", count.datagrams,
           count.bytes, count.dropped);
}
