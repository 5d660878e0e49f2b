/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: post-copy that is held activates nothing
 *
 * While both sides wait, others may take the disks; then whoever is to have the
 * guest has to wait for them, and does not run it meanwhile.
 */

#include "qemu/osdep.h"
#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include "qobject/qlist.h"
#include "switchover/child.h"
#include "switchover/expect.h"
#include "switchover/harness.h"
#include "switchover/postcopy-hold.h"
#include "switchover/postcopy-ready-tests.h"

/*
 * Locks
 */

/* Opens the guest's image to write to it; NULL if somebody else has it */
static SwChild *take_image(SwRig *rig)
{
    g_autofree char *pidfile = g_strdup_printf("%s/taker.pid", rig->dir);
    g_autofree char *blockdev = g_strdup_printf(
        "driver=qcow2,node-name=n,file.driver=file,file.filename=%s",
        sw_disk_local(rig->disk[0]));
    g_autofree char *why = NULL;
    const char *argv[] = {
        sw_env_path("QTEST_QEMU_STORAGE_DAEMON_BINARY"),
        "--pidfile", pidfile, "--blockdev", blockdev, NULL
    };

    SW_CHECK(argv[0], "QTEST_QEMU_STORAGE_DAEMON_BINARY names no program");
    unlink(pidfile);
    return sw_child_new(argv, pidfile, &why);
}

static void expect_image_in_use(SwRig *rig)
{
    SW_CHECK(!take_image(rig), "the image of a guest that runs is not locked");
}

static SwChild *expect_image_free(SwRig *rig)
{
    SwChild *taker = take_image(rig);

    SW_CHECK(taker, "the image is locked although the guest is held");
    return taker;
}

static void end_image_free(SwRig *rig)
{
    expect_image_in_use(rig);
    sw_hold(rig);
    sw_child_free(expect_image_free(rig));
    sw_hold_continue(rig);
    sw_hold_expect_completed(rig);
    expect_image_in_use(rig);
}

/* The guest is @vm's, which must not run it, and cannot be told to */
static void expect_waits_for_image(SwVM *vm)
{
    g_autofree char *error = NULL;
    unsigned beats;

    sw_vm_wait_state(vm, "paused");
    beats = sw_guest_beats(vm->guest);
    error = sw_qmp_error(vm->mon, "{ 'execute': 'cont' }");
    SW_CHECK(strstr(error, "lock"), "cont says: %s", error);
    sw_guest_wait_silence(vm->guest, 300);
    g_assert_cmpuint(sw_guest_beats(vm->guest), ==, beats);
}

/*
 * Unpatched QEMU starts the guest on disks that it could not activate, and ends
 * with an assertion at the first write.
 */
static void end_image_taken_back(SwRig *rig)
{
    SwChild *taker;

    sw_hold(rig);
    taker = expect_image_free(rig);
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate_cancel' }");
    sw_status_wait(rig->src->mon, "cancelled");
    expect_waits_for_image(rig->src);
    sw_vm_wait_exit(rig->dst, EXIT_FAILURE);

    sw_child_free(taker);
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'cont' }");
    sw_expect_guest_working(rig->src->guest);
}

/* The same, at the other end: "inmigrate" would be a state without way out */
static void end_image_taken_commit(SwRig *rig)
{
    SwChild *taker;

    sw_hold(rig);
    taker = expect_image_free(rig);
    sw_hold_continue(rig);
    sw_status_wait(rig->src->mon, "completed");
    expect_waits_for_image(rig->dst);

    sw_child_free(taker);
    sw_qmp_ok(rig->dst->mon, "{ 'execute': 'cont' }");
    sw_hold_expect_completed(rig);
}

/*
 * The network
 */

