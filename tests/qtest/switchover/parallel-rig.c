/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: a guest on vhost-user devices
 */

#include "qemu/osdep.h"
#include <sys/syscall.h>
#include "qobject/qlist.h"
#include "switchover/harness.h"
#include "switchover/parallel-host.h"
#include "switchover/parallel-rig.h"

/* Heartbeats that prove that a guest runs */
#define PROOF_BEATS 20

/* Requests that the guest has in flight on each disk */
#define DEPTH 4

/* In bytes per second; the fast one is libvirt's "unlimited" */
#define SLOW_BANDWIDTH INT64_C(1048576)
#define UNLIMITED_BANDWIDTH INT64_C(9223372036853727232)

/*
 * Machines
 */

static void append_chardev(ParRig *rig, unsigned host, const char *device,
                           GString *args)
{
    g_string_append_printf(args, " -chardev socket,id=%s,path=%s/%s.%u",
                           device, rig->dir, device, host);
    if (rig->c->reconnect_ms) {
        g_string_append_printf(args, ",reconnect-ms=%u",
                               rig->c->reconnect_ms);
    }
    if (rig->c->logged && g_str_equal(device, rig->c->logged)) {
        g_string_append_printf(args, ",logfile=%s/%s.chardev", rig->dir,
                               device);
    }
}

/* A disk of QEMU's own in an IOThread, and a card of its own */
static char *own_args(ParRig *rig)
{
    g_autofree char *path = g_strdup_printf("%s/own.img", rig->dir);
    int fd;

    if (!rig->c->own_devices) {
        return g_strdup("");
    }
    fd = open(path, O_RDWR | O_CREAT, 0600);
    g_assert_cmpint(ftruncate(fd, 64 * 1024 * 1024), ==, 0);
    close(fd);
    return g_strdup_printf("-object iothread,id=iot0 -blockdev driver=file,"
                           "node-name=own,filename=%s -device virtio-blk-pci,"
                           "id=own0,drive=own,iothread=iot0 "
                           "-netdev user,id=user0 -device virtio-net-pci,"
                           "id=own1,netdev=user0,romfile=", path);
}

static char *device_args(ParRig *rig, unsigned host)
{
    GString *args = g_string_new("");
    unsigned queues = par_queues(rig->c);
    unsigned n;

    for (n = 0; n < par_disks(rig->c); n++) {
        append_chardev(rig, host, par_disk(n), args);
        g_string_append_printf(args, " -device vhost-user-blk-pci,id=%s,"
                               "chardev=%s,num-queues=%u",
                               par_disk(n), par_disk(n), queues);
    }
    for (n = 0; n < rig->c->nics; n++) {
        append_chardev(rig, host, par_nic(n), args);
        g_string_append_printf(args, " -netdev vhost-user,id=net%u,chardev=%s,"
                               "queues=%u -device virtio-net-pci,id=%s,"
                               "netdev=net%u,mq=on,vectors=%u,romfile=",
                               n, par_nic(n), queues, par_nic(n), n,
                               2 * queues + 2);
    }
    return g_string_free(args, false);
}

static SwVM *start_vm(ParRig *rig, unsigned host, const char *binary,
                      const char *more)
{
    static const char disk_names[] = "vda,vdb,vdc,vdd";
    unsigned n_disks = par_disks(rig->c);
    g_autofree char *disks = g_strdup_printf("%.*s%s", 4 * n_disks - 1,
                                             disk_names,
                                             rig->c->own_devices ? ",vdc" : "");
    g_autofree char *devices = device_args(rig, host);
    g_autofree char *own = own_args(rig);
    g_autofree char *guest = sw_guest_args_nics(disks, rig->c->nics,
                                                rig->c->depth ?: DEPTH,
                                                par_queues(rig->c));
    g_autofree char *name = g_strdup_printf("vm%u", rig->vms++);
    g_autofree char *args = g_strdup_printf(
        "-machine pc-q35-10.0,memory-backend=mem "
        "-object memory-backend-memfd,id=mem,size=256M,share=on "
        "%s %s %s %s%s%s 2>%s/%s.stderr", guest, devices, own, more,
        rig->c->trace ? " -trace " : "", rig->c->trace ?: "", rig->dir, name);

    return sw_vm_new(rig->dir, name, binary, args);
}

