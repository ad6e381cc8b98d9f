/* Streams chat completions at known times, cheaply enough never to be what is measured.
 *
 *   server TTFT_S GAP_S [together] [PORT]
 *
 * serves on a free port of 127.0.0.1, printed as "listening PORT", and with PORT there too, which several servers
 * may share: the kernel then spreads the connections over them.
 *
 * A chat request gets max_tokens chunks of one token, as vLLM sends them: the i-th leaves TTFT_S + i * GAP_S
 * after the request came, with a GAP_S of 0 as fast as the socket takes it. The requests' tokens are spread over
 * the gap, each request's TTFT_S being longer by a share of it, unless they are to come "together".
 * GET /truth lists, for every request so far, its X-Request-Id ("-" if none) and the CLOCK_MONOTONIC times at
 * which it came, at which its first token left, and at which its last one did.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FDS = 65536, MAX_TRUTH = 4000000, IN_SIZE = 1 << 18, FLOOD_BATCH = 16 };

struct truth { char id[64]; double received, start, first, last; };
struct stream {
    int open, blocked, total, out, want_usage, slot; /* slot: place in the heap, -1 if not in it */
    double due;
    struct truth *truth;
    size_t in_length, pending_length, pending_from;
    char *in, *pending; /* bytes read, bytes that the socket did not take */
};

static struct stream streams[MAX_FDS];
static struct truth *truths;
static int heap[MAX_FDS], heap_size, truth_count, poller, timer, together, listeners[2];
static double ttft_s, gap_s;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void place(int i, int fd) { heap[i] = fd; streams[fd].slot = i; }

static void sift(int i) {
    int fd = heap[i];
    for (; i && streams[heap[(i - 1) / 2]].due > streams[fd].due; i = (i - 1) / 2) place(i, heap[(i - 1) / 2]);
    for (int child; (child = 2 * i + 1) < heap_size; i = child) {
        if (child + 1 < heap_size && streams[heap[child + 1]].due < streams[heap[child]].due) child++;
        if (streams[heap[child]].due >= streams[fd].due) break;
        place(i, heap[child]);
    }
    place(i, fd);
}

static void schedule(int fd, double due) {
    struct stream *s = &streams[fd];
    s->due = due;
    if (s->slot < 0) place(heap_size++, fd);
    sift(s->slot);
}

static void unschedule(int fd) {
    int slot = streams[fd].slot;
    if (slot < 0) return;
    streams[fd].slot = -1;
    int moved = heap[--heap_size];
    if (moved != fd) { place(slot, moved); sift(slot); }
}

static void watch(int fd, int operation, unsigned events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    epoll_ctl(poller, operation, fd, &event);
}

static void hang_up(int fd) {
    unschedule(fd);
    free(streams[fd].in);
    free(streams[fd].pending);
    memset(&streams[fd], 0, sizeof streams[fd]);
    streams[fd].slot = -1;
    close(fd);
}

