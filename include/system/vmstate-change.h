/*
 * VM state changes in which devices take part at the same time
 *
 * With the capability parallel-vmstate-change, vm_state_notify() stops and
 * starts the devices that have registered here in three steps:
 *
 *   prepare   with the BQL, one device after the other: compose what has to be
 *             said to the device's backend
 *   work      without it, all devices at the same time, by workers (see
 *             vmstate-worker.h): say it and collect the answers
 *   commit    with the BQL, one device after the other: act on the answers
 *
 * A stop does the work first.  The VM state change handlers are the commit:
 * they are the same as ever, but find that they have their answers already.
 * So until the last backend has answered nothing was changed in QEMU, and the
 * stop can be backed out of.
 *
 * A start does the work last.  The handlers are the preparation: they assume
 * that their backends are going to agree, and whoever does not is disconnected.
 *
 * In what order handlers run is not changed by this.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_VMSTATE_CHANGE_H
#define SYSTEM_VMSTATE_CHANGE_H

#include "qapi/qapi-types-switchover.h"
#include "qemu/queue.h"
#include "system/runstate.h"

typedef struct VMStateParallel VMStateParallel;

/*
 * What a device does.  All are called with the BQL held, in the main loop
 * thread or in the migration thread, and do not wait if nothing else is said.
 */
typedef struct VMStateParallelOps {
    /* A name to tell users */
    const char *(*name)(VMStateParallel *p);

    /*
     * Compose the stop and submit the work; or take note that the device is
     * going to be started.  Returns false if it does not take part this time,
     * @reason may be set to why.
     */
    bool (*prepare)(VMStateParallel *p, bool running, const char **reason);

    /*
     * The guest is not here yet: submit what its state does not matter to.
     * Returns false if there is nothing.  Optional.
     */
    bool (*early)(VMStateParallel *p);

    /* The handlers that start devices have run: submit the work */
    void (*work)(VMStateParallel *p);

    /*
     * Sleep until the work is done, for at most @ms, and return whether it is.
     * -1: until it is, or given up after vmstate_parallel_patience_ms().
     */
    bool (*wait)(VMStateParallel *p, int64_t ms);

    /* The handlers have run, and the work is done. */
    void (*commit)(VMStateParallel *p, bool running);

    /*
     * The stop was backed out of after the work was done: run the device's
     * handlers to stop it, prepare to start it, and run those to start it.  A
     * call of work() follows.
     */
    void (*restart)(VMStateParallel *p);
} VMStateParallelOps;

struct VMStateParallel {
    const VMStateParallelOps *ops;

    /*
     * Under the BQL, kept up to date by the device
     */
    void *opaque;               /* of its VM state change handler */
    unsigned n_messages;        /* of the change in progress */
    int64_t done_ns;            /* get_clock(), as of the last wait() */

    /*
     * Private, under the BQL
     */
    bool active;                /* takes part in the change in progress */
    bool late;                  /* the last change is not finished */
    bool late_running;          /* it was a start */
    bool overdue;               /* a stop was backed out of for it */
    const char *reason;         /* why it did not take part */
    int64_t begin_ns;
    int64_t work_ns;            /* of the last change */
    int64_t handler_ns;
    unsigned last_messages;
    QTAILQ_ENTRY(VMStateParallel) next;
};

/*
 * Called with the BQL held
 */

void vmstate_parallel_register(VMStateParallel *p,
                               const VMStateParallelOps *ops);
void vmstate_parallel_unregister(VMStateParallel *p);

/*
 * For how many milliseconds to wait for the backend; -1: no limit, because it
 * was not waited for in vain before.
 */
int64_t vmstate_parallel_patience_ms(VMStateParallel *p);

/*
 * For vm_state_notify(): before and after the handlers.  Nothing happens
 * without the capability.  vmstate_change_begin() sleeps until all backends
 * have stopped; vmstate_change_end() for a while, until they have started.
 */
void vmstate_change_begin(bool running);
void vmstate_change_end(bool running);

/* In between: call a handler, and take its time. */
void vmstate_change_call(VMChangeStateHandler *cb, void *opaque, bool running,
                         RunState state);

/*
 * At the destination of a migration, while the guest runs at the source: tell
 * backends what will not depend on its state, so that it need not be told
 * later.
 */
void vmstate_change_early(void);

/*
 * There as well: before and after devices' state is loaded.  What they tell
 * their backends in the meantime is part of their start.
 */
void vmstate_change_load_begin(void);
void vmstate_change_load_end(void);

/*
 * To do the work of a stop before vm_state_notify(), without the BQL in the
 * meantime.  Begin it; nothing happens if that was done before, or without the
 * capability.
 */
void vmstate_change_stop_begin(void);

/* Is there still somebody working on it? */
bool vmstate_change_stop_busy(void);

/*
 * Call it off: no handler has run.  Devices are started again; the ones whose
 * backends do not answer, when they do.
 */
void vmstate_change_stop_cancel(void);

/* The devices, and what became of their last change. */
SwitchoverDeviceList *vmstate_change_devices(void);

/* The devices whose backends have been asked to stop, and did not answer. */
strList *vmstate_change_stop_awaited(void);

/* Were there such devices when the last stop was backed out of, and still? */
bool vmstate_change_is_late(void);

/* Can a migration begin, which has things to say to backends? */
bool vmstate_change_may_migrate(Error **errp);

/*
 * Called from any thread
 */

/* Call @notify, on any thread, whenever some device is done. */
void vmstate_change_set_notify(void (*notify)(void));

#endif /* SYSTEM_VMSTATE_CHANGE_H */
