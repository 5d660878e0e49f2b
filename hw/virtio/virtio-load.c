/*
 * Finish loading a virtio device when the memory map is there
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/virtio/virtio-load.h"
#include "migration/load-batch.h"
#include "migration/vmstate.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "standard-headers/linux/virtio_ids.h"
#include "standard-headers/linux/virtio_net.h"
#include "trace.h"

typedef struct VirtIOLoadRest {
    VirtIODevice *vdev;
    uint32_t num;
    uint32_t features;
} VirtIOLoadRest;

static int virtio_load_rest(void *opaque)
{
    VirtIOLoadRest *rest = opaque;
    VirtIODevice *vdev = rest->vdev;
    int ret = virtio_load_finish(vdev, rest->num, rest->features);

    if (ret < 0) {
        /* What vmstate_load_state() says */
        error_report("Failed to load %s:virtio",
                     DEVICE_GET_CLASS(vdev)->vmsd->name);
    }
    return ret;
}

static void virtio_load_rest_free(void *opaque)
{
    VirtIOLoadRest *rest = opaque;

    rest->vdev->load_pending = false;
    g_free(rest);
}

/* Is virtio's the last that a section of such a device loads? */
static bool virtio_is_last(const VMStateDescription *vmsd)
{
    return vmsd->priority == MIG_PRI_DEFAULT && !vmsd->post_load &&
           !vmsd->subsections && vmsd->fields[0].info == &virtio_vmstate_info &&
           vmsd->fields[1].flags == VMS_END;
}

/*
 * Does anything that is loaded later need this device to be finished?  With
 * failover, a NIC that gets its features plugs its primary device, the state of
 * which follows.
 */
static bool virtio_may_wait(VirtIODevice *vdev)
{
    bool failover = vdev->device_id == VIRTIO_ID_NET &&
                    virtio_host_has_feature(vdev, VIRTIO_NET_F_STANDBY);

    return !failover && virtio_is_last(DEVICE_GET_CLASS(vdev)->vmsd);
}

int coroutine_mixed_fn virtio_load_finish_in_time(VirtIODevice *vdev,
                                                  uint32_t num,
                                                  uint32_t features)
{
    VirtIOLoadRest *rest;
    bool deferred = false;

    assert(bql_locked());

    if (virtio_may_wait(vdev)) {
        rest = g_new(VirtIOLoadRest, 1);
        *rest = (VirtIOLoadRest) { vdev, num, features };
        deferred = load_batch_defer(DEVICE(vdev), virtio_load_rest, rest,
                                    virtio_load_rest_free);
        if (!deferred) {
            g_free(rest);
        }
    }
    trace_virtio_load_finish(vdev->name, vdev, deferred);
    return deferred ? 0 : virtio_load_finish(vdev, num, features);
}
