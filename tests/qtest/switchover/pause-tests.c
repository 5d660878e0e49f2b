/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: post-copy that is paused while nobody reads
 *
 * The destination is stopped while the source sends it a page that it asked
 * for, on the channel for these pages.  With migrate-pause that comes to an
 * end, and when the destination is continued it is recovered.
 *
 * A page has to be larger than what a socket takes for somebody who does not
 * read, so it is a huge one; skipped where there are not enough of them (echo
 * 300 >/proc/sys/vm/nr_hugepages).
 *
 * What failing looks like, on unpatched QEMU: the return path's thread is stuck
 * in sendmsg(2) with the lock that the migration thread needs to see that the
 * main channel was shut down: "waited 10000 ms for migrate-pause to take
 * effect".
 */

#include "qemu/osdep.h"
#include <sys/syscall.h>
#include "switchover/disk-config.h"
#include "switchover/expect.h"
#include "switchover/harness.h"
#include "switchover/iterations-tests.h"

/* Two guests' memory, of sw_guest_args() */
#define GUEST_MIB 256
#define HUGE_MIB 2
#define HUGE_PAGES "/sys/kernel/mm/hugepages/hugepages-2048kB"

/* So little that it takes the main channel far longer than STUCK_MS to fill */
#define CRAWL_BANDWIDTH 65536
#define STUCK_MS 300

#define PAUSE_WAIT_MS (10000 * sw_patience())

static char *huge_memory(SwRig *rig)
{
    return g_strdup_printf("-object memory-backend-memfd,id=mem,size=%dM,"
                           "hugetlb=on,hugetlbsize=%dM", GUEST_MIB, HUGE_MIB);
}

static bool there_are_huge_pages(void)
{
    g_autofree char *text = NULL;

    return g_file_get_contents(HUGE_PAGES "/free_hugepages", &text, NULL,
                               NULL) &&
           atoi(text) >= 2 * GUEST_MIB / HUGE_MIB;
}

static bool is_stuck(SwVM *vm)
{
    int64_t start_us = sw_now_us();

    while (sw_vm_count_in_call(vm, SYS_sendmsg)) {
        if (sw_since_ms(start_us) >= STUCK_MS) {
            return true;
        }
        g_usleep(2000);
    }
    return false;
}

/* The destination stops when it has asked for a page, and not got all of it */
static bool freeze_with_request(void *opaque)
{
    SwRig *rig = opaque;

    sw_vm_freeze(rig->dst);
    if (is_stuck(rig->src)) {
        return true;
    }
    sw_vm_thaw(rig->dst);
    return false;
}

static bool is_paused(void *opaque)
{
    SwVM *vm = opaque;

    return sw_status_seen(vm->mon, "postcopy-paused");
}

static void pause_source(SwRig *rig)
{
    int64_t asked_us = sw_now_us();

    sw_qmp_ok(rig->src->mon, "{ 'exec-oob': 'migrate-pause' }");
    sw_wait_until(is_paused, rig->src, PAUSE_WAIT_MS,
                  "migrate-pause to take effect");
    g_test_message("paused after %d ms", (int)sw_since_ms(asked_us));
}

static void end_paused(SwRig *rig)
{
    sw_vm_set_parameter(rig->src, "max-postcopy-bandwidth", CRAWL_BANDWIDTH);
    sw_rig_migrate(rig);
    sw_status_wait(rig->src->mon, "postcopy-active");
    sw_vm_wait_state(rig->dst, "running");
    sw_wait_until(freeze_with_request, rig, SW_WAIT_MS,
                  "a page to be on its way");
    pause_source(rig);
    sw_probe_expect_answers(rig->src->probe);

    sw_vm_thaw(rig->dst);
    sw_status_wait(rig->dst->mon, "postcopy-paused");
    sw_vm_set_parameter(rig->src, "max-postcopy-bandwidth", 0);
    sw_rig_listen_again(rig);
    sw_rig_resume(rig);
    sw_expect_completed(rig);
}

static const SwCase paused = {
    .path = "pause/preempt",
    .full = true,
    .healthy = true,
    .device = &sw_virtio_blk,
    .driver = &sw_nbd,
    .kind = SW_KIND_ANY,
    .dirty_mib_per_s = 50,
    .dirty_mib = 32,
    .off = true,
    .machine = "q35,memory-backend=mem",
    .more_args = huge_memory,
    .postcopy = true,
    .capabilities = { "postcopy-preempt" },
    .end = end_paused,
};

static void test_case(const void *opaque)
{
    SwRig *rig;

    if (!there_are_huge_pages()) {
        g_test_skip("there are not enough huge pages");
        return;
    }
    rig = sw_rig_new(opaque);
    if (rig) {
        rig->c->end(rig);
        sw_rig_free(rig);
    }
}

void sw_add_pause_tests(void)
{
    sw_add_case(SW_ITERATIONS_SUITE, &paused, test_case);
}
