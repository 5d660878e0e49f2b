/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest testcase for switchovers that meet a disk which does not answer
 *
 * A guest under TCG works on a disk; the disk hangs; the guest is migrated.
 * With drain-timeout set the guest must go on, on the source, until the disk
 * is back or the migration is given up, and the monitor must answer all the
 * time.
 *
 * What failing looks like.  Where this comment says "freezes", the guest is
 * silent and no monitor answers from the first attempt at the switchover until
 * the disk answers, here for more than 2 s of 3.  To see it, run with
 * SWITCHOVER_TEST_STOCK=1 on any QEMU: drain-timeout stays unset, and every
 * fault case ends in "the guest was stopped for N ms" or "the monitor took N
 * ms to answer".  Without that variable, QEMU that does not know drain-timeout
 * fails at setting it.
 *
 * Environment: QTEST_QEMU_BINARY; SWITCHOVER_GUEST, where the guest's kernel
 * and initramfs are; QTEST_QEMU_IMG; QTEST_QEMU_STORAGE_DAEMON_BINARY.
 * Cases whose needs are not met are skipped and say why.
 *
 * -m slow adds the full set.
 */

#include "qemu/osdep.h"
#include <sched.h>
#include <sys/mount.h>
#include "switchover/harness.h"
#include "switchover/connect-tests.h"
#include "switchover/input-tests.h"
#include "switchover/proxy-tests.h"
#include "switchover/expect.h"
#include "switchover/scenario.h"

#define SUITE "switchover"

/*
 * Every way to end, on the device and driver most in use.  Unpatched QEMU
 * freezes in each; what it lacks besides is said where that is something else.
 */
