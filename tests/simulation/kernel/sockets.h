/* Sockets in memory: what their two files share. */
#ifndef SOCKETS_H
#define SOCKETS_H

#include "sim.h"

struct packet {
    struct packet *next;
    struct sockaddr_storage address;     /* of a datagram: where to; once it is there, where from */
    char *content;
    struct lent *lent;                   /* or it is in the program's memory still */
    size_t lent_from, length;
    unsigned segment;                    /* of a train: the size of its datagrams */
    bool end;                            /* of a stream */
};

struct packets {
    struct packet *first, **last;
    size_t bytes;
};

enum { BACKLOG = 64 };

struct sock {
    struct sock *next;
    unsigned users;          /* its descriptor, tables of files, requests */
    int number, fd;
    int family, type;
    struct sockaddr_storage name, peer;
    bool bound, connected, connecting, listening;
    bool takes_trains;       /* UDP_GRO */
    struct sock *mate;       /* a stream's other end */
    struct sock *backlog[BACKLOG];
    unsigned waiting;
    struct packets received, sent;
    size_t room, receive_room;
    bool sending;            /* the next packet's departure is planned */
    bool full;               /* it has said EAGAIN */
    bool ended, shut, reset;
    int error;
};

struct sock *sock_new(int family, int type, int fd);
struct sock *sock_at(const struct sockaddr_storage *address, int type, bool listening);
void sock_bind(struct sock *sock);
void sock_go_on(void *sock);
void sock_establish(void *sock);
void sock_reset(struct sock *sock);
void sock_end_sending(struct sock *sock);
long sock_receive(struct sock *sock, struct msghdr *message, int flags);
unsigned sock_port(const struct sockaddr_storage *address);

#endif
