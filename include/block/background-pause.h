/*
 * Pause what submits block requests in the background
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Jobs and exports go on submitting requests while a guest is held or stopped.
 * A drained section would pause them, and everything else.  This pauses them
 * alone: jobs as job_pause() does, so that they show the status "paused" or
 * "standby"; exports by way of their BlockBackend, which parks requests.  A
 * drained section that begins in the meantime lets parked requests go, in order
 * to wait for them.
 *
 * Code which waits for a job to complete, or for an export to go away, with the
 * BQL held (nbd-server-stop, for example) waits for the end of the pause.  So
 * there has to be a timer in the main AioContext that ends it.
 */

#ifndef BLOCK_BACKGROUND_PAUSE_H
#define BLOCK_BACKGROUND_PAUSE_H

typedef struct BdrvBackgroundPause BdrvBackgroundPause;

/*
 * Global state (GS) API: the BQL is held.  The caller is the main loop
 * thread or any other thread which has taken the BQL, but not a coroutine.
 */

/*
 * Pause all jobs and exports that there are now, until
 * bdrv_background_resume().  Does not wait.  There can be one pause at a time.
 */
BdrvBackgroundPause *bdrv_background_pause(void);

/* Is any of the jobs still on its way to a pause point? */
bool bdrv_background_busy(BdrvBackgroundPause *pause);

/* End the pause and free @pause. */
void bdrv_background_resume(BdrvBackgroundPause *pause);

#endif /* BLOCK_BACKGROUND_PAUSE_H */
