/*
 * Threads for the part of a VM state change that needs no lock
 *
 * When the VM is stopped or started, most of the time goes by until other
 * processes answer.  That part of it is done by these threads: they move bytes
 * between a queue that belongs to a device and a file descriptor, and touch
 * nothing else.  Each of them attends to many devices at once.
 *
 * A worker must never take the BQL, because whoever waits for the worker may
 * hold it.  bql_lock() on a worker aborts, with a message that names the
 * device.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_VMSTATE_WORKER_H
#define SYSTEM_VMSTATE_WORKER_H

#include "qemu/queue.h"

/* More threads than this are of no use */
#define VMSTATE_WORKERS_MAX 16

typedef struct VMStateWork VMStateWork;
typedef struct VMStateWorker VMStateWorker;

struct VMStateWork {
    /*
     * Set by the owner, constant while it is submitted
     */
    const char *device;         /* whom it is done for */
    int fd;                     /* what is polled */

    /*
     * Do what can be done without blocking.  Returns true if nothing is left
     * to do, else sets @events to what has to be waited for, as for poll().
     * May be called by any thread, but not by two at the same time.
     */
    bool (*step)(VMStateWork *work, short *events);

    /*
     * Private, under the lock of the workers
     */
    VMStateWorker *worker;      /* NULL: it is not submitted */
    bool cancelled;
    bool poked;                 /* a step is due */
    short events;               /* what it waits for */
    QTAILQ_ENTRY(VMStateWork) next;
};

/*
 * Called with the BQL held
 */

/*
 * Let up to @threads threads share the work from now on; 0 stands for one for
 * each host CPU.  Threads stay, once they are created.
 */
void vmstate_workers_start(unsigned threads);

/* How many share it; 0 if not a single one could be created. */
unsigned vmstate_workers_active(void);

/*
 * Hand @work over.  Its owner leaves it alone until vmstate_work_pending()
 * is false.
 */
void vmstate_work_submit(VMStateWork *work);

/* Take @work back, whether it is done or not. */
void vmstate_work_cancel(VMStateWork *work);

/*
 * Call step() again although nothing happened to the file descriptor.  Returns
 * false if @work is not submitted.
 */
bool vmstate_work_poke(VMStateWork *work);

/*
 * Called from any thread
 */

/* Has it been submitted, and is it neither done nor cancelled? */
bool vmstate_work_pending(VMStateWork *work);

/*
 * From now on, call @notify on a worker whenever some work is done; NULL: call
 * nothing.  When this returns, the one before is not called any more.
 */
void vmstate_workers_set_notify(void (*notify)(void));

/* Abort if this thread is a worker. */
void vmstate_worker_check_bql(void);

#endif /* SYSTEM_VMSTATE_WORKER_H */
