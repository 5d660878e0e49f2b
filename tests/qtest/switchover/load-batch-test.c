/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest testcase for loading devices in batches
 *
 * A machine whose PCI devices have their BARs mapped, but which never ran, is
 * saved to a file.  The file is loaded by QEMU under test and by the unpatched
 * one: both must end with the same memory map, and write the same stream again.
 *
 * What failing looks like.  With SWITCHOVER_TEST_STOCK=1 the unpatched QEMU is
 * tested: "commits" then fails, because it renders views some ten times as
 * often for four times as many devices.  The others compare QEMU with unpatched
 * QEMU.  If readers do not have the batch committed, with
 * memory_batch_before_read() empty, "same" says "AHCI does not use the guest's
 * memory".
 *
 * Environment: QTEST_QEMU_BINARY; SWITCHOVER_STOCK, QEMU from the same source
 * with no patch.
 *
 * -m slow adds every PCI device there is.
 */

#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include "qemu/cutils.h"
#include "qemu/units.h"
#include "qobject/qlist.h"
#include "switchover/harness.h"
#include "switchover/vm.h"

#define SUITE "load-batch"
#define STOCK "SWITCHOVER_STOCK"

/* Little memory: a pass that takes over 50 ms begins another section */
#define MACHINE \
    "-machine pc-q35-10.0 -m 16 -S -rtc base=2000-01-01,clock=vm " \
    "-uuid 12345678-1234-1234-1234-123456789abc "

/* Bytes at a time for a destination that has to wait for each */
#define CHUNK 997

static const char *under_test(void)
{
    return sw_stock_mode() ? STOCK : NULL;
}

static bool skip_without_stock(void)
{
    g_autofree char *why = sw_binary_missing(STOCK);

    if (why) {
        g_test_skip(why);
    }
    return why;
}

/*
 * A little firmware: maps what is there
 */

typedef struct Resources {
    QTestState *qts;
    uint64_t io;
    uint64_t mem;
    int bus;
} Resources;

static uint32_t cfg_addr(int bus, int devfn, int reg)
{
    return 0x80000000U | bus << 16 | devfn << 8 | (reg & 0xfc);
}

static uint32_t cfg_read(Resources *r, int bus, int devfn, int reg)
{
    qtest_outl(r->qts, 0xcf8, cfg_addr(bus, devfn, reg));
    return qtest_inl(r->qts, 0xcfc);
}

static void cfg_write(Resources *r, int bus, int devfn, int reg, uint32_t val)
{
    qtest_outl(r->qts, 0xcf8, cfg_addr(bus, devfn, reg));
    qtest_outl(r->qts, 0xcfc, val);
}

/* Returns how many registers the BAR takes */
static int map_bar(Resources *r, int bus, int devfn, int reg)
{
    uint32_t old = cfg_read(r, bus, devfn, reg);
    bool is_io, is_64;
    uint64_t *cursor, size;
    uint32_t mask;

    cfg_write(r, bus, devfn, reg, 0xffffffff);
    mask = cfg_read(r, bus, devfn, reg);
    is_io = mask & 1;
    is_64 = !is_io && (mask & 6) == 4;
    mask &= is_io ? ~3U : ~15U;
    size = is_io ? (~mask & 0xffff) + 1ULL : ~mask + 1ULL;
    cursor = is_io ? &r->io : &r->mem;
    /* What is too large for a hole like this stays where it was */
    if (!mask || size > 64 * MiB || (is_io && size > 4096)) {
        cfg_write(r, bus, devfn, reg, old);
        return 1 + is_64;
    }
    *cursor = ROUND_UP(*cursor, size);
    cfg_write(r, bus, devfn, reg, *cursor);
    if (is_64) {
        cfg_write(r, bus, devfn, reg + 4, 0);
    }
    *cursor += size;
    return 1 + is_64;
}

static void map_bus(Resources *r, int bus);

