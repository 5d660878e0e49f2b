/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: a guest on simulated vhost-user devices
 */

#include "qemu/osdep.h"
#include "qobject/qlist.h"
#include "switchover/harness.h"
#include "switchover/parallel-rig.h"

/* Heartbeats that prove that a guest runs */
#define PROOF_BEATS 20

/* Requests that the guest has in flight on each disk */
#define DEPTH 4

/* In bytes per second; the fast one is libvirt's "unlimited" */
#define SLOW_BANDWIDTH INT64_C(1048576)
#define UNLIMITED_BANDWIDTH INT64_C(9223372036853727232)

unsigned par_disks(const ParCase *c)
{
    return c->disks ?: 2;
}

unsigned par_queues(const ParCase *c)
{
    return c->queues ?: 2;
}

const char *par_disk(unsigned n)
{
    static const char *const names[PAR_DISKS_MAX] = {
        "disk0", "disk1", "disk2", "disk3",
    };

    return names[n % PAR_DISKS_MAX];
}

const char *par_nic(unsigned n)
{
    static const char *const names[PAR_NICS_MAX] = {
        "nic0", "nic1", "nic2", "nic3",
    };

    return names[n % PAR_NICS_MAX];
}

static SwSim *host_sim(ParHost *host, const char *device)
{
    return host->lone && g_str_equal(device, "disk0") ? host->lone : host->sim;
}

SwSim *par_sim(ParRig *rig, const char *device)
{
    return host_sim(&rig->host[rig->here], device);
}

SwSim *par_dst_sim(ParRig *rig, const char *device)
{
    return host_sim(&rig->host[!rig->here], device);
}

/*
 * Hosts
 */

static void add_disk_words(ParRig *rig, unsigned host, unsigned n,
                           GPtrArray *words)
{
    g_ptr_array_add(words, g_strdup("--blk"));
    g_ptr_array_add(words, g_strdup_printf(
        "disk%u,queues=%u,size=64M,file=%s/disk%u.img,listen=%s/disk%u.%u",
        n, par_queues(rig->c), rig->dir, n, rig->dir, n, host));
}

static SwSim *start_sim(ParRig *rig, const char *what, unsigned host,
                        GPtrArray *words)
{
    g_autofree char *name = g_strdup_printf("%s%u", what, host);
    SwSim *sim;

    g_ptr_array_add(words, NULL);
    sim = sw_sim_new(rig->dir, name, (const char *const *)words->pdata);
    g_ptr_array_set_size(words, 0);
    return sim;
}

static void start_host(ParRig *rig, unsigned host)
{
    g_autoptr(GPtrArray) words = g_ptr_array_new_with_free_func(g_free);
    unsigned n;

    for (n = 0; n < par_disks(rig->c); n++) {
        add_disk_words(rig, host, n, words);
        if (n == 0 && rig->c->lone) {
            rig->host[host].lone = start_sim(rig, "lone", host, words);
        }
    }
    for (n = 0; n < rig->c->nics; n++) {
        g_ptr_array_add(words, g_strdup("--net"));
        g_ptr_array_add(words, g_strdup_printf(
            "nic%u,queue-pairs=%u,listen=%s/nic%u.%u", n,
            par_queues(rig->c), rig->dir, n, host));
    }
    rig->host[host].sim = start_sim(rig, "sim", host, words);
}

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
    g_autofree char *guest = sw_guest_args_nics(disks, rig->c->nics, DEPTH,
                                                par_queues(rig->c));
    g_autofree char *name = g_strdup_printf("vm%u", rig->vms++);
    g_autofree char *args = g_strdup_printf(
        "-machine pc-q35-10.0,memory-backend=mem "
        "-object memory-backend-memfd,id=mem,size=256M,share=on "
        "%s %s %s %s 2>%s/%s.stderr", guest, devices, own, more,
        rig->dir, name);

    return sw_vm_new(rig->dir, name, binary, args);
}

static void set_up_vm(ParRig *rig, SwVM *vm, bool off)
{
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

void par_migrate(ParRig *rig)
{
    start_migration(rig, UNLIMITED_BANDWIDTH);
}

void par_migrate_slowly(ParRig *rig)
{
    start_migration(rig, SLOW_BANDWIDTH);
    sw_status_wait(rig->src->mon, "active");
}

void par_hasten(ParRig *rig)
{
    set_bandwidth(rig, UNLIMITED_BANDWIDTH);
}

static bool is_running(void *opaque)
{
    return sw_vm_in_state(opaque, "running");
}

static void expect_working_at(ParRig *rig, unsigned host, SwVM *vm)
{
    unsigned n;

    for (n = 0; n < par_disks(rig->c); n++) {
        par_expect_device_works(host_sim(&rig->host[host], par_disk(n)),
                                par_disk(n));
    }
    for (n = 0; n < rig->c->nics; n++) {
        par_expect_device_works(rig->host[host].sim, par_nic(n));
    }
    g_free(sw_guest_cmd(vm->guest, "verify"));
    sw_guest_ops(vm->guest);
}

void par_expect_completed(ParRig *rig)
{
    unsigned beats;

    sw_status_wait(rig->src->mon, "completed");
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

typedef struct Progress {
    SwSim *sim;
    const char *device;
    int64_t requests;
} Progress;

static bool has_progressed(void *opaque)
{
    Progress *p = opaque;

    return sw_sim_requests(p->sim, p->device) > p->requests;
}

void par_expect_device_works(SwSim *sim, const char *device)
{
    Progress p = { .sim = sim, .device = device };
    g_autofree char *what = g_strdup_printf("requests to %s", device);

    /* Those of the first look may have been on their way before */
    p.requests = sw_sim_requests(sim, device);
    sw_wait_until(has_progressed, &p, SW_WAIT_MS, what);
    p.requests = sw_sim_requests(sim, device) + 2 * DEPTH;
    sw_wait_until(has_progressed, &p, SW_WAIT_MS, what);
}

void par_expect_works(ParRig *rig)
{
    sw_guest_wait_beats(rig->src->guest, PROOF_BEATS);
    expect_working_at(rig, rig->here, rig->src);
}

void par_expect_others_work(ParRig *rig, const char *device)
{
    unsigned n;

    sw_guest_wait_beats(rig->src->guest, PROOF_BEATS);
    for (n = 0; n < par_disks(rig->c); n++) {
        if (!g_str_equal(par_disk(n), device)) {
            par_expect_device_works(par_sim(rig, par_disk(n)), par_disk(n));
        }
    }
    for (n = 0; n < rig->c->nics; n++) {
        if (!g_str_equal(par_nic(n), device)) {
            par_expect_device_works(par_sim(rig, par_nic(n)), par_nic(n));
        }
    }
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

static char *why_not(const ParCase *c)
{
    const char *missing = sw_guest_missing() ?: sw_sim_missing();

    if (missing) {
        return g_strdup(missing);
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
        sw_sim_free(rig->host[i].sim);
        sw_sim_free(rig->host[i].lone);
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
    start_host(&rig, 0);
    start_host(&rig, 1);
    rig.src = start_source(&rig);
    set_up_vm(&rig, rig.src, c->src_off);
    sw_guest_wait_ready(rig.src->guest, par_disks(c) + c->own_devices);
    g_free(sw_guest_cmd(rig.src->guest, "mode rw"));
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
