/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest testcase for "off means off"
 *
 * With none of the new parameters set, QEMU writes the migration stream that
 * it wrote before, answers QMP as before but for added members, and migrates
 * to and from what it was before.
 *
 * Environment, besides that of switchover-test: SWITCHOVER_STOCK, QEMU from the
 * same source with no patch; SWITCHOVER_PEER, a distribution's QEMU of the same
 * series.  What is not there is skipped.
 *
 * -m slow adds the full set.
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "qobject/qlist.h"
#include "switchover/expect.h"
#include "switchover/harness.h"
#include "switchover/reader.h"

#define STOCK "SWITCHOVER_STOCK"
#define PEER "SWITCHOVER_PEER"
#define MACHINE "pc-q35-10.0"

/*
 * A machine that never ran, of which nothing depends on the time or on chance.
 * Little memory: a pass that takes over 50 ms begins another section.
 * %s: the MAC address, one property that shows in the stream.
 */
#define FIXED_MACHINE \
    "-machine " MACHINE " -m 16 -S -rtc base=2000-01-01,clock=vm " \
    "-uuid 12345678-1234-1234-1234-123456789abc " \
    "-blockdev driver=null-co,node-name=n0,read-zeroes=on,size=67108864 " \
    "-blockdev driver=null-co,node-name=n1,read-zeroes=on,size=67108864 " \
    "-blockdev driver=null-co,node-name=n2,read-zeroes=on,size=67108864 " \
    "-blockdev driver=null-co,node-name=n3,read-zeroes=on,size=67108864 " \
    "-device virtio-blk-pci,id=blk0,drive=n0 " \
    "-device virtio-scsi-pci,id=scsi0 " \
    "-device scsi-hd,id=hd0,bus=scsi0.0,drive=n1 " \
    "-device ide-hd,id=hd1,drive=n2 " \
    "-device virtio-blk-pci,id=blk1,drive=n3,ioeventfd=off " \
    "-netdev socket,id=net0,udp=127.0.0.1:1,localaddr=127.0.0.1:0 " \
    "-device virtio-net-pci,id=nic0,netdev=net0,romfile=,mac=%s"

#define FIXED_MAC "52:54:00:00:00:01"
#define OTHER_MAC "52:54:00:00:00:02"

/* Sections that the stream of this machine must have, or it is not one */
static const char *const sections[] = {
    "ram", "timer", "cpu", "mc146818rtc", "/virtio-blk", "/virtio-scsi",
    "/virtio-net", "/ich9_ahci", NULL
};

typedef struct Stream {
    char *data;
    size_t size;
} Stream;

static SwVM *new_vm(const char *dir, const char *binary, const char *mac)
{
    g_autofree char *args = g_strdup_printf(FIXED_MACHINE, mac);

    return sw_vm_new(dir, "vm", binary, args);
}

static void migrate(SwVM *vm, const char *uri)
{
    sw_qmp_ok(vm->mon, "{ 'execute': 'migrate',"
              " 'arguments': { 'uri': %s } }", uri);
    sw_status_wait(vm->mon, "completed");
}

static void save_stream(const char *dir, const char *binary, const char *mac,
                        bool explicitly_off, Stream *stream)
{
    g_autofree char *path = g_build_filename(dir, "stream", NULL);
    g_autofree char *uri = g_strdup_printf("file:%s", path);
    SwVM *vm = new_vm(dir, binary, mac);

    if (explicitly_off) {
        sw_qmp_ok(vm->mon, "{ 'execute': 'migrate-set-parameters',"
                  " 'arguments': { 'drain-timeout': 0,"
                  " 'drain-timeout-action': 'retry', 'iteration-limit': 0 } }");
    }
    migrate(vm, uri);
    sw_vm_free(vm);
    g_assert_true(g_file_get_contents(path, &stream->data, &stream->size,
                                      NULL));
    unlink(path);
}

