/*
 * Loading devices in batches: there are none
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/load-batch.h"

void coroutine_mixed_fn load_batch_before_read(QIOChannel *ioc)
{
}

bool coroutine_mixed_fn load_batch_before_channel_wait(QIOChannel *ioc)
{
    return false;
}
