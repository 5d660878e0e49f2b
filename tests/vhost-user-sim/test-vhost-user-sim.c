/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Test of the vhost-user simulator: is it late and wrong as ordered, and only
 * then?
 *
 * Theory of operation
 *
 * A test starts the program and is its frontend, by hand.  The usual question
 * is ask_bases(): some GET_VRING_BASE sent without waiting.  For each order
 * that can be given, the test sees the difference to what happens without.
 *
 * Times: eight things with a latency take eight times that at least.  Without
 * it they take a thousandth; what is asked for is that they take less than with
 * it, so that it does not matter how busy the machine is.
 */

#include "qemu/osdep.h"
#include <sys/syscall.h>
#include "qapi/error.h"
#include "qemu/memfd.h"
#include "qemu/sockets.h"
#include "qobject/qlist.h"
#include "standard-headers/linux/virtio_blk.h"
#include "standard-headers/linux/virtio_net.h"
#include "client.h"
#include "kinds.h"
#include "ring.h"

#define BASE VHOST_USER_GET_VRING_BASE

/* Long compared with what a message takes that nobody delays */
#define LATENCY_US 250000

static void ask_bases(int fd, unsigned n)
{
    unsigned i;

    for (i = 0; i < n; i++) {
        fe_send_state(fd, BASE, i, 0);
    }
}

static void expect_base(int fd, unsigned queue)
{
    g_assert_cmphex(fe_receive_u64(fd, BASE), ==, queue);
}

static void expect_bases(int fd, unsigned n)
{
    unsigned i;

    for (i = 0; i < n; i++) {
        expect_base(fd, i);
    }
}

/* Nothing follows: what is asked after all else is answered next */
static void expect_no_more(int fd)
{
    fe_send(fd, VHOST_USER_GET_QUEUE_NUM, 0, "", 0, NULL, 0);
    fe_receive_u64(fd, VHOST_USER_GET_QUEUE_NUM);
    g_assert_false(fe_has_input(fd));
}

static int64_t time_bases_us(int fd, unsigned n)
{
    int64_t start_us = g_get_monotonic_time();

    ask_bases(fd, n);
    expect_bases(fd, n);
    return g_get_monotonic_time() - start_us;
}

/* A disk with 8 queues, to which we are connected */
typedef struct Fixture {
    Sim *sim;
    int fd;
} Fixture;

static void set_up(Fixture *f, const void *args)
{
    f->sim = sim_start(args);
    f->fd = fe_connect(f->sim, "d.sock");
    fe_hello(f->fd);
}

static void tear_down(Fixture *f, const void *args)
{
    close(f->fd);
    sim_end(f->sim);
}

#define DISK "--blk d,queues=8,size=1M,listen=@/d.sock"

/* ---- the log ------------------------------------------------------------- */

typedef struct Moments {
    int64_t first_us;
    int64_t last_us;
    int n;
} Moments;

static Moments find_in_log(Sim *sim, const char *device, const char *event,
                           const char *kind)
{
    g_autoptr(GPtrArray) log = sim_log(sim, device);
    Moments moments = {};
    unsigned i;

    for (i = 0; i < log->len; i++) {
        char **words = g_ptr_array_index(log, i);
        int64_t at_us = g_ascii_strtoll(words[0], NULL, 10);

        if (g_str_equal(words[2], event) && g_str_equal(words[3], kind)) {
            moments.first_us = moments.n++ ? moments.first_us : at_us;
            moments.last_us = at_us;
        }
    }
    return moments;
}

static void test_log(Fixture *f, const void *args)
{
    g_autoptr(GPtrArray) log = NULL;
    char **words;

    sim_command(f->sim, "reset d");
    fe_send_state(f->fd, VHOST_USER_SET_VRING_BASE, 3, 0x1234);
    fe_send_state(f->fd, BASE, 3, 0);
    g_assert_cmphex(fe_receive_u64(f->fd, BASE), ==, 0x1234ull << 32 | 3);

    log = sim_log(f->sim, "d");
    words = g_ptr_array_index(log, log->len - 1);
    g_assert_cmpstr(words[2], ==, "reply");
    g_assert_cmpstr(words[3], ==, "GET_VRING_BASE");
    g_assert_cmpstr(words[4], ==, "3");
    g_assert_cmpstr(words[5], ==, "0x1234");
    g_assert_cmpint(find_in_log(f->sim, "d", "connect", "-").n, ==, 1);
    g_assert_cmpint(find_in_log(f->sim, "d", "forward", "SET_VRING_BASE").n,
                    ==, 1);
    g_assert_cmpint(sim_count(f->sim, "d", "SET_VRING_BASE", "received"), ==,
                    1);
    g_assert_cmpint(sim_count(f->sim, "d", "SET_VRING_BASE", "answered"), ==,
                    0);
    g_assert_cmpint(sim_count(f->sim, "d", "GET_VRING_BASE", "answered"), ==,
                    1);
}

