/*
 * Pause what submits block requests in the background
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See include/block/background-pause.h.
 */

#include "qemu/osdep.h"
#include "block/background-pause.h"
#include "block/block-global-state.h"
#include "qemu/job.h"
#include "qemu/main-loop.h"
#include "system/block-backend.h"
#include "trace.h"

struct BdrvBackgroundPause {
    GPtrArray *jobs;            /* of Job, with a reference each */
};

BdrvBackgroundPause *bdrv_background_pause(void)
{
    BdrvBackgroundPause *pause = g_new0(BdrvBackgroundPause, 1);
    BlockBackend *blk = NULL;
    unsigned exports = 0;
    Job *job = NULL;

    GLOBAL_STATE_CODE();

    pause->jobs = g_ptr_array_new();
    WITH_JOB_LOCK_GUARD() {
        while ((job = job_next_locked(job))) {
            if (!job_is_completed_locked(job)) {
                job_ref_locked(job);
                job_pause_locked(job);
                g_ptr_array_add(pause->jobs, job);
            }
        }
    }
    while ((blk = blk_all_next(blk))) {
        if (blk_is_exported(blk)) {
            blk_hold_begin(blk);
            exports++;
        }
    }
    trace_bdrv_background_pause(pause->jobs->len, exports);
    return pause;
}

bool bdrv_background_busy(BdrvBackgroundPause *pause)
{
    GLOBAL_STATE_CODE();

    JOB_LOCK_GUARD();
    for (guint i = 0; i < pause->jobs->len; i++) {
        Job *job = pause->jobs->pdata[i];

        if (job->busy && !job_is_completed_locked(job)) {
            return true;
        }
    }
    return false;
}

void bdrv_background_resume(BdrvBackgroundPause *pause)
{
    BlockBackend *blk = NULL;

    GLOBAL_STATE_CODE();

    trace_bdrv_background_resume();

    WITH_JOB_LOCK_GUARD() {
        for (guint i = 0; i < pause->jobs->len; i++) {
            job_resume_locked(pause->jobs->pdata[i]);
            job_unref_locked(pause->jobs->pdata[i]);
        }
    }
    /* Those that went away in the meantime are not missed */
    while ((blk = blk_all_next(blk))) {
        blk_hold_end(blk);
    }
    g_ptr_array_free(pause->jobs, true);
    g_free(pause);
}
