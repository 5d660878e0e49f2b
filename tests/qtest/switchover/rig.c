/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: a case, and what is set up for it
 */

#include "qemu/osdep.h"
#include <sys/socket.h>
#include <linux/vm_sockets.h>
#include "qemu/cutils.h"
#include "switchover/harness.h"
#include "switchover/rig.h"
#include "switchover/transport.h"

/* What the victim serves before it is stuck: I/O does flow */
#define FLOWING_REQUESTS 8

/* A disk that neither got nor answered a request for this long is at rest */
#define SETTLED_MS 150

/*
 * The victim stops at a random moment, or it would always be the same request
 * of a guest that does one after the other.
 */
#define PHASE_US 20000

/* Requests that the guest has in flight on each disk */
#define DEPTH 4

/* In bytes per second; the fast one is libvirt's "unlimited" */
#define SLOW_BANDWIDTH INT64_C(1048576)
#define UNLIMITED_BANDWIDTH INT64_C(9223372036853727232)

static bool make_disk(SwRig *rig, unsigned n, char **why)
{
    g_autofree char *name = g_strdup_printf("disk%u", n);

    rig->disk[n] = sw_disk_new(rig->dir, name, rig->c->latency_ms[n], why);
    return rig->disk[n] &&
           sw_driver_prepare(rig->c->driver, rig->disk[n], why);
}

static bool make_disks(SwRig *rig, char **why)
{
    return make_disk(rig, 0, why) &&
           (rig->c->disks < 2 || make_disk(rig, 1, why));
}

static unsigned guest_disks(SwRig *rig)
{
    return rig->c->guest_disks ?: 1;
}

static char *disk_args(SwRig *rig)
{
    const SwCase *c = rig->c;
    GString *args = g_string_new(c->device->before ?: "");
    unsigned n;

    for (n = 0; n < ARRAY_SIZE(rig->disk) && rig->disk[n]; n++) {
        g_autofree char *node = sw_driver_args(c->driver, rig->disk[n], n);
        g_autofree char *device = sw_device_args(c->device, n,
                                                 n >= guest_disks(rig));

        g_string_append_printf(args, " %s %s", node, device);
    }
    return g_string_free(args, false);
}

/*
 * While an fsync or fallocate of a FUSE file hangs, a write that comes after
 * blocks inside io_submit() or io_uring_enter(), and all of QEMU with it, long
 * before any migration.  A single worker sends no such write.  (qcow2 has
 * fallocate() to do for writes, too.)
 */
static unsigned guest_depth(const SwCase *c)
{
    bool submits = c->driver->aio && !g_str_equal(c->driver->aio, "threads");
    bool holds_file = c->kind == SW_KIND_FLUSH || c->kind == SW_KIND_DISCARD ||
                      (c->driver->qcow2 && c->kind != SW_KIND_READ);

    return submits && holds_file ? 1 : c->depth ?: DEPTH;
}

static char *vm_args(SwRig *rig)
{
    const SwCase *c = rig->c;
    g_autofree char *disks = disk_args(rig);
    g_autofree char *guest = sw_guest_args_dirty(
        guest_disks(rig) > 1 ? c->device->guest_disks : c->device->guest_disk,
        c->dirty_mib_per_s, c->dirty_mib, guest_depth(c), c->cpus ?: 2);

    return g_strdup_printf("-machine %s %s %s %s",
                           c->machine ?: c->device->machine, disks, guest,
                           rig->more_args ?: "");
}

/* A destination that gets no guest says so before it ends: as it should */
static char *hide_stderr(SwRig *rig, const char *name)
{
    if (g_getenv("QTEST_LOG")) {
        return g_strdup("");
    }
    g_free(rig->dst_stderr);
    rig->dst_stderr = g_strdup_printf("%s/%s.stderr", rig->dir, name);
    return g_strdup_printf(" 2>%s", rig->dst_stderr);
}

/* What libvirt 11.3 sets for every live migration, in its order */
static const char *const source_capabilities[] = {
    "return-path", "switchover-ack", NULL
};
static const char *const destination_capabilities[] = {
    "return-path", "switchover-ack", "late-block-activate", NULL
};

/* @only: if not both sides have them, which one is @vm? */
static void set_ready(SwVM *vm, const SwCase *c, SwSides only)
{
    if ((c->ready == SW_BOTH || c->ready == only) && !sw_stock_mode()) {
        sw_vm_set_capability(vm, "postcopy-ready");
    }
}