/* ---- latency ------------------------------------------------------------- */

static void test_no_latency(Fixture *f, const void *args)
{
    g_assert_cmpint(time_bases_us(f->fd, 8), <, 8 * LATENCY_US);
}

static void test_serial(Fixture *f, const void *args)
{
    Moments arrivals, replies;

    g_free(sim_ok(f->sim, "latency d serial GET_VRING_BASE:%d", LATENCY_US));
    g_assert_cmpint(time_bases_us(f->fd, 8), >=, 8 * LATENCY_US);
    expect_no_more(f->fd);

    /* All had come before the first was answered */
    arrivals = find_in_log(f->sim, "d", "arrive", "GET_VRING_BASE");
    replies = find_in_log(f->sim, "d", "reply", "GET_VRING_BASE");
    g_assert_cmpint(arrivals.n, ==, 8);
    g_assert_cmpint(arrivals.last_us, <, replies.first_us);
    g_assert_cmpint(replies.first_us - arrivals.first_us, >=, LATENCY_US);
    g_assert_cmpint(replies.last_us - replies.first_us, >=, 7 * LATENCY_US);
    g_assert_cmpint(sim_count(f->sim, "d", "GET_VRING_BASE", "most-pending"),
                    ==, 8);
}

/* Who waits for each answer never has two questions open */
static void test_lockstep(Fixture *f, const void *args)
{
    int i;

    for (i = 0; i < 8; i++) {
        fe_send_state(f->fd, BASE, i, 0);
        expect_base(f->fd, i);
    }
    g_assert_cmpint(sim_count(f->sim, "d", "GET_VRING_BASE", "most-pending"),
                    ==, 1);
}

static void test_wakeup(Fixture *f, const void *args)
{
    int64_t took_us;

    g_free(sim_ok(f->sim, "latency d wakeup GET_VRING_BASE:%d", LATENCY_US));
    took_us = time_bases_us(f->fd, 8);
    g_assert_cmpint(took_us, >=, LATENCY_US);
    g_assert_cmpint(took_us, <, 8 * LATENCY_US);

    /* It has gone to sleep again */
    g_assert_cmpint(time_bases_us(f->fd, 1), >=, LATENCY_US);
}

/* How long eight messages of another kind take */
static int64_t time_others_us(int fd)
{
    int64_t start_us = g_get_monotonic_time();
    int i;

    for (i = 0; i < 8; i++) {
        expect_no_more(fd);
    }
    return g_get_monotonic_time() - start_us;
}

static void test_latency_of_kinds(Fixture *f, const void *args)
{
    int64_t start_us;

    g_free(sim_ok(f->sim, "latency d serial SET_MEM_TABLE:%d", LATENCY_US));
    g_assert_cmpint(time_bases_us(f->fd, 8), <, 8 * LATENCY_US);
    start_us = g_get_monotonic_time();
    guest_memory_free(guest_memory_new(f->fd, 1));
    g_assert_cmpint(g_get_monotonic_time() - start_us, >=, LATENCY_US);

    g_free(sim_ok(f->sim, "latency d serial ANY:%d,GET_VRING_BASE:1",
                  LATENCY_US));
    g_assert_cmpint(time_bases_us(f->fd, 8), <, 8 * LATENCY_US);
    g_assert_cmpint(time_others_us(f->fd), >=, 8 * LATENCY_US);

    g_free(sim_ok(f->sim, "latency d off"));
    g_assert_cmpint(time_others_us(f->fd), <, 8 * LATENCY_US);
}

/* Each of four devices has one question */
static int64_t time_four_us(const char *more)
{
    g_autofree char *args = g_strdup_printf(
        "%s --blk d#,count=4,size=1M,listen=@/d#.sock,latency=SET_OWNER:1,"
        "GET_VRING_BASE:%d", more, LATENCY_US);
    Sim *sim = sim_start(args);
    int64_t took_us;
    int fd[4], i;

    for (i = 0; i < 4; i++) {
        g_autofree char *name = g_strdup_printf("d%d.sock", i);

        fd[i] = fe_connect(sim, name);
        fe_hello(fd[i]);
    }
    took_us = g_get_monotonic_time();
    for (i = 0; i < 4; i++) {
        fe_send_state(fd[i], BASE, 0, 0);
    }
    for (i = 0; i < 4; i++) {
        expect_base(fd[i], 0);
        close(fd[i]);
    }
    took_us = g_get_monotonic_time() - took_us;
    sim_end(sim);
    return took_us;
}