static void map_bridge(Resources *r, int bus, int devfn)
{
    int secondary = ++r->bus;
    uint64_t start = r->mem = ROUND_UP(r->mem, MiB);

    cfg_write(r, bus, devfn, 0x18, 0xff0000 | secondary << 8 | bus);
    map_bus(r, secondary);
    r->mem = MAX(ROUND_UP(r->mem, MiB), start + MiB);
    cfg_write(r, bus, devfn, 0x18, r->bus << 16 | secondary << 8 | bus);
    cfg_write(r, bus, devfn, 0x20,
              ((r->mem - MiB) & 0xfff00000) | start >> 16);
    /* No I/O, no prefetchable memory */
    cfg_write(r, bus, devfn, 0x1c, 0x00f0);
    cfg_write(r, bus, devfn, 0x24, 0x0000fff0);
}

static void map_function(Resources *r, int bus, int devfn, uint32_t header)
{
    bool bridge = (header & 0x7f) == 1;
    int reg = 0x10, end = bridge ? 0x18 : 0x28;

    while (reg < end) {
        reg += 4 * map_bar(r, bus, devfn, reg);
    }
    if (bridge) {
        map_bridge(r, bus, devfn);
    }
    /* I/O, memory, and DMA */
    cfg_write(r, bus, devfn, 0x04, 7);
}

static void map_bus(Resources *r, int bus)
{
    int devfn;

    for (devfn = 0; devfn < 256; devfn++) {
        if (cfg_read(r, bus, devfn, 0) != 0xffffffff) {
            map_function(r, bus, devfn,
                         cfg_read(r, bus, devfn, 0x0c) >> 16 & 0xff);
        } else if (devfn % 8 == 0) {
            devfn += 7;
        }
    }
}

#define AHCI_FIS 0x201000

static uint64_t ahci_abar(Resources *r)
{
    return cfg_read(r, 0, 0x1f << 3 | 2, 0x24) & ~15U;
}

/*
 * Lets the first port of q35's AHCI run.  It maps its memory when it is loaded,
 * from its post_load: by DMA, so with what its own PCI configuration has just
 * allowed.
 */
static void start_ahci(Resources *r)
{
    uint64_t abar = ahci_abar(r);
    uint64_t port = abar + 0x100;

    qtest_writel(r->qts, abar + 0x04, 1U << 31);
    qtest_writel(r->qts, port + 0x00, 0x200000);
    qtest_writel(r->qts, port + 0x08, AHCI_FIS);
    qtest_writel(r->qts, port + 0x18, 1 << 4);
    qtest_writel(r->qts, port + 0x18, 1 << 4 | 1);
    /* Both engines run */
    g_assert_cmphex(qtest_readl(r->qts, port + 0x18) & 0xc000, ==, 0xc000);
}

/*
 * After a reset the port writes a FIS.  With the old map it would not have got
 * the guest's memory, but a buffer in place of a device's.
 */
static void check_ahci(QTestState *qts)
{
    Resources r = { .qts = qts };
    uint64_t port = ahci_abar(&r) + 0x100;

    qtest_memset(qts, AHCI_FIS, 0, 256);
    qtest_writel(qts, port + 0x2c, 1);
    qtest_writel(qts, port + 0x2c, 0);
    qtest_writel(qts, port + 0x18, qtest_readl(qts, port + 0x18));
    SW_CHECK(qtest_readb(qts, AHCI_FIS + 0x40) == 0x34,
             "AHCI does not use the guest's memory");
}

static void map_everything(QTestState *qts)
{
    Resources r = { .qts = qts, .io = 0xc000, .mem = 0xc0000000 };

    map_bus(&r, 0);
    start_ahci(&r);
}

/*
 * Saving and loading
 */

static bool migration_ended(void *opaque)
{
    SwVM *vm = opaque;
    QDict *info = sw_qmp(vm->mon, "{ 'execute': 'query-migrate' }");
    const char *status = qdict_get_try_str(info, "status") ?: "";
    bool ended = g_str_equal(status, "completed") ||
                 g_str_equal(status, "failed");

    qobject_unref(info);
    return ended;
}