/* All of it fits into the pipe: where sections end does not depend on time */
static void save_stream_by_pipe(const char *dir, const char *binary,
                                Stream *stream)
{
    SwVM *vm = new_vm(dir, binary, FIXED_MAC);
    const GByteArray *data;
    SwReader *reader;
    int fds[2];

    g_assert(!pipe2(fds, O_CLOEXEC));
    g_assert_cmpint(fcntl(fds[1], F_SETPIPE_SZ, MiB), >=, MiB);
    reader = sw_reader_new(fds[0]);
    sw_monitor_give_fd(vm->mon, "pipe", fds[1]);
    close(fds[1]);
    migrate(vm, "fd:pipe");
    sw_vm_free(vm);
    sw_reader_go(reader, UINT64_MAX);
    data = sw_reader_wait_end(reader);
    stream->data = g_memdup2(data->data, data->len);
    stream->size = data->len;
    sw_reader_free(reader);
}

/* Where @a and @b begin to differ, or -1 */
static int64_t first_difference(const Stream *a, const Stream *b)
{
    size_t common = MIN(a->size, b->size);
    size_t i;

    for (i = 0; i < common; i++) {
        if (a->data[i] != b->data[i]) {
            return i;
        }
    }
    return a->size == b->size ? -1 : common;
}

/* A pass is worth nothing if the stream does not have in it what it is about */
static void check_substance(const Stream *stream)
{
    int i;

    g_assert_cmpuint(ldl_be_p(stream->data), ==, 0x5145564d);
    g_assert_cmpuint(stream->size, >, 16 * 1024);
    for (i = 0; sections[i]; i++) {
        SW_CHECK(memmem(stream->data, stream->size, sections[i],
                        strlen(sections[i])),
                 "the stream has no section '%s'", sections[i]);
    }
}

static void free_streams(Stream *streams, int n)
{
    while (n--) {
        g_free(streams[n].data);
    }
}

static bool skip_without(const char *binary)
{
    g_autofree char *why = sw_binary_missing(binary);

    if (why) {
        g_test_skip(why);
    }
    return why;
}

/*
 * Two streams of the stock binary are equal to the last byte, so there is
 * nothing to leave out of the comparison; and a single other property shows.
 */
static void test_stream(void)
{
    Stream stock, again, unset, off, other, pipe, stock_pipe;
    char *dir;

    if (skip_without(STOCK)) {
        return;
    }
    sw_watchdog_start();
    dir = sw_tmpdir_new();
    save_stream(dir, STOCK, FIXED_MAC, false, &stock);
    save_stream(dir, STOCK, FIXED_MAC, false, &again);
    save_stream(dir, NULL, FIXED_MAC, false, &unset);
    save_stream(dir, NULL, FIXED_MAC, true, &off);
    save_stream(dir, NULL, OTHER_MAC, false, &other);
    save_stream_by_pipe(dir, STOCK, &stock_pipe);
    save_stream_by_pipe(dir, NULL, &pipe);
    sw_tmpdir_free(dir);

    check_substance(&stock);
    g_assert_cmpint(first_difference(&stock, &again), ==, -1);
    g_assert_cmpint(first_difference(&stock, &unset), ==, -1);
    g_assert_cmpint(first_difference(&stock, &off), ==, -1);
    g_assert_cmpint(first_difference(&stock, &other), !=, -1);
    check_substance(&stock_pipe);
    g_assert_cmpint(first_difference(&stock_pipe, &pipe), ==, -1);
    g_test_message("%zu bytes are equal", stock.size);

    free_streams((Stream[]) { stock, again, unset, off, other, stock_pipe,
                              pipe }, 7);
    sw_watchdog_stop();
}