static void test_threads(void)
{
    int64_t each_us = time_four_us("");

    g_assert_cmpint(each_us, >=, LATENCY_US);
    g_assert_cmpint(each_us, <, 4 * LATENCY_US);
    g_assert_cmpint(time_four_us("--one-thread"), >=, 4 * LATENCY_US);
}

/* ---- faults -------------------------------------------------------------- */

static void order_and_ask(Fixture *f, const char *fault, unsigned questions)
{
    g_autofree char *n = sim_ok(f->sim, "fault d %s", fault);

    g_assert_cmpstr(n, ==, "1");
    ask_bases(f->fd, questions);
    expect_base(f->fd, 0);
}

static void order(Fixture *f, const char *fault)
{
    order_and_ask(f, fault, 4);
}

static void expect_faults(Fixture *f, int n)
{
    g_autoptr(QDict) stats = sim_stats(f->sim, "d");

    g_assert_cmpint(qdict_get_int(stats, "faults"), ==, n);
}

static void test_no_fault(Fixture *f, const void *args)
{
    ask_bases(f->fd, 4);
    expect_bases(f->fd, 4);
    expect_no_more(f->fd);
    expect_faults(f, 0);
}

static void test_hold(Fixture *f, const void *args)
{
    g_autofree char *early = sim_command(f->sim, "resume d");

    g_assert_true(g_str_has_prefix(early, "ERR "));
    order(f, "hold GET_VRING_BASE n=2");
    sim_wait_held(f->sim, "d", true);
    sim_wait_count(f->sim, "d", "GET_VRING_BASE", "received", 4);
    g_assert_false(fe_has_input(f->fd));
    g_assert_cmpint(sim_count(f->sim, "d", "GET_VRING_BASE", "pending"), ==, 3);
    g_assert_cmpint(find_in_log(f->sim, "d", "forward", "GET_VRING_BASE").n,
                    ==, 1);
    g_free(sim_ok(f->sim, "resume d"));
    expect_base(f->fd, 1);
    expect_base(f->fd, 2);
    expect_base(f->fd, 3);
    expect_no_more(f->fd);
    sim_wait_held(f->sim, "d", false);
}

/* The frontend may give up, and finds the device well when it is back */
static void test_hold_and_leave(Fixture *f, const void *args)
{
    order(f, "hold ANY n=2");
    sim_wait_held(f->sim, "d", true);
    close(f->fd);
    f->fd = fe_connect(f->sim, "d.sock");
    fe_hello(f->fd);
    test_no_latency(f, args);
    sim_wait_held(f->sim, "d", false);
}

static void test_close(Fixture *f, const void *args)
{
    /* What is asked after that cannot be sent, or can if it is fast */
    order_and_ask(f, "close GET_VRING_BASE n=2", 2);
    g_assert_true(fe_is_closed(f->fd));
    close(f->fd);
    f->fd = fe_connect(f->sim, "d.sock");
    fe_hello(f->fd);
    ask_bases(f->fd, 4);
    expect_bases(f->fd, 4);
    expect_faults(f, 1);
}

static void test_swallow(Fixture *f, const void *args)
{
    order(f, "swallow GET_VRING_BASE n=2");
    expect_base(f->fd, 2);
    expect_base(f->fd, 3);
    expect_no_more(f->fd);
    g_assert_cmpint(sim_count(f->sim, "d", "GET_VRING_BASE", "answered"), ==,
                    3);
}

static void test_short(Fixture *f, const void *args)
{
    g_autoptr(SimMessage) msg = NULL;

    order(f, "short GET_VRING_BASE n=2 size=3");
    msg = fe_receive(f->fd);
    g_assert_cmpint(msg->hdr.kind, ==, BASE);
    g_assert_cmpint(msg->hdr.size, ==, 3);
    expect_base(f->fd, 2);
    expect_base(f->fd, 3);
    expect_no_more(f->fd);
}

static void test_kind(Fixture *f, const void *args)
{
    order(f, "kind GET_VRING_BASE n=2 to=GET_FEATURES");
    g_assert_cmphex(fe_receive_u64(f->fd, VHOST_USER_GET_FEATURES), ==, 1);
    expect_base(f->fd, 2);
    expect_base(f->fd, 3);
    expect_no_more(f->fd);
}

static void test_value(Fixture *f, const void *args)
{
    g_free(sim_ok(f->sim, "fault d value GET_VRING_BASE queue=2 index=7"));
    g_free(sim_ok(f->sim, "fault d value GET_VRING_BASE queue=3 num=9"));
    order(f, "value GET_VRING_BASE queue=1 value=0x100000002");
    g_assert_cmphex(fe_receive_u64(f->fd, BASE), ==, 0x100000002);
    g_assert_cmphex(fe_receive_u64(f->fd, BASE), ==, 7);
    g_assert_cmphex(fe_receive_u64(f->fd, BASE), ==, 0x900000003);
    expect_no_more(f->fd);
    expect_faults(f, 3);
}

