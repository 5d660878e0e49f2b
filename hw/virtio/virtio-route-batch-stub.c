/*
 * Interrupt routes of many virtio-pci devices, in a QEMU without virtio-pci
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/virtio/virtio-route-batch.h"

void virtio_route_batch_begin(void)
{
}

void virtio_route_batch_end(void)
{
}
