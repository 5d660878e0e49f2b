/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: what serves vhost-user devices
 *
 * For parallel-rig.c; what cases need is in parallel-rig.h.
 */
#ifndef SWITCHOVER_PARALLEL_HOST_H
#define SWITCHOVER_PARALLEL_HOST_H

#include "switchover/parallel-rig.h"

/* Why there are no backends for such a case, or NULL if there are */
char *par_backend_missing(const ParCase *c);

void par_start_host(ParRig *rig, unsigned host);
void par_free_host(ParHost *host);

/* The simulator that serves @device */
SwSim *par_host_sim(ParHost *host, const char *device);

bool par_is_nic(const char *device);
/* 1 for "disk1" */
unsigned par_number(const char *device);

#endif /* SWITCHOVER_PARALLEL_HOST_H */
