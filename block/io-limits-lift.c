/*
 * Lift I/O limits for a while
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A drained section lifts the limits of everything within it, but it parks new
 * requests, too.  Who wants what is queued to come to an end without parking
 * anything needs this.  The counters and the restart of the queues are the same
 * as in blk_root_drained_begin() and in the throttle filter.
 */

#include "qemu/osdep.h"
#include "block/block_int.h"
#include "block/throttle-groups.h"
#include "block/timed-drain.h"
#include "qemu/main-loop.h"
#include "system/block-backend.h"
#include "trace.h"

struct BdrvIoLimitsLift {
    GPtrArray *blks;            /* of BlockBackend, with a reference each */
    GPtrArray *nodes;           /* of BlockDriverState, likewise */
};

static void limits_lift(ThrottleGroupMember *tgm)
{
    if (qatomic_fetch_inc(&tgm->io_limits_disabled) == 0) {
        throttle_group_restart_tgm(tgm);
    }
}

static void limits_restore(ThrottleGroupMember *tgm)
{
    unsigned int before = qatomic_fetch_dec(&tgm->io_limits_disabled);

    assert(before);
}

static ThrottleGroupMember *limits_of_blk(BlockBackend *blk)
{
    return &blk_get_public(blk)->throttle_group_member;
}

BdrvIoLimitsLift *bdrv_io_limits_lift(void)
{
    BdrvIoLimitsLift *lift = g_new0(BdrvIoLimitsLift, 1);
    BlockDriver *throttle = bdrv_find_format("throttle");
    BlockDriverState *bs = NULL;
    BlockBackend *blk = NULL;

    GLOBAL_STATE_CODE();

    lift->blks = g_ptr_array_new();
    lift->nodes = g_ptr_array_new();

    while ((blk = blk_all_next(blk))) {
        if (blk_get_attached_dev(blk)) {
            blk_ref(blk);
            g_ptr_array_add(lift->blks, blk);
        }
    }
    while ((bs = bdrv_next_all_states(bs))) {
        if (throttle && bs->drv == throttle) {
            bdrv_ref(bs);
            g_ptr_array_add(lift->nodes, bs);
        }
    }

    /* Only now: a queue that is restarted may run coroutines */
    for (guint i = 0; i < lift->blks->len; i++) {
        limits_lift(limits_of_blk(lift->blks->pdata[i]));
    }
    for (guint i = 0; i < lift->nodes->len; i++) {
        limits_lift(((BlockDriverState *)lift->nodes->pdata[i])->opaque);
    }

    trace_bdrv_io_limits_lift(lift->blks->len, lift->nodes->len);
    return lift;
}

void bdrv_io_limits_restore(BdrvIoLimitsLift *lift)
{
    GLOBAL_STATE_CODE();

    trace_bdrv_io_limits_restore();

    for (guint i = 0; i < lift->blks->len; i++) {
        BlockBackend *blk = lift->blks->pdata[i];

        limits_restore(limits_of_blk(blk));
        blk_unref(blk);
    }
    for (guint i = 0; i < lift->nodes->len; i++) {
        BlockDriverState *bs = lift->nodes->pdata[i];

        limits_restore(bs->opaque);
        bdrv_unref(bs);
    }
    g_ptr_array_free(lift->blks, true);
    g_ptr_array_free(lift->nodes, true);
    g_free(lift);
}
