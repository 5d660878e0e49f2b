/*
 * Interrupt routes of many virtio-pci devices, committed at once
 *
 * With KVM, an MSI-X vector of a virtio-pci device is an interrupt route, and
 * the eventfd of each ring that uses the vector is bound to the route (irqfd).
 * KVM takes all routes of the VM at a time, and waits until nobody looks at the
 * old ones.  In a batch, devices change their routes, and those are committed
 * once, at its end.
 *
 * An eventfd must not be bound before its route is committed: an interrupt that
 * is raised in between would be lost, or be what the route was for before.  So
 * eventfds are bound at the end of the batch, too.  Whoever writes to one
 * earlier, a backend or an iothread, raises its interrupt then: KVM looks
 * whether an eventfd that it gets has been written to.  It is the same when a
 * vector is unmasked that has something pending.  Nobody else reads from it.
 *
 * Everything else is done at once: routes are allocated and released in QEMU's
 * table, eventfds that KVM has are unbound.  Those who commit routes themselves
 * (vfio, IOAPIC, ...) go on to do so; what they commit includes what has
 * changed in the batch.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_VIRTIO_ROUTE_BATCH_H
#define HW_VIRTIO_VIRTIO_ROUTE_BATCH_H

#include "hw/virtio/virtio-pci.h"
#include "qemu/event_notifier.h"

/*
 * Called with the BQL held
 */

void virtio_route_batch_begin(void);
void virtio_route_batch_end(void);

/*
 * For virtio-pci.c, with the BQL held
 */

/* A route has changed.  Returns false if there is no batch: commit it now. */
bool virtio_route_batch_change(void);

/*
 * Bind @n, a guest notifier of @proxy, to the route @virq.  Returns false if
 * there is no batch: do it now.  If KVM refuses at the end of the batch, QEMU
 * itself listens to @n.
 */
bool virtio_route_batch_bind(VirtIOPCIProxy *proxy, EventNotifier *n, int virq);

/*
 * Do not bind @n any more.  Returns false if KVM may have it already: unbind
 * it.  What was written to it is still there to be read.
 */
bool virtio_route_batch_unbind(EventNotifier *n);

#endif /* HW_VIRTIO_VIRTIO_ROUTE_BATCH_H */
