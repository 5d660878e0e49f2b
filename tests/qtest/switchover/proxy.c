/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: a network between source and destination that breaks
 *
 * One thread, which owns all descriptors, polls them; others set wishes under
 * the lock and wake it up.  Each direction of each connection is a pipe: chunks
 * that were read and when they are due.
 */

#include "qemu/osdep.h"
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <linux/sockios.h>
#include "switchover/harness.h"
#include "switchover/proxy.h"

#define CHUNK_BYTES (64 * 1024)

/* What lies in a pipe that nobody withholds, at most */
#define PIPE_BYTES (256 * 1024)

#define NO_LIMIT UINT64_MAX
#define CUT_NONE -1
#define CUT_ALL -2

typedef struct Chunk {
    int64_t due_us;
    size_t len;
    size_t sent;
    char data[];
} Chunk;

typedef struct Pipe {
    SwDirection direction;
    int from;
    int to;
    GQueue chunks;
    size_t bytes;
    bool ended;                 /* nothing more to read */
    bool broken;                /* or to write */
} Pipe;

typedef struct Link {
    unsigned number;
    Pipe pipe[SW_DIRECTION__MAX];
} Link;

/* A unix or an IPv4 socket address */
typedef struct Address {
    socklen_t len;
    union {
        struct sockaddr any;
        struct sockaddr_un un;
        struct sockaddr_in in;
    };
} Address;

struct SwProxy {
    /* Set at creation */
    Address target;
    char *uri;
    GThread *thread;
    int wake_read;
    int wake_write;

    /* The thread's alone */
    int listener;
    GPtrArray *links;

    /* Under the lock */
    GMutex lock;
    GCond done;
    bool quit;
    int cut;                    /* CUT_ALL, or the number of a connection */
    bool withheld[SW_DIRECTION__MAX];
    bool stalled[SW_DIRECTION__MAX];
    uint64_t limit[SW_DIRECTION__MAX];  /* bytes until it is withheld */
    unsigned delay_ms;
    unsigned connections;
    size_t kept[SW_DIRECTION__MAX];
    uint64_t passed[SW_DIRECTION__MAX];
};

static void wake(SwProxy *proxy)
{
    SW_CHECK(write(proxy->wake_write, "", 1) == 1, "the proxy's pipe is full");
}

static Address parse_address(const char *text)
{
    Address addr = { .len = sizeof(addr.in) };
    g_auto(GStrv) part = g_strsplit(text, ":", 3);

    if (!g_str_has_prefix(text, "tcp:")) {
        addr.len = sizeof(addr.un);
        addr.un.sun_family = AF_UNIX;
        g_assert(g_strlcpy(addr.un.sun_path, text,
                           sizeof(addr.un.sun_path)) <
                 sizeof(addr.un.sun_path));
        return addr;
    }
    addr.in.sin_family = AF_INET;
    addr.in.sin_port = htons(atoi(part[2]));
    g_assert(inet_pton(AF_INET, part[1], &addr.in.sin_addr) == 1);
    return addr;
}

