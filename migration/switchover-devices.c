/*
 * Migration switchover: devices which cannot take part in something, and why
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/timed-drain.h"
#include "hw/qdev-core.h"
#include "hw/virtio/vhost-backend.h"
#include "hw/virtio/vhost.h"
#include "hw/virtio/virtio-hold.h"
#include "hw/virtio/virtio.h"
#include "migration/switchover-internal.h"
#include "migration/switchover-vmstate.h"
#include "qapi/util.h"
#include "qemu/main-loop.h"
#include "system/block-backend.h"

#define REASON_FETCHES "the device fetches requests at once; " \
                       "those in flight are watched"
#define REASON_BACKEND "another process or the host kernel processes its " \
                       "requests; they are neither held nor watched"
#define REASON_HARDWARE "the guest drives the hardware itself; " \
                        "its requests are neither held nor watched"

/* Devices which do I/O for the guest without QEMU's block layer */
static const struct {
    const char *type;
    const char *reason;
} switchover_unseen[] = {
    { "vhost-user-blk", REASON_BACKEND },
    { "vhost-scsi-common", REASON_BACKEND },
    { "vhost-user-fs-device", REASON_BACKEND },
    { "vhost-user-base", REASON_BACKEND },
    { "vhost-vdpa-device", REASON_BACKEND },
    { "vfio-pci", REASON_HARDWARE },
};

typedef struct SwitchoverWatchedTail {
    SwitchoverWatchedDeviceList **tail;
} SwitchoverWatchedTail;

static void switchover_watched_add(SwitchoverWatchedTail *list,
                                   DeviceState *dev, const char *reason)
{
    SwitchoverWatchedDevice *watched = g_new0(SwitchoverWatchedDevice, 1);

    watched->device = bdrv_timed_drain_device_name(dev);
    watched->reason = g_strdup(reason);
    QAPI_LIST_APPEND(list->tail, watched);
}

static int switchover_watched_visit(Object *obj, void *opaque)
{
    DeviceState *dev = (DeviceState *)object_dynamic_cast(obj, TYPE_DEVICE);

    for (int i = 0; dev && i < ARRAY_SIZE(switchover_unseen); i++) {
        if (object_dynamic_cast(obj, switchover_unseen[i].type)) {
            switchover_watched_add(opaque, dev, switchover_unseen[i].reason);
        }
    }
    return 0;
}

SwitchoverWatchedDeviceList *switchover_watched_devices(void)
{
    SwitchoverWatchedDeviceList *head = NULL;
    SwitchoverWatchedTail list = { .tail = &head };
    BlockBackend *blk = NULL;

    assert(bql_locked());

    while ((blk = blk_all_next(blk))) {
        DeviceState *dev = blk_get_attached_dev(blk);

        if (dev && blk_is_available(blk) && !virtio_hold_covers(dev)) {
            switchover_watched_add(&list, dev, REASON_FETCHES);
        }
    }
    object_child_foreach_recursive(object_get_root(), switchover_watched_visit,
                                   &list);
    return head;
}

#define REASON_KERNEL "its backend is the host kernel, which is asked about " \
                      "one ring after the other"

static int switchover_kernel_visit(Object *obj, void *opaque)
{
    VirtIODevice *vdev =
        (VirtIODevice *)object_dynamic_cast(obj, TYPE_VIRTIO_DEVICE);
    SwitchoverDeviceList **head = opaque;
    SwitchoverDevice *device;
    VirtioDeviceClass *vdc;

    if (!vdev || !vdev->vhost_started) {
        return 0;
    }
    vdc = VIRTIO_DEVICE_GET_CLASS(vdev);
    if (!vdc->get_vhost || vdc->get_vhost(vdev)->vhost_ops->backend_type ==
                           VHOST_BACKEND_TYPE_USER) {
        return 0;
    }
    device = g_new0(SwitchoverDevice, 1);
    device->device = bdrv_timed_drain_device_name(DEVICE(vdev));
    device->reason = g_strdup(REASON_KERNEL);
    QAPI_LIST_PREPEND(*head, device);
    return 0;
}

SwitchoverDeviceList *switchover_vmstate_devices(void)
{
    SwitchoverDeviceList *head;

    assert(bql_locked());

    if (!switchover_parallel_vmstate_change()) {
        return NULL;
    }
    head = vmstate_change_devices();
    object_child_foreach_recursive(object_get_root(), switchover_kernel_visit,
                                   &head);
    return head;
}
