/*
 * Host notifiers of many virtio devices, in a QEMU without virtio
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/virtio/virtio-notifier-batch.h"

void virtio_notifier_batch_begin(void)
{
}

void virtio_notifier_batch_end(void)
{
}