/* NULL, or why it failed */
static char *migration_result(SwVM *vm)
{
    QDict *info;
    char *why = NULL;

    sw_wait_until(migration_ended, vm, SW_WAIT_MS, "the migration to end");
    info = sw_qmp(vm->mon, "{ 'execute': 'query-migrate' }");
    if (!g_str_equal(qdict_get_str(info, "status"), "completed")) {
        why = g_strdup(qdict_get_try_str(info, "error-desc") ?: "no reason");
    }
    qobject_unref(info);
    return why;
}

static char *save(SwVM *vm, const char *path)
{
    g_autofree char *uri = g_strdup_printf("file:%s", path);
    char *why = NULL;
    QDict *rsp;

    unlink(path);
    rsp = qtest_qmp(vm->qts, "{ 'execute': 'migrate',"
                    " 'arguments': { 'uri': %s } }", uri);
    if (qdict_haskey(rsp, "error")) {
        why = g_strdup(qdict_get_str(qdict_get_qdict(rsp, "error"), "desc"));
    }
    qobject_unref(rsp);
    return why ?: migration_result(vm);
}

/* A stopped machine that waits for a stream */
static SwVM *new_destination(const char *dir, const char *name,
                             const char *binary, const char *args)
{
    g_autofree char *all = g_strdup_printf(
        MACHINE "%s -incoming defer%s", args,
        g_getenv("QTEST_LOG") ? "" : " 2>/dev/null");

    return sw_vm_new(dir, name, binary, all);
}

static void listen_for(SwVM *vm, const char *uri)
{
    sw_qmp_ok(vm->mon, "{ 'execute': 'migrate-incoming', 'arguments':"
              " { 'uri': %s, 'exit-on-error': false } }", uri);
}

static void load_file(SwVM *vm, const char *path)
{
    g_autofree char *uri = g_strdup_printf("file:%s", path);

    listen_for(vm, uri);
}

/* Feeds the stream in small pieces, and waits until each has been taken */
static void load_chunks(SwVM *vm, const char *dir, const char *path)
{
    g_autofree char *sock = g_build_filename(dir, "chunks", NULL);
    g_autofree char *uri = g_strdup_printf("unix:%s", sock);
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    g_autofree char *data = NULL;
    size_t size, sent, n;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    int queued;

    g_assert_true(g_file_get_contents(path, &data, &size, NULL));
    listen_for(vm, uri);
    pstrcpy(addr.sun_path, sizeof(addr.sun_path), sock);
    g_assert_cmpint(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), ==, 0);
    for (sent = 0; sent < size; sent += n) {
        n = send(fd, data + sent, MIN(CHUNK, size - sent), MSG_NOSIGNAL);
        SW_CHECK((ssize_t)n > 0, "the destination stopped reading at %zu",
                 sent);
        while (ioctl(fd, TIOCOUTQ, &queued) == 0 && queued) {
            g_usleep(50);
        }
    }
    close(fd);
}

/*
 * The views, in an order that does not depend on addresses in QEMU.  What
 * differs from one process to the next is their number.
 */
