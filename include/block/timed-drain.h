/*
 * Timed drain: bring all block nodes to rest, but not at any price
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * bdrv_drain_all() and bdrv_flush_all() return when the slowest disk does,
 * and hold the BQL until then.  The functions here start the same work,
 * tell whether it is done, and can be told to leave it: when and how long to
 * wait is the caller's decision, and the caller may do so without the BQL.
 *
 * A drained section that is waited for looks like this:
 *
 *     bdrv_timed_drain_begin(yield, opaque);
 *     while (bdrv_timed_drain_busy()) {
 *         if (too late) {
 *             ... bdrv_inflight_requests() says what is stuck
 *             bdrv_timed_drain_end();
 *             return -ETIMEDOUT;
 *         }
 *         ... sleep without the BQL until the BdrvTimedDrainWaiter calls back
 *     }
 *     ... all nodes are at rest, and stay there until
 *     bdrv_timed_drain_end();
 *
 * A section has to be ended no matter whether its nodes ever came to rest:
 * a timeout is not an end.  While it lasts, devices which poll their queues
 * through an AioContext leave new guest requests there.  Other devices
 * submit them, and their BlockBackend parks them.
 *
 * Two things follow for those who sleep within a section.
 *
 * First, parked requests are in no virtqueue and in no device state: who is
 * going to save the state must not proceed while there are any.
 *
 * Second, code which waits for its own request within a section waits for
 * the section's end.  A vCPU may do that (pflash, resetting an IDE device), and
 * it does so with the BQL, without which the sleeper cannot end the section.
 * So do not sleep within a section while vCPUs run; and while they are paused
 * let a timer in the main AioContext end it after a short time, because a
 * monitor command may do the same.
 *
 * None of this does anything while record/replay is active: replay orders
 * block requests itself, and waiting for them could take for ever.
 */

#ifndef BLOCK_TIMED_DRAIN_H
#define BLOCK_TIMED_DRAIN_H

#include "block/block-common.h"
#include "qapi/qapi-types-switchover.h"
#include "qemu/notify.h"

/*
 * Wakes up someone who waits for a drained section or for a flush.
 * @wake runs in the main AioContext with the BQL held, every time that the
 * answer of bdrv_timed_drain_busy() or bdrv_timed_flush_done() may have
 * changed.  It must not wait for anything.  It may delete its own waiter, but
 * no other.
 */
typedef struct BdrvTimedDrainWaiter {
    Notifier notifier;
    void (*wake)(void *opaque);
    void *opaque;
} BdrvTimedDrainWaiter;

/*
 * Global state (GS) API: the BQL is held.  The caller is the main loop
 * thread or any other thread which has taken the BQL, but not a coroutine.
 */

/*
 * Register @waiter until bdrv_timed_drain_waiter_del().  A change between
 * adding the waiter and the next look at a condition is never missed; a
 * change before that may be.
 */
void bdrv_timed_drain_waiter_add(BdrvTimedDrainWaiter *waiter,
                                 void (*wake)(void *opaque), void *opaque);
void bdrv_timed_drain_waiter_del(BdrvTimedDrainWaiter *waiter);

/*
 * Begin a drained section on all nodes.  Does not wait for them.
 *
 * @yield is called, with the BQL held, for who cannot go on within a section
 * while its owner sleeps.  It has to end the section.
 */
void bdrv_timed_drain_begin(void (*yield)(void *opaque), void *opaque);

/* End it again; what was held back goes on.  Does not wait either. */
void bdrv_timed_drain_end(void);

/*
 * May there be such a section?  Any thread.  If a node is drained and this is
 * false, somebody waits for its requests within another section.
 */
bool bdrv_timed_drain_in_force(void);

/* Have the section ended, if there is one. */
void bdrv_timed_drain_yield(void);

/* Is anything in flight?  To be asked within a drained section only. */
bool bdrv_timed_drain_busy(void);

/*
 * Are any requests parked until the end of the section?  Those of exports do
 * not count: they are not the guest's.
 */
bool bdrv_timed_drain_held_back(void);

/*
 * Is any request of anybody in flight?  May be asked outside of a drained
 * section, too.  Parked requests are not in flight; a job that is about to
 * submit the next one, or a device that has fetched it, is not seen.
 */
bool bdrv_timed_drain_in_flight(void);

/*
 * Has a guest device submitted requests that are not completed?  May be asked
 * outside of a drained section, too.  A virtio device that fetched a request in
 * an IOThread may not have submitted it yet.
 */
bool bdrv_timed_drain_guest_busy(void);

/*
 * Lift the I/O limits of all guest devices, and of all throttle nodes, until
 * bdrv_io_limits_restore().  Requests that wait for their turn go on at once.
 * May be nested.  Takes references: what is removed in the meantime goes away
 * when the limits are restored.
 */
typedef struct BdrvIoLimitsLift BdrvIoLimitsLift;
BdrvIoLimitsLift *bdrv_io_limits_lift(void);

/* Frees @lift. */
void bdrv_io_limits_restore(BdrvIoLimitsLift *lift);

/*
 * The requests in flight, oldest first, at most @max of them; @omitted is
 * set to the number of the others, so that @max == 0 counts them.  A request
 * that a node has merely passed on unchanged to its child is listed once, for
 * the child.  Within a drained section, a node that is busy for another reason
 * than a request is listed with the kind "other".
 */
InflightRequestList *bdrv_inflight_requests(unsigned max, uint32_t *omitted);

/* Does any request go back to @time_ns (get_clock()) or before? */
bool bdrv_has_request_since(int64_t time_ns);

typedef struct BdrvTimedFlush BdrvTimedFlush;

/*
 * Flush what bdrv_flush_all() flushes, all nodes at the same time.  Does not
 * wait.  The result belongs to the caller until bdrv_timed_flush_release().
 */
BdrvTimedFlush *bdrv_timed_flush_start(void);

/*
 * Has every node been flushed?  If so, *@ret is 0, or the first error as a
 * negative errno of the host.
 */
bool bdrv_timed_flush_done(BdrvTimedFlush *flush, int *ret);

/*
 * Give up interest in @flush.  Requests cannot be recalled: what is in
 * flight goes on by itself.  If one of them fails, or has failed already
 * while others are in flight, data may be lost although nobody waits for the
 * result any more and a repeated flush succeeds.
 * bdrv_timed_flush_take_late_error() returns the error, once.
 */
void bdrv_timed_flush_release(BdrvTimedFlush *flush);

/*
 * Is any node still being flushed for a flush that was released?  Another one
 * would only queue up behind it.
 */
bool bdrv_timed_flush_left_behind(void);

/* 0, or the negative errno of a released flush. */
int bdrv_timed_flush_take_late_error(void);

/* Let the next caller of the above have the error @ret of another flush. */
void bdrv_timed_flush_put_late_error(int ret);

/*
 * The name of @dev in messages: the ID which the user gave to it, or to the
 * device that it is a part of; or else its QOM path.
 */
char *bdrv_timed_drain_device_name(DeviceState *dev);

#endif /* BLOCK_TIMED_DRAIN_H */
