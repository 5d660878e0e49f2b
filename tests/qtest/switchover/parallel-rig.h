/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: a guest on simulated vhost-user devices
 *
 * There are two hosts, each with its own simulator; the disks of both are the
 * same files.  The guest starts on the first, and is migrated between them.
 * Devices, their chardevs and the simulator's names for them are the same:
 * disk0, disk1, ..., nic0, nic1, ...
 */
#ifndef SWITCHOVER_PARALLEL_RIG_H
#define SWITCHOVER_PARALLEL_RIG_H

#include "switchover/vhost-sim.h"
#include "switchover/vm.h"

#define PAR_DISKS_MAX 4
#define PAR_NICS_MAX 4

typedef struct ParRig ParRig;
typedef void ParStep(ParRig *rig);

typedef struct ParCase {
    /* Below the suite's */
    const char *path;
    /* Not in the smoke set */
    bool full;

    /* Environment variables that name the binaries; NULL: the one under test */
    const char *src_binary;
    const char *dst_binary;

    unsigned disks;             /* 0: two */
    unsigned nics;              /* ... with as many pairs as there are queues */
    unsigned queues;            /* of each disk, and vCPUs; 0: two */
    /* disk0 is served by a process of its own */
    bool lone;
    /* QEMU is the client, and connects again after so many milliseconds */
    unsigned reconnect_ms;
    /* With another disk and another card, which QEMU itself serves */
    bool own_devices;
    /* NULL, or the device whose chardev has a log file: no mere socket */
    const char *logged;
    /* The source is run with this library preloaded, beside the test */
    const char *preload;

    /* Without the capability on that side */
    bool src_off, dst_off;
    int threads;                /* 0: not set */
    unsigned drain_timeout_ms;  /* 0: not set */
    const char *action;         /* NULL: not set */
    bool inflight_free;

    /* Message and fault, for a table of cases */
    const char *fault;
    const char *says;

    ParStep *run;
} ParCase;

typedef struct ParHost {
    SwSim *sim;
    SwSim *lone;                /* or NULL */
} ParHost;

struct ParRig {
    const ParCase *c;
    char *dir;
    ParHost host[2];
    unsigned here;              /* where the source is */
    SwVM *src;
    SwVM *dst;                  /* or NULL */
    unsigned vms;
    char *uri;
};

/* Adds @c below /parallel-vmstate; it has to stay */
void par_add_case(const ParCase *c);

/*
 * The rest is for the steps of a case, which finds the guest at work
 */

/* The simulator that serves @device on the source's, or the other, host */
SwSim *par_sim(ParRig *rig, const char *device);
SwSim *par_dst_sim(ParRig *rig, const char *device);

/* "disk0" and so on, constants */
const char *par_disk(unsigned n);
const char *par_nic(unsigned n);
unsigned par_disks(const ParCase *c);
unsigned par_queues(const ParCase *c);

/* A new destination; one that was there before has ended */
void par_start_destination(ParRig *rig);
/* Starts a migration to it */
void par_migrate(ParRig *rig);
/* The same in two steps: it does not come to the switchover until let go */
void par_migrate_slowly(ParRig *rig);
void par_hasten(ParRig *rig);
/*
 * The migration completes, the guest runs at the destination only, with all its
 * devices and data.
 */
void par_expect_completed(ParRig *rig);
/* Start a destination, migrate there, expect that it completes, and turn */
void par_move(ParRig *rig);
/* After a migration that completed: from there on, that is the source */
void par_turn(ParRig *rig);
/* The destination ends, and a new one starts */
void par_renew_destination(ParRig *rig);

/* Requests, or frames, are served from now on */
void par_expect_device_works(SwSim *sim, const char *device);
/* All of them, and no data are wrong */
void par_expect_works(ParRig *rig);
/* All but one of them, without looking at data */
void par_expect_others_work(ParRig *rig, const char *device);

void par_stop(ParRig *rig);
void par_cont(ParRig *rig);

/* What query-migrate says about @device on @vm, or NULL */
QDict *par_query_device(SwVM *vm, const char *device);
bool par_is_late(ParRig *rig, const char *device);
/* Waits for it */
void par_wait_late(ParRig *rig, const char *device, bool late);

/* What @vm said on standard error so far */
char *par_stderr(ParRig *rig, SwVM *vm);
/* ... names @what; waits for it */
void par_expect_said(ParRig *rig, SwVM *vm, const char *what);

#endif /* SWITCHOVER_PARALLEL_RIG_H */