static int compare_strings(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *get_map(SwVM *vm)
{
    g_autofree char *text = sw_hmp(vm->mon, "info mtree -f");
    g_auto(GStrv) views = g_strsplit(text, "FlatView #", -1);
    GPtrArray *sorted = g_ptr_array_new();
    char *map;
    int i;

    for (i = 0; views[i]; i++) {
        char *body = strchr(views[i], '\n');

        g_ptr_array_add(sorted, body ?: views[i]);
    }
    g_ptr_array_sort(sorted, compare_strings);
    g_ptr_array_add(sorted, NULL);
    map = g_strjoinv("", (char **)sorted->pdata);
    g_ptr_array_free(sorted, true);
    return map;
}

/* What a machine is after it was loaded */
typedef struct Loaded {
    char *why;      /* it was not */
    char *map;
    char *data;
    size_t size;
} Loaded;

static void loaded_clear(Loaded *l)
{
    g_free(l->why);
    g_free(l->map);
    g_free(l->data);
}

static void load(Loaded *l, const char *dir, const char *binary,
                 const char *args, const char *path, bool in_chunks)
{
    g_autofree char *again = g_strdup_printf("%s.again", path);
    SwVM *vm = new_destination(dir, "dst", binary, args);

    memset(l, 0, sizeof(*l));
    if (in_chunks) {
        load_chunks(vm, dir, path);
    } else {
        load_file(vm, path);
    }
    l->why = migration_result(vm);
    if (!l->why) {
        g_autofree char *why = NULL;

        l->map = get_map(vm);
        why = save(vm, again);
        SW_CHECK(!why, "what was loaded cannot be saved: %s", why);
        g_assert_true(g_file_get_contents(again, &l->data, &l->size, NULL));
        check_ahci(vm->qts);
    }
    sw_vm_free(vm);
}

/* NULL, or how they differ */
static char *difference(const Loaded *a, const Loaded *b)
{
    size_t i;

    if (a->why || b->why) {
        return g_strcmp0(a->why, b->why) == 0 ? NULL :
               g_strdup_printf("'%s', not '%s'", a->why ?: "completed",
                               b->why ?: "completed");
    }
    if (!g_str_equal(a->map, b->map)) {
        for (i = 0; a->map[i] == b->map[i]; i++) {
            continue;
        }
        return g_strdup_printf("the map is '%.80s', not '%.80s'",
                               a->map + i, b->map + i);
    }
    for (i = 0; i < MIN(a->size, b->size) && a->data[i] == b->data[i]; i++) {
        continue;
    }
    return i == a->size && i == b->size ? NULL :
           g_strdup_printf("streams differ at %zu of %zu and %zu bytes",
                           i, a->size, b->size);
}

/* Saves a machine with everything mapped; NULL or why there is none */
static char *prepare(const char *dir, const char *args, const char *path)
{
    g_autofree char *all = g_strconcat(MACHINE, args, NULL);
    SwVM *vm = sw_vm_new(dir, "src", NULL, all);
    char *why;

    map_everything(vm->qts);
    why = save(vm, path);
    sw_vm_free(vm);
    return why;
}

static char *compare(const char *dir, const char *args, bool in_chunks)
{
    g_autofree char *path = g_build_filename(dir, "stream", NULL);
    g_autofree char *why = prepare(dir, args, path);
    Loaded ours, theirs;
    char *result;

    SW_CHECK(!why, "cannot save: %s", why);
    load(&theirs, dir, STOCK, args, path, false);
    load(&ours, dir, under_test(), args, path, in_chunks);
    SW_CHECK(!theirs.why, "unpatched QEMU cannot load it: %s", theirs.why);
    result = difference(&ours, &theirs);
    loaded_clear(&ours);
    loaded_clear(&theirs);
    return result;
}

/*
 * The same, in one piece and in many
 */

/* Kinds that wait for the commit, kinds that do not, bridges, and DMA users */
static const char mixture[] =
    "-netdev hubport,id=n0,hubid=0 -netdev hubport,id=n1,hubid=0 "
    "-blockdev driver=null-co,node-name=b0,read-zeroes=on,size=1048576 "
    "-blockdev driver=null-co,node-name=b1,read-zeroes=on,size=1048576 "
    "-blockdev driver=null-co,node-name=b2,read-zeroes=on,size=1048576 "
    "-device virtio-net-pci,netdev=n0,romfile=,mac=52:54:00:00:00:01 "
    "-device virtio-blk-pci,drive=b0 "
    "-device virtio-scsi-pci,id=scsi0 "
    "-device scsi-hd,bus=scsi0.0,drive=b1 "
    "-device virtio-rng-pci -device virtio-balloon-pci "
    "-device virtio-serial-pci -device virtio-keyboard-pci "
    "-device virtio-gpu-pci -device ide-hd,drive=b2 -device qemu-xhci "
    "-device ich9-usb-ehci1 "
    "-device pcie-root-port,id=p0,chassis=1 "
    "-device virtio-rng-pci,bus=p0 "
    "-device pcie-pci-bridge,id=p1 -device virtio-rng-pci,bus=p1,addr=1 "
    "-device pcie-root-port,id=p2,chassis=2 "
    "-device e1000e,bus=p2,netdev=n1,romfile=,mac=52:54:00:00:00:02 ";

static void test_same(gconstpointer opaque)
{
    g_autofree char *result = NULL;
    char *dir;

    if (skip_without_stock()) {
        return;
    }
    sw_watchdog_start();
    dir = sw_tmpdir_new();
    result = compare(dir, mixture, opaque);
    SW_CHECK(!result, "%s", result);
    sw_tmpdir_free(dir);
    sw_watchdog_stop();
}

/*
 * Commits
 */

static char *rngs(int n)
{
    GString *args = g_string_new(NULL);
    int i;

    for (i = 0; i < n; i++) {
        g_string_append_printf(args, "-device virtio-rng-pci,multifunction=on,"
                               "addr=%x.%d ", 2 + i / 8, i % 8);
    }
    return g_string_free(args, false);
}

/* Views that QEMU renders to load @n devices */
static int count_views(const char *dir, int n)
{
    g_autofree char *args = rngs(n);
    g_autofree char *path = g_build_filename(dir, "stream", NULL);
    g_autofree char *log = g_build_filename(dir, "log", NULL);
    g_autofree char *with_log = g_strdup_printf("%s -D %s", args, log);
    g_autofree char *why = prepare(dir, args, path);
    g_autofree char *text = NULL;
    g_autofree char *out = NULL;
    g_auto(GStrv) parts = NULL;
    SwVM *vm;
    int views;

    SW_CHECK(!why, "cannot save: %s", why);
    vm = new_destination(dir, "dst", under_test(), with_log);
    out = sw_hmp(vm->mon, "trace-event flatview_new on");
    load_file(vm, path);
    g_free(migration_result(vm));
    sw_vm_free(vm);
    g_assert_true(g_file_get_contents(log, &text, NULL, NULL));
    parts = g_strsplit(text, "flatview_new", -1);
    views = g_strv_length(parts) - 1;
    unlink(log);
    g_test_message("%d devices: %d views", n, views);
    return views;
}

/* Each commit renders a view for each device, and there shall be a few */
static void test_commits(void)
{
    char *dir;
    int few, many;

    sw_watchdog_start();
    dir = sw_tmpdir_new();
    few = count_views(dir, 8);
    many = count_views(dir, 32);
    g_assert_cmpint(few, >, 0);
    g_assert_cmpint(many, <=, 5 * few);
    sw_tmpdir_free(dir);
    sw_watchdog_stop();
}

/*
 * Errors
 */

#define BROKEN "-device virtio-rng-pci,disable-modern=on,addr=5 "
#define RING_PFN 0x100

/* The guest claims to have got more from the ring than it has room for */
static void save_broken_ring(const char *dir, const char *path)
{
    SwVM *vm = sw_vm_new(dir, "src", NULL,
                         MACHINE BROKEN "-device virtio-rng-pci,addr=6");
    Resources r = { .qts = vm->qts };
    g_autofree char *why = NULL;
    uint32_t io, size;

    map_everything(vm->qts);
    io = cfg_read(&r, 0, 5 << 3, 0x10) & ~3U;
    qtest_outw(vm->qts, io + 14, 0);
    size = qtest_inw(vm->qts, io + 12);
    qtest_outl(vm->qts, io + 8, RING_PFN);
    qtest_outb(vm->qts, io + 18, 7);
    /* used->idx, on the page after descriptors and available ring */
    qtest_writew(vm->qts, RING_PFN * 4096ULL +
                 ROUND_UP(16 * size + 6 + 2 * size, 4096) + 2, 0x55);
    why = save(vm, path);
    SW_CHECK(!why, "cannot save: %s", why);
    sw_vm_free(vm);
}

/* What QEMU says when it cannot load, without its name */
static char *load_failure(const char *binary, const char *path)
{
    g_autofree char *cmd = g_strdup_printf(
        "%s -accel tcg -nodefaults -no-user-config -display none " MACHINE
        BROKEN "-device virtio-rng-pci,addr=6 -serial null -serial null "
        "-incoming file:%s", g_getenv(binary ?: "QTEST_QEMU_BINARY"), path);
    g_autofree char *err = NULL;
    g_auto(GStrv) lines = NULL;
    GString *text = g_string_new(NULL);
    int status, i;

    g_assert_true(g_spawn_command_line_sync(cmd, NULL, &err, &status, NULL));
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 1);
    lines = g_strsplit(err, "\n", -1);
    for (i = 0; lines[i]; i++) {
        char *colon = strstr(lines[i], ": ");

        g_string_append_printf(text, "%s\n", colon ? colon + 2 : lines[i]);
    }
    return g_string_free(text, false);
}

