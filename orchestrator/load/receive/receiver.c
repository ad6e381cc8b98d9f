/* Reads many stream sockets and holds back what is not needed yet, for `c_receiver.py`.

   A poll reads what epoll says is ready, each read with the kernel's stamp (SO_TIMESTAMPNS) or the time of
   reading. A socket that is told to hold keeps reads that end as an event at the end of its HTTP chunk does,
   one behind the other, until there are HELD_AT_MOST or one is LARGE; everything else is reported at once.
   Nothing is parsed here. One thread only; file descriptors index the table of sockets. The constants, and the
   kinds of reports, are those of `receiver.py`, defined as this is compiled. */

#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

struct report { /* 32 bytes, as `c_receiver._REPORT` reads them */
    double t;
    uint32_t offset, size; /* in the arena */
    int32_t fd, kind, error, unused;
};

struct held {
    double times[HELD_AT_MOST];
    uint64_t ends[HELD_AT_MOST]; /* in wire, behind each read */
    char *wire;
    uint64_t size, room;
    double last; /* the arrival of the last read that was held */
    uint32_t count, turn;
    int32_t holding;
};

struct receiver {
    uint64_t reads, distinct_sockets, stamped_reads; /* since the last `receiver_reset_counts` */
    int32_t more, stamped;    /* more may be ready; the kernel stamped the last read */
    int32_t epoll, sockets, acknowledge_later;
    uint32_t turn;
    struct held *of;
    struct report reports[2 * READS_AT_ONCE];
    char arena[READS_AT_ONCE * READ_SIZE];
};

struct receiver *receiver_new(int epoll, int acknowledge_later)
{
    struct receiver *self = calloc(1, sizeof *self);
    if (self) {
        self->epoll = epoll;
        self->acknowledge_later = acknowledge_later;
        self->turn = 1;
    }
    return self;
}

void receiver_free(struct receiver *self)
{
    for (int fd = 0; fd < self->sockets; fd++)
        free(self->of[fd].wire);
    free(self->of);
    free(self);
}

struct report *receiver_reports(struct receiver *self) { return self->reports; }

char *receiver_arena(struct receiver *self) { return self->arena; }

/* Returns 0, or -1 without memory. To be called once for each socket before it is polled. */
int receiver_add(struct receiver *self, int fd)
{
    if (fd >= self->sockets) {
        int sockets = fd < 512 ? 1024 : 2 * fd;
        struct held *of = realloc(self->of, sockets * sizeof *of);
        if (!of)
            return -1;
        memset(of + self->sockets, 0, (sockets - self->sockets) * sizeof *of);
        self->of = of;
        self->sockets = sockets;
    }
    struct held *held = &self->of[fd];
    free(held->wire);
    memset(held, 0, sizeof *held);
    return 0;
}

/* Otherwise each read would send an acknowledgement, and on the loopback carry it to the server's socket: as much
   work as the read itself. The kernel goes back to that by itself where tokens are far apart. */
static void quieten(const struct receiver *self, int fd)
{
    int at_once = 0;
    if (self->acknowledge_later)
        setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &at_once, sizeof at_once);
}

void receiver_hold(struct receiver *self, int fd, int on)
{
    self->of[fd].holding = on;
    if (on)
        quieten(self, fd);
}

double receiver_last(struct receiver *self, int fd) { return self->of[fd].last; }

void receiver_reset_counts(struct receiver *self)
{
    self->reads = self->distinct_sockets = self->stamped_reads = 0;
    self->turn++;
}

/* What the socket holds, NULL for nothing; it is the caller's until the next poll. */
struct held *receiver_take(struct receiver *self, int fd, uint32_t *count, uint64_t *size)
{
    struct held *held = &self->of[fd];
    *count = held->count;
    *size = held->size;
    held->count = 0;
    held->size = 0;
    return *count ? held : NULL;
}

static int64_t nanoseconds(const struct timespec *at) { return at->tv_sec * 1000000000LL + at->tv_nsec; }

static double monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return nanoseconds(&now) * 1e-9;
}

static int ends_an_event(const char *data, size_t size)
{
    return size >= 4 && !memcmp(data + size - 4, "\n\n\r\n", 4);
}

/* Whether it was put behind what is held; 0 also without memory, and the caller then reports it. */
static int put(struct held *held, const char *data, size_t size, double t)
{
    if (held->size + size > held->room) {
        uint64_t room = 2 * (held->size + size) + 4096;
        char *wire = realloc(held->wire, room);
        if (!wire)
            return 0;
        held->wire = wire;
        held->room = room;
    }
    memcpy(held->wire + held->size, data, size);
    held->size += size;
    held->times[held->count] = t;
    held->ends[held->count++] = held->size;
    held->last = t;
    return 1;
}

/* The wall clock is `offset` ns ahead of CLOCK_MONOTONIC; without `known` the time of reading counts. Reads for
   `slice_s` at most. Returns how many reports there are. */
int receiver_poll(struct receiver *self, int64_t offset, int known, double slice_s)
{
    struct epoll_event ready[READS_AT_ONCE];
    int count = epoll_wait(self->epoll, ready, READS_AT_ONCE, 0), reports = 0;
    size_t used = 0;
    double until = monotonic() + slice_s;
    self->more = count == READS_AT_ONCE;
    for (int i = 0; i < count; i++) {
        int fd = ready[i].data.fd;
        if (ready[i].events & EPOLLOUT)
            self->reports[reports++] = (struct report){.fd = fd, .kind = WRITABLE};
        char control[64], *data = self->arena + used;
        struct iovec into = {data, READ_SIZE};
        struct msghdr message = {
            .msg_iov = &into, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        ssize_t size = recvmsg(fd, &message, 0);
        if (size <= 0) {
            if (size == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
                self->reports[reports++] = (struct report){.fd = fd, .kind = CLOSED, .error = size ? errno : 0};
            continue;
        }
        double now = monotonic(), t = now;
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        self->stamped = known && head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_TIMESTAMPNS;
        if (self->stamped) {
            struct timespec at;
            memcpy(&at, CMSG_DATA(head), sizeof at);
            t = (nanoseconds(&at) - offset) * 1e-9;
            if (t > now)
                t = now;
        }
        struct held *held = &self->of[fd];
        self->reads++;
        self->stamped_reads += self->stamped;
        if (held->turn != self->turn) {
            held->turn = self->turn;
            self->distinct_sockets++;
        }
        if (held->holding && ends_an_event(data, size) && put(held, data, size, t)) {
            if (held->count == HELD_AT_MOST || size >= LARGE) {
                quieten(self, fd);
                self->reports[reports++] = (struct report){.fd = fd, .kind = HELD_FULL, .t = t};
            }
        } else {
            self->reports[reports++] = (struct report){
                .fd = fd, .kind = READ, .t = t, .offset = used, .size = size};
            used += size;
        }
        if (now > until) {
            self->more = 1;
            break;
        }
    }
    return reports;
}