/* Keep what the socket does not take; nothing more is produced for this stream until it does. */
static void put(int fd, const char *data, size_t length) {
    struct stream *s = &streams[fd];
    ssize_t sent = s->blocked ? 0 : send(fd, data, length, MSG_NOSIGNAL);
    if (sent < 0) sent = 0;
    if ((size_t)sent == length) return;
    s->pending = realloc(s->pending, s->pending_length + length - sent);
    memcpy(s->pending + s->pending_length, data + sent, length - sent);
    s->pending_length += length - sent;
    if (!s->blocked) watch(fd, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    s->blocked = 1;
}

static size_t chunk(char *to, const char *format, ...) {
    char body[1024];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(body, sizeof body, format, arguments);
    va_end(arguments);
    return sprintf(to, "%x\r\n%s\r\n", length, body);
}

#define EVENT "data: {\"id\":\"chatcmpl-0123456789abcdef0123\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"scripted\","
#define USAGE ",\"usage\":{\"prompt_tokens\":32,\"total_tokens\":%d,\"completion_tokens\":%d,\"completion_tokens_details\":null}"

static size_t token(struct stream *s, char *to) {
    static const char *words[] = {" one", " fine", " day", ",", " she", " said", " that", " it", " rained", "."};
    const char *finish = s->out + 1 == s->total ? "\"stop\"" : "null";
    const char *word = words[s->out++ % 10];
    if (s->want_usage)
        return chunk(to, EVENT "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%s\"},\"logprobs\":null,\"finish_reason\":%s,\"token_ids\":null}]" USAGE "}\n\n",
                     word, finish, 32 + s->out, s->out);
    return chunk(to, EVENT "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%s\"},\"logprobs\":null,\"finish_reason\":%s,\"token_ids\":null}]}\n\n", word, finish);
}

static size_t role(char *to) {
    return chunk(to, EVENT "\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n");
}

static size_t ending(struct stream *s, char *to) {
    size_t length = chunk(to, EVENT "\"choices\":[]" USAGE "}\n\n", 32 + s->out, s->out);
    length += chunk(to + length, "data: [DONE]\n\n");
    return length + sprintf(to + length, "0\r\n\r\n");
}

static void step(int fd) {
    struct stream *s = &streams[fd];
    char buffer[4096];
    int tokens = gap_s > 0 ? 1 : FLOOD_BATCH;
    double t = now();
    if (!s->out) s->truth->first = t;
    while (tokens-- && s->out < s->total) {
        size_t length = s->out ? 0 : role(buffer);
        length += token(s, buffer + length);
        if (s->out == s->total) {
            s->truth->last = t;
            length += ending(s, buffer + length);
        }
        put(fd, buffer, length);
    }
    if (s->out == s->total) unschedule(fd);
    else if (s->blocked && gap_s == 0) unschedule(fd); /* the socket's readiness resumes it */
    else schedule(fd, gap_s > 0 ? s->truth->start + s->out * gap_s : t);
}

static void respond(int fd, const char *body, size_t length) {
    char head[128];
    put(fd, head, sprintf(head, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", length));
    put(fd, body, length);
}

static void tell_truth(int fd) {
    char *body = malloc((size_t)truth_count * 160 + 1), *to = body;
    for (int i = 0; i < truth_count; i++)
        to += sprintf(to, "%s %.9f %.9f %.9f\n", truths[i].id, truths[i].received, truths[i].first, truths[i].last);
    respond(fd, body, to - body);
    free(body);
}

static long number_after(const char *text, const char *name, long otherwise) {
    const char *found = strstr(text, name);
    if (!found) return otherwise;
    found += strlen(name);
    while (*found == '"' || *found == ':' || *found == ' ') found++;
    return strtol(found, NULL, 10);
}

static void chat(int fd, const char *head, const char *body, double t) {
    struct stream *s = &streams[fd];
    if (truth_count == MAX_TRUTH) exit(1);
    s->truth = &truths[truth_count++];
    s->truth->received = t;
    const char *id = strcasestr(head, "\nx-request-id:");
    if (!id || sscanf(id + 14, " %63[^\r\n ]", s->truth->id) != 1) strcpy(s->truth->id, "-");
    s->out = 0;
    s->total = number_after(body, "\"max_tokens", number_after(body, "\"max_completion_tokens", 16));
    s->want_usage = strstr(body, "continuous_usage_stats\":true") || strstr(body, "continuous_usage_stats\": true");
    char buffer[2048];
    size_t length = sprintf(buffer, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n");
    put(fd, buffer, length);
    double phase = together ? 0 : fmod(truth_count * 0.6180339887498949, 1);
    s->truth->start = t + ttft_s + phase * gap_s;
    schedule(fd, s->truth->start);
}

/* Answer every whole request in the buffer. Returns 0 when the connection is over. */
static int receive(int fd) {
    struct stream *s = &streams[fd];
    ssize_t got = recv(fd, s->in + s->in_length, IN_SIZE - 1 - s->in_length, 0);
    double t = now();
    if (got < 0) return errno == EAGAIN;
    if (!got) return 0;
    s->in_length += got;
    for (;;) {
        s->in[s->in_length] = 0;
        char *body = strstr(s->in, "\r\n\r\n");
        if (!body) return 1;
        body += 4;
        const char *header = strcasestr(s->in, "\ncontent-length:");
        size_t length = header && header < body ? strtoul(header + 16, NULL, 10) : 0;
        size_t whole = body - s->in + length;
        if (s->in_length < whole) return whole < IN_SIZE;
        char after = s->in[whole];
        s->in[whole] = 0;
        if (!strncmp(s->in, "POST /v1/chat/completions ", 26)) chat(fd, s->in, body, t);
        else if (!strncmp(s->in, "GET /truth ", 11)) tell_truth(fd);
        else if (!strncmp(s->in, "GET /v1/models", 14)) {
            const char *models = "{\"object\":\"list\",\"data\":[{\"id\":\"scripted\",\"object\":\"model\"}]}";
            respond(fd, models, strlen(models));
        } else respond(fd, "{}", 2);
        s->in[whole] = after;
        memmove(s->in, s->in + whole, s->in_length - whole);
        s->in_length -= whole;
    }
}

static void resume(int fd) {
    struct stream *s = &streams[fd];
    ssize_t sent = send(fd, s->pending + s->pending_from, s->pending_length - s->pending_from, MSG_NOSIGNAL);
    if (sent > 0) s->pending_from += sent;
    if (s->pending_from < s->pending_length) return;
    s->pending_length = s->pending_from = 0;
    s->blocked = 0;
    watch(fd, EPOLL_CTL_MOD, EPOLLIN);
    if (gap_s == 0 && s->truth && s->out < s->total) schedule(fd, now());
}

static void greet(int listener) {
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        if (fd >= MAX_FDS) { close(fd); continue; }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        streams[fd] = (struct stream){.open = 1, .slot = -1, .in = malloc(IN_SIZE)};
        watch(fd, EPOLL_CTL_ADD, EPOLLIN);
    }
}

/* Returns the socket; the port it got is in *port. */
static int listen_on(int *port) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(*port)};
    socklen_t size = sizeof address;
    if (*port) setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &(int){1}, sizeof(int));
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096)) exit((perror("listen"), 1));
    getsockname(listener, (struct sockaddr *)&address, &size);
    *port = ntohs(address.sin_port);
    watch(listener, EPOLL_CTL_ADD, EPOLLIN);
    return listener;
}