static void test_swap(Fixture *f, const void *args)
{
    order(f, "swap GET_VRING_BASE n=2");
    expect_base(f->fd, 2);
    expect_base(f->fd, 1);
    expect_base(f->fd, 3);
    expect_no_more(f->fd);
}

static void test_twice(Fixture *f, const void *args)
{
    order(f, "twice GET_VRING_BASE n=2");
    expect_base(f->fd, 1);
    expect_base(f->fd, 1);
    expect_base(f->fd, 2);
    expect_base(f->fd, 3);
    expect_no_more(f->fd);
}

static uint64_t enable(int fd, uint32_t queue)
{
    uint32_t state[] = { queue, 1 };

    fe_send(fd, VHOST_USER_SET_VRING_ENABLE, SIM_FLAG_NEED_REPLY, state,
            sizeof(state), NULL, 0);
    return fe_receive_u64(fd, VHOST_USER_SET_VRING_ENABLE);
}

static void test_nack(Fixture *f, const void *args)
{
    g_free(sim_ok(f->sim, "fault d nack SET_VRING_ENABLE n=2 value=22"));
    /* Without being asked for an acknowledgment, it does not count */
    fe_send_state(f->fd, VHOST_USER_SET_VRING_ENABLE, 0, 1);
    g_assert_cmpint(enable(f->fd, 0), ==, 0);
    g_assert_cmpint(enable(f->fd, 1), ==, 22);
    g_assert_cmpint(enable(f->fd, 2), ==, 0);
    expect_no_more(f->fd);
}

static void test_times(Fixture *f, const void *args)
{
    order(f, "swallow ANY n=2 times=2");
    expect_base(f->fd, 3);
    expect_no_more(f->fd);
    expect_faults(f, 2);

    /* Neither of another kind, nor one that was taken back */
    g_free(sim_ok(f->sim, "fault d close GET_CONFIG"));
    test_no_latency(f, args);
    g_free(sim_ok(f->sim, "fault d close GET_VRING_BASE"));
    g_free(sim_ok(f->sim, "clear d"));
    test_no_latency(f, args);
}

static void test_drop(Fixture *f, const void *args)
{
    test_no_latency(f, args);
    g_free(sim_ok(f->sim, "drop d"));
    g_assert_true(fe_is_closed(f->fd));
}

/* ---- what is offered ----------------------------------------------------- */

static uint64_t protocol_features(const char *args)
{
    Sim *sim = sim_start(args);
    int fd = fe_connect(sim, "d.sock");
    uint64_t features;

    fe_send(fd, VHOST_USER_GET_PROTOCOL_FEATURES, 0, "", 0, NULL, 0);
    features = fe_receive_u64(fd, VHOST_USER_GET_PROTOCOL_FEATURES);
    close(fd);
    sim_end(sim);
    return features;
}

static void test_features(void)
{
    uint64_t ack = 1ull << VHOST_USER_PROTOCOL_F_REPLY_ACK;
    uint64_t slots = 1ull << VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS;
    uint64_t inflight = 1ull << VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD;
    uint64_t features = protocol_features(DISK);

    g_assert_true(features & ack);
    g_assert_true(features & inflight);
    g_assert_false(features & slots);
    features = protocol_features(DISK ",reply-ack=off,mem-slots=on,"
                                 "inflight=off");
    g_assert_false(features & ack);
    g_assert_false(features & inflight);
    g_assert_true(features & slots);
}

/* ---- the data plane ------------------------------------------------------ */

static uint8_t request(Ring *ring, uint32_t type, uint64_t sector,
                       uint32_t len)
{
    struct virtio_blk_outhdr *hdr = ring_buffer(ring, 0);
    uint8_t *status = ring_buffer(ring, 2);
    uint32_t lens[] = { sizeof(*hdr), len, 1 };

    *hdr = (struct virtio_blk_outhdr) { .type = type, .sector = sector };
    *status = 0xff;
    ring_submit(ring, lens, type == VIRTIO_BLK_T_OUT ? 2 : 1, 3);
    ring_wait(ring);
    return *status;
}

static QDict *find_queue(QDict *stats, int queue)
{
    const QListEntry *entry = qlist_first(qdict_get_qlist(stats, "queues"));

    while (queue--) {
        entry = qlist_next(entry);
    }
    return qobject_to(QDict, qlist_entry_obj(entry));
}

static uint64_t requests(Sim *sim, const char *device, int queue,
                         const char *what)
{
    g_autoptr(QDict) stats = sim_stats(sim, device);

    return qdict_get_int(find_queue(stats, queue), what);
}

static bool runs(Sim *sim, const char *device, int queue)
{
    g_autoptr(QDict) stats = sim_stats(sim, device);

    return qdict_get_bool(find_queue(stats, queue), "running");
}

