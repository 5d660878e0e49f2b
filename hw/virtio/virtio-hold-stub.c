/*
 * Hold guest requests in their virtqueues: there are none
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/virtio/virtio-hold.h"

void virtio_hold_begin(VirtIOHold *hold, unsigned depth)
{
}

void virtio_hold_set_depth(VirtIOHold *hold, unsigned depth)
{
}

void virtio_hold_end(VirtIOHold *hold)
{
}

bool virtio_hold_covers(DeviceState *dev)
{
    return false;
}