/* What @binary saves after it has loaded @stream, and never ran */
static void save_again(const char *dir, const char *binary,
                       const Stream *stream, Stream *again)
{
    g_autofree char *path = g_build_filename(dir, "stream", NULL);
    g_autofree char *uri = g_strdup_printf("file:%s", path);
    g_autofree char *args = g_strdup_printf(FIXED_MACHINE " -incoming defer",
                                            FIXED_MAC);
    SwVM *vm = sw_vm_new(dir, "vm", binary, args);

    g_assert_true(g_file_set_contents(path, stream->data, stream->size, NULL));
    sw_qmp_ok(vm->mon, "{ 'execute': 'migrate-incoming',"
              " 'arguments': { 'uri': %s } }", uri);
    sw_status_wait(vm->mon, "completed");
    sw_events_forget(vm->mon);
    unlink(path);
    migrate(vm, uri);
    sw_vm_free(vm);
    g_assert_true(g_file_get_contents(path, &again->data, &again->size, NULL));
    unlink(path);
}

/*
 * From stock, and on to wherever.  If what a destination notes for itself were
 * in the stream: "virtio/held-back", which stock refuses.
 */
static void test_stream_again(void)
{
    Stream stream, stock, patched;
    char *dir;

    if (skip_without(STOCK)) {
        return;
    }
    sw_watchdog_start();
    dir = sw_tmpdir_new();
    save_stream(dir, STOCK, FIXED_MAC, false, &stream);
    save_again(dir, STOCK, &stream, &stock);
    save_again(dir, NULL, &stream, &patched);
    sw_tmpdir_free(dir);

    check_substance(&stock);
    g_assert_cmpint(first_difference(&stock, &patched), ==, -1);

    free_streams((Stream[]) { stream, stock, patched }, 3);
    sw_watchdog_stop();
}

static void check_superset(QObject *stock, QObject *patched, const char *path);

static void check_dict(QDict *stock, QDict *patched, const char *path)
{
    const QDictEntry *entry;

    for (entry = qdict_first(stock); entry; entry = qdict_next(stock, entry)) {
        const char *key = qdict_entry_key(entry);
        g_autofree char *below = g_strdup_printf("%s.%s", path, key);
        QObject *other = qdict_get(patched, key);

        SW_CHECK(other, "%s is gone", below);
        check_superset(qdict_entry_value(entry), other, below);
    }
}

static void check_list(QList *stock, QList *patched, const char *path)
{
    QListEntry *a, *b = QTAILQ_FIRST(&patched->head);

    QLIST_FOREACH_ENTRY(stock, a) {
        SW_CHECK(b, "%s is shorter", path);
        check_superset(qlist_entry_obj(a), qlist_entry_obj(b), path);
        b = QTAILQ_NEXT(b, next);
    }
}

/* What stock says is there, of the same type; numbers depend on the time */
static void check_superset(QObject *stock, QObject *patched, const char *path)
{
    SW_CHECK(qobject_type(stock) == qobject_type(patched),
             "%s has another type", path);
    switch (qobject_type(stock)) {
    case QTYPE_QDICT:
        check_dict(qobject_to(QDict, stock), qobject_to(QDict, patched), path);
        break;
    case QTYPE_QLIST:
        check_list(qobject_to(QList, stock), qobject_to(QList, patched), path);
        break;
    case QTYPE_QSTRING:
    case QTYPE_QBOOL:
        SW_CHECK(qobject_is_equal(stock, patched), "%s differs", path);
        break;
    default:
        break;
    }
}

static const char *const queries[] = {
    "query-migrate", "query-migrate-parameters", "query-migrate-capabilities",
    "query-status", NULL
};

/* What @binary answers to the queries after a migration */
static void collect_replies(const char *dir, const char *binary,
                            QDict **replies)
{
    g_autofree char *args = g_strdup_printf(FIXED_MACHINE, FIXED_MAC);
    SwVM *vm = sw_vm_new(dir, "vm", binary, args);
    int i;

    sw_qmp_ok(vm->mon, "{ 'execute': 'migrate',"
              " 'arguments': { 'uri': 'exec:cat >/dev/null' } }");
    sw_status_wait(vm->mon, "completed");
    /* It is "completed" a little earlier */
    sw_vm_wait_state(vm, "postmigrate");
    for (i = 0; queries[i]; i++) {
        replies[i] = sw_qmp_rsp(vm->mon, "{ 'execute': %s }", queries[i]);
    }
    sw_vm_free(vm);
}

