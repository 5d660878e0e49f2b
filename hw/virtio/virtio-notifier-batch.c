/*
 * Host notifiers of many virtio devices, changed at once
 *
 * A notifier has to be open while the memory transaction is committed that
 * assigns or deassigns it.  So the ones that are given up are closed after it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "exec/memory.h"
#include "hw/virtio/virtio-notifier-batch.h"
#include "qemu/main-loop.h"
#include "trace.h"

/* A host notifier that was changed in this batch */
typedef struct VirtIONotifierChange {
    VirtioBusState *bus;
    int n;
    bool was_assigned;          /* and is, until the end of the batch */
    bool assigned;              /* from then on */
    bool close;
} VirtIONotifierChange;

/* EventNotifier -> VirtIONotifierChange; NULL: no batch.  Under the BQL. */
static GHashTable *virtio_notifier_batch;

static EventNotifier *virtio_notifier(VirtioBusState *bus, int n)
{
    VirtQueue *vq = virtio_get_queue(virtio_bus_get_device(bus), n);

    return virtio_queue_get_host_notifier(vq);
}

static VirtIONotifierChange *virtio_notifier_change(VirtioBusState *bus, int n)
{
    assert(bql_locked());

    return virtio_notifier_batch ?
           g_hash_table_lookup(virtio_notifier_batch,
                               virtio_notifier(bus, n)) : NULL;
}

bool virtio_notifier_batch_revive(VirtioBusState *bus, int n)
{
    VirtIONotifierChange *change = virtio_notifier_change(bus, n);

    if (!change || !change->close) {
        return false;
    }
    change->close = false;
    /* Like a new one: whatever the guest wants is looked at */
    event_notifier_set(virtio_notifier(bus, n));
    return true;
}

bool virtio_notifier_batch_assign(VirtioBusState *bus, int n, bool assign)
{
    VirtIONotifierChange *change = virtio_notifier_change(bus, n);

    if (!virtio_notifier_batch) {
        return false;
    }
    if (!change) {
        change = g_new0(VirtIONotifierChange, 1);
        change->bus = bus;
        change->n = n;
        change->was_assigned = !assign;
        g_hash_table_insert(virtio_notifier_batch, virtio_notifier(bus, n),
                            change);
    }
    change->assigned = assign;
    return true;
}

bool virtio_notifier_batch_close(VirtioBusState *bus, int n)
{
    VirtIONotifierChange *change = virtio_notifier_change(bus, n);

    if (!change) {
        return false;
    }
    assert(!change->assigned);
    if (!change->was_assigned) {
        g_hash_table_remove(virtio_notifier_batch, virtio_notifier(bus, n));
        return false;
    }
    change->close = true;
    return true;
}

void virtio_notifier_batch_begin(void)
{
    assert(bql_locked());
    assert(!virtio_notifier_batch);

    virtio_notifier_batch = g_hash_table_new_full(NULL, NULL, NULL, g_free);
}

void virtio_notifier_batch_end(void)
{
    g_autoptr(GHashTable) batch = g_steal_pointer(&virtio_notifier_batch);
    VirtIONotifierChange *change;
    EventNotifier *notifier;
    GHashTableIter iter;
    unsigned n_changes = 0;

    assert(bql_locked());

    memory_region_transaction_begin();
    g_hash_table_iter_init(&iter, batch);
    while (g_hash_table_iter_next(&iter, (void **)&notifier,
                                  (void **)&change)) {
        DeviceState *proxy = DEVICE(BUS(change->bus)->parent);
        VirtioBusClass *k = VIRTIO_BUS_GET_CLASS(change->bus);

        if (change->assigned != change->was_assigned) {
            k->ioeventfd_assign(proxy, notifier, change->n, change->assigned);
            n_changes++;
        }
    }
    memory_region_transaction_commit();

    g_hash_table_iter_init(&iter, batch);
    while (g_hash_table_iter_next(&iter, (void **)&notifier,
                                  (void **)&change)) {
        if (change->close) {
            event_notifier_cleanup(notifier);
        }
    }
    trace_virtio_notifier_batch_end(n_changes);
}
