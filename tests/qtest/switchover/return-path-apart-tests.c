/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: what the two channels of a migration have in common:
 * nothing
 *
 * The main channel stands still in post-copy, with its buffers full, and the
 * guest gets what it asks for all the same.
 *
 * A page that lies in those buffers cannot be asked for: to the source, it is
 * sent.  So there is memory that QEMU sends first, since it is the biggest
 * block, and that the guest does not use.  Whatever the guest misses has to
 * come by the link, then.
 *
 * What failing looks like: the guest's heartbeat, or its verification of its
 * memory, is waited for in vain.  That is what the second case wants to see,
 * where there is one connection for all.
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "switchover/expect.h"
#include "switchover/harness.h"
#include "switchover/postcopy-hold.h"
#include "switchover/return-path-tests.h"

/* More than the guest's own memory */
#define BALLAST_MIB 384
#define BALLAST_ADDR (4 * GiB)

/* Some of the pages that the guest works on, and verifies */
#define REQUESTS 1000

/* A guest that runs is never silent for so long, nor stays alive by accident */
#define SILENCE_MS 2000
#define ALIVE_BEATS 200

static char *add_ballast(SwRig *rig)
{
    return g_strdup_printf("-m slots=1,maxmem=2G "
                           "-object memory-backend-ram,id=ballast,size=%uM "
                           "-device pc-dimm,memdev=ballast,addr=0x%" PRIx64,
                           BALLAST_MIB, (uint64_t)BALLAST_ADDR);
}

/* Pages of zeros are no load */
static void fill_ballast(SwRig *rig)
{
    qtest_memset(rig->src->qts, BALLAST_ADDR, 0x5a, BALLAST_MIB * MiB);
}

/* Returns how many bytes came that way before */
static uint64_t stall_main(SwRig *rig)
{
    sw_proxy_stall(rig->proxy, SW_TO_DESTINATION);
    sw_hold_unlimit(rig);
    sw_link_wait_still(rig->proxy, sw_proxy_untaken,
                       "the main channel's buffers to be full");
    return sw_proxy_passed(rig->proxy, SW_TO_DESTINATION);
}

static void end_apart(SwRig *rig)
{
    int64_t requests;
    uint64_t passed;

    sw_link_enter_postcopy(rig);
    requests = sw_hold_requests(rig);
    passed = stall_main(rig);
    sw_guest_wait_beats(rig->dst->guest, ALIVE_BEATS);
    sw_expect_guest_working(rig->dst->guest);
    g_assert_cmpint(sw_hold_requests(rig), >=, requests + REQUESTS);
    g_assert_cmpuint(sw_proxy_passed(rig->proxy, SW_TO_DESTINATION), ==,
                     passed);
    sw_proxy_let_go(rig->proxy);
    sw_expect_completed(rig);
}

/* What it is good for: without the channel, pages wait for what is stalled */
static void end_together(SwRig *rig)
{
    sw_link_enter_postcopy(rig);
    stall_main(rig);
    sw_guest_wait_silence(rig->dst->guest, SILENCE_MS);
    sw_proxy_let_go(rig->proxy);
    sw_expect_completed(rig);
}

/* Requests have no other way than the link, although the main one is free */
static void end_no_requests(SwRig *rig)
{
    sw_link_enter_postcopy(rig);
    sw_proxy_stall(rig->link_proxy, SW_TO_SOURCE);
    sw_guest_wait_silence(rig->dst->guest, SILENCE_MS);
    sw_proxy_let_go(rig->link_proxy);
    sw_hold_unlimit(rig);
    sw_expect_completed(rig);
}

/* With one vCPU, a page that does not come is the whole guest's silence */
#define BALLASTED                               \
    .proxied = true,                            \
    .cpus = 1,                                  \
    .more_args = add_ballast,                   \
    .setup = fill_ballast

static const SwCase cases[] = {
    {
        .path = "apart/main-stalled",
        POSTCOPY,
        BALLASTED,
        .end = end_apart,
    }, {
        .path = "apart/without",
        GUEST,
        .postcopy = true,
        BALLASTED,
        .end = end_together,
    }, {
        .path = "apart/requests-stalled",
        .full = true,
        POSTCOPY,
        BALLASTED,
        .end = end_no_requests,
    },
};

void sw_add_return_path_apart_tests(void)
{
    sw_link_add_cases(cases, ARRAY_SIZE(cases));
}