static void set_up_vm(ParRig *rig, SwVM *vm, bool off)
{
    if (rig->c->postcopy) {
        sw_vm_set_capability(vm, "postcopy-ram");
    }
    if (off || sw_stock_mode()) {
        return;
    }
    sw_vm_set_capability(vm, "parallel-vmstate-change");
    if (rig->c->threads) {
        sw_qmp_ok(vm->mon, "{ 'execute': 'migrate-set-parameters',"
                  " 'arguments': { 'vmstate-change-threads': %d } }",
                  rig->c->threads);
    }
}

/* What only the source may be told */
static void set_up_source(ParRig *rig)
{
    if (rig->c->pause_before_switchover) {
        sw_vm_set_capability(rig->src, "pause-before-switchover");
    }
    if (rig->c->inflight_free && !sw_stock_mode()) {
        sw_vm_set_capability(rig->src, "inflight-free-switchover");
    }
    if (rig->c->drain_timeout_ms && !sw_stock_mode()) {
        sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate-set-parameters',"
                  " 'arguments': { 'drain-timeout': %u,"
                  " 'drain-timeout-action': %s } }",
                  rig->c->drain_timeout_ms, rig->c->action ?: "retry");
    }
}

void par_start_destination(ParRig *rig)
{
    sw_vm_free(rig->dst);
    g_free(rig->uri);
    rig->uri = g_strdup_printf("unix:%s/migration%u", rig->dir, rig->vms);
    rig->dst = start_vm(rig, !rig->here, rig->c->dst_binary, "-incoming defer");
    set_up_vm(rig, rig->dst, rig->c->dst_off);
    sw_qmp_ok(rig->dst->mon, "{ 'execute': 'migrate-incoming',"
              " 'arguments': { 'uri': %s } }", rig->uri);
    sw_events_forget(rig->src->mon);
}

void par_renew_destination(ParRig *rig)
{
    sw_vm_wait_exit(rig->dst, EXIT_FAILURE);
    par_start_destination(rig);
}

static void set_bandwidth(ParRig *rig, int64_t bandwidth)
{
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate-set-parameters',"
              " 'arguments': { 'max-bandwidth': %" PRId64 " } }", bandwidth);
}

static void start_migration(ParRig *rig, int64_t bandwidth)
{
    set_up_source(rig);
    set_bandwidth(rig, bandwidth);
    sw_probe_mark(rig->src->probe);
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate',"
              " 'arguments': { 'uri': %s } }", rig->uri);
}

static void work(ParRig *rig, SwVM *vm)
{
    g_free(sw_guest_cmd(vm->guest, rig->c->idle ? "mode idle" : "mode rw"));
}

void par_calm(ParRig *rig)
{
    g_free(sw_guest_cmd(rig->src->guest, "mode idle"));
}

/*
 * Post-copy is not asked for before there was some pre-copy.  Real disks are
 * calmed meanwhile: when they are verified, nothing is in flight.
 */
void par_migrate(ParRig *rig)
{
    if (rig->c->postcopy || rig->c->real) {
        par_migrate_slowly(rig);
        if (rig->c->real) {
            par_calm(rig);
            g_free(sw_guest_cmd(rig->src->guest, "verify"));
        }
        par_hasten(rig);
    } else {
        start_migration(rig, UNLIMITED_BANDWIDTH);
    }
}

void par_migrate_slowly(ParRig *rig)
{
    start_migration(rig, SLOW_BANDWIDTH);
    sw_status_wait(rig->src->mon, "active");
}

void par_hasten(ParRig *rig)
{
    set_bandwidth(rig, UNLIMITED_BANDWIDTH);
    if (rig->c->postcopy) {
        sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate-start-postcopy' }");
    }
}

void par_expect_pre_switchover(ParRig *rig)
{
    sw_status_wait(rig->src->mon, "pre-switchover");
}

void par_continue(ParRig *rig)
{
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate-continue',"
              " 'arguments': { 'state': 'pre-switchover' } }");
}

static bool is_running(void *opaque)
{
    return sw_vm_in_state(opaque, "running");
}

/* What serves a device has served so much */
typedef struct Progress {
    ParRig *rig;
    unsigned host;
    SwVM *vm;
    const char *device;
    unsigned queue;
    int64_t goal;
} Progress;

