/* The other end of a server on this machine: stream_load WAY ADDRESS SIZE SECONDS CONNECTIONS

   WAY echo     on each connection one message of SIZE bytes is under way
   WAY connect  the same on new connections, which the server closes when it has answered
   WAY idle     connections that stay until standard input ends

   ADDRESS is a port of TCP on loopback, or the path of a Unix socket.  Each message has its number
   at both ends, which its answer must have too. */
#include "../common.h"

#include <ctype.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/un.h>

struct connection {
    int fd;
    uint64_t number;        /* of the message that is under way */
    size_t got;             /* bytes of its answer */
    char *answer;
};

static const char *address;
static size_t size;
static int epoll;

static int connected(void) {
    struct sockaddr_in tcp = {.sin_family = AF_INET, .sin_port = htons(atoi(address)),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    int by_tcp = isdigit((unsigned char)address[0]), on = 1;
    int fd = socket(by_tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        fail("socket", errno);
    snprintf(path.sun_path, sizeof path.sun_path, "%s", address);
    if (by_tcp)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if ((by_tcp ? connect(fd, (void *)&tcp, sizeof tcp)
                : connect(fd, (void *)&path, sizeof path)))
        fail("connect", errno);
    return fd;
}

static void watch(struct connection *connection) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, connection->fd, &event))
        fail("epoll_ctl", errno);
}

static void send_next(struct connection *connection) {
    static char message[1 << 20];
    uint64_t number = ++connection->number;
    memcpy(message, &number, sizeof number);
    memcpy(message + size - sizeof number, &number, sizeof number);
    for (size_t sent = 0; sent < size;) {
        ssize_t more = send(connection->fd, message + sent, size - sent, MSG_NOSIGNAL);
        if (more < 0)
            fail("send", errno);
        sent += more;
    }
}

/* Takes what there is of an answer, which may be followed by the end; whether it has ended. */
static int take(struct connection *connection) {
    ssize_t more = recv(connection->fd, connection->answer + connection->got,
                        size + 1 - connection->got, MSG_DONTWAIT);
    if (more < 0 && errno != EAGAIN)
        fail("recv", errno);
    if (more > 0)
        connection->got += more;
    return !more;
}

static void check(struct connection *connection) {
    uint64_t first, last;
    memcpy(&first, connection->answer, sizeof first);
    memcpy(&last, connection->answer + size - sizeof last, sizeof last);
    if (connection->got != size || first != connection->number || last != first)
        end(1, "an answer is not what was sent", EBADMSG);
    connection->got = 0;
}

/* Each waits for an answer; whether it is there. */
static int answered(struct connection *connection) {
    if (take(connection))
        end(1, "the server has closed it", ECONNRESET);
    if (connection->got < size)
        return 0;
    check(connection);
    return 1;
}

static int answered_and_closed(struct connection *connection) {
    if (!take(connection))
        return 0;
    check(connection);
    close(connection->fd);
    return 1;
}

static void connect_next(struct connection *connection) {
    connection->fd = connected();
    watch(connection);
    send_next(connection);
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "usage: %s WAY ADDRESS SIZE SECONDS CONNECTIONS\n", argv[0]);
        return 2;
    }
    int echo = !strcmp(argv[1], "echo"), idle = !strcmp(argv[1], "idle"), count = atoi(argv[5]);
    double seconds = atof(argv[4]);
    address = argv[2];
    size = strtoul(argv[3], NULL, 10);
    if (size < 16 || size > 1 << 20 || count < 1)
        end(2, "an argument", EINVAL);
    alarm((unsigned)seconds + GRACE);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct connection *connections = calloc(count, sizeof *connections);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    for (int n = 0; n < count && (echo || idle); n++) {
        connections[n].fd = connected();
        if (echo)
            watch(&connections[n]);
    }
    if (idle) {
        getchar();
        return 0;
    }
    int (*complete)(struct connection *) = echo ? answered : answered_and_closed;
    void (*next)(struct connection *) = echo ? send_next : connect_next;
    unsigned long done = 0;
    double begin = now(), time;
    for (int n = 0; n < count; n++) {
        connections[n].answer = malloc(size + 1);
        next(&connections[n]);
    }
    do {
        struct epoll_event events[64];
        int found = epoll_wait(epoll, events, 64, 1000);
        for (int event = 0; event < found; event++)
            if (complete(events[event].data.ptr)) {
                done++;
                next(events[event].data.ptr);
            }
        time = now();
    } while (time < begin + seconds);
    printf("{\"units\": %lu, \"seconds\": %.9f}\n", done, time - begin);
}