static const SwCase scenarios[] = {
    {
        .path = "fail/request",
        .device = &sw_virtio_blk,
        .driver = &sw_nbd,
        .kind = SW_KIND_WRITE,
        .action = "fail",
        .end = sw_end_fails,
    }, {
        .path = "fail/idle",
        .full = true,
        .device = &sw_virtio_blk,
        .driver = &sw_nbd,
        .kind = SW_KIND_WRITE,
        .idle = true,
        .action = "fail",
        .end = sw_end_fails,
    }, {
        .path = "fail/virtio-scsi-iothread",
        .full = true,
        .device = &sw_virtio_scsi_iothread,
        .driver = &sw_nbd,
        .kind = SW_KIND_ANY,
        .action = "fail",
        .end = sw_end_fails,
    }, {
        /* No request of the guest: bdrv_flush_all() of the stop hangs */
        .path = "retry/idle/nbd",
        .device = &sw_virtio_blk,
        .driver = &sw_nbd,
        .kind = SW_KIND_WRITE,
        .idle = true,
        .end = sw_end_completes,
    }, {
        /* As above, and qcow2 has metadata to write with it */
        .path = "retry/idle/qcow2",
        .full = true,
        .device = &sw_virtio_blk,
        .driver = &sw_qcow2_nbd,
        .kind = SW_KIND_WRITE,
        .idle = true,
        .end = sw_end_completes,
    }, {
        .path = "retry/repeated/growing",
        .device = &sw_virtio_blk_iothread,
        .driver = &sw_nbd,
        .kind = SW_KIND_ANY,
        .timeouts = 3,
        .end = sw_end_completes,
    }, {
        .path = "retry/repeated/early",
        .full = true,
        .device = &sw_virtio_blk,
        .driver = &sw_nbd,
        .kind = SW_KIND_ANY,
        .timeouts = 6,
        .end = sw_end_completes_early,
    }, {
        .path = "retry/two-disks/virtio-blk",
        .device = &sw_virtio_blk,
        .driver = &sw_nbd,
        .kind = SW_KIND_ANY,
        .disks = 2,
        .guest_disks = 2,
        .end = sw_end_completes,
    }, {
        .path = "retry/two-disks/virtio-scsi-iothread",
        .full = true,
        .device = &sw_virtio_scsi_iothread,
        .driver = &sw_nbd,
        .kind = SW_KIND_ANY,
        .disks = 2,
        .guest_disks = 2,
        .end = sw_end_completes,
    }, {
        /* Unpatched: migrate_cancel is not even read */
        .path = "cancel/waiting/request",
        .device = &sw_virtio_blk,
        .driver = &sw_nbd,
        .kind = SW_KIND_WRITE,
        .drain_timeout_ms = 30000,
        .end = sw_end_cancelled_waiting,
    }, {
        .path = "cancel/waiting/idle",
        .full = true,
        .device = &sw_virtio_blk,
        .driver = &sw_nbd,
        .kind = SW_KIND_WRITE,
        .idle = true,
        .drain_timeout_ms = 30000,
        .end = sw_end_cancelled_waiting,
    }, {
        .path = "cancel/waiting/iothread",
        .full = true,
        .device = &sw_virtio_blk_iothread,
        .driver = &sw_nbd,
        .kind = SW_KIND_ANY,
        .drain_timeout_ms = 30000,
        .end = sw_end_cancelled_waiting,
    }, {
        .path = "cancel/waiting/virtio-scsi",
        .full = true,
        .device = &sw_virtio_scsi,
        .driver = &sw_nbd,
        .kind = SW_KIND_ANY,
        .drain_timeout_ms = 30000,
        .end = sw_end_cancelled_waiting,
    }, {
        .path = "cancel/waiting/ide",
        .full = true,
        .device = &sw_ide,
        .driver = &sw_nbd,
        .kind = SW_KIND_ANY,
        .drain_timeout_ms = 30000,
        .end = sw_end_cancelled_waiting,
    }, {
        .path = "cancel/between",
        .full = true,
        .device = &sw_virtio_blk,
        .driver = &sw_nbd,
        .kind = SW_KIND_ANY,
        .timeouts = 2,
        .end = sw_end_cancelled_between,
    }, {
        /* Unpatched: nobody notices before the disk answers */
        .path = "destination-dies/waiting",
        .device = &sw_virtio_blk,
        .driver = &sw_nbd,
        .kind = SW_KIND_WRITE,
        .drain_timeout_ms = 5000,
        .end = sw_end_destination_dies,
    }, {
        .path = "destination-dies/between",
        .full = true,
        .device = &sw_virtio_blk,
        .driver = &sw_nbd,
        .kind = SW_KIND_ANY,
        .timeouts = 2,
        .end = sw_end_destination_dies_between,
    }, {
        /* Unpatched: only the monitor freezes, nothing else runs */
        .path = "paused/retry",
        .device = &sw_virtio_blk,
        .driver = &sw_nbd,
        .kind = SW_KIND_READ,
        .source_paused = true,
        .timeouts = 2,
        .end = sw_end_completes,
    }, {
        .path = "paused/fail",
        .full = true,
        .device = &sw_virtio_blk,
        .driver = &sw_nbd,
        .kind = SW_KIND_READ,
        .source_paused = true,
        .action = "fail",
        .end = sw_end_fails,
    }, {
        .path = "postcopy/retry",
        .device = &sw_virtio_blk,
        .driver = &sw_nbd,
        .kind = SW_KIND_WRITE,
        .postcopy = true,
        .timeouts = 2,
        .end = sw_end_completes,
    }, {
        .path = "postcopy/iothread",
        .full = true,
        .device = &sw_virtio_blk_iothread,
        .driver = &sw_nbd,
        .kind = SW_KIND_ANY,
        .postcopy = true,
        .end = sw_end_completes,
    }, {
        .path = "postcopy/fail",
        .full = true,
        .device = &sw_virtio_blk,
        .driver = &sw_nbd,
        .kind = SW_KIND_WRITE,
        .postcopy = true,
        .action = "fail",
        .end = sw_end_fails,
    }, {
        .path = "postcopy/cancel",
        .full = true,
        .device = &sw_virtio_blk,
        .driver = &sw_nbd,
        .kind = SW_KIND_WRITE,
        .postcopy = true,
        .drain_timeout_ms = 30000,
        .end = sw_end_cancelled_waiting,
    }, {
        /* As the management layer most in use goes about it */
        .path = "libvirt/retry",
        .device = &sw_virtio_blk,
        .driver = &sw_nbd,
        .kind = SW_KIND_ANY,
        .libvirt = true,
        .timeouts = 2,
        .end = sw_end_completes,
    }, {
        .path = "libvirt/postcopy",
        .full = true,
        .device = &sw_virtio_blk,
        .driver = &sw_nbd,
        .kind = SW_KIND_ANY,
        .libvirt = true,
        .postcopy = true,
        .end = sw_end_completes,
    }, {
        .path = "libvirt/fail",
        .full = true,
        .device = &sw_virtio_blk,
        .driver = &sw_nbd,
        .kind = SW_KIND_ANY,
        .libvirt = true,
        .action = "fail",
        .end = sw_end_fails,
    }, {
        /* The guest's disk is well; what its mirror writes to is not */
        .path = "mirror/main-loop",
        .device = &sw_virtio_blk,
        .driver = &sw_nbd,
        .kind = SW_KIND_WRITE,
        .pause_before_switchover = true,
        .setup = sw_setup_mirror,
        .at_pre_switchover = sw_finish_mirror,
        .end = sw_end_completes,
    }, {
        .path = "mirror/iothread",
        .full = true,
        .device = &sw_virtio_blk_iothread,
        .driver = &sw_nbd,
        .kind = SW_KIND_WRITE,
        .pause_before_switchover = true,
        .setup = sw_setup_mirror,
        .at_pre_switchover = sw_finish_mirror,
        .end = sw_end_completes,
    }, {
        /* The guest's disk is well; somebody else's requests are stuck */
        .path = "export",
        .device = &sw_virtio_blk,
        .driver = &sw_nbd,
        .kind = SW_KIND_WRITE,
        .disks = 2,
        .pause_before_switchover = true,
        .setup = sw_setup_export,
        .at_pre_switchover = sw_finish_export,
        .end = sw_end_completes,
    }, {
        /*
         * Unpatched: completes.  With drain-timeout, but without
         * bdrv_io_limits_lift(): MIGRATION_DRAIN_TIMEOUT, as four requests
         * take 2 s.
         */
        .path = "limits/group",
        .healthy = true,
        .drain_timeout_ms = 1000,
        .device = &sw_virtio_blk_iothread,
        .driver = &sw_nbd_throttled,
        .kind = SW_KIND_WRITE,
        .setup = sw_setup_group_limits,
        .end = sw_end_completes_at_once,
    }, {
        /*
         * If the lift of limits is not ended: QEMU dies by SIGABRT when it
         * closes all nodes, as all_bdrv_states is not empty.
         */
        .path = "limits/quit",
        .drain_timeout_ms = 60000,
        .device = &sw_virtio_blk_iothread,
        .driver = &sw_nbd_throttled,
        .kind = SW_KIND_WRITE,
        .end = sw_end_quits_waiting,
    }, {
        /* As limits/group */
        .path = "limits/device",
        .full = true,
        .healthy = true,
        .drain_timeout_ms = 1000,
        .device = &sw_virtio_blk,
        .driver = &sw_nbd,
        .kind = SW_KIND_WRITE,
        .setup = sw_setup_device_limits,
        .end = sw_end_completes_at_once,
    }, {
        /* Unpatched: the monitor freezes.  The IOThread is what waits. */
        .path = "pre-switchover/fail",
        .healthy = true,
        .device = &sw_virtio_blk_iothread,
        .driver = &sw_nbd,
        .kind = SW_KIND_READ,
        .pause_before_switchover = true,
        .end = sw_end_fails_after_pre_switchover,
    },
};

