/*
 * Host notifiers of many virtio devices, changed at once
 *
 * Each change of an ioeventfd makes QEMU look at all of them, and tell KVM.
 * In a batch, changes of all devices are collected, and made in a single
 * memory transaction at its end.  The vCPUs are paused, so nobody notices that
 * host notifiers stay where they are for longer, or come later.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_VIRTIO_NOTIFIER_BATCH_H
#define HW_VIRTIO_VIRTIO_NOTIFIER_BATCH_H

#include "hw/virtio/virtio-bus.h"
#include "qapi/qapi-types-run-state.h"

/*
 * Called with the BQL held and the vCPUs paused
 */

void virtio_notifier_batch_begin(void);
void virtio_notifier_batch_end(void);

/*
 * The VM state change handler of all virtio devices, in virtio.c.  @opaque is
 * the VirtIODevice.
 */
void virtio_vmstate_change(void *opaque, bool running, RunState state);

/*
 * For virtio-bus.c, with the BQL held
 */

/*
 * Queue @n of @bus is going to need its host notifier: is it still there,
 * because it was given up in this batch?  Otherwise it has to be created.
 */
bool virtio_notifier_batch_revive(VirtioBusState *bus, int n);

/* Assign or deassign.  Returns false if there is no batch: do it now. */
bool virtio_notifier_batch_assign(VirtioBusState *bus, int n, bool assign);

/*
 * The host notifier is not needed any more.  Returns false if it can be closed
 * now, else that is done later.
 */
bool virtio_notifier_batch_close(VirtioBusState *bus, int n);

#endif /* HW_VIRTIO_VIRTIO_NOTIFIER_BATCH_H */