static void set_capabilities(SwVM *vm, const SwCase *c, SwSides only,
                             const char *const *libvirts)
{
    const char *const *cap;

    if (c->postcopy) {
        sw_vm_set_capability(vm, "postcopy-ram");
        set_ready(vm, c, only);
    }
    for (cap = c->capabilities; *cap; cap++) {
        sw_vm_set_capability(vm, *cap);
    }
    if (c->parallel && !sw_stock_mode()) {
        sw_vm_set_capability(vm, "parallel-vmstate-change");
    }
    for (; c->libvirt && *libvirts; libvirts++) {
        sw_vm_set_capability(vm, *libvirts);
    }
}

/* One of the connections, and what the rig knows of it */
typedef struct Way {
    const char *name;
    const char *by;
    char **far;
    char **near;
    SwProxy **proxy;
    SwEnds *ends;
} Way;

static void close_ends(SwEnds *ends)
{
    if (ends->far >= 0) {
        close(ends->far);
    }
    if (ends->near >= 0) {
        close(ends->near);
    }
    *ends = (SwEnds) { -1, -1 };
}

static void make_ends(SwRig *rig, const Way *way)
{
    int fd[2];

    if (g_str_equal(way->by, "pipe")) {
        g_assert(!pipe2(fd, O_CLOEXEC));
    } else {
        g_assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd));
    }
    *way->ends = (SwEnds) { .far = fd[0], .near = fd[1] };
    *way->far = g_strdup_printf("fd:%s%u", way->name, rig->ways);
    *way->near = g_strdup(*way->far);
}

static void give_end(SwVM *vm, const char *uri, int *fd)
{
    const char *name;

    if (*fd >= 0) {
        g_assert(strstart(uri, "fd:", &name));
        sw_monitor_give_fd(vm->mon, name, *fd);
        close(*fd);
        *fd = -1;
    }
}

/* A FIFO, or commands with one between them */
static void make_fifo(const Way *way, const char *path)
{
    SW_CHECK(!mkfifo(path, 0600), "mkfifo %s: %s", path, strerror(errno));
    if (g_str_equal(way->by, "exec")) {
        *way->far = g_strdup_printf("exec:exec cat %s", path);
        *way->near = g_strdup_printf("exec:exec cat >%s", path);
    } else {
        *way->far = g_strdup_printf("file:%s", path);
        *way->near = g_strdup(*way->far);
    }
}

static void make_unix(SwRig *rig, const Way *way, const char *path)
{
    g_autofree char *by_proxy = g_strdup_printf("%s.near", path);

    *way->far = g_strdup_printf("unix:%s", path);
    if (rig->c->proxied) {
        *way->near = g_strdup_printf("unix:%s", by_proxy);
        *way->proxy = sw_proxy_new(by_proxy, path);
    } else {
        *way->near = g_strdup(*way->far);
    }
}

static void make_way(SwRig *rig, const Way *way)
{
    g_autofree char *path = g_strdup_printf("%s/%s%u", rig->dir, way->name,
                                            rig->ways);

    g_clear_pointer(way->far, g_free);
    g_clear_pointer(way->near, g_free);
    g_clear_pointer(way->proxy, sw_proxy_free);
    close_ends(way->ends);
    if (g_str_equal(way->by, "tcp")) {
        *way->far = g_strdup_printf("tcp:127.0.0.1:%u", sw_free_port());
        *way->near = g_strdup(*way->far);
    } else if (g_str_equal(way->by, "vsock")) {
        *way->far = g_strdup_printf("vsock:%u:%u", VMADDR_CID_LOCAL,
                                    sw_free_vsock_port());
        *way->near = g_strdup(*way->far);
    } else if (g_str_equal(way->by, "fd") || g_str_equal(way->by, "pipe")) {
        make_ends(rig, way);
    } else if (g_str_equal(way->by, "fifo") || g_str_equal(way->by, "exec")) {
        make_fifo(way, path);
    } else {
        make_unix(rig, way, path);
    }
}

/* New ways from the source to the destination */
static void make_ways(SwRig *rig)
{
    const Way main = {
        .name = "migration", .by = rig->c->main_by ?: "unix",
        .far = &rig->dst_uri, .near = &rig->uri, .proxy = &rig->proxy,
        .ends = &rig->ends,
    };
    const Way link = {
        .name = "link", .by = rig->c->link_by ?: "unix",
        .far = &rig->dst_link, .near = &rig->link, .proxy = &rig->link_proxy,
        .ends = &rig->link_ends,
    };

    rig->ways++;
    make_way(rig, &main);
    if (rig->c->link) {
        make_way(rig, &link);
    }
}

