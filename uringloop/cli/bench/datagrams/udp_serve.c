/* Datagrams in, on epoll: udp_serve WAY SECONDS [PORT]

   WAY echo         recvfrom() and sendto()
   WAY echo-batch   recvmmsg() and sendmmsg()
   WAY sink         recvmmsg()
   WAY sink-gro     the same, with UDP_GRO

   With PORT, 0 for any, others may have the same one (SO_REUSEPORT).

   Says its port, serves until its standard input ends, takes what is still there, and says what it
   has counted, and the processor time that it has used. */
#define _GNU_SOURCE
#include "udp.h"

#ifndef UDP_GRO         /* Linux 5.0, <linux/udp.h> */
#define UDP_GRO 104
#endif
#define BATCH 32

static struct { unsigned long datagrams, bytes; } count;
static char memory[BATCH][LONGEST];
static char control[BATCH][CMSG_SPACE(sizeof(int))];
static struct sockaddr_in peers[BATCH];
static struct iovec pieces[BATCH];
static struct mmsghdr messages[BATCH];

/* How many datagrams were received in one piece. */
static unsigned long cut(struct mmsghdr *message) {
    struct cmsghdr *part = CMSG_FIRSTHDR(&message->msg_hdr);
    int segment;
    if (!part || part->cmsg_type != UDP_GRO)
        return 1;
    memcpy(&segment, CMSG_DATA(part), sizeof segment);
    return (message->msg_len + segment - 1) / segment;
}

/* Each takes what there is, some at a time; whether there was anything. */
static int echo(int fd) {
    socklen_t length = sizeof peers[0];
    ssize_t size = recvfrom(fd, memory[0], LONGEST, MSG_DONTWAIT, (void *)&peers[0], &length);
    if (size < 0)
        return 0;
    count.datagrams++;
    count.bytes += size;
    if (sendto(fd, memory[0], size, 0, (void *)&peers[0], length) < 0)
        fail("sendto", errno);
    return 1;
}

static int receive_batch(int fd) {
    for (int n = 0; n < BATCH; n++) {
        pieces[n] = (struct iovec){memory[n], LONGEST};
        messages[n].msg_hdr = (struct msghdr){
            .msg_name = &peers[n], .msg_namelen = sizeof peers[n],
            .msg_iov = &pieces[n], .msg_iovlen = 1,
            .msg_control = control[n], .msg_controllen = sizeof control[n]};
    }
    int received = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
    for (int n = 0; n < received; n++) {
        count.datagrams += cut(&messages[n]);
        count.bytes += messages[n].msg_len;
    }
    return received;
}

static int echo_batch(int fd) {
    int received = receive_batch(fd);
    for (int n = 0; n < received; n++) {
        pieces[n].iov_len = messages[n].msg_len;
        messages[n].msg_hdr.msg_controllen = 0;
    }
    for (int sent = 0, more; sent < received; sent += more)
        if ((more = sendmmsg(fd, messages + sent, received - sent, 0)) < 0)
            fail("sendmmsg", errno);
    return received > 0;
}

static int sink(int fd) {
    return receive_batch(fd) > 0;
}

static void serve(int fd, int (*take)(int)) {
    int epoll = epoll_create1(EPOLL_CLOEXEC), going = 1;
    watch(epoll, fd, 0);
    watch(epoll, STDIN_FILENO, 1);
    while (going) {
        struct epoll_event events[2];
        int found = epoll_wait(epoll, events, 2, -1);
        for (int n = 0; n < found; n++)
            going &= !events[n].data.u32;
        while (take(fd))
            ;
    }
}

int main(int argc, char **argv) {
    if (argc != 3 && argc != 4) {
        fprintf(stderr, "usage: %s WAY SECONDS [PORT]\n", argv[0]);
        return 2;
    }
    alarm((unsigned)atof(argv[2]) + GRACE);
    int fd = udp_socket(), on = 1;
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof here;
    if (argc == 4) {
        here.sin_port = htons(atoi(argv[3]));
        if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on))
            fail("SO_REUSEPORT", errno);
    }
    if (bind(fd, (void *)&here, length) || getsockname(fd, (void *)&here, &length))
        fail("bind", errno);
    if (!strcmp(argv[1], "sink-gro") && setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof on))
        end(MISSING, "UDP_GRO", errno);
    printf("{\"port\": %d}\n", ntohs(here.sin_port));
    fflush(stdout);
    double before = used();
    serve(fd, !strcmp(argv[1], "echo") ? echo : !strcmp(argv[1], "echo-batch") ? echo_batch : sink);
    double cpu = used() - before, ended = now();
    printf("{\"datagrams\": %lu, \"bytes\": %lu, \"cpu\": %.6f, \"ended\": %.9f, \"dropped\": %u}\n",
           count.datagrams, count.bytes, cpu, ended, dropped(fd));
}
