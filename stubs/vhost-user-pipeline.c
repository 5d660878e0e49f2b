/*
 * vhost-user: nobody is told anything
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/virtio/vhost-user-pipeline.h"
#include "qemu/main-loop.h"

void vhost_user_pipelines_begin_telling(void)
{
    bql_lock();
}

int vhost_user_pipelines_end_telling(Error **errp)
{
    bql_unlock();
    return 0;
}