/*
 * Devices, drivers and kinds of request: all end in a migration that completes
 * by itself once the disk is back.  The smoke set is the diagonal: each device,
 * driver and kind at least once.
 */
static const struct {
    const SwDevice *device;
    const SwDriver *driver;
    SwKind kind;
} diagonal[] = {
    { &sw_virtio_blk, &sw_nbd, SW_KIND_FLUSH },
    { &sw_virtio_blk_vq_mapping, &sw_nbd, SW_KIND_READ },
    { &sw_virtio_blk_no_ioeventfd, &sw_nbd, SW_KIND_WRITE },
    { &sw_virtio_scsi, &sw_nbd, SW_KIND_DISCARD },
    { &sw_virtio_scsi_iothread, &sw_qcow2_nbd, SW_KIND_WRITE },
    { &sw_ide, &sw_nbd, SW_KIND_READ },
    { &sw_ahci, &sw_nbd, SW_KIND_FLUSH },
    { &sw_virtio_blk, &sw_file_threads, SW_KIND_WRITE },
    { &sw_virtio_blk_iothread, &sw_file_native, SW_KIND_READ },
    { &sw_virtio_blk, &sw_qcow2_io_uring, SW_KIND_WRITE },
};

/* The full set crosses every device with NBD, and every driver with these */
static const SwDevice *const devices_on_every_driver[] = {
    &sw_virtio_blk, &sw_virtio_blk_iothread, &sw_virtio_scsi_iothread, NULL
};

