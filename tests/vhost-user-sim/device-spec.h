/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: devices in words, "nic#,count=16,listen=/x/nic#.sock"
 */

#ifndef VHOST_USER_SIM_DEVICE_SPEC_H
#define VHOST_USER_SIM_DEVICE_SPEC_H

#include "device.h"

/* Adds one or more SimDeviceConfig to @to; from the main thread */
bool sim_device_spec_parse(SimDeviceType type, const char *text, GPtrArray *to,
                           Error **errp);

#endif
