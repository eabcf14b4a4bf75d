/* Load and echo for the datagram benchmarks.
 *
 *   datagrams echo PORT                        sends every datagram back, until it is killed
 *   datagrams load PORT FLOWS SECONDS SIZE     FLOWS sockets, each with one datagram on its way; prints a RESULT line
 *
 * A datagram without an answer for LOST_US is counted as lost and sent again.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, LARGEST = 65536, LOST_US = 200000, SAMPLES = 1 << 22 };

static double now_us(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1e6 + at.tv_nsec / 1e3;
}

static struct sockaddr_in address(int port) {
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(port)};
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return where;
}

static void echo(int port) {
    static char data[BATCH][LARGEST];
    struct sockaddr_in from[BATCH], here = address(port);
    struct iovec pieces[BATCH];
    struct mmsghdr messages[BATCH];
    int fd = socket(AF_INET, SOCK_DGRAM, 0), size = 4 << 20;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (bind(fd, (struct sockaddr *)&here, sizeof here)) {
        perror("bind");
        exit(1);
    }
    for (;;) {
        for (int i = 0; i < BATCH; i++) {
            pieces[i] = (struct iovec){data[i], LARGEST};
            memset(&messages[i], 0, sizeof messages[i]);
            messages[i].msg_hdr = (struct msghdr){&from[i], sizeof from[i], &pieces[i], 1, NULL, 0, 0};
        }
        int count = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
        for (int i = 0; i < count; i++)
            pieces[i].iov_len = messages[i].msg_len;
        for (int sent = 0; sent < count;) {
            int more = sendmmsg(fd, messages + sent, count - sent, 0);
            sent += more > 0 ? more : 1;
        }
    }
}

static int by_value(const void *a, const void *b) {
    float one = *(const float *)a, other = *(const float *)b;
    return (one > other) - (one < other);
}

static void load(int port, int flows, double seconds, int size) {
    static char out[LARGEST], in[LARGEST];
    int *sockets = calloc(flows, sizeof *sockets);
    double *sent_at = calloc(flows, sizeof *sent_at);
    float *took = malloc(sizeof *took * SAMPLES);
    struct sockaddr_in there = address(port);
    struct epoll_event events[BATCH];
    int poll = epoll_create1(0);
    long answers = 0, lost = 0, wrong = 0;
    memset(out, 'x', sizeof out);
    for (int i = 0; i < flows; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        sockets[i] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        connect(sockets[i], (struct sockaddr *)&there, sizeof there);
        epoll_ctl(poll, EPOLL_CTL_ADD, sockets[i], &event);
        sent_at[i] = now_us();
        send(sockets[i], out, size, 0);
    }
    double start = now_us(), now = start, end = start + seconds * 1e6, looked = start;
    while (now < end) {
        int count = epoll_wait(poll, events, BATCH, 50);
        now = now_us();
        for (int i = 0; i < count; i++) {
            int flow = events[i].data.u32;
            ssize_t got = recv(sockets[flow], in, sizeof in, 0);
            if (got < 0)
                continue;
            wrong += got != size;
            if (answers < SAMPLES)
                took[answers] = now - sent_at[flow];
            answers++;
            sent_at[flow] = now;
            send(sockets[flow], out, size, 0);
        }
        if (now - looked > LOST_US / 4) {
            looked = now;
            for (int i = 0; i < flows; i++)
                if (now - sent_at[i] > LOST_US) {
                    lost++;
                    sent_at[i] = now;
                    send(sockets[i], out, size, 0);
                }
        }
    }
    long kept = answers < SAMPLES ? answers : SAMPLES;
    qsort(took, kept, sizeof *took, by_value);
    printf("RESULT {\"requests\": %ld, \"microseconds\": %.0f, \"lost\": %ld, \"wrong\": %ld, "
           "\"p50_us\": %.1f, \"p99_us\": %.1f}\n",
           answers, now - start, lost, wrong, kept ? took[kept / 2] : 0.0, kept ? took[kept * 99 / 100] : 0.0);
}

int main(int count, char **words) {
    if (count == 3 && !strcmp(words[1], "echo"))
        echo(atoi(words[2]));
    else if (count == 6 && !strcmp(words[1], "load"))
        load(atoi(words[2]), atoi(words[3]), atof(words[4]), atoi(words[5]));
    else
        return fprintf(stderr, "usage: see the source\n"), 2;
    return 0;
}
