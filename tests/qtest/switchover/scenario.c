/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: how cases begin and end
 */

#include "qemu/osdep.h"
#include "switchover/expect.h"
#include "switchover/harness.h"
#include "switchover/scenario.h"

/* migrate_cancel takes effect within this, whatever is stuck */
#define CANCEL_LIMIT_MS 500

/*
 * If it does not, this says so before the prober of a destination that is
 * stopped does
 */
#define CANCEL_WAIT_MS (10000 * sw_patience())

/* Requests per second: those in flight take far longer than drain-timeout */
#define LIMIT_IOPS 2

/* Below the longest back-off, 8 s, and above what a switchover takes */
#define EARLY_LIMIT_MS 5000

typedef struct OtherDisk {
    SwDisk *disk;
    unsigned seen;
} OtherDisk;

static bool other_disk_moves(void *opaque)
{
    OtherDisk *other = opaque;

    return sw_disk_seen(other->disk, SW_KIND_ANY) > other->seen;
}

/* The disk that does not hang is not held back by the one that does */
static void expect_other_disk_moves(SwRig *rig)
{
    OtherDisk other = {
        .disk = rig->disk[1],
        .seen = sw_disk_seen(rig->disk[1], SW_KIND_ANY),
    };

    sw_wait_until(other_disk_moves, &other, SW_WAIT_MS,
                  "I/O of the disk that is not stuck");
}

static void expect_timeouts_and_life(SwRig *rig)
{
    sw_expect_timeouts(rig);
    sw_expect_alive(rig);
    if (rig->c->guest_disks > 1) {
        expect_other_disk_moves(rig);
    }
}

void sw_end_completes(SwRig *rig)
{
    expect_timeouts_and_life(rig);
    sw_rig_release(rig);
    sw_expect_completed(rig);
    sw_expect_account(rig);
}

void sw_end_completes_early(SwRig *rig)
{
    int64_t released_us;
    int64_t took_ms;

    expect_timeouts_and_life(rig);
    sw_rig_release(rig);
    released_us = sw_now_us();
    sw_expect_completed(rig);
    took_ms = (sw_status_wait(rig->src->mon, "completed") - released_us) / 1000;
    SW_CHECK_SOON(took_ms, EARLY_LIMIT_MS, "completion, with the disk back,");
}

void sw_expect_as_before(SwRig *rig)
{
    sw_expect_on_source(rig);
    sw_rig_release(rig);
    sw_expect_working(rig);
    sw_rig_renew_destination(rig);
    sw_rig_migrate(rig);
    sw_expect_completed(rig);
}

void sw_end_fails(SwRig *rig)
{
    sw_expect_timeouts(rig);
    sw_status_wait(rig->src->mon, "failed");
    sw_expect_error_names_request(rig);
    sw_expect_account(rig);
    sw_expect_alive(rig);
    sw_expect_as_before(rig);
}

void sw_end_completes_at_once(SwRig *rig)
{
    sw_expect_completed(rig);
    g_assert_cmpuint(sw_event_count(rig->src->mon, "MIGRATION_DRAIN_TIMEOUT"),
                     ==, 0);
}

void sw_end_fails_after_pre_switchover(SwRig *rig)
{
    sw_status_wait(rig->src->mon, "pre-switchover");
    sw_rig_stick_by_monitor(rig);
    sw_probe_mark(rig->src->probe);
    rig->begun_us = sw_now_us();
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate-continue',"
              " 'arguments': { 'state': 'pre-switchover' } }");
    sw_event_wait(rig->src->mon, "MIGRATION_DRAIN_TIMEOUT", 0, NULL);
    sw_expect_monitor_alive(rig);

    sw_rig_release(rig);
    sw_status_wait(rig->src->mon, "failed");
    sw_expect_error_names_request(rig);
    sw_expect_on_source(rig);
    sw_expect_working(rig);
}

static bool has_ended(void *opaque)
{
    SwVM *vm = opaque;

    return sw_status_seen(vm->mon, "cancelled") ||
           sw_status_seen(vm->mon, "failed") ||
           sw_status_seen(vm->mon, "completed");
}

int64_t sw_cancel(SwRig *rig)
{
    int64_t asked_us = sw_now_us();
    int64_t done_us;

    sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate_cancel' }");
    sw_wait_until(has_ended, rig->src, CANCEL_WAIT_MS,
                  "migrate_cancel to take effect");
    done_us = sw_status_wait(rig->src->mon, "cancelled");
    sw_guest_wait_beats(rig->src->guest, 1);
    g_test_message("cancelled after %d ms, guest heard after %d ms",
                   (int)((done_us - asked_us) / 1000),
                   (int)sw_since_ms(asked_us));
    SW_CHECK_SOON(sw_since_ms(asked_us), SW_GAP_LIMIT_MS, "the guest");
    SW_CHECK_SOON((done_us - asked_us) / 1000, CANCEL_LIMIT_MS,
                  "migrate_cancel");
    return (done_us - asked_us) / 1000;
}

