/* Datagrams of random sizes out, to many sockets in turn: udp_send WAY SHORTEST LONGEST SECONDS PORT...

   WAY each     sendto()
   WAY batch    sendmmsg(), a TURN a system call

   Each begins with its length.  Says what it has sent, and the processor time that it has used. */
#define _GNU_SOURCE
#include "udp.h"

#include <stdint.h>

#define TURN 64
#define DIFFERENT 1024      /* datagrams, of which the sizes are drawn before */
#define MOST 256

static struct { unsigned long datagrams, bytes; } count;
static char *starts[DIFFERENT];
static uint32_t sizes[DIFFERENT];
static struct sockaddr_in peers[MOST];

static void draw(uint32_t shortest, uint32_t longest) {
    char *memory = calloc(DIFFERENT, longest);
    srand(1);
    for (int n = 0; n < DIFFERENT; memory += sizes[n++]) {
        sizes[n] = shortest + rand() % (longest - shortest + 1);
        starts[n] = memcpy(memory, &sizes[n], sizeof sizes[n]);
    }
}

/* Those from ``first`` on, a turn of them. */
static void send_each(int fd, int first, int ports) {
    for (int n = first; n < first + TURN; n++)
        if (sendto(fd, starts[n], sizes[n], 0, (void *)&peers[n % ports], sizeof peers[0]) < 0)
            fail("sendto", errno);
}

static void send_batch(int fd, int first, int ports) {
    struct iovec pieces[TURN];
    struct mmsghdr messages[TURN];
    for (int n = 0; n < TURN; n++) {
        pieces[n] = (struct iovec){starts[first + n], sizes[first + n]};
        messages[n].msg_hdr = (struct msghdr){
            .msg_name = &peers[(first + n) % ports], .msg_namelen = sizeof peers[0],
            .msg_iov = &pieces[n], .msg_iovlen = 1};
    }
    for (int sent = 0, more; sent < TURN; sent += more)
        if ((more = sendmmsg(fd, messages + sent, TURN - sent, 0)) < 0)
            fail("sendmmsg", errno);
}

int main(int argc, char **argv) {
    int ports = argc - 5;
    uint32_t shortest = argc > 3 ? atoi(argv[2]) : 0, longest = argc > 3 ? atoi(argv[3]) : 0;
    if (ports < 1 || ports > MOST || shortest < sizeof shortest || longest < shortest
        || longest >= LONGEST) {
        fprintf(stderr, "usage: %s WAY SHORTEST LONGEST SECONDS PORT...\n", argv[0]);
        return 2;
    }
    double seconds = atof(argv[4]);
    alarm((unsigned)seconds + GRACE);
    for (int n = 0; n < ports; n++)
        peers[n] = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(argv[5 + n])),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    draw(shortest, longest);
    int fd = udp_socket(), first = 0;
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(fd, (void *)&here, sizeof here))
        fail("bind", errno);
    double before = used(), began = now(), time;
    do {
        (strcmp(argv[1], "batch") ? send_each : send_batch)(fd, first, ports);
        for (int n = first; n < first + TURN; n++)
            count.bytes += sizes[n];
        count.datagrams += TURN;
        first = (first + TURN) % DIFFERENT;
        time = now();
    } while (time < began + seconds);
    printf("{\"seconds\": %.9f, \"sent\": %lu, \"bytes\": %lu, \"cpu\": %.6f}\n", time - began,
           count.datagrams, count.bytes, used() - before);
}
