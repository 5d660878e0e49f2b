/*
 * Finish loading a virtio device when the memory map is there
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * virtio_load() reads the state of a device from the stream.  What comes after
 * has no need of the stream, but of the guest's memory: the device gets its
 * features, maps its rings, and compares its indices with those in there.  This
 * can wait until the map is committed for all devices, see
 * migration/load-batch.h.
 *
 * A device whose own state or post_load follows in the same section expects to
 * find virtio's finished.  So do others that an IOMMU translates for, and the
 * primary device of a failover pair, which is plugged on that occasion.  Their
 * load does not wait.
 *
 * From the beginning of virtio_load() until it is finished,
 * VirtIODevice.load_pending is set.  The device does not follow changes of the
 * map meanwhile: its rings are where they were before, or half described.
 *
 * All functions are called with the BQL held.
 */

#ifndef HW_VIRTIO_LOAD_H
#define HW_VIRTIO_LOAD_H

#include "hw/virtio/virtio.h"
#include "qemu/coroutine.h"

/* Calls virtio_load_finish(), now or later */
int coroutine_mixed_fn virtio_load_finish_in_time(VirtIODevice *vdev,
                                                  uint32_t num,
                                                  uint32_t features);

/*
 * In virtio.c: the part of virtio_load() that has no need of the stream.
 * @num: queues in the stream.  @features: the low half, as in the stream.
 */
int coroutine_mixed_fn virtio_load_finish(VirtIODevice *vdev, uint32_t num,
                                          uint32_t features);

#endif /* HW_VIRTIO_LOAD_H */