void sw_end_cancelled_waiting(SwRig *rig)
{
    sw_expect_waiting(rig);
    sw_cancel(rig);
    g_assert_cmpuint(sw_event_count(rig->src->mon, "MIGRATION_DRAIN_TIMEOUT"),
                     ==, 0);
    sw_expect_as_before(rig);
}

void sw_end_quits_waiting(SwRig *rig)
{
    SwOrder order;

    sw_expect_waiting(rig);
    sw_order_begin(&order, rig->src->mon, "quit");
    sw_event_wait(rig->src->mon, "SHUTDOWN", 0, NULL);
    sw_rig_release(rig);
    sw_order_end(&order);
    sw_vm_wait_exit(rig->src, EXIT_SUCCESS);
    sw_vm_wait_exit(rig->dst, EXIT_FAILURE);
}

void sw_end_cancelled_between(SwRig *rig)
{
    expect_timeouts_and_life(rig);
    sw_cancel(rig);
    sw_expect_as_before(rig);
}

void sw_end_destination_dies(SwRig *rig)
{
    sw_expect_waiting(rig);
    sw_vm_kill(rig->dst);
    sw_status_wait(rig->src->mon, "failed");
    sw_expect_as_before(rig);
}

void sw_end_destination_dies_between(SwRig *rig)
{
    expect_timeouts_and_life(rig);
    sw_vm_kill(rig->dst);
    sw_status_wait(rig->src->mon, "failed");
    sw_expect_as_before(rig);
}

void sw_setup_mirror(SwRig *rig)
{
    char *why = NULL;

    rig->mirror = sw_disk_new(rig->dir, "mirror", 0, &why);
    SW_CHECK(rig->mirror, "%s", why);
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'blockdev-add', 'arguments': {"
              " 'driver': 'nbd', 'node-name': 'mirror', 'server': {"
              " 'type': 'unix', 'path': %s } } }",
              sw_disk_socket(rig->mirror));
    /* A guest that writes all the time may be ahead of the job for ever */
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'stop' }");
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'blockdev-mirror', 'arguments': {"
              " 'job-id': 'job', 'device': 'disk0', 'target': 'mirror',"
              " 'sync': 'full' } }");
    sw_event_wait(rig->src->mon, "BLOCK_JOB_READY", 0, NULL);
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'cont' }");
    rig->victim = rig->mirror;
    rig->victim_node = "mirror";
}

void sw_finish_mirror(SwRig *rig)
{
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'block-job-cancel',"
              " 'arguments': { 'device': 'job' } }");
    sw_event_wait(rig->src->mon, "BLOCK_JOB_COMPLETED", 0, NULL);
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'blockdev-del',"
              " 'arguments': { 'node-name': 'mirror' } }");
}

static void start_writer(SwRig *rig, const char *socket)
{
    g_autofree char *uri = g_strdup_printf("nbd+unix:///export?socket=%s",
                                           socket);
    const char *argv[] = {
        sw_env_path("QTEST_QEMU_IMG"), "bench", "-w", "-q", "-f", "raw",
        "-c", "100000000", "-d", "4", uri, NULL
    };
    char *why = NULL;

    SW_CHECK(argv[0], "QTEST_QEMU_IMG names no program");
    rig->writer = sw_child_new(argv, NULL, &why);
    SW_CHECK(rig->writer, "%s", why);
}

void sw_setup_export(SwRig *rig)
{
    g_autofree char *socket = g_strdup_printf("%s/export", rig->dir);

    sw_qmp_ok(rig->src->mon, "{ 'execute': 'nbd-server-start', 'arguments': {"
              " 'addr': { 'type': 'unix', 'data': { 'path': %s } } } }",
              socket);
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'block-export-add', 'arguments': {"
              " 'type': 'nbd', 'id': 'export', 'name': 'export',"
              " 'node-name': 'disk1', 'writable': true } }");
    start_writer(rig, socket);
    rig->victim = rig->disk[1];
    rig->victim_node = "disk1";
}

void sw_finish_export(SwRig *rig)
{
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'block-export-del', 'arguments': {"
              " 'id': 'export', 'mode': 'hard' } }");
    sw_event_wait(rig->src->mon, "BLOCK_EXPORT_DELETED", 0, NULL);
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'nbd-server-stop' }");
}

/* The destination, which has not begun, is not limited */
void sw_setup_group_limits(SwRig *rig)
{
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'qom-set', 'arguments': {"
              " 'path': '/objects/limits', 'property': 'limits', 'value': {"
              " 'iops-total': %d } } }", LIMIT_IOPS);
    sw_expect_requests_queued(rig);
}

void sw_setup_device_limits(SwRig *rig)
{
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'block_set_io_throttle',"
              " 'arguments': { 'id': '/machine/peripheral/dev0/virtio-backend',"
              " 'bps': 0, 'bps_rd': 0, 'bps_wr': 0, 'iops': %d,"
              " 'iops_rd': 0, 'iops_wr': 0 } }", LIMIT_IOPS);
    sw_expect_requests_queued(rig);
}
