/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: what the parts of iterations-test share
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "switchover/harness.h"
#include "switchover/iterations-rig.h"
#include "switchover/iterations-tests.h"
#include "switchover/scenario.h"

/* Something that has to stop changing */
typedef struct Stillness {
    SwRig *rig;
    int64_t (*look)(SwRig *rig);
    int64_t last;
    int64_t since_us;
} Stillness;

static bool is_still(void *opaque)
{
    Stillness *s = opaque;
    int64_t now = s->look(s->rig);

    if (now != s->last) {
        s->last = now;
        s->since_us = sw_now_us();
    }
    return sw_since_ms(s->since_us) >= SW_STILL_MS;
}

void sw_wait_still(SwRig *rig, int64_t (*look)(SwRig *), const char *what)
{
    Stillness s = { .rig = rig, .look = look, .last = -1 };

    sw_wait_until(is_still, &s, SW_WAIT_MS, what);
}

static int64_t transferred(SwRig *rig)
{
    QDict *info = sw_qmp(rig->src->mon, "{ 'execute': 'query-migrate' }");
    QDict *ram = qdict_get_qdict(info, "ram");
    int64_t bytes = ram ? qdict_get_int(ram, "transferred") : 0;

    qobject_unref(info);
    return bytes;
}

void sw_wait_blocked(SwRig *rig)
{
    sw_wait_still(rig, transferred, "the source to wait");
}

void sw_expect_unnoticed(SwRig *rig, int64_t from_us)
{
    int64_t gap_ms = sw_guest_worst_gap_ms(rig->src->guest, from_us,
                                           sw_now_us());

    SW_CHECK_SOON(gap_ms, SW_GAP_LIMIT_MS, "the guest's silence");
    sw_probe_expect_answers(rig->src->probe);
}

static void test_case(const void *opaque)
{
    SwRig *rig = sw_rig_new(opaque);

    if (rig) {
        rig->c->end(rig);
        sw_rig_free(rig);
    }
}

void sw_add_iterations_cases(const SwCase *cases, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        sw_add_case(SW_ITERATIONS_SUITE, &cases[i], test_case);
    }
}
