/*
 * Hold guest requests in their virtqueues
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * While a hold is in force, the virtqueues of disks look empty to their
 * devices: what the guest adds stays where it is, in the ring, and can be
 * processed later, or by the destination of a migration.  What has been fetched
 * before goes on.  A hold with a depth admits that many requests.
 *
 * A queue takes part if its device has marked it with
 * virtio_queue_set_holdable().  Those are the request and control queues of
 * virtio-blk and virtio-scsi, no matter who polls them: an IOThread, the main
 * loop, or a vCPU (ioeventfd=off).  Devices that are plugged, reset or removed
 * during a hold need no attention.
 *
 * A device that looks at its queue during a hold consumes the guest's
 * notification without doing anything.  This is remembered for each queue, and
 * made good for when the hold ends, or is wide enough again; or when the VM
 * starts, should it be stopped then.
 */

#ifndef HW_VIRTIO_HOLD_H
#define HW_VIRTIO_HOLD_H

#include "hw/virtio/virtio.h"
#include "qemu/queue.h"

#define VIRTIO_HOLD_NONE UINT_MAX

typedef struct VirtIOHold {
    unsigned depth;
    QLIST_ENTRY(VirtIOHold) next;
} VirtIOHold;

/*
 * Global state (GS) API: BQL held, any thread.
 */

/*
 * Hold requests until virtio_hold_end().  At most @depth requests of a device
 * are fetched at a time; with 0, none is.  In a packed ring each descriptor
 * counts.  Holds add up: the smallest depth of all is in force.
 *
 * Handlers that are running in IOThreads do not notice: they may fetch
 * requests, and submit what they have fetched, until each AioContext has begun
 * another iteration.
 */
void virtio_hold_begin(VirtIOHold *hold, unsigned depth);

/* Change the depth of a hold that was begun. */
void virtio_hold_set_depth(VirtIOHold *hold, unsigned depth);

/* End it.  Queues that were looked at in the meantime are looked at again. */
void virtio_hold_end(VirtIOHold *hold);

/* Are the requests of @dev, or of the bus that it is on, held by a hold? */
bool virtio_hold_covers(DeviceState *dev);

/*
 * For hw/virtio/virtio.c.  Any thread, the one that owns the queue.
 */

/* Depth of the holds in force; atomic, written with the BQL held */
extern unsigned virtio_hold_depth;

static inline bool virtio_hold_in_force(void)
{
    return unlikely(qatomic_read(&virtio_hold_depth) != VIRTIO_HOLD_NONE);
}

/* Call @pop if a hold admits it, else return NULL.  @vq is holdable. */
void *virtio_hold_pop(VirtIODevice *vdev, VirtQueue *vq, size_t sz,
                      void *(*pop)(VirtQueue *vq, size_t sz));

/* Does a hold keep the device from fetching from @vq, which is not empty? */
bool virtio_hold_hides(VirtIODevice *vdev, VirtQueue *vq);

/* A request of the device was completed: the next one may be admitted. */
void virtio_hold_completed(VirtIODevice *vdev);

/* The state of the device was loaded; BQL held. */
void virtio_hold_loaded(VirtIODevice *vdev);

/* The VM starts; BQL held. */
void virtio_hold_vm_started(VirtIODevice *vdev);

/*
 * Is a request left in @vdev which the destination has to be told to look at?
 * VM stopped, BQL held.
 */
bool virtio_hold_left_behind(VirtIODevice *vdev);

/*
 * In hw/virtio/virtio.c.  BQL held.
 */

/* Let holds apply to @vq. */
void virtio_queue_set_holdable(VirtQueue *vq);
bool virtio_queue_is_holdable(VirtQueue *vq);

/* Is there anything in the ring, held or not?  For the owner of the queue. */
bool virtio_queue_has_buffers(VirtQueue *vq);

/*
 * Number of requests that were fetched, or are being fetched, and are not
 * completed.  Any thread.
 */
unsigned virtio_queue_in_flight(VirtQueue *vq);
void virtio_queue_set_fetching(VirtQueue *vq, bool fetching);

/* The note that a notification was consumed.  Any thread. */
void virtio_queue_set_held_back(VirtQueue *vq, bool held_back);
bool virtio_queue_is_held_back(VirtQueue *vq);

#endif /* HW_VIRTIO_HOLD_H */
