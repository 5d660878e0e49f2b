/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: a guest on vhost-user devices
 *
 * There are two hosts, each with its own backends: the simulator, unless the
 * case wants real ones.  The disks of both are the same files.  The guest
 * starts on the first, and is migrated between them.  Devices, their chardevs
 * and the simulator's names for them are the same: disk0, disk1, ..., nic0, ...
 */
#ifndef SWITCHOVER_PARALLEL_RIG_H
#define SWITCHOVER_PARALLEL_RIG_H

#include "switchover/real-backend.h"
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
    unsigned depth;             /* requests in flight on a disk; 0: four */
    bool idle;                  /* ... or none */
    /* disk0 is served by a process of its own */
    bool lone;
    /* Backends that others wrote: each device has a process of its own, ... */
    bool real;
    /* ... or all disks have one, and all cards have one */
    bool shared;
    /* QEMU is the client, and connects again after so many milliseconds */
    unsigned reconnect_ms;
    /* With another disk and another card, which QEMU itself serves */
    bool own_devices;
    /* NULL, or the device whose chardev has a log file: no mere socket */
    const char *logged;
    /* The source is run with this library preloaded, beside the test */
    const char *preload;
    /* NULL, or a pattern of trace events, which go to standard error */
    const char *trace;

    /* Without the capability on that side */
    bool src_off, dst_off;
    int threads;                /* 0: not set */
    unsigned drain_timeout_ms;  /* 0: not set */
    const char *action;         /* NULL: not set */
    bool inflight_free;
    bool postcopy;
    bool pause_before_switchover;

    /* What is going to be in trouble; NULL: disk0 */
    const char *victim;
    /* Message and fault, for a table of cases */
    const char *fault;
    const char *says;

    ParStep *run;
} ParCase;

typedef struct ParHost {
    SwSim *sim;                 /* or NULL */
    SwSim *lone;                /* or NULL */
    /* The first of those that share one has it; or NULL */
    SwChild *disk[PAR_DISKS_MAX];
    SwChild *nic[PAR_NICS_MAX];
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
const char *par_victim(ParRig *rig);
/* All of them: disks first */
unsigned par_devices(const ParCase *c);
const char *par_device(const ParCase *c, unsigned n);
unsigned par_rings(const ParCase *c, unsigned n);

/* The process that serves @device on the source's host; see child.h */
void par_freeze(ParRig *rig, const char *device);
void par_thaw(ParRig *rig, const char *device);
/* Real ones: it crashes / it is started again */
void par_kill(ParRig *rig, const char *device);
void par_revive(ParRig *rig, const char *device);
/*
 * Whether what happens to @device happens to @other: they are the same, or one
 * process serves both and does it as a whole.
 */
bool par_share_fate(ParRig *rig, const char *device, const char *other);

/* A new destination; one that was there before has ended */
void par_start_destination(ParRig *rig);
/* Starts a migration to it */
void par_migrate(ParRig *rig);
/* The same in two steps: it does not come to the switchover until let go */
void par_migrate_slowly(ParRig *rig);
void par_hasten(ParRig *rig);
/*
 * The guest asks its disks for nothing more, until they are expected to work.
 * Before a switchover with real disks: see parallel-backend-tests.c.
 */
void par_calm(ParRig *rig);
/* With pause_before_switchover: it comes there / it goes on from there */
void par_expect_pre_switchover(ParRig *rig);
void par_continue(ParRig *rig);
/*
 * The migration completes (also if it has to be continued), the guest runs at
 * the destination only, with all its devices and data.
 */
void par_expect_completed(ParRig *rig);
/* Start a destination, migrate there, expect that it completes, and turn */
void par_move(ParRig *rig);
/* After a migration that completed: from there on, that is the source */
void par_turn(ParRig *rig);
/* The destination ends, and a new one starts */
void par_renew_destination(ParRig *rig);

/* Requests, or frames, are served from now on; and no data are wrong */
void par_expect_works(ParRig *rig);
/* The same, without looking at data, but for @device and who shares its fate */
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