/* What one side is given, if @only is it or both are */
static QList *channels_of(SwRig *rig, SwSides only, const char *main,
                          const char *link)
{
    SwSides given = rig->c->link;

    return sw_channels(main, given == SW_BOTH || given == only ? link : NULL);
}

static void start_destination(SwRig *rig)
{
    g_autofree char *common = vm_args(rig);
    g_autofree char *name = g_strdup_printf("dst%u", rig->destinations++);
    g_autofree char *hide = hide_stderr(rig, name);
    g_autofree char *args = NULL;

    rig->dst_paused = rig->c->libvirt || rig->c->dst_paused;
    args = g_strdup_printf("%s%s -incoming defer%s", common,
                           rig->dst_paused ? " -S" : "", hide);
    make_ways(rig);
    rig->dst = sw_vm_new(rig->dir, name, rig->c->dst_binary, args);
    set_capabilities(rig->dst, rig->c, SW_DESTINATION_ONLY,
                     destination_capabilities);
    if (rig->c->at_destination) {
        rig->c->at_destination(rig);
    }
    give_end(rig->dst, rig->dst_uri, &rig->ends.far);
    give_end(rig->dst, rig->dst_link, &rig->link_ends.far);
    sw_qmp_ok(rig->dst->mon, "{ 'execute': 'migrate-incoming',"
              " 'arguments': { 'channels': %p, 'exit-on-error': %i } }",
              channels_of(rig, SW_DESTINATION_ONLY, rig->dst_uri,
                          rig->dst_link), !rig->c->dst_stays);
}

/* Its main loop may be waiting for memory that comes with the recovery */
void sw_rig_listen_again(SwRig *rig)
{
    make_ways(rig);
    if (rig->c->link) {
        sw_qmp_ok(rig->dst->mon, "{ 'exec-oob': 'migrate-recover',"
                  " 'arguments': { 'channels': %p } }",
                  sw_channels(rig->dst_uri, rig->dst_link));
    } else {
        sw_qmp_ok(rig->dst->mon, "{ 'exec-oob': 'migrate-recover',"
                  " 'arguments': { 'uri': %s } }", rig->dst_uri);
    }
}

void sw_rig_resume(SwRig *rig)
{
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate',"
              " 'arguments': { 'channels': %p, 'resume': true } }",
              channels_of(rig, SW_SOURCE_ONLY, rig->uri, rig->link));
}

void sw_rig_renew_destination(SwRig *rig)
{
    sw_vm_free(rig->dst);
    start_destination(rig);
    sw_events_forget(rig->src->mon);
}

/*
 * A flush that follows no write is nothing that QEMU asks the disk for, so what
 * goes before is writes.
 */
static SwKind kind_before(SwRig *rig)
{
    return rig->c->kind == SW_KIND_FLUSH ? SW_KIND_WRITE : rig->c->kind;
}

static void set_mode(SwRig *rig, const char *mode)
{
    g_autofree char *cmd = g_strdup_printf("mode %s", mode);

    g_free(sw_guest_cmd(rig->src->guest, cmd));
}

static void start_machines(SwRig *rig)
{
    g_autofree char *args = vm_args(rig);

    rig->src = sw_vm_new(rig->dir, "src", rig->c->src_binary, args);
    start_destination(rig);
    sw_guest_wait_ready(rig->src->guest, guest_disks(rig));
    set_mode(rig, sw_kind_str(kind_before(rig)));
}

/* What keeps this case from running here, or NULL */
static char *why_not(SwRig *rig)
{
    bool vsock = !g_strcmp0(rig->c->main_by, "vsock") ||
                 !g_strcmp0(rig->c->link_by, "vsock");
    const char *missing = sw_guest_missing() ?:
                          (vsock ? sw_vsock_missing() : NULL);
    char *why = NULL;

    if (missing) {
        return g_strdup(missing);
    }
    why = sw_binary_missing(rig->c->src_binary) ?:
          sw_binary_missing(rig->c->dst_binary);
    if (!why) {
        make_disks(rig, &why);
    }
    return why;
}

void sw_add_case(const char *suite, const SwCase *c, GTestDataFunc run)
{
    g_autofree char *path = g_strdup_printf("/%s/%s", suite, c->path);

    if (!c->full || g_test_slow()) {
        g_test_add_data_func(path, c, run);
    }
}

