/* Datagrams out by plain system calls.

   WAY copy      send()
   WAY zerocopy  MSG_ZEROCOPY: after each BATCH sends all their notifications are awaited */
#include "send.h"

#include <linux/errqueue.h>
#include <poll.h>

#ifndef SO_ZEROCOPY     /* Linux 4.14 */
#define SO_ZEROCOPY 60
#endif
#ifndef MSG_ZEROCOPY
#define MSG_ZEROCOPY 0x4000000
#endif
#ifndef SO_EE_CODE_ZEROCOPY_COPIED
#define SO_EE_CODE_ZEROCOPY_COPIED 1
#endif

/* Reads what the error queue has; how many sends it tells of. */
static unsigned long notifications(int fd, struct count *count) {
    unsigned long found = 0;
    for (;;) {
        char control[128];
        struct msghdr message = {.msg_control = control, .msg_controllen = sizeof control};
        if (recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) {
            if (errno == EAGAIN)
                return found;
            fail("recvmsg(MSG_ERRQUEUE)", errno);
        }
        for (struct cmsghdr *part = CMSG_FIRSTHDR(&message); part;
             part = CMSG_NXTHDR(&message, part)) {
            struct sock_extended_err error;
            memcpy(&error, CMSG_DATA(part), sizeof error);
            if (error.ee_origin != SO_EE_ORIGIN_ZEROCOPY)
                continue;
            /* One message tells of a range of sends. */
            unsigned long sends = error.ee_data - error.ee_info + 1;
            found += sends;
            count->zerocopy += sends;
            if (error.ee_code & SO_EE_CODE_ZEROCOPY_COPIED)
                count->copied += sends;
        }
    }
}

static void await_notifications(int fd, struct count *count, unsigned long owed) {
    while (owed) {
        unsigned long found = notifications(fd, count);
        if (!found) {
            /* What it waits for, POLLERR, is always told. */
            struct pollfd events = {.fd = fd};
            poll(&events, 1, 1000);
        }
        owed -= found;
    }
}

int main(int argc, char **argv) {
    struct job job = job_of(argc, argv);
    int zerocopy = !strcmp(job.way, "zerocopy"), on = 1;
    int fd = socket_of(&job);
    struct walk walk = walk_of(&job);
    struct count count = {0};
    if (zerocopy && setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof on))
        end(MISSING, "SO_ZEROCOPY", errno);
    double begin = now(), passed;
    do {
        unsigned long owed = 0;
        for (int sent = 0; sent < job.batch;) {
            if (send(fd, next_payload(&walk), job.size, zerocopy ? MSG_ZEROCOPY : 0) >= 0) {
                sent++;
                owed++;
            } else if (errno == ENOBUFS && zerocopy && owed) {
                /* So many notifications do not fit into net.core.optmem_max. */
                await_notifications(fd, &count, owed);
                owed = 0;
            } else
                fail("send", errno);
        }
        count.sends += job.batch;
        if (zerocopy)
            await_notifications(fd, &count, owed);
        passed = now() - begin;
    } while (passed < job.seconds);
    report(&job, &count, passed);
}
