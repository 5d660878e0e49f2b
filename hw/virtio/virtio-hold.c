/*
 * Hold guest requests in their virtqueues
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See include/hw/virtio/virtio-hold.h.
 */

#include "qemu/osdep.h"
#include "block/aio.h"
#include "hw/qdev-core.h"
#include "hw/virtio/virtio-bus.h"
#include "hw/virtio/virtio-hold.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "qemu/thread.h"
#include "trace.h"

unsigned virtio_hold_depth = VIRTIO_HOLD_NONE;

/* BQL */
static QLIST_HEAD(, VirtIOHold) virtio_holds =
    QLIST_HEAD_INITIALIZER(virtio_holds);

/*
 * With a depth other than 0: between looking at the number of requests in
 * flight and announcing another one.  It decreases without this.
 */
static QemuMutex virtio_hold_lock;

static void __attribute__((constructor)) virtio_hold_init(void)
{
    qemu_mutex_init(&virtio_hold_lock);
}

/* Queues */

/* Calls @func for each queue of @vdev that takes part in holds */
static void virtio_hold_foreach(VirtIODevice *vdev,
                                void (*func)(VirtQueue *vq, void *opaque),
                                void *opaque)
{
    for (int i = 0; i < VIRTIO_QUEUE_MAX; i++) {
        VirtQueue *vq = virtio_get_queue(vdev, i);

        if (!virtio_queue_get_num(vdev, i)) {
            break;
        }
        if (virtio_queue_is_holdable(vq)) {
            func(vq, opaque);
        }
    }
}

static void virtio_hold_add_in_flight(VirtQueue *vq, void *opaque)
{
    unsigned *in_flight = opaque;

    *in_flight += virtio_queue_in_flight(vq);
}

static bool virtio_hold_admits(VirtIODevice *vdev)
{
    unsigned depth = qatomic_read(&virtio_hold_depth);
    unsigned in_flight = 0;

    if (depth == 0 || depth == VIRTIO_HOLD_NONE) {
        return depth;
    }
    virtio_hold_foreach(vdev, virtio_hold_add_in_flight, &in_flight);
    return in_flight < depth;
}

/* Announce that a request is going to be fetched, if it is admitted */
static bool virtio_hold_enter(VirtIODevice *vdev, VirtQueue *vq)
{
    QEMU_LOCK_GUARD(&virtio_hold_lock);

    if (virtio_hold_admits(vdev)) {
        virtio_queue_set_fetching(vq, true);
        return true;
    }
    return false;
}

/*
 * Note that a request stays in @vq, which is not empty.  Returns whether it has
 * to: whoever ends the hold, or completes a request, does that first and then
 * looks for notes, so either he sees ours or we see what he did.
 */
static bool virtio_hold_note(VirtIODevice *vdev, VirtQueue *vq)
{
    virtio_queue_set_held_back(vq, true);
    smp_mb(); /* See above */
    return !virtio_hold_admits(vdev);
}

void *virtio_hold_pop(VirtIODevice *vdev, VirtQueue *vq, size_t sz,
                      void *(*pop)(VirtQueue *vq, size_t sz))
{
    void *elem;

    while (!virtio_hold_enter(vdev, vq)) {
        if (!virtio_queue_has_buffers(vq) || virtio_hold_note(vdev, vq)) {
            return NULL;
        }
    }

    /* May take the BQL, to read a descriptor which is not in RAM */
    elem = pop(vq, sz);
    virtio_queue_set_fetching(vq, false);
    return elem;
}

bool virtio_hold_hides(VirtIODevice *vdev, VirtQueue *vq)
{
    return !virtio_hold_admits(vdev) && virtio_hold_note(vdev, vq);
}

/* Notifying the device again */

static void virtio_hold_kick_queue(VirtQueue *vq, void *opaque)
{
    VirtIODevice *vdev = opaque;
    int n = virtio_get_queue_index(vq);

    if (!virtio_queue_is_held_back(vq)) {
        return;
    }
    trace_virtio_hold_kick(vdev, n);
    virtio_queue_set_held_back(vq, false);
    virtio_queue_notify(vdev, n);
}

/* In the main loop, BQL held */
static void virtio_hold_kick_bh(void *opaque)
{
    VirtIODevice *vdev = opaque;

    /* If it is not running, virtio_hold_vm_started() will come back to it */
    if (DEVICE(vdev)->realized && vdev->vm_running) {
        virtio_hold_foreach(vdev, virtio_hold_kick_queue, vdev);
    }
    object_unref(OBJECT(vdev));
}