SwRig *sw_rig_new(const SwCase *c)
{
    SwRig *rig = g_new0(SwRig, 1);
    g_autofree char *why = NULL;

    sw_watchdog_start();
    rig->c = c;
    rig->ends = rig->link_ends = (SwEnds) { -1, -1 };
    rig->dir = sw_tmpdir_new();
    why = why_not(rig);
    if (why) {
        g_test_skip(why);
        sw_rig_free(rig);
        return NULL;
    }
    rig->victim = rig->disk[0];
    rig->victim_node = "disk0";
    rig->victim_kind = c->kind;
    rig->more_args = c->more_args ? c->more_args(rig) : NULL;
    start_machines(rig);
    if (c->setup) {
        c->setup(rig);
    }
    g_test_message("the guest is at work");
    return rig;
}

void sw_rig_free(SwRig *rig)
{
    sw_child_free(rig->writer);
    sw_vm_free(rig->src);
    sw_vm_free(rig->dst);
    sw_proxy_free(rig->proxy);
    sw_proxy_free(rig->link_proxy);
    close_ends(&rig->ends);
    close_ends(&rig->link_ends);
    sw_disk_free(rig->mirror);
    sw_disk_free(rig->disk[1]);
    sw_disk_free(rig->disk[0]);
    sw_tmpdir_free(rig->dir);
    g_free(rig->dst_stderr);
    g_free(rig->more_args);
    g_free(rig->dst_uri);
    g_free(rig->uri);
    g_free(rig->dst_link);
    g_free(rig->link);
    g_free(rig);
    sw_watchdog_stop();
}

static bool is_flowing(void *opaque)
{
    SwRig *rig = opaque;

    return sw_disk_seen(rig->victim, kind_before(rig)) >= rig->flowing;
}

static void wait_flowing(SwRig *rig)
{
    rig->flowing = sw_disk_seen(rig->victim, kind_before(rig)) +
                   FLOWING_REQUESTS;
    sw_wait_until(is_flowing, rig, SW_WAIT_MS, "the victim to be used");
}

/* Waits until the victim is at rest; how many requests it holds */
static unsigned wait_settled(SwRig *rig)
{
    unsigned held, seen, last_held = 0, last_seen = 0;
    int64_t changed_us = sw_now_us();

    while (sw_since_ms(changed_us) < SETTLED_MS) {
        held = sw_disk_held(rig->victim, SW_KIND_ANY);
        seen = sw_disk_seen(rig->victim, SW_KIND_ANY);
        if (held != last_held || seen != last_seen) {
            last_held = held;
            last_seen = seen;
            changed_us = sw_now_us();
        }
        g_usleep(2000);
    }
    return last_held;
}

/* Whether a request of the right kind is held, and will be */
static bool caught_right_kind(SwRig *rig)
{
    wait_settled(rig);
    return sw_disk_held(rig->victim, rig->victim_kind) > 0;
}

void sw_rig_idle(SwRig *rig)
{
    set_mode(rig, "idle");
    SW_CHECK(wait_settled(rig) == 0, "a request of an idle guest is lost");
}

/* The guest's last writes are done and unflushed */
static void make_dirty_and_idle(SwRig *rig)
{
    set_mode(rig, "write");
    wait_flowing(rig);
    sw_rig_idle(rig);
}

static void stick_idle(SwRig *rig)
{
    make_dirty_and_idle(rig);
    rig->victim_kind = SW_KIND_FLUSH;
    sw_disk_stick(rig->victim);
}

/* One try: a request in flight when the victim stops is still answered */
static bool stick_with_request(SwRig *rig)
{
    if (rig->victim_kind == SW_KIND_FLUSH) {
        make_dirty_and_idle(rig);
        sw_disk_stick(rig->victim);
        set_mode(rig, "flush");
    } else {
        wait_flowing(rig);
        g_usleep(g_random_int_range(0, PHASE_US));
        sw_disk_stick(rig->victim);
    }
    return caught_right_kind(rig);
}

static void stick_at_work(SwRig *rig)
{
    int64_t start_us = sw_now_us();

    while (!stick_with_request(rig)) {
        SW_CHECK(sw_since_ms(start_us) < SW_WAIT_MS,
                 "no '%s' request got stuck", sw_kind_str(rig->victim_kind));
        sw_disk_release(rig->victim);
    }
}

