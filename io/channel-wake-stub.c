/*
 * A channel that can be woken up, on hosts without poll() for descriptors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "io/channel-wake.h"
#include "qapi/error.h"

QIOChannelWake *qio_channel_wake_new(QIOChannel *master, Error **errp)
{
    error_setg(errp, "This host has no channels that can be woken up");
    return NULL;
}

bool qio_channel_wake_new_pair(QIOChannel *master, QIOChannelWake **in,
                               QIOChannelWake **out, Error **errp)
{
    error_setg(errp, "This host has no channels that can be woken up");
    return false;
}

int qio_channel_wake_wait(QIOChannelWake *wioc, GIOCondition condition,
                          int timeout_ms)
{
    g_assert_not_reached();
}

int qio_channel_wake_drain(QIOChannelWake *wioc, int timeout_ms, Error **errp)
{
    g_assert_not_reached();
}

bool qio_channel_wake_writer_is_stuck(void)
{
    return false;
}

bool qio_channel_wake_hung_up(QIOChannelWake *wioc)
{
    g_assert_not_reached();
}
