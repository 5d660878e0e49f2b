/*
 * Migration switchover: state shared by the phases
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_SWITCHOVER_INTERNAL_H
#define QEMU_MIGRATION_SWITCHOVER_INTERNAL_H

#include "block/background-pause.h"
#include "block/timed-drain.h"
#include "hw/virtio/virtio-hold.h"
#include "migration/migration.h"
#include "qapi/qapi-types-run-state.h"
#include "qapi/qapi-types-switchover.h"
#include "qemu/thread.h"
#include "system/vmstate-change.h"

/* An attempt has few phases; what comes after this many is not recorded */
#define SWITCHOVER_PHASES_MAX 16

/*
 * Which phase we are in, and how long the ones before took.  All fields are
 * protected by the lock, which is taken last and held for a few instructions.
 */
typedef struct SwitchoverLog {
    QemuMutex lock;
    bool valid;                 /* there was a migration */
    SwitchoverPhase phase;
    int64_t start_ns;           /* of this phase */
    struct {
        SwitchoverPhase phase;
        int64_t duration_ns;
    } phases[SWITCHOVER_PHASES_MAX];
    unsigned n_phases;
} SwitchoverLog;

/* A request which is this old hangs */
#define SWITCHOVER_HANG_MS 1000

/* With inflight-free-switchover.  All fields are protected by the BQL. */
typedef struct SwitchoverWindow {
    bool open;
    bool hit;                   /* the last one ended with nothing in flight */
    bool settled;               /* the hold has reached all threads */
    bool flushed;               /* since then */
    bool rested;                /* nothing was in flight at some time */
    unsigned depth;             /* requests which the hold admits */
    int64_t begin_ns, end_ns;
    int64_t next_ns;            /* the next one does not begin before */
    int64_t left_ns;            /* when the iteration got its turn */
    BdrvTimedFlush *flush;      /* in progress */
} SwitchoverWindow;

typedef struct SwitchoverState {
    MigrationState *ms;

    /*
     * Migration thread only
     */
    bool devices_stopped;       /* VM state change handlers have run */
    int64_t stopped_ns;         /* when the vCPUs had been paused */
    unsigned quiesce_misses;    /* windows in a row without an attempt */

    bool first_postcopy;        /* postcopy_start() was not reached yet */

    bool retrying;              /* the last attempt timed out */
    bool retry_hung;            /* because of requests that hang */
    bool retry_looked;          /* at those that did not seem to hang then */
    int64_t retry_since_ns;     /* when that was */
    int64_t retry_delay_ms;     /* time until the next one */

    /*
     * BQL
     */
    bool shut_down;             /* QEMU is about to end */
    bool attempting;            /* from the stop until it is backed out of */
    bool vcpus_paused;          /* by us, and they ran before */
    SwitchoverWindow window;
    bool holding;               /* guest requests, in their virtqueues */
    VirtIOHold hold;
    BdrvBackgroundPause *background;    /* NULL: not paused */
    QEMUTimer *hold_timer;
    BdrvIoLimitsLift *lift;     /* NULL: I/O limits are in force */
    bool drained;               /* we are in a drained section */
    int64_t section_end_ns;     /* QEMU_CLOCK_REALTIME, while we sleep in it */
    int section_ms;             /* for how long at most */
    bool deferring;             /* requests to stop the VM are noted here */
    RunState deferred_stop;     /* RUN_STATE__MAX if there was none */

    /*
     * Under lock, written with the BQL held
     */
    QemuMutex lock;
    uint32_t attempts;
    uint32_t drain_timeouts;
    uint32_t in_flight_at_stop;
    SwitchoverQuiesce quiesce;

    /*
     * Thread-safe by themselves
     */
    SwitchoverLog log;
    QemuSemaphore wake;
} SwitchoverState;

/*
 * Called from any thread
 */

/* Nothing is recorded until the first reset. */
void switchover_log_init(SwitchoverLog *log);

/* Back to "approach", as if nothing had been recorded. */
void switchover_log_reset(SwitchoverLog *log);

/* Leave the current phase, whose time is noted, and enter @phase. */
void switchover_log_enter(SwitchoverLog *log, SwitchoverPhase phase);

/* The phase that it is in */
SwitchoverPhase switchover_log_phase(SwitchoverLog *log);

/*
 * What is to be said about phases, all else being 0; NULL if nothing was
 * recorded.
 */
SwitchoverInfo *switchover_log_info(SwitchoverLog *log);

/* The destination's part; NULL if nothing was loaded. */
SwitchoverInfo *switchover_incoming_info(void);

/*
 * Called by the migration thread, with or without the BQL
 */