static void test_replies(void)
{
    QDict *stock[ARRAY_SIZE(queries)], *patched[ARRAY_SIZE(queries)];
    char *dir;
    int i;

    if (skip_without(STOCK)) {
        return;
    }
    sw_watchdog_start();
    dir = sw_tmpdir_new();
    collect_replies(dir, STOCK, stock);
    collect_replies(dir, NULL, patched);
    for (i = 0; queries[i]; i++) {
        check_superset(QOBJECT(stock[i]), QOBJECT(patched[i]), queries[i]);
        qobject_unref(stock[i]);
        qobject_unref(patched[i]);
    }
    sw_tmpdir_free(dir);
    sw_watchdog_stop();
}

/*
 * A guest at work moves from one binary to another and finds its data.  The
 * new parameters concern the source only, so a destination that does not know
 * them must do even with a source that uses them.
 */
static const SwCase moves[] = {
    { .path = "to-stock/precopy", .dst_binary = STOCK, .off = true },
    { .path = "to-stock/postcopy", .dst_binary = STOCK, .off = true,
      .postcopy = true, .full = true },
    { .path = "to-stock/drain-timeout", .dst_binary = STOCK },
    { .path = "from-stock/precopy", .src_binary = STOCK, .off = true,
      .full = true },
    { .path = "from-stock/postcopy", .src_binary = STOCK, .off = true,
      .postcopy = true },
    { .path = "to-peer/precopy", .dst_binary = PEER, .off = true,
      .full = true },
    { .path = "to-peer/postcopy", .dst_binary = PEER, .off = true,
      .postcopy = true },
    { .path = "to-peer/drain-timeout", .dst_binary = PEER, .full = true },
    { .path = "from-peer/precopy", .src_binary = PEER, .off = true },
    { .path = "from-peer/postcopy", .src_binary = PEER, .off = true,
      .postcopy = true, .full = true },
};

static void run_move(const void *opaque)
{
    SwCase c = *(const SwCase *)opaque;
    SwRig *rig;

    c.machine = MACHINE;
    c.device = &sw_virtio_blk;
    c.driver = &sw_nbd;
    rig = sw_rig_new(&c);
    if (rig) {
        sw_rig_migrate(rig);
        sw_expect_completed(rig);
        sw_rig_free(rig);
    }
}

/*
 * drain-timeout unset and a stuck disk: the guest is stopped until the disk
 * answers, as it always was, and the migration completes then.
 */
static void test_stuck_disk(void)
{
    static const SwCase c = {
        .device = &sw_virtio_blk,
        .driver = &sw_nbd,
        .kind = SW_KIND_ANY,
        .off = true,
    };
    SwRig *rig = sw_rig_new(&c);

    if (rig) {
        sw_rig_stick(rig);
        sw_rig_migrate(rig);
        sw_guest_wait_silence(rig->src->guest, SW_GAP_LIMIT_MS);
        sw_rig_release(rig);
        sw_expect_completed(rig);
        sw_rig_free(rig);
    }
}

int main(int argc, char **argv)
{
    int i;

    g_test_init(&argc, &argv, NULL);

    g_test_add_func("/switchover-compat/stream", test_stream);
    g_test_add_func("/switchover-compat/stream-again", test_stream_again);
    g_test_add_func("/switchover-compat/replies", test_replies);
    g_test_add_func("/switchover-compat/stuck-disk", test_stuck_disk);
    for (i = 0; i < ARRAY_SIZE(moves); i++) {
        g_autofree char *path = g_strdup_printf("/switchover-compat/%s",
                                                moves[i].path);

        if (!moves[i].full || g_test_slow()) {
            g_test_add_data_func(path, &moves[i], run_move);
        }
    }
    return g_test_run();
}