int main(int count, char **arguments) {
    together = count > 3 && !strcmp(arguments[3], "together");
    if (count < 3 || count > 4 + together) return fprintf(stderr, "usage: server TTFT_S GAP_S [together] [PORT]\n"), 2;
    int port = 0, shared_port = count > 3 + together ? atoi(arguments[3 + together]) : 0;
    ttft_s = atof(arguments[1]), gap_s = atof(arguments[2]);
    truths = calloc(MAX_TRUTH, sizeof *truths); /* pages are taken only as they are written */
    for (int i = 0; i < MAX_FDS; i++) streams[i].slot = -1;
    poller = epoll_create1(0);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    listeners[0] = listen_on(&port);
    listeners[1] = shared_port ? listen_on(&shared_port) : -1;
    printf("listening %d\n", port);
    fflush(stdout);
    watch(timer, EPOLL_CTL_ADD, EPOLLIN);
    for (;;) {
        while (heap_size && streams[heap[0]].due <= now()) {
            step(heap[0]);
            if (gap_s == 0) break; /* look at the sockets between two batches */
        }
        int timeout = -1;
        if (heap_size) {
            double due = streams[heap[0]].due;
            if (due <= now()) timeout = 0;
            else {
                struct itimerspec at = {.it_value = {(time_t)due, (long)((due - (time_t)due) * 1e9)}};
                timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
            }
        }
        struct epoll_event events[256];
        int ready = epoll_wait(poller, events, 256, timeout);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listeners[0] || fd == listeners[1]) greet(fd);
            else if (fd == timer) { char drop[8]; if (read(timer, drop, 8) < 0) continue; }
            else if (streams[fd].open) {
                if (events[i].events & EPOLLOUT) resume(fd);
                if ((events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !receive(fd)) hang_up(fd);
            }
        }
    }
}