/*
 * Any thread: with the BQL, or for a device which has a request in flight and
 * so does not go away.
 */
static void virtio_hold_schedule_kick(VirtIODevice *vdev)
{
    object_ref(OBJECT(vdev));
    aio_bh_schedule_oneshot(qemu_get_aio_context(), virtio_hold_kick_bh, vdev);
}

void virtio_hold_completed(VirtIODevice *vdev)
{
    if (qatomic_read(&virtio_hold_depth)) {
        virtio_hold_schedule_kick(vdev);
    }
}

/*
 * Queues of a stopped VM: which of them have to be looked at when it starts?
 * Whoever starts ioeventfds looks at all of them.
 */
static void virtio_hold_find_left(VirtQueue *vq, void *opaque)
{
    bool *found = opaque;

    if (!virtio_queue_has_buffers(vq)) {
        /* If it is marked, then by virtio_hold_loaded() */
        return;
    }
    if (virtio_hold_in_force()) {
        virtio_queue_set_held_back(vq, true);
    }
    *found |= virtio_queue_is_held_back(vq);
}

bool virtio_hold_left_behind(VirtIODevice *vdev)
{
    bool found = false;

    if (!virtio_device_ioeventfd_enabled(vdev)) {
        virtio_hold_foreach(vdev, virtio_hold_find_left, &found);
    }
    return found;
}

static void virtio_hold_find_marked(VirtQueue *vq, void *opaque)
{
    *(bool *)opaque |= virtio_queue_is_held_back(vq);
}

static void virtio_hold_hold_back(VirtQueue *vq, void *opaque)
{
    virtio_queue_set_held_back(vq, true);
}

void virtio_hold_loaded(VirtIODevice *vdev)
{
    /* The source may have had ioeventfds where we have none */
    if (!virtio_device_ioeventfd_enabled(vdev)) {
        virtio_hold_foreach(vdev, virtio_hold_hold_back, NULL);
    }
}

void virtio_hold_vm_started(VirtIODevice *vdev)
{
    bool found = false;

    virtio_hold_foreach(vdev, virtio_hold_find_marked, &found);
    if (found) {
        virtio_hold_schedule_kick(vdev);
    }
}

/* Holds */

static int virtio_hold_release_child(Object *obj, void *opaque)
{
    VirtIODevice *vdev =
        (VirtIODevice *)object_dynamic_cast(obj, TYPE_VIRTIO_DEVICE);

    if (vdev && DEVICE(vdev)->realized && virtio_hold_covers(DEVICE(vdev))) {
        virtio_hold_schedule_kick(vdev);
    }
    return 0;
}

/* Does what is implied by a change of the list of holds */
static void virtio_hold_update(void)
{
    unsigned old_depth = virtio_hold_depth;
    unsigned depth = VIRTIO_HOLD_NONE;
    VirtIOHold *hold;

    QLIST_FOREACH(hold, &virtio_holds, next) {
        depth = MIN(depth, hold->depth);
    }
    trace_virtio_hold_update(old_depth, depth);
    qatomic_set_mb(&virtio_hold_depth, depth);

    if (depth > old_depth) {
        object_child_foreach_recursive(object_get_root(),
                                       virtio_hold_release_child, NULL);
    }
}

void virtio_hold_begin(VirtIOHold *hold, unsigned depth)
{
    assert(bql_locked());
    assert(depth != VIRTIO_HOLD_NONE);

    hold->depth = depth;
    QLIST_INSERT_HEAD(&virtio_holds, hold, next);
    virtio_hold_update();
}

void virtio_hold_set_depth(VirtIOHold *hold, unsigned depth)
{
    assert(bql_locked());
    assert(depth != VIRTIO_HOLD_NONE);

    hold->depth = depth;
    virtio_hold_update();
}

void virtio_hold_end(VirtIOHold *hold)
{
    assert(bql_locked());

    QLIST_REMOVE(hold, next);
    virtio_hold_update();
}

static void virtio_hold_find(VirtQueue *vq, void *opaque)
{
    *(bool *)opaque = true;
}

bool virtio_hold_covers(DeviceState *dev)
{
    bool covers = false;

    while (dev) {
        if (object_dynamic_cast(OBJECT(dev), TYPE_VIRTIO_DEVICE)) {
            virtio_hold_foreach(VIRTIO_DEVICE(dev), virtio_hold_find, &covers);
            break;
        }
        dev = dev->parent_bus ? dev->parent_bus->parent : NULL;
    }
    return covers;
}