static void test_broken_ring(void)
{
    g_autofree char *path = NULL;
    g_autofree char *ours = NULL;
    g_autofree char *theirs = NULL;
    char *dir;

    if (skip_without_stock()) {
        return;
    }
    sw_watchdog_start();
    dir = sw_tmpdir_new();
    path = g_build_filename(dir, "stream", NULL);
    save_broken_ring(dir, path);
    theirs = load_failure(STOCK, path);
    ours = load_failure(under_test(), path);
    g_test_message("%s", ours);
    g_assert_nonnull(strstr(theirs, "used_idx 0x55"));
    g_assert_cmpstr(ours, ==, theirs);
    sw_tmpdir_free(dir);
    sw_watchdog_stop();
}

/*
 * Every PCI device
 */

/* What a device needs to exist; %s is its type.  NULL: why it is left out. */
static const struct {
    const char *pattern;
    const char *args;
    const char *reason;
} needs[] = {
    { "x3130-upstream", "-device pcie-root-port,id=p,chassis=8 "
      "-device %s,bus=p", NULL },
    { "xio3130-downstream", "-device pcie-root-port,id=p,chassis=8 "
      "-device x3130-upstream,bus=p,id=u -device %s,bus=u,chassis=9", NULL },
    { "vfio-*", NULL, "needs a device of the host" },
    { "vhost-*", NULL, "needs a backend outside of QEMU" },
    { "virtio-blk-pci*", "-blockdev driver=null-co,node-name=b,size=1048576 "
      "-device %s,drive=b", NULL },
    { "nvme", "-blockdev driver=null-co,node-name=b,size=1048576 "
      "-device %s,drive=b,serial=1", NULL },
    { "sdhci-pci", "-device %s", NULL },
    { "ivshmem-plain", "-object memory-backend-ram,id=m,size=1M,share=on "
      "-device %s,memdev=m,master=on", NULL },
    { "pci-serial", "-chardev null,id=c1 -device %s,chardev=c1", NULL },
    { "pci-serial-?x", NULL, "saving it crashes QEMU, unpatched as well" },
    { "pci-bridge*", "-device %s,chassis_nr=9", NULL },
    { "AC97", "-audiodev none,id=a -device %s,audiodev=a", NULL },
    { "ES1370", "-audiodev none,id=a -device %s,audiodev=a", NULL },
    { "virtio-sound-pci", "-audiodev none,id=a -device %s,audiodev=a", NULL },
    { "kvaser_pci", "-object can-bus,id=c -device %s,canbus=c", NULL },
    { "mioe3680_pci", "-object can-bus,id=c "
      "-device %s,canbus0=c,canbus1=c", NULL },
    { "pcm3680_pci", "-object can-bus,id=c "
      "-device %s,canbus0=c,canbus1=c", NULL },
    { "pci-ipmi-*", "-device ipmi-bmc-sim,id=bmc -device %s,bmc=bmc", NULL },
    { "pcie-root-port", "-device %s,chassis=9", NULL },
    { "virtio-9p-pci*", NULL, "needs a directory" },
    { "virtio-crypto-pci", "-object cryptodev-backend-builtin,id=cry "
      "-device %s,cryptodev=cry", NULL },
    { "virtio-pmem-pci", "-object memory-backend-ram,id=m,size=16M "
      "-device %s,memdev=m", NULL },
    { "virtio-mem-pci", "-object memory-backend-ram,id=m,size=16M "
      "-device %s,memdev=m", NULL },
    { "*", "-device %s", NULL },
};

