/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: connections that break anywhere
 *
 * After a number of bytes that is random, one of the connections passes nothing
 * on, and when there would be something to pass on, it breaks, or the other one
 * does.  Other tests break them where it matters; this is for where nobody
 * thought that it would.
 *
 * Which numbers these are depends on the seed that is printed first ("random
 * seed"; give it by --seed to have the same again) and, since a guest is never
 * the same, on what each number is a share of.
 *
 * What failing looks like: the guest runs on both sides, or on none; or a side
 * waits for what cannot come; or the guest's memory is not what it wrote.
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "switchover/expect.h"
#include "switchover/harness.h"
#include "switchover/postcopy-hold.h"
#include "switchover/return-path-tests.h"

#define BREAKS 20

/* Of one side; the other one does not begin to run the guest so late */
#define SETTLED_BEATS 50

/* Devices, and what comes after them, are within the last bytes of a stream */
#define TAIL_BYTES (256 * KiB)

/*
 * The last message of the link: that the guest is there.  If that is lost, the
 * source runs it as well, which only post-copy that is held can exclude.
 */
#define LAST_MESSAGE_BYTES 8

/* About what of each direction there is in post-copy */
#define POSTCOPY_MAIN_BYTES (24 * MiB)
#define POSTCOPY_PAGES_BYTES (8 * MiB)
#define POSTCOPY_REQUESTS_BYTES (32 * KiB)

/* Where bytes are counted, how many there are altogether, and what breaks */
typedef struct Place {
    const char *what;
    bool link;
    SwDirection direction;
    bool breaks_link;
    uint64_t bytes;
} Place;

static SwProxy *proxy_of(SwRig *rig, const Place *place)
{
    return place->link ? rig->link_proxy : rig->proxy;
}

static uint64_t random_below(uint64_t limit)
{
    return g_test_rand_double() * limit;
}

static bool has_status(SwVM *vm, const char *status)
{
    return sw_status_seen(vm->mon, status);
}

static bool is_over(SwVM *vm)
{
    return has_status(vm, "completed") || has_status(vm, "failed");
}

typedef struct Breaking {
    SwRig *rig;
    const Place *place;
} Breaking;

/* There is something that is not passed on, or never will be */
static bool is_there(void *opaque)
{
    Breaking *b = opaque;

    return sw_proxy_kept(proxy_of(b->rig, b->place), b->place->direction) ||
           is_over(b->rig->src);
}

static void break_there(SwRig *rig, const Place *place)
{
    Breaking b = { rig, place };

    sw_wait_until(is_there, &b, SW_WAIT_MS, "the place to break it");
    sw_proxy_cut(place->breaks_link ? rig->link_proxy : rig->proxy);
    /* If it was not this one, the rest of it arrives */
    sw_proxy_let_go(proxy_of(rig, place));
}

static bool has_ended(void *opaque)
{
    SwRig *rig = opaque;

    return is_over(rig->src);
}

/* It runs on the source, which says so, or on the destination */
static void expect_one_runs(SwRig *rig)
{
    sw_wait_until(has_ended, rig, SW_WAIT_MS, "the source to be done with it");
    if (has_status(rig->src, "completed")) {
        sw_expect_completed(rig);
        return;
    }
    sw_guest_wait_beats(rig->src->guest, SETTLED_BEATS);
    sw_expect_working(rig);
    g_assert_false(sw_vm_in_state(rig->dst, "running"));
    SW_CHECK(sw_guest_beats(rig->dst->guest) == 0,
             "the guest runs on both sides");
}

/* How much there is without a break; false: skipped */
static bool measure(const SwCase *c, Place *place, unsigned n)
{
    SwRig *rig = sw_rig_new(c);

    if (!rig) {
        return false;
    }
    sw_rig_migrate(rig);
    sw_expect_completed(rig);
    for (; n; n--, place++) {
        place->bytes = sw_proxy_passed(proxy_of(rig, place), place->direction);
    }
    sw_rig_free(rig);
    return true;
}

static uint64_t choose_precopy(const Place *place, bool near_end)
{
    if (place->direction == SW_TO_SOURCE) {
        return random_below(place->bytes - LAST_MESSAGE_BYTES);
    }
    if (near_end && place->bytes > TAIL_BYTES) {
        return place->bytes - 1 - random_below(TAIL_BYTES);
    }
    return random_below(place->bytes);
}

static void break_precopy(const SwCase *c, const Place *place, uint64_t at)
{
    SwRig *rig = sw_rig_new(c);

    g_test_message("breaks %s after %" PRIu64 " of %" PRIu64 " bytes",
                   place->what, at, place->bytes);
    sw_proxy_withhold_after(proxy_of(rig, place), place->direction, at);
    sw_rig_migrate(rig);
    break_there(rig, place);
    expect_one_runs(rig);
    sw_rig_free(rig);
}

static void test_precopy(const void *opaque)
{
    const SwCase *c = opaque;
    Place places[] = {
        { "the main channel", false, SW_TO_DESTINATION, false },
        { "the link, by the main channel", false, SW_TO_DESTINATION, true },
        { "the link, by its hello", true, SW_TO_DESTINATION, true },
        { "the link, by its answer", true, SW_TO_SOURCE, true },
    };
    unsigned n;

    if (!measure(c, places, ARRAY_SIZE(places))) {
        return;
    }
    for (n = 0; n < BREAKS; n++) {
        /* The first two have most of what there is */
        const Place *place = &places[n % 5 < 4 ? n % 2 : 2 + n / 5 % 2];

        break_precopy(c, place, choose_precopy(place, n % 5 < 2));
    }
}

static bool is_paused_or_over(void *opaque)
{
    SwVM *vm = opaque;

    return has_status(vm, "postcopy-paused") || is_over(vm);
}

/*
 * Only a break at the very end comes too late, or so that the source does not
 * learn that the destination needs it no more.
 */
static bool expect_recovers(SwRig *rig)
{
    sw_wait_until(is_paused_or_over, rig->src, SW_WAIT_MS,
                  "the source to pause");
    if (has_status(rig->src, "completed")) {
        sw_expect_completed(rig);
        return false;
    }
    sw_wait_until(is_paused_or_over, rig->dst, SW_WAIT_MS,
                  "the destination to pause");
    if (has_status(rig->dst, "completed")) {
        sw_expect_guest_working(rig->dst->guest);
        g_assert_false(sw_vm_in_state(rig->src, "running"));
        return false;
    }
    sw_link_expect_paused(rig);
    sw_link_recover(rig);
    return true;
}

/* Returns whether it was in time */
static bool break_postcopy(SwRig *rig, const Place *place, uint64_t at)
{
    g_test_message("breaks %s after %" PRIu64 " of %" PRIu64 " bytes",
                   place->what, at, place->bytes);
    sw_link_enter_postcopy(rig);
    sw_proxy_withhold_after(proxy_of(rig, place), place->direction, at);
    break_there(rig, place);
    return expect_recovers(rig);
}

static void test_postcopy(const void *opaque)
{
    static const Place places[] = {
        { "the main channel", false, SW_TO_DESTINATION, false,
          POSTCOPY_MAIN_BYTES },
        { "the link, by the main channel", false, SW_TO_DESTINATION, true,
          POSTCOPY_MAIN_BYTES },
        { "the link, by pages", true, SW_TO_DESTINATION, true,
          POSTCOPY_PAGES_BYTES },
        { "the link, by requests", true, SW_TO_SOURCE, true,
          POSTCOPY_REQUESTS_BYTES },
    };
    unsigned n, broke = 0;

    for (n = 0; n < BREAKS; n++) {
        const Place *place = &places[n % ARRAY_SIZE(places)];
        SwRig *rig = sw_rig_new(opaque);

        if (!rig) {
            return;
        }
        broke += break_postcopy(rig, place, random_below(place->bytes));
        sw_rig_free(rig);
    }
    g_test_message("%u of %u were early enough", broke, BREAKS);
    g_assert_cmpuint(broke, >=, BREAKS / 2);
}

static const SwCase cases[] = {
    {
        .path = "break/pre-copy",
        .full = true,
        PRECOPY,
        .proxied = true,
        .dst_stays = true,
    }, {
        .path = "break/post-copy",
        .full = true,
        POSTCOPY,
        .proxied = true,
    },
};

void sw_add_return_path_break_tests(void)
{
    sw_add_case(SW_LINK_SUITE, &cases[0], test_precopy);
    sw_add_case(SW_LINK_SUITE, &cases[1], test_postcopy);
}