/* A real backend does not say; but the guest does */
static int64_t progress(Progress *p)
{
    unsigned n = par_number(p->device);

    if (!p->rig->c->real) {
        return sw_sim_requests(par_host_sim(&p->rig->host[p->host], p->device),
                               p->device);
    }
    if (par_is_nic(p->device)) {
        return sw_guest_frames(p->vm->guest, n, p->queue);
    } else {
        g_autofree char *name = g_strdup_printf("vd%c", 'a' + n);

        return sw_guest_disk_ops(p->vm->guest, name);
    }
}

static bool has_progressed(void *opaque)
{
    Progress *p = opaque;

    return progress(p) > p->goal;
}

static void expect_queue_works(Progress *p)
{
    g_autofree char *what = g_strdup_printf("%s to be served (queue %u)",
                                            p->device, p->queue);

    /* Those of the first look may have been on their way before */
    p->goal = progress(p);
    sw_wait_until(has_progressed, p, SW_WAIT_MS, what);
    p->goal = progress(p) + 2 * DEPTH;
    sw_wait_until(has_progressed, p, SW_WAIT_MS, what);
}

static void expect_device_works(ParRig *rig, unsigned host, SwVM *vm,
                                const char *device)
{
    Progress p = { .rig = rig, .host = host, .vm = vm, .device = device };

    /* The guest counts frames by the vCPU, which has a pair of its own */
    do {
        expect_queue_works(&p);
    } while (rig->c->real && par_is_nic(device) &&
             ++p.queue < par_queues(rig->c));
}

/* All devices; or all but @device and those that share its fate */
static void expect_devices_work(ParRig *rig, unsigned host, SwVM *vm,
                                const char *device)
{
    unsigned n;

    for (n = 0; n < par_devices(rig->c); n++) {
        const char *other = par_device(rig->c, n);

        if ((!device || !par_share_fate(rig, device, other)) &&
            (!rig->c->idle || par_is_nic(other))) {
            expect_device_works(rig, host, vm, other);
        }
    }
}

static void expect_working_at(ParRig *rig, unsigned host, SwVM *vm)
{
    work(rig, vm);
    expect_devices_work(rig, host, vm, NULL);
    g_free(sw_guest_cmd(vm->guest, "verify"));
    sw_guest_ops(vm->guest);
}

void par_expect_completed(ParRig *rig)
{
    unsigned beats;

    if (rig->c->pause_before_switchover) {
        par_expect_pre_switchover(rig);
        par_continue(rig);
    }
    sw_status_wait(rig->src->mon, "completed");
    g_assert_true(sw_status_seen(rig->src->mon, "postcopy-active") ==
                  rig->c->postcopy);
    sw_wait_until(is_running, rig->dst, SW_WAIT_MS,
                  "the destination to be running");
    sw_guest_wait_beats(rig->dst->guest, PROOF_BEATS);
    beats = sw_guest_beats(rig->src->guest);
    expect_working_at(rig, !rig->here, rig->dst);
    SW_CHECK(sw_guest_beats(rig->src->guest) == beats,
             "the guest runs on both sides");
}

void par_turn(ParRig *rig)
{
    sw_vm_free(rig->src);
    rig->src = g_steal_pointer(&rig->dst);
    rig->here = !rig->here;
}

void par_move(ParRig *rig)
{
    par_start_destination(rig);
    par_migrate(rig);
    par_expect_completed(rig);
    par_turn(rig);
}

/*
 * What must be true
 */

void par_expect_works(ParRig *rig)
{
    sw_guest_wait_beats(rig->src->guest, PROOF_BEATS);
    expect_working_at(rig, rig->here, rig->src);
}

void par_expect_others_work(ParRig *rig, const char *device)
{
    sw_guest_wait_beats(rig->src->guest, PROOF_BEATS);
    work(rig, rig->src);
    expect_devices_work(rig, rig->here, rig->src, device);
}

void par_stop(ParRig *rig)
{
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'stop' }");
}

void par_cont(ParRig *rig)
{
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'cont' }");
}

QDict *par_query_device(SwVM *vm, const char *device)
{
    QDict *info = sw_qmp(vm->mon, "{ 'execute': 'query-migrate' }");
    QDict *switchover = qdict_get_qdict(info, "switchover");
    QList *devices = switchover ? qdict_get_qlist(switchover, "devices") : NULL;
    QDict *found = NULL;
    QListEntry *entry;

    if (devices) {
        QLIST_FOREACH_ENTRY(devices, entry) {
            QDict *dev = qobject_to(QDict, qlist_entry_obj(entry));

            if (g_str_equal(qdict_get_str(dev, "device"), device)) {
                found = qobject_ref(dev);
            }
        }
    }
    qobject_unref(info);
    return found;
}