static const char *device_args(const char *type, const char **reason)
{
    int i;

    for (i = 0; !g_pattern_match_simple(needs[i].pattern, type); i++) {
        continue;
    }
    *reason = needs[i].reason;
    return needs[i].args;
}

/* Memory devices need room */
static const char *machine_args(const char *type)
{
    return g_str_has_prefix(type, "virtio-mem") ||
           g_str_has_prefix(type, "virtio-pmem") ? "-m 64,maxmem=1G " : "";
}

/* NULL, or why QEMU does not start with it */
static char *try_device(const char *args)
{
    g_autofree char *cmd = g_strdup_printf(
        "%s -accel tcg -nodefaults -no-user-config -display none " MACHINE
        "%s -monitor stdio", g_getenv("QTEST_QEMU_BINARY"), args);
    g_autofree char *sh = g_strdup_printf("echo quit | %s", cmd);
    const char *argv[] = { "sh", "-c", sh, NULL };
    g_autofree char *out = NULL;
    char *err = NULL;
    int status;

    g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH,
                               NULL, NULL, &out, &err, &status, NULL));
    if (status) {
        return g_strstrip(err);
    }
    g_free(err);
    return NULL;
}

/* Returns whether it was compared */
static bool compare_device(const char *dir, const char *type)
{
    const char *reason;
    const char *format = device_args(type, &reason);
    g_autofree char *path = g_build_filename(dir, "stream", NULL);
    g_autofree char *device = NULL;
    g_autofree char *args = NULL;
    g_autofree char *why = NULL;
    g_autofree char *result = NULL;
    g_auto(GStrv) halves = NULL;
    Loaded ours, theirs;

    if (!format) {
        g_test_message("%s: left out: %s", type, reason);
        return false;
    }
    halves = g_strsplit(format, "%s", 2);
    device = g_strconcat(halves[0], type, halves[1], NULL);
    args = g_strconcat(machine_args(type), device, NULL);
    why = try_device(args);
    why = why ?: prepare(dir, args, path);
    if (why) {
        g_test_message("%s: left out: %s", type, why);
        return false;
    }
    load(&theirs, dir, STOCK, args, path, false);
    load(&ours, dir, under_test(), args, path, false);
    result = difference(&ours, &theirs);
    SW_CHECK(!result, "%s: %s", type, result);
    g_test_message("%s: %s", type, ours.why ?: "the same");
    loaded_clear(&ours);
    loaded_clear(&theirs);
    return true;
}