void sw_rig_stick_by_monitor(SwRig *rig)
{
    g_autofree char *output = NULL;
    int64_t start_us;

    sw_disk_stick(rig->victim);
    output = sw_hmp(rig->src->mon, "qemu-io -d "
                    "/machine/peripheral/dev0/virtio-backend "
                    "\"aio_read 0 4k\"");
    start_us = sw_now_us();
    while (!caught_right_kind(rig)) {
        /* It is on its way to the server's log */
        SW_CHECK(sw_since_ms(start_us) < SW_WAIT_MS,
                 "no request of ours is stuck: %s", output);
        g_usleep(10 * 1000);
    }
}

/*
 * A guest that the user stopped sends nothing, so a request that is not the
 * guest's is put in flight on its disk.
 */
static void stick_paused(SwRig *rig)
{
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'stop' }");
    rig->paused = true;
    sw_guest_wait_silence(rig->src->guest, SETTLED_MS);
    rig->paused_beats = sw_guest_beats(rig->src->guest);
    sw_rig_stick_by_monitor(rig);
}

void sw_rig_stick(SwRig *rig)
{
    if (rig->c->source_paused) {
        stick_paused(rig);
    } else if (rig->c->idle) {
        stick_idle(rig);
    } else {
        stick_at_work(rig);
    }
    rig->stuck_us = sw_now_us();
    g_test_message("a '%s' of %s is stuck", sw_kind_str(rig->victim_kind),
                   rig->victim_node);
}

void sw_rig_release(SwRig *rig)
{
    sw_disk_release(rig->victim);
}

static void set_inflight_free(SwRig *rig)
{
    sw_vm_set_capability(rig->src, "inflight-free-switchover");
    if (rig->c->quiesce_window_ms) {
        sw_vm_set_parameter(rig->src, "quiesce-window",
                            rig->c->quiesce_window_ms);
    }
    if (rig->c->quiesce_queue_depth) {
        sw_vm_set_parameter(rig->src, "quiesce-queue-depth",
                            rig->c->quiesce_queue_depth);
    }
}

static void set_new_parameters(SwRig *rig)
{
    if (rig->c->off || sw_stock_mode()) {
        return;
    }
    if (rig->c->inflight_free) {
        set_inflight_free(rig);
    }
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate-set-parameters',"
              " 'arguments': { 'drain-timeout': %u } }",
              sw_rig_drain_timeout_ms(rig));
    if (rig->c->action) {
        sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate-set-parameters',"
                  " 'arguments': { 'drain-timeout-action': %s } }",
                  rig->c->action);
    }
}

/*
 * Fast enough to be at the switchover at once; or, if that is to come by
 * order, so slow that it does not come by itself.
 */
static void set_speed(SwRig *rig, bool slow)
{
    sw_vm_set_parameter(rig->src, "max-bandwidth",
                        slow ? SLOW_BANDWIDTH : UNLIMITED_BANDWIDTH);
}

void sw_rig_prepare(SwRig *rig)
{
    set_capabilities(rig->src, rig->c, SW_SOURCE_ONLY, source_capabilities);
    if (sw_rig_pauses(rig)) {
        sw_vm_set_capability(rig->src, "pause-before-switchover");
    }
    set_new_parameters(rig);
}

void sw_rig_connect(SwRig *rig)
{
    give_end(rig->src, rig->uri, &rig->ends.near);
    give_end(rig->src, rig->link, &rig->link_ends.near);
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate',"
              " 'arguments': { 'channels': %p } }",
              channels_of(rig, SW_SOURCE_ONLY, rig->uri, rig->link));
}

void sw_rig_start(SwRig *rig)
{
    sw_probe_mark(rig->src->probe);
    rig->begun_us = sw_now_us();
    sw_rig_connect(rig);
}

static void start_migration(SwRig *rig, bool slow)
{
    sw_rig_prepare(rig);
    set_speed(rig, slow);
    sw_rig_start(rig);
}

void sw_rig_migrate_slowly(SwRig *rig)
{
    start_migration(rig, true);
    sw_status_wait(rig->src->mon, "active");
}

void sw_rig_hasten(SwRig *rig)
{
    rig->begun_us = sw_now_us();
    if (rig->c->postcopy) {
        sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate-start-postcopy' }");
    } else {
        set_speed(rig, false);
    }
}

void sw_rig_migrate(SwRig *rig)
{
    if (rig->c->postcopy) {
        sw_rig_migrate_slowly(rig);
        sw_rig_hasten(rig);
    } else {
        start_migration(rig, false);
    }
}

void sw_rig_turn(SwRig *rig)
{
    sw_vm_free(rig->src);
    rig->src = rig->dst;
    sw_events_forget(rig->src->mon);
    start_destination(rig);
}