static void use_disk(Fixture *f, Ring *ring)
{
    void *data = ring_buffer(ring, 1);

    memset(data, 0x5a, 1024);
    g_assert_cmpint(request(ring, VIRTIO_BLK_T_OUT, 7, 1024), ==,
                    VIRTIO_BLK_S_OK);
    memset(data, 0, 1024);
    g_assert_cmpint(request(ring, VIRTIO_BLK_T_IN, 8, 512), ==,
                    VIRTIO_BLK_S_OK);
    g_assert_cmpint(((uint8_t *)data)[511], ==, 0x5a);
    g_assert_cmpint(((uint8_t *)data)[512], ==, 0);
    g_assert_cmpint(request(ring, VIRTIO_BLK_T_IN, 9, 512), ==,
                    VIRTIO_BLK_S_OK);
    g_assert_cmpint(((uint8_t *)data)[511], ==, 0);

    g_assert_cmpint(request(ring, VIRTIO_BLK_T_GET_ID, 0, 20), ==,
                    VIRTIO_BLK_S_OK);
    g_assert_cmpstr(data, ==, "d");
    g_assert_cmpint(request(ring, VIRTIO_BLK_T_FLUSH, 0, 512), ==,
                    VIRTIO_BLK_S_OK);
    g_assert_cmpint(request(ring, 99, 0, 512), ==, VIRTIO_BLK_S_UNSUPP);
    g_assert_cmpint(request(ring, VIRTIO_BLK_T_IN, 2047, 1024), ==,
                    VIRTIO_BLK_S_IOERR);
    g_assert_cmpint(request(ring, VIRTIO_BLK_T_OUT, 2047, 1024), ==,
                    VIRTIO_BLK_S_IOERR);
}

static void test_blk(Fixture *f, const void *args)
{
    GuestMemory *mem = guest_memory_new(f->fd, 8);
    Ring *ring = ring_new(mem, 5);

    ring_start(ring, f->fd);
    use_disk(f, ring);
    g_assert_true(runs(f->sim, "d", 5));
    g_assert_false(runs(f->sim, "d", 4));
    ring_stop(ring, f->fd);
    g_assert_false(runs(f->sim, "d", 5));
    g_assert_cmpint(requests(f->sim, "d", 5, "requests"), ==, 8);
    g_assert_cmpint(requests(f->sim, "d", 5, "errors"), ==, 3);
    g_assert_cmpint(requests(f->sim, "d", 4, "requests"), ==, 0);

    /* Goes on where it was */
    ring_start(ring, f->fd);
    use_disk(f, ring);
    ring_stop(ring, f->fd);
    g_assert_cmpint(requests(f->sim, "d", 5, "requests"), ==, 16);
    ring_free(ring);
    guest_memory_free(mem);
}

static void test_dirty_log(Fixture *f, const void *args)
{
    uint64_t features = 1ull << VIRTIO_F_VERSION_1 |
                        1ull << VHOST_USER_F_PROTOCOL_FEATURES;
    GuestMemory *mem = guest_memory_new(f->fd, 1);
    Ring *ring = ring_new(mem, 0);
    void *data = ring_buffer(ring, 1);

    ring_start(ring, f->fd);
    guest_memory_start_log(mem, f->fd);
    request(ring, VIRTIO_BLK_T_IN, 0, 512);
    g_assert_false(guest_memory_is_dirty(mem, data));

    features |= 1 << VHOST_F_LOG_ALL;
    fe_send_u64(f->fd, VHOST_USER_SET_FEATURES, features);
    expect_no_more(f->fd);
    request(ring, VIRTIO_BLK_T_IN, 0, 512);
    g_assert_true(guest_memory_is_dirty(mem, data));
    g_assert_true(guest_memory_is_dirty(mem, ring_buffer(ring, 2)));
    g_assert_false(guest_memory_is_dirty(mem, ring_buffer(ring, 0)));
    ring_stop(ring, f->fd);
    ring_free(ring);
    guest_memory_free(mem);
}

static bool has_userfaultfd(void)
{
    int fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);

    if (fd >= 0) {
        close(fd);
    }
    return fd >= 0;
}

static void enter_postcopy(int fd)
{
    SimMessage *advised;

    fe_send(fd, VHOST_USER_POSTCOPY_ADVISE, 0, "", 0, NULL, 0);
    advised = fe_receive(fd);
    g_assert_cmpint(advised->n_fds, ==, 1);
    sim_message_free(advised);
    fe_send(fd, VHOST_USER_POSTCOPY_LISTEN, SIM_FLAG_NEED_REPLY, "", 0, NULL,
            0);
    g_assert_cmpint(fe_receive_u64(fd, VHOST_USER_POSTCOPY_LISTEN), ==, 0);
}