bool par_is_late(ParRig *rig, const char *device)
{
    QDict *dev = par_query_device(rig->src, device);
    bool late;

    SW_CHECK(dev, "query-migrate does not list %s", device);
    late = qdict_get_bool(dev, "late");
    qobject_unref(dev);
    return late;
}

void par_wait_late(ParRig *rig, const char *device, bool late)
{
    int64_t start_us = sw_now_us();

    while (par_is_late(rig, device) != late) {
        SW_CHECK(sw_since_ms(start_us) < SW_WAIT_MS, "%s %s late", device,
                 late ? "is not" : "stays");
        g_usleep(2000);
    }
}

char *par_stderr(ParRig *rig, SwVM *vm)
{
    g_autofree char *path = g_strdup_printf("%s/%s.stderr", rig->dir,
                                            vm->name);
    char *text = NULL;

    SW_CHECK(g_file_get_contents(path, &text, NULL, NULL), "no %s", path);
    return text;
}

void par_expect_said(ParRig *rig, SwVM *vm, const char *what)
{
    int64_t start_us = sw_now_us();

    while (true) {
        g_autofree char *text = par_stderr(rig, vm);

        if (strstr(text, what)) {
            break;
        }
        SW_CHECK(sw_since_ms(start_us) < SW_WAIT_MS / 6,
                 "%s does not say '%s', but: %s", vm->name, what, text);
        g_usleep(2000);
    }
}

/*
 * Cases
 */

/* Backends use nothing else */
static char *userfaultfd_missing(void)
{
    int fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) {
        return g_strdup_printf("userfaultfd: %s", strerror(errno));
    }
    close(fd);
    return NULL;
}

static char *why_not(const ParCase *c)
{
    char *missing = g_strdup(sw_guest_missing()) ?: par_backend_missing(c);

    if (!missing && c->postcopy) {
        missing = userfaultfd_missing();
    }
    if (missing) {
        return missing;
    }
    if (c->preload && g_getenv("ASAN_OPTIONS")) {
        return g_strdup("a sanitizer does not like libraries to be preloaded");
    }
    return sw_binary_missing(c->src_binary) ?:
           sw_binary_missing(c->dst_binary);
}

static void free_rig(ParRig *rig)
{
    unsigned i;

    sw_vm_free(rig->src);
    sw_vm_free(rig->dst);
    for (i = 0; i < ARRAY_SIZE(rig->host); i++) {
        par_free_host(&rig->host[i]);
    }
    sw_tmpdir_free(rig->dir);
    g_free(rig->uri);
    sw_watchdog_stop();
}

static void preload(const char *library)
{
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *dir = g_path_get_dirname(self);
    g_autofree char *path = g_build_filename(dir, library, NULL);

    SW_CHECK(g_file_test(path, G_FILE_TEST_EXISTS), "there is no %s", path);
    g_setenv("LD_PRELOAD", path, true);
}

static SwVM *start_source(ParRig *rig)
{
    SwVM *vm;

    if (!rig->c->preload) {
        return start_vm(rig, 0, rig->c->src_binary, "");
    }
    preload(rig->c->preload);
    vm = start_vm(rig, 0, rig->c->src_binary, "-name debug-threads=on");
    g_unsetenv("LD_PRELOAD");
    return vm;
}

static void run_case(const void *opaque)
{
    const ParCase *c = opaque;
    g_autofree char *why = why_not(c);
    ParRig rig = { .c = c };

    if (why) {
        g_test_skip(why);
        return;
    }
    sw_watchdog_start();
    rig.dir = sw_tmpdir_new();
    par_start_host(&rig, 0);
    par_start_host(&rig, 1);
    rig.src = start_source(&rig);
    set_up_vm(&rig, rig.src, c->src_off);
    sw_guest_wait_ready(rig.src->guest, par_disks(c) + c->own_devices);
    work(&rig, rig.src);
    g_test_message("the guest is at work");
    c->run(&rig);
    free_rig(&rig);
}

void par_add_case(const ParCase *c)
{
    g_autofree char *path = g_strdup_printf("/parallel-vmstate/%s", c->path);

    if (!c->full || g_test_slow()) {
        g_test_add_data_func(path, c, run_case);
    }
}