static void run_case(const void *opaque)
{
    const SwCase *c = opaque;
    SwRig *rig = sw_rig_new(c);

    if (!rig) {
        return;
    }
    if (!c->healthy) {
        sw_rig_stick(rig);
    }
    sw_rig_migrate(rig);
    if (sw_stock_mode() && !c->healthy) {
        sw_expect_alive(rig);
    }
    c->end(rig);
    sw_rig_free(rig);
}

static bool on_diagonal(const SwCase *c)
{
    int i;

    for (i = 0; i < ARRAY_SIZE(diagonal); i++) {
        if (diagonal[i].device == c->device &&
            diagonal[i].driver == c->driver && diagonal[i].kind == c->kind) {
            return true;
        }
    }
    return false;
}

/* Cases made here live as long as the program */
static void add_matrix_case(const SwDevice *device, const SwDriver *driver,
                            SwKind kind)
{
    static GPtrArray *made;
    SwCase *c = g_new0(SwCase, 1);

    if (!made) {
        made = g_ptr_array_new();
    }
    g_ptr_array_add(made, c);
    c->path = g_strdup_printf("retry/%s/%s/%s", device->name, driver->name,
                              sw_kind_str(kind));
    c->device = device;
    c->driver = driver;
    c->kind = kind;
    c->full = !on_diagonal(c);
    c->end = sw_end_completes;
    sw_add_case(SUITE, c, run_case);
}

static void add_matrix(const SwDevice *const *devices,
                       const SwDriver *const *drivers)
{
    const SwDriver *const *driver;
    SwKind kind;

    for (; *devices; devices++) {
        for (driver = drivers; *driver; driver++) {
            for (kind = SW_KIND_READ; kind < SW_KIND__MAX; kind++) {
                add_matrix_case(*devices, *driver, kind);
            }
        }
    }
}

/*
 * FUSE mounts end with the program, whatever it ends of.  Where that is not
 * allowed, they are removed one by one.
 */
static void keep_mounts_private(void)
{
    if (unshare(CLONE_NEWNS) == 0) {
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
    }
}

int main(int argc, char **argv)
{
    static const SwDriver *const just_nbd[] = { &sw_nbd, NULL };
    int i;

    keep_mounts_private();
    g_test_init(&argc, &argv, NULL);

    sw_add_proxy_tests();
    sw_add_connect_tests();
    sw_add_input_tests();
    for (i = 0; i < ARRAY_SIZE(scenarios); i++) {
        sw_add_case(SUITE, &scenarios[i], run_case);
    }
    add_matrix(sw_devices, just_nbd);
    add_matrix(devices_on_every_driver, sw_drivers + 1);

    return g_test_run();
}