/* Where the simulator says that it has mapped a page that we send to it */
static uint64_t map_a_page(int fd)
{
    VhostUserMemory table = {
        .nregions = 1,
        .regions[0] = { .guest_phys_addr = 0x10000000, .memory_size = 4096 },
    };
    int memfd = qemu_memfd_create("guest", 4096, false, 0, 0, &error_abort);
    SimMessage *mapped;

    fe_send(fd, VHOST_USER_SET_MEM_TABLE, 0, &table, sizeof(table), &memfd, 1);
    close(memfd);
    mapped = fe_receive(fd);
    g_assert_cmpint(mapped->hdr.size, ==, sizeof(table));
    memcpy(&table, mapped->payload, sizeof(table));
    sim_message_free(mapped);
    /* We would know now what a fault is about */
    fe_send_u64(fd, VHOST_USER_SET_MEM_TABLE, 0);
    return table.regions[0].userspace_addr;
}

/* With libvhost-user's own answer, this is the address that it was sent */
static void test_postcopy(Fixture *f, const void *args)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/maps", sim_pid(f->sim));
    g_autofree char *begin = NULL;
    g_autofree char *maps = NULL;

    if (!has_userfaultfd()) {
        g_test_skip("userfaultfd is not available");
        return;
    }
    enter_postcopy(f->fd);
    begin = g_strdup_printf("\n%" PRIx64 "-", map_a_page(f->fd));
    fe_send(f->fd, VHOST_USER_POSTCOPY_END, SIM_FLAG_NEED_REPLY, "", 0, NULL,
            0);
    g_assert_cmpint(fe_receive_u64(f->fd, VHOST_USER_POSTCOPY_END), ==, 0);
    g_assert_true(g_file_get_contents(path, &maps, NULL, NULL));
    g_assert_nonnull(strstr(maps, begin));
}

static const uint8_t sent[] = {
    1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16, 0x88, 0xb5, 'h', 'e', 'y',
};
static const uint8_t reflected[] = {
    11, 12, 13, 14, 15, 16, 1, 2, 3, 4, 5, 6, 0x88, 0xb5, 'h', 'e', 'y',
};

static void send_frame(Ring *tx)
{
    uint32_t lens[] = {
        sizeof(struct virtio_net_hdr_mrg_rxbuf), sizeof(sent),
    };

    memcpy(ring_buffer(tx, 1), sent, sizeof(sent));
    ring_submit(tx, lens, 2, 2);
    ring_wait(tx);
}

static void expect_frame(Ring *rx)
{
    struct virtio_net_hdr_mrg_rxbuf *hdr = ring_buffer(rx, 0);

    g_assert_cmpint(ring_wait(rx), ==, sizeof(*hdr) + sizeof(sent));
    g_assert_cmpint(hdr->num_buffers, ==, 1);
    g_assert_cmpmem(hdr + 1, sizeof(reflected), reflected, sizeof(reflected));
}

typedef void UseCard(Sim *sim, Ring *rx, Ring *tx);

/* The second pair of two */
static void with_card(const char *args, UseCard *use)
{
    Sim *sim = sim_start(args);
    int fd = fe_connect(sim, "n.sock");
    GuestMemory *mem;
    Ring *rx, *tx;

    fe_hello(fd);
    mem = guest_memory_new(fd, 4);
    rx = ring_new(mem, 2);
    tx = ring_new(mem, 3);
    ring_start(rx, fd);
    ring_start(tx, fd);
    use(sim, rx, tx);
    ring_stop(rx, fd);
    ring_stop(tx, fd);
    ring_free(rx);
    ring_free(tx);
    guest_memory_free(mem);
    close(fd);
    sim_end(sim);
}

static void receive_one(Sim *sim, Ring *rx, Ring *tx)
{
    uint32_t len = RING_BUFFER_SIZE;

    ring_submit(rx, &len, 0, 1);
    send_frame(tx);
    expect_frame(rx);
    g_assert_cmpint(requests(sim, "n", 2, "requests"), ==, 1);
    g_assert_cmpint(requests(sim, "n", 0, "requests"), ==, 0);
}

/* There is no buffer for what comes back */
static void receive_none(Sim *sim, Ring *rx, Ring *tx)
{
    send_frame(tx);
    send_frame(tx);
    g_assert_cmpint(requests(sim, "n", 2, "requests"), ==, 0);
    g_assert_cmpint(requests(sim, "n", 3, "errors"), >=, 1);
}

static void test_net(void)
{
    with_card("--net n,queue-pairs=2,listen=@/n.sock", receive_one);
    with_card("--net n,queue-pairs=2,listen=@/n.sock", receive_none);
}