/* Does drain-timeout apply to this migration? */
bool switchover_is_bounded(SwitchoverState *so);

/* Was the migration cancelled, or did it fail, while we were not looking? */
bool switchover_interrupted(SwitchoverState *so);

/* Are requests held for this migration? */
bool switchover_holds(SwitchoverState *so);

/*
 * Called by the migration thread, BQL not held
 */

/* Sleep until somebody kicks us, for at most @ms. */
void switchover_sleep_unlocked(SwitchoverState *so, int64_t ms);

/*
 * The two ways of phase quiesce: with switchover_holds(), and without.  Return
 * whether to stop the guest now; if not, iterating has to go on.  @precopy:
 * what is left to send has to fit into the downtime.
 */
bool switchover_io_hold_window(SwitchoverState *so, bool precopy);
bool switchover_look_window(SwitchoverState *so, bool precopy);

/*
 * Called by the main loop thread, BQL held
 */

/* Guest devices whose requests are not held, and why. */
SwitchoverWatchedDeviceList *switchover_watched_devices(void);

/*
 * With parallel-vmstate-change, devices with a backend, those that take part
 * and those that do not; NULL without.
 */
SwitchoverDeviceList *switchover_vmstate_devices(void);

/*
 * Called by the migration thread, BQL held
 */

/*
 * Hold guest requests, but for @depth of each device; pause jobs and exports;
 * end both at @end_ns (get_clock()), or only the latter during an attempt.
 * Each may be done again.
 */
void switchover_io_hold_begin(SwitchoverState *so, unsigned depth);
void switchover_background_begin(SwitchoverState *so);
void switchover_io_hold_until(SwitchoverState *so, int64_t end_ns);

/* As if the time were over, if there is one. */
void switchover_io_hold_shutdown(SwitchoverState *so);

/* Let jobs and exports go on; or guest requests as well. */
void switchover_background_end(SwitchoverState *so);
void switchover_io_hold_end(SwitchoverState *so);

/* The window is over, if there is one.  Does not end the hold. */
void switchover_window_close(SwitchoverState *so, bool hit);

/*
 * Take the BQL, in the migration thread.  Does not return if QEMU is about to
 * end: when the main thread lets go of the BQL, just before the process exits,
 * there is no machine any more that one could look at.
 */
void switchover_bql_lock(SwitchoverState *so);

/* Let the end of a request, or of a round trip, end switchover_sleep(). */
void switchover_drain_waiter_add(BdrvTimedDrainWaiter *waiter);
void switchover_drain_waiter_del(BdrvTimedDrainWaiter *waiter);

/*
 * Sleep until something may have happened, without the BQL.  Returns 0 if it is
 * worth looking at the condition again, else -ETIMEDOUT or -ECANCELED.  A
 * drained section, or a hold, may be over afterwards.
 */
int switchover_sleep(SwitchoverState *so, int64_t deadline_ns);

/*
 * A round trip through the AioContexts of all IOThreads, and through the main
 * one if @main_context: whatever was being dispatched there when it began has
 * been dispatched when it is over.  Sleeps.  Returns 0, -ETIMEDOUT or
 * -ECANCELED.
 */
int switchover_round(SwitchoverState *so, int64_t deadline_ns,
                     bool main_context);

/* Begin or end a drained section; nothing happens if it is so already. */
void switchover_drained_begin(SwitchoverState *so);
void switchover_drained_end(SwitchoverState *so);

/*
 * Bring the disks of the stopped guest to rest, and flush them.  Drops the BQL
 * while it sleeps.
 *
 * Returns 0 with a drained section in place; the caller must not drop the BQL
 * before that is ended.  Without a section: -ETIMEDOUT at @deadline_ns
 * (get_clock()), -ECANCELED, or the negative errno of the flush.
 */
int switchover_settle(SwitchoverState *so, int64_t deadline_ns);

/*
 * Bring the disks of the stopped guest to rest, without a flush, no matter how
 * long it takes and what becomes of the migration.  Drops the BQL while it
 * sleeps.  A drained section is in place afterwards.
 */
void switchover_rest_at_leisure(SwitchoverState *so);

/* I/O limits are in force again, if they were lifted.  BQL held. */
void switchover_restore_limits(SwitchoverState *so);

/*
 * Wait until no guest device has a request in flight; the guest may run.  Drops
 * the BQL while it sleeps.  Returns 0, -ETIMEDOUT or -ECANCELED.
 */
int switchover_wait_guest_idle(SwitchoverState *so, int64_t deadline_ns);

#endif /* QEMU_MIGRATION_SWITCHOVER_INTERNAL_H */