/* A network card whose frames come to us; QEMU itself announces the guest */
static char *make_network(SwRig *rig)
{
    struct sockaddr_in addr = {
        .sin_family = AF_INET,
        .sin_addr = { .s_addr = htonl(INADDR_LOOPBACK) },
    };
    socklen_t len = sizeof(addr);

    rig->network = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    g_assert(bind(rig->network, (struct sockaddr *)&addr, len) == 0);
    g_assert(getsockname(rig->network, (struct sockaddr *)&addr, &len) == 0);
    return g_strdup_printf("-netdev socket,id=net0,udp=127.0.0.1:%u,"
                           "localaddr=127.0.0.1:0 -device virtio-net-pci,"
                           "id=nic0,netdev=net0,romfile=",
                           ntohs(addr.sin_port));
}

static bool is_announced(SwRig *rig, int timeout_ms)
{
    struct pollfd pfd = { .fd = rig->network, .events = POLLIN };

    return RETRY_ON_EINTR(poll(&pfd, 1, timeout_ms)) == 1;
}

static void end_announced(SwRig *rig)
{
    sw_hold(rig);
    SW_CHECK(!is_announced(rig, 0), "the guest is announced before it runs");
    sw_hold_continue(rig);
    SW_CHECK(is_announced(rig, SW_WAIT_MS), "the guest is not announced");
    sw_hold_expect_completed(rig);
    close(rig->network);
}

/*
 * Dirty bitmaps
 */

static void add_bitmap(SwRig *rig)
{
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'block-dirty-bitmap-add',"
              " 'arguments': { 'node': 'disk0', 'name': 'bitmap' } }");
}

static QDict *find_node(QList *nodes, const char *name)
{
    QListEntry *entry;

    QLIST_FOREACH_ENTRY(nodes, entry) {
        QDict *node = qobject_to(QDict, qlist_entry_obj(entry));

        if (g_str_equal(qdict_get_str(node, "node-name"), name)) {
            return node;
        }
    }
    SW_FAIL("there is no node '%s'", name);
}

/* The bitmap is there, takes note of writes, and has done so */
static void expect_bitmap(SwVM *vm)
{
    QDict *rsp = sw_qmp_rsp(vm->mon, "{ 'execute': 'query-named-block-nodes',"
                            " 'arguments': { 'flat': true } }");
    QDict *node = find_node(qdict_get_qlist(rsp, "return"), "disk0");
    QList *bitmaps = qdict_get_qlist(node, "dirty-bitmaps");
    QDict *bitmap;

    SW_CHECK(bitmaps && qlist_size(bitmaps) == 1, "%s: there is no bitmap",
             vm->name);
    bitmap = qobject_to(QDict, qlist_peek(bitmaps));
    g_assert_false(qdict_get_bool(bitmap, "busy"));
    g_assert_true(qdict_get_bool(bitmap, "recording"));
    g_assert_cmpint(qdict_get_int(bitmap, "count"), >, 0);
    qobject_unref(rsp);
}

static void end_bitmap(SwRig *rig)
{
    sw_expect_working(rig);
    sw_hold(rig);
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate_cancel' }");
    sw_hold_expect_backed_out(rig, "cancelled", NULL);
    expect_bitmap(rig->src);

    sw_rig_renew_destination(rig);
    sw_hold(rig);
    sw_hold_continue(rig);
    sw_hold_expect_completed(rig);
    expect_bitmap(rig->dst);
}

static const SwCase cases[] = {
    {
        .path = "disk/image-free",
        SW_READY_LOCAL,
        .end = end_image_free,
    }, {
        .path = "disk/image-taken/back",
        SW_READY_LOCAL,
        .end = end_image_taken_back,
    }, {
        .path = "disk/image-taken/commit",
        .full = true,
        SW_READY_LOCAL,
        .end = end_image_taken_commit,
    }, {
        .path = "disk/bitmap",
        .full = true,
        SW_READY_CASE,
        .capabilities = { "dirty-bitmaps" },
        .setup = add_bitmap,
        .end = end_bitmap,
    }, {
        .path = "network/announced",
        .full = true,
        SW_READY_CASE,
        .more_args = make_network,
        .end = end_announced,
    },
};

void sw_add_postcopy_disk_tests(void)
{
    int i;

    for (i = 0; i < ARRAY_SIZE(cases); i++) {
        sw_add_case(SW_READY_SUITE, &cases[i], sw_run_ready_case);
    }
}