static void receive_dropped(Sim *sim, Ring *rx, Ring *tx)
{
    g_assert_cmpint(requests(sim, "n", 3, "requests"), ==, 0);
    send_frame(tx);
    send_frame(tx);
    g_assert_cmpint(requests(sim, "n", 2, "requests"), ==, 0);
    g_assert_cmpint(requests(sim, "n", 3, "errors"), ==, 0);
    /* The count of the second may come a bit later than its interrupt */
    g_assert_cmpint(requests(sim, "n", 3, "requests"), >=, 1);
}

static void test_net_drop(void)
{
    with_card("--net n,queue-pairs=2,frames=drop,listen=@/n.sock",
              receive_dropped);
}

/* ---- how it is connected ------------------------------------------------- */

static void test_client(void)
{
    g_autofree char *dir = g_dir_make_tmp("vhost-user-sim-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "front", NULL);
    g_autofree char *args = g_strdup_printf("--blk d,connect=%s", path);
    int listener = unix_listen(path, &error_abort);
    Sim *sim = sim_start(args);
    int i;

    for (i = 0; i < 2; i++) {
        int fd = accept(listener, NULL, NULL);

        fe_hello(fd);
        ask_bases(fd, 1);
        expect_base(fd, 0);
        close(fd);
    }
    close(listener);
    sim_end(sim);
    unlink(path);
    rmdir(dir);
}

/* In front of one of our own, which knows nothing of it */
static void test_proxy(void)
{
    Fixture f = {
        .sim = sim_start("--blk b,queues=8,size=1M,listen=@/b.sock "
                         "--proxy d,listen=@/d.sock,connect=@/b.sock"),
    };
    Moments proxy, disk;

    f.fd = fe_connect(f.sim, "d.sock");
    fe_hello(f.fd);
    order(&f, "swap GET_VRING_BASE n=2");
    expect_base(f.fd, 2);
    expect_base(f.fd, 1);
    expect_base(f.fd, 3);
    g_free(sim_ok(f.sim, "latency d serial GET_VRING_BASE:%d", LATENCY_US));
    g_assert_cmpint(time_bases_us(f.fd, 2), >=, 2 * LATENCY_US);

    /* File descriptors get through: a disk of the name of the one behind */
    {
        GuestMemory *mem = guest_memory_new(f.fd, 1);
        Ring *ring = ring_new(mem, 0);

        ring_start(ring, f.fd);
        g_assert_cmpint(request(ring, VIRTIO_BLK_T_GET_ID, 0, 20), ==,
                        VIRTIO_BLK_S_OK);
        g_assert_cmpstr(ring_buffer(ring, 1), ==, "b");
        g_assert_true(runs(f.sim, "d", 0));
        ring_stop(ring, f.fd);
        ring_free(ring);
        guest_memory_free(mem);
    }
    proxy = find_in_log(f.sim, "d", "arrive", "SET_MEM_TABLE");
    disk = find_in_log(f.sim, "b", "arrive", "SET_MEM_TABLE");
    g_assert_cmpint(proxy.n, ==, 1);
    g_assert_cmpint(disk.n, ==, 1);
    g_assert_cmpint(proxy.first_us, <=, disk.first_us);
    tear_down(&f, NULL);
}

/* ---- how it ends, and what it refuses ------------------------------------ */

static int start_by_shell(const char *dir, const char *more, GPid *shell)
{
    g_autofree char *program = sim_program();
    g_autofree char *line = g_strdup_printf(
        "%s --ignore-stdin %s --control %s/control --blk d,listen=%s/d.sock; "
        "exit 0", program, more, dir, dir);
    const char *argv[] = { "/bin/sh", "-c", line, NULL };
    g_autofree char *path = g_build_filename(dir, "control", NULL);
    g_autoptr(GError) err = NULL;
    char c[6];
    int output;

    g_spawn_async_with_pipes(NULL, (char **)argv, NULL,
                             G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, shell, NULL,
                             &output, NULL, &err);
    g_assert_no_error(err);
    g_assert_cmpint(read(output, c, sizeof(c)), ==, sizeof(c));
    close(output);
    return unix_connect(path, &error_abort);
}

static void kill_shell(GPid shell)
{
    kill(shell, SIGKILL);
    g_assert_cmpint(RETRY_ON_EINTR(waitpid(shell, NULL, 0)), ==, shell);
}

static void test_parent_death(void)
{
    g_autofree char *dir = g_dir_make_tmp("vhost-user-sim-XXXXXX", NULL);
    GPid shell;
    int control;
    char c[3];

    control = start_by_shell(dir, "", &shell);
    kill_shell(shell);
    g_assert_true(fe_is_closed(control));
    close(control);

    control = start_by_shell(dir, "--outlive-parent", &shell);
    kill_shell(shell);
    g_assert_cmpint(write(control, "list\n", 5), ==, 5);
    g_assert_cmpint(recv(control, c, 3, MSG_WAITALL), ==, 3);
    g_assert_cmpmem(c, 3, "OK ", 3);
    g_assert_cmpint(write(control, "quit\n", 5), ==, 5);
    while (recv(control, c, 1, 0) > 0) {
        continue;
    }
    close(control);
    g_assert_cmpint(rmdir(dir), ==, 0);
}

static void test_bad_options(void)
{
    static const char *const bad[][2] = {
        { "", "no device" },
        { "--blk d", "listen= or connect=" },
        { "--blk d,listen=@/d,queues=257", "queues=257: a number from 1 to" },
        { "--net n,listen=@/n,queue-pairs=0", "queue-pairs=0: a number from" },
        { "--net n,listen=@/n,size=1M", "no 'size'" },
        { "--blk d,listen=@/d,size=1000", "size=1000" },
        { "--blk d,listen=@/d,latency=NOTHING:5", "'NOTHING' is no kind" },
        { "--blk d,listen=@/d,latency=ANY:700000000", "MICROSECONDS" },
        { "--blk d,count=2,listen=@/d", "'#'" },
        { "--proxy p,listen=@/p", "connect=" },
        { "--blk d,listen=@/d --blk d,listen=@/e", "called 'd'" },
        { "--blk d,listen=/nonexistent/d", "/nonexistent/d" },
        { "--blk d,listen=@/d,reply-ack=maybe", "on or off" },
        { "--blk d,listen=@/d nonsense", "'nonsense' is no option" },
    };
    int i;

    for (i = 0; i < ARRAY_SIZE(bad); i++) {
        g_autofree char *said = sim_start_refused(bad[i][0]);

        if (!strstr(said, bad[i][1])) {
            g_error("%s: %s", bad[i][0], said);
        }
    }
}

static void test_bad_commands(Fixture *f, const void *args)
{
    static const char *const bad[][2] = {
        { "", "unknown command" },
        { "nonsense", "unknown command" },
        { "stats", "takes 1 to 1" },
        { "stats x", "no device 'x'" },
        { "fault d nonsense ANY", "hold, close" },
        { "fault d hold NOTHING", "no kind" },
        { "fault d hold ANY n=0", "n=0: a number from 1" },
        { "fault d hold ANY size=4", "no parameter 'size'" },
        { "fault d value ANY", "needs value=" },
        { "fault d nack GET_VRING_BASE", "reply of its own" },
        { "fault d kind ANY", "needs to=" },
        { "latency d sometimes ANY:1", "serial or wakeup" },
        { "latency d serial", "latency DEVICES" },
        { "resume d", "holds" },
    };
    int i;

    for (i = 0; i < ARRAY_SIZE(bad); i++) {
        g_autofree char *said = sim_command(f->sim, "%s", bad[i][0]);

        if (!g_str_has_prefix(said, "ERR ") || !strstr(said, bad[i][1])) {
            g_error("%s: %s", bad[i][0], said);
        }
    }
    test_no_fault(f, args);
}

#define ADD(path, fn) \
    g_test_add("/vhost-user-sim/" path, Fixture, DISK, set_up, fn, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("log", test_log);
    ADD("latency/none", test_no_latency);
    ADD("latency/serial", test_serial);
    ADD("latency/lockstep", test_lockstep);
    ADD("latency/wakeup", test_wakeup);
    ADD("latency/kinds", test_latency_of_kinds);
    g_test_add_func("/vhost-user-sim/latency/threads", test_threads);
    ADD("fault/none", test_no_fault);
    ADD("fault/hold", test_hold);
    ADD("fault/hold-and-leave", test_hold_and_leave);
    ADD("fault/close", test_close);
    ADD("fault/swallow", test_swallow);
    ADD("fault/short", test_short);
    ADD("fault/kind", test_kind);
    ADD("fault/value", test_value);
    ADD("fault/swap", test_swap);
    ADD("fault/twice", test_twice);
    ADD("fault/nack", test_nack);
    ADD("fault/times", test_times);
    ADD("fault/drop", test_drop);
    g_test_add_func("/vhost-user-sim/features", test_features);
    ADD("data/blk", test_blk);
    ADD("data/dirty-log", test_dirty_log);
    ADD("data/postcopy", test_postcopy);
    g_test_add_func("/vhost-user-sim/data/net", test_net);
    g_test_add_func("/vhost-user-sim/data/net-drop", test_net_drop);
    g_test_add_func("/vhost-user-sim/client", test_client);
    g_test_add_func("/vhost-user-sim/proxy", test_proxy);
    g_test_add_func("/vhost-user-sim/parent-death", test_parent_death);
    g_test_add_func("/vhost-user-sim/bad-options", test_bad_options);
    ADD("bad-commands", test_bad_commands);
    return g_test_run();
}