static QList *pci_types(const char *dir)
{
    SwVM *vm = sw_vm_new(dir, "types", NULL, MACHINE);
    QDict *rsp = qtest_qmp(vm->qts, "{ 'execute': 'qom-list-types',"
                           " 'arguments': { 'implements': 'pci-device',"
                           " 'abstract': false } }");
    QList *list = qobject_ref(qdict_get_qlist(rsp, "return"));

    qobject_unref(rsp);
    sw_vm_free(vm);
    return list;
}

static void test_every_device(void)
{
    QListEntry *entry;
    QList *types;
    char *dir;
    int n = 0;

    if (skip_without_stock()) {
        return;
    }
    dir = sw_tmpdir_new();
    types = pci_types(dir);
    QLIST_FOREACH_ENTRY(types, entry) {
        QDict *type = qobject_to(QDict, qlist_entry_obj(entry));

        sw_watchdog_start();
        n += compare_device(dir, qdict_get_str(type, "name"));
        sw_watchdog_stop();
    }
    g_test_message("%d types of device are loaded the same", n);
    g_assert_cmpint(n, >, 60);
    qobject_unref(types);
    sw_tmpdir_free(dir);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/" SUITE "/same", NULL, test_same);
    g_test_add_data_func("/" SUITE "/chunks", "", test_same);
    g_test_add_func("/" SUITE "/commits", test_commits);
    g_test_add_func("/" SUITE "/broken-ring", test_broken_ring);
    if (g_test_slow()) {
        g_test_add_func("/" SUITE "/every-device", test_every_device);
    }
    return g_test_run();
}