static int open_socket(const Address *addr)
{
    return socket(addr->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

/* The proxy is not to add to what QEMU's own choice of delay makes of it */
static void prepare_socket(int fd)
{
    int on = 1;

    g_unix_set_fd_nonblocking(fd, true, NULL);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static char *listen_at(SwProxy *proxy, const char *text)
{
    Address addr = parse_address(text);

    if (addr.any.sa_family == AF_UNIX) {
        proxy->listener = sw_listen(text);
        return g_strdup_printf("unix:%s", text);
    }
    proxy->listener = open_socket(&addr);
    SW_CHECK(bind(proxy->listener, &addr.any, addr.len) == 0 &&
             listen(proxy->listener, 16) == 0 &&
             getsockname(proxy->listener, &addr.any, &addr.len) == 0,
             "cannot listen at %s: %s", text, strerror(errno));
    return g_strdup_printf("tcp:%s:%d", inet_ntoa(addr.in.sin_addr),
                           ntohs(addr.in.sin_port));
}

/*
 * The thread
 */

static void link_free(void *opaque)
{
    Link *link = opaque;
    SwDirection d;

    for (d = 0; d < SW_DIRECTION__MAX; d++) {
        g_queue_clear_full(&link->pipe[d].chunks, g_free);
        close(link->pipe[d].from);
    }
    g_free(link);
}

static int connect_to(const Address *addr)
{
    int fd = open_socket(addr);

    if (connect(fd, &addr->any, addr->len) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void take_connection(SwProxy *proxy)
{
    int near = accept4(proxy->listener, NULL, NULL, SOCK_CLOEXEC);
    int far = near < 0 ? -1 : connect_to(&proxy->target);
    Link *link;

    if (far < 0) {
        if (near >= 0) {
            close(near);
        }
        return;
    }
    prepare_socket(near);
    prepare_socket(far);
    link = g_new0(Link, 1);
    link->number = proxy->connections++;
    link->pipe[SW_TO_DESTINATION] = (Pipe) {
        .direction = SW_TO_DESTINATION, .from = near, .to = far,
    };
    link->pipe[SW_TO_SOURCE] = (Pipe) {
        .direction = SW_TO_SOURCE, .from = far, .to = near,
    };
    g_ptr_array_add(proxy->links, link);
}

static void pipe_read(SwProxy *proxy, Pipe *pipe)
{
    Chunk *chunk = g_malloc(sizeof(*chunk) + CHUNK_BYTES);
    ssize_t len = recv(pipe->from, chunk->data, CHUNK_BYTES, 0);

    if (len <= 0) {
        pipe->ended = len == 0 || (errno != EAGAIN && errno != EINTR);
        g_free(chunk);
        return;
    }
    chunk->due_us = sw_now_us() + proxy->delay_ms * 1000LL;
    chunk->len = len;
    chunk->sent = 0;
    g_queue_push_tail(&pipe->chunks, chunk);
    pipe->bytes += len;
}

/* Nothing leaves in this direction */
static bool is_held(SwProxy *proxy, SwDirection direction)
{
    return proxy->withheld[direction] || proxy->stalled[direction];
}

static bool pipe_is_due(SwProxy *proxy, Pipe *pipe)
{
    Chunk *chunk = g_queue_peek_head(&pipe->chunks);

    return chunk && !pipe->broken && !is_held(proxy, pipe->direction) &&
           chunk->due_us <= sw_now_us();
}

static void count_passed(SwProxy *proxy, SwDirection direction, size_t bytes)
{
    proxy->passed[direction] += bytes;
    if (proxy->limit[direction] != NO_LIMIT) {
        proxy->limit[direction] -= bytes;
        proxy->withheld[direction] |= proxy->limit[direction] == 0;
    }
}

/* Another connection may have reached the limit since this one was polled */
static void pipe_write(SwProxy *proxy, Pipe *pipe)
{
    Chunk *chunk = g_queue_peek_head(&pipe->chunks);
    size_t size = MIN(chunk->len - chunk->sent, proxy->limit[pipe->direction]);
    ssize_t len;

    if (is_held(proxy, pipe->direction)) {
        return;
    }
    len = send(pipe->to, chunk->data + chunk->sent, size, MSG_NOSIGNAL);
    if (len < 0) {
        pipe->broken = errno != EAGAIN && errno != EINTR;
        return;
    }
    chunk->sent += len;
    pipe->bytes -= len;
    count_passed(proxy, pipe->direction, len);
    if (chunk->sent == chunk->len) {
        g_free(g_queue_pop_head(&pipe->chunks));
    }
}

/* The end of one side is the end of the other, after what came before it */
static void pipe_pass_on_end(SwProxy *proxy, Pipe *pipe)
{
    if (pipe->ended && !is_held(proxy, pipe->direction) &&
        g_queue_is_empty(&pipe->chunks)) {
        shutdown(pipe->to, SHUT_WR);
    }
    if (pipe->broken) {
        shutdown(pipe->from, SHUT_RD);
    }
}

static bool pipe_wants_more(SwProxy *proxy, Pipe *pipe)
{
    return !pipe->ended && !proxy->stalled[pipe->direction] &&
           (proxy->withheld[pipe->direction] || pipe->bytes < PIPE_BYTES);
}

/* One poll structure for reading and one for writing of each pipe */
static void pipe_prepare(SwProxy *proxy, Pipe *pipe, GArray *polls)
{
    struct pollfd in = { .fd = -1, .events = POLLIN };
    struct pollfd out = { .fd = -1, .events = POLLOUT };

    if (pipe_wants_more(proxy, pipe)) {
        in.fd = pipe->from;
    }
    if (pipe_is_due(proxy, pipe)) {
        out.fd = pipe->to;
    }
    g_array_append_val(polls, in);
    g_array_append_val(polls, out);
}

static void pipe_dispatch(SwProxy *proxy, Pipe *pipe, const struct pollfd *pfd)
{
    if (pfd[0].revents) {
        pipe_read(proxy, pipe);
    }
    if (pfd[1].revents) {
        pipe_write(proxy, pipe);
    }
    pipe_pass_on_end(proxy, pipe);
}

typedef void LinkFunc(SwProxy *proxy, Pipe *pipe, void *opaque);

static void for_each_pipe(SwProxy *proxy, LinkFunc *func, void *opaque)
{
    SwDirection d;
    unsigned i;

    for (i = 0; i < proxy->links->len; i++) {
        Link *link = g_ptr_array_index(proxy->links, i);

        for (d = 0; d < SW_DIRECTION__MAX; d++) {
            func(proxy, &link->pipe[d], opaque);
        }
    }
}

static void prepare_one(SwProxy *proxy, Pipe *pipe, void *opaque)
{
    pipe_prepare(proxy, pipe, opaque);
}

static void dispatch_one(SwProxy *proxy, Pipe *pipe, void *opaque)
{
    const struct pollfd **next = opaque;

    pipe_dispatch(proxy, pipe, *next);
    *next += 2;
}

static void count_one(SwProxy *proxy, Pipe *pipe, void *opaque)
{
    proxy->kept[pipe->direction] += pipe->bytes;
}

/* Milliseconds until the first chunk is due that is not yet */
static void earliest_one(SwProxy *proxy, Pipe *pipe, void *opaque)
{
    Chunk *chunk = g_queue_peek_head(&pipe->chunks);
    int *wait_ms = opaque;
    int64_t in_ms;

    if (chunk && !is_held(proxy, pipe->direction)) {
        in_ms = MAX(0, (chunk->due_us - sw_now_us() + 999) / 1000);
        if (in_ms && (*wait_ms < 0 || in_ms < *wait_ms)) {
            *wait_ms = in_ms;
        }
    }
}

static void drain_wakes(SwProxy *proxy)
{
    char buf[64];

    while (read(proxy->wake_read, buf, sizeof(buf)) == sizeof(buf)) {
        continue;
    }
}

static void let_go(SwProxy *proxy)
{
    SwDirection d;

    for (d = 0; d < SW_DIRECTION__MAX; d++) {
        proxy->withheld[d] = false;
        proxy->stalled[d] = false;
        proxy->limit[d] = NO_LIMIT;
    }
}

static void cut_one(SwProxy *proxy, unsigned number)
{
    unsigned i;

    for (i = 0; i < proxy->links->len; i++) {
        Link *link = g_ptr_array_index(proxy->links, i);

        if (link->number == number) {
            g_ptr_array_remove_index(proxy->links, i);
            return;
        }
    }
}

/* Called with the lock held: does what was wished for */
static void obey(SwProxy *proxy)
{
    if (proxy->cut == CUT_ALL) {
        g_ptr_array_set_size(proxy->links, 0);
        let_go(proxy);
    } else if (proxy->cut != CUT_NONE) {
        cut_one(proxy, proxy->cut);
    }
    proxy->cut = CUT_NONE;
    memset(proxy->kept, 0, sizeof(proxy->kept));
    for_each_pipe(proxy, count_one, NULL);
    g_cond_broadcast(&proxy->done);
}

/* Called with the lock held, which is dropped while there is nothing to do */
static void turn(SwProxy *proxy, GArray *polls)
{
    struct pollfd listener = { .fd = proxy->listener, .events = POLLIN };
    struct pollfd wakes = { .fd = proxy->wake_read, .events = POLLIN };
    const struct pollfd *next;
    int wait_ms = -1;

    g_array_set_size(polls, 0);
    g_array_append_val(polls, listener);
    g_array_append_val(polls, wakes);
    for_each_pipe(proxy, prepare_one, polls);
    for_each_pipe(proxy, earliest_one, &wait_ms);

    g_mutex_unlock(&proxy->lock);
    poll((struct pollfd *)polls->data, polls->len, wait_ms);
    g_mutex_lock(&proxy->lock);

    drain_wakes(proxy);
    next = (const struct pollfd *)polls->data + 2;
    for_each_pipe(proxy, dispatch_one, &next);
    if (g_array_index(polls, struct pollfd, 0).revents) {
        take_connection(proxy);
    }
    obey(proxy);
}

static void *carry(void *opaque)
{
    GArray *polls = g_array_new(false, false, sizeof(struct pollfd));
    SwProxy *proxy = opaque;

    g_mutex_lock(&proxy->lock);
    while (!proxy->quit) {
        turn(proxy, polls);
    }
    g_mutex_unlock(&proxy->lock);
    g_array_free(polls, true);
    return NULL;
}

/*
 * Everybody else
 */

SwProxy *sw_proxy_new(const char *address, const char *target)
{
    SwProxy *proxy = g_new0(SwProxy, 1);
    int fds[2];

    g_assert(pipe2(fds, O_CLOEXEC | O_NONBLOCK) == 0);
    proxy->wake_read = fds[0];
    proxy->wake_write = fds[1];
    proxy->target = parse_address(target);
    proxy->uri = listen_at(proxy, address);
    proxy->cut = CUT_NONE;
    let_go(proxy);
    proxy->links = g_ptr_array_new_with_free_func(link_free);
    g_mutex_init(&proxy->lock);
    g_cond_init(&proxy->done);
    proxy->thread = g_thread_new("proxy", carry, proxy);
    return proxy;
}

void sw_proxy_free(SwProxy *proxy)
{
    if (!proxy) {
        return;
    }
    g_mutex_lock(&proxy->lock);
    proxy->quit = true;
    wake(proxy);
    g_mutex_unlock(&proxy->lock);
    g_thread_join(proxy->thread);
    g_ptr_array_free(proxy->links, true);
    close(proxy->listener);
    close(proxy->wake_read);
    close(proxy->wake_write);
    g_mutex_clear(&proxy->lock);
    g_cond_clear(&proxy->done);
    g_free(proxy->uri);
    g_free(proxy);
}

const char *sw_proxy_uri(SwProxy *proxy)
{
    return proxy->uri;
}

unsigned sw_proxy_connections(SwProxy *proxy)
{
    unsigned n;

    g_mutex_lock(&proxy->lock);
    n = proxy->connections;
    g_mutex_unlock(&proxy->lock);
    return n;
}

uint64_t sw_proxy_passed(SwProxy *proxy, SwDirection direction)
{
    uint64_t bytes;

    g_mutex_lock(&proxy->lock);
    bytes = proxy->passed[direction];
    g_mutex_unlock(&proxy->lock);
    return bytes;
}

void sw_proxy_withhold(SwProxy *proxy, SwDirection direction)
{
    g_mutex_lock(&proxy->lock);
    proxy->withheld[direction] = true;
    wake(proxy);
    g_mutex_unlock(&proxy->lock);
}

void sw_proxy_withhold_after(SwProxy *proxy, SwDirection direction,
                             uint64_t bytes)
{
    g_mutex_lock(&proxy->lock);
    proxy->limit[direction] = bytes;
    proxy->withheld[direction] = bytes == 0;
    wake(proxy);
    g_mutex_unlock(&proxy->lock);
}

void sw_proxy_stall(SwProxy *proxy, SwDirection direction)
{
    g_mutex_lock(&proxy->lock);
    proxy->stalled[direction] = true;
    wake(proxy);
    g_mutex_unlock(&proxy->lock);
}

void sw_proxy_let_go(SwProxy *proxy)
{
    g_mutex_lock(&proxy->lock);
    let_go(proxy);
    wake(proxy);
    g_mutex_unlock(&proxy->lock);
}

size_t sw_proxy_kept(SwProxy *proxy, SwDirection direction)
{
    size_t bytes;

    g_mutex_lock(&proxy->lock);
    bytes = proxy->withheld[direction] ? proxy->kept[direction] : 0;
    g_mutex_unlock(&proxy->lock);
    return bytes;
}

typedef struct Unread {
    SwDirection direction;
    size_t bytes;
} Unread;

static void add_unread(SwProxy *proxy, Pipe *pipe, void *opaque)
{
    Unread *unread = opaque;
    int queued = 0;

    if (pipe->direction == unread->direction) {
        ioctl(pipe->to, SIOCOUTQ, &queued);
        unread->bytes += pipe->bytes + queued;
    }
}

size_t sw_proxy_unread(SwProxy *proxy, SwDirection direction)
{
    Unread unread = { .direction = direction };

    g_mutex_lock(&proxy->lock);
    for_each_pipe(proxy, add_unread, &unread);
    g_mutex_unlock(&proxy->lock);
    return unread.bytes;
}

static void add_untaken(SwProxy *proxy, Pipe *pipe, void *opaque)
{
    Unread *untaken = opaque;
    int queued = 0;

    if (pipe->direction == untaken->direction) {
        ioctl(pipe->from, FIONREAD, &queued);
        untaken->bytes += queued;
    }
}

size_t sw_proxy_untaken(SwProxy *proxy, SwDirection direction)
{
    Unread untaken = { .direction = direction };

    g_mutex_lock(&proxy->lock);
    for_each_pipe(proxy, add_untaken, &untaken);
    g_mutex_unlock(&proxy->lock);
    return untaken.bytes;
}

static void cut(SwProxy *proxy, int which)
{
    g_mutex_lock(&proxy->lock);
    proxy->cut = which;
    wake(proxy);
    while (proxy->cut != CUT_NONE) {
        g_cond_wait(&proxy->done, &proxy->lock);
    }
    g_mutex_unlock(&proxy->lock);
}

void sw_proxy_cut(SwProxy *proxy)
{
    cut(proxy, CUT_ALL);
}

void sw_proxy_cut_one(SwProxy *proxy, unsigned number)
{
    cut(proxy, number);
}

void sw_proxy_delay(SwProxy *proxy, unsigned ms)
{
    g_mutex_lock(&proxy->lock);
    proxy->delay_ms = ms;
    g_mutex_unlock(&proxy->lock);
}
