/* What the C senders of `bench zerocopy` share: arguments, memory, socket and report. */
#ifndef URINGLOOP_BENCH_SEND_H
#define URINGLOOP_BENCH_SEND_H

#include "../common.h"

#include <sys/mman.h>

#define USAGE "usage: %s WAY ADDRESS PORT SIZE SEGMENT BATCH MEMORY SECONDS\n"
#define SEND_BUFFER (4 << 20)

struct job {
    const char *way;
    struct sockaddr_in to;
    size_t size;            /* bytes of a send */
    int segment;            /* bytes of a datagram, if a send leaves as several; else 0 */
    int batch;              /* sends of a round */
    size_t memory;          /* bytes that the payloads walk through */
    double seconds;
};

struct count {
    unsigned long sends;
    unsigned long zerocopy; /* notifications */
    unsigned long copied;   /* of those, how many said that the kernel has copied */
};

struct walk {
    char *memory;
    size_t length, size, offset;
};

static inline struct job job_of(int argc, char **argv) {
    struct job job = {.to = {.sin_family = AF_INET}};
    if (argc != 9) {
        fprintf(stderr, USAGE, argv[0]);
        exit(2);
    }
    job.way = argv[1];
    job.to.sin_port = htons(atoi(argv[3]));
    job.size = strtoul(argv[4], NULL, 10);
    job.segment = atoi(argv[5]);
    job.batch = atoi(argv[6]);
    job.memory = strtoul(argv[7], NULL, 10);
    job.seconds = atof(argv[8]);
    if (inet_pton(AF_INET, argv[2], &job.to.sin_addr) != 1 || !job.size || job.batch < 1) {
        fprintf(stderr, USAGE, argv[0]);
        exit(2);
    }
    if (job.memory < job.size)
        job.memory = job.size;
    alarm((unsigned)job.seconds + GRACE);
    return job;
}

/* Pages that are there: the first touch is not to be measured. */
static inline struct walk walk_of(const struct job *job) {
    struct walk walk = {.length = job->memory, .size = job->size};
    walk.memory = mmap(NULL, walk.length, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (walk.memory == MAP_FAILED)
        fail("mmap", errno);
    memset(walk.memory, 'u', walk.length);
    return walk;
}

static inline char *next_payload(struct walk *walk) {
    char *payload = walk->memory + walk->offset;
    walk->offset += walk->size;
    if (walk->offset + walk->size > walk->length)
        walk->offset = 0;
    return payload;
}

static inline int socket_of(const struct job *job) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), room = SEND_BUFFER;
    if (fd < 0)
        fail("socket", errno);
    /* Beyond the system's limit for root only; as much as there is for others. */
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room))
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    if (connect(fd, (const struct sockaddr *)&job->to, sizeof job->to))
        fail("connect", errno);
    if (job->segment
        && setsockopt(fd, SOL_UDP, UDP_SEGMENT, &job->segment, sizeof job->segment))
        fail("UDP_SEGMENT", errno);
    return fd;
}

static inline void report(const struct job *job, const struct count *count, double seconds) {
    size_t each = job->segment ? (job->size + job->segment - 1) / job->segment : 1;
    printf("{\"seconds\": %.9f, \"datagrams\": %lu, \"bytes\": %lu, \"zerocopy\": %lu, "
           "\"copied\": %lu, \"zerocopy_bytes\": %lu}\n",
           seconds, count->sends * each, count->sends * job->size, count->zerocopy,
           count->copied, (count->zerocopy - count->copied) * job->size);
}

#endif
