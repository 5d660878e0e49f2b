/*
 * Interrupt routes of many virtio-pci devices, committed at once
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/virtio/virtio-route-batch.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "system/kvm.h"
#include "trace.h"

/* An eventfd that is going to be bound */
typedef struct VirtIORouteBinding {
    VirtIOPCIProxy *proxy;
    int virq;
} VirtIORouteBinding;

/* Under the BQL */
static struct {
    GHashTable *bindings;       /* by EventNotifier; NULL: no batch */
    bool changed;               /* some route */
} batch;

void virtio_route_batch_begin(void)
{
    assert(bql_locked());
    assert(!batch.bindings);

    batch.bindings = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    batch.changed = false;
}

bool virtio_route_batch_change(void)
{
    assert(bql_locked());

    if (!batch.bindings) {
        return false;
    }
    batch.changed = true;
    return true;
}

bool virtio_route_batch_bind(VirtIOPCIProxy *proxy, EventNotifier *n, int virq)
{
    VirtIORouteBinding *binding;

    assert(bql_locked());

    if (!batch.bindings) {
        return false;
    }
    binding = g_new0(VirtIORouteBinding, 1);
    binding->proxy = proxy;
    binding->virq = virq;
    g_hash_table_replace(batch.bindings, n, binding);
    return true;
}

bool virtio_route_batch_unbind(EventNotifier *n)
{
    assert(bql_locked());

    return batch.bindings && g_hash_table_remove(batch.bindings, n);
}

/* Interrupts do not get lost if KVM does not take them.  They take longer. */
static void virtio_route_batch_fall_back(VirtIOPCIProxy *proxy,
                                         EventNotifier *n)
{
    VirtIODevice *vdev = virtio_bus_get_device(&proxy->bus);
    VirtQueue *vq = NULL;
    int i;

    for (i = 0; i < proxy->nvqs_with_notifiers; i++) {
        vq = virtio_get_queue(vdev, i);
        if (virtio_queue_get_guest_notifier(vq) == n) {
            break;
        }
    }
    if (i == proxy->nvqs_with_notifiers) {
        i = VIRTIO_CONFIG_IRQ_IDX;
    }
    virtio_pci_set_guest_notifier_fd_handler(vdev, vq, i, true, false);
}

void virtio_route_batch_end(void)
{
    g_autoptr(GHashTable) bindings = g_steal_pointer(&batch.bindings);
    VirtIORouteBinding *binding;
    unsigned n_refused = 0;
    GHashTableIter iter;
    EventNotifier *n;

    assert(bql_locked());

    if (batch.changed) {
        kvm_irqchip_commit_routes(kvm_state);
    }
    g_hash_table_iter_init(&iter, bindings);
    while (g_hash_table_iter_next(&iter, (void **)&n, (void **)&binding)) {
        if (kvm_irqchip_add_irqfd_notifier_gsi(kvm_state, n, NULL,
                                               binding->virq) < 0) {
            virtio_route_batch_fall_back(binding->proxy, n);
            n_refused++;
        }
    }
    if (n_refused) {
        warn_report("KVM refuses %u eventfds for interrupts of virtio devices, "
                    "QEMU listens to them instead", n_refused);
    }
    trace_virtio_route_batch_end(batch.changed, g_hash_table_size(bindings),
                                 n_refused);
}
