/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: a case, and what is set up for it
 *
 * A case says what hangs and how it ends; the rig is two QEMUs, the disks they
 * share, and a guest on the source that works on them.  The steps of a test, in
 * this order:
 *
 * sw_rig_new()       disks served, both QEMUs up, guest at work
 * sw_rig_stick()     the victim stops answering, with a request held
 * sw_rig_migrate()   migration begins; its switchover meets the hang
 * case->end()        what must come of it (scenario.h), with expect.h
 * sw_rig_free()
 *
 * Without sw_rig_stick() it is an ordinary migration.
 */
#ifndef SWITCHOVER_RIG_H
#define SWITCHOVER_RIG_H

#include "switchover/child.h"
#include "switchover/disk-config.h"
#include "switchover/harness.h"
#include "switchover/proxy.h"
#include "switchover/stuck-disk.h"
#include "switchover/vm.h"

/* Unless the case says otherwise */
#define SW_DRAIN_TIMEOUT_MS 200

/* Which side has a capability */
typedef enum SwSides {
    SW_NEITHER,
    SW_BOTH,
    SW_SOURCE_ONLY,
    SW_DESTINATION_ONLY,
} SwSides;

typedef struct SwRig SwRig;
typedef void SwStep(SwRig *rig);

typedef struct SwCase {
    /* Below the suite's */
    const char *path;
    /* Not in the smoke set */
    bool full;

    /* Environment variables that name the binaries; NULL: the one under test */
    const char *src_binary;
    const char *dst_binary;
    /* NULL: what the device wants */
    const char *machine;

    const SwDevice *device;
    const SwDriver *driver;
    /* What the guest does and what must be among the stuck requests */
    SwKind kind;
    /* Disks there are, and disks the guest works on; 0: one */
    unsigned disks;
    unsigned guest_disks;
    /* Time that each disk takes for a request */
    unsigned latency_ms[2];
    /* Requests that the guest has in flight on each disk; 0: a few */
    unsigned depth;
    /* vCPUs of the guest, each with a queue if the disk has so many; 0: two */
    unsigned cpus;
    /*
     * Memory that the guest writes per second, going round a buffer; 0: none
     */
    unsigned dirty_mib_per_s;
    unsigned dirty_mib;
    /* The guest was stopped by the user before */
    bool source_paused;
    /*
     * The guest has written, and asks for nothing when the disk hangs: only
     * the flush of the switchover itself hangs.
     */
    bool idle;
    /* Nothing hangs when the migration begins; the end sees to what does */
    bool healthy;

    bool postcopy;
    /* Who has the capability postcopy-ready */
    SwSides ready;
    /* More capabilities, for both sides */
    const char *capabilities[3];
    /* The destination is started with -S */
    bool dst_paused;
    /* It stays if it gets no guest */
    bool dst_stays;
    /*
     * What the migration goes over: "unix", the default; "tcp"; "vsock"; "fd",
     * which is a socket that both get; and, for one direction only, "pipe",
     * "fifo" and "exec"
     */
    const char *main_by;
    const char *link_by;
    /* Where it is the default it can break: rig->proxy, rig->link_proxy */
    bool proxied;
    /* Who is given a channel for the return path, with an address of its own */
    SwSides link;
    bool pause_before_switchover;
    /* With the capability parallel-vmstate-change, on both sides */
    bool parallel;
    /* With all that libvirt sets; includes pause_before_switchover */
    bool libvirt;
    /* None of the new parameters is set */
    bool off;
    /* 0: SW_DRAIN_TIMEOUT_MS */
    unsigned drain_timeout_ms;
    /* With the capability inflight-free-switchover; 0: not set, the default */
    bool inflight_free;
    unsigned quiesce_window_ms;
    unsigned quiesce_queue_depth;
    /* NULL: not set, which is "retry" */
    const char *action;
    /* Time-outs to see before the end begins; 0: one */
    unsigned timeouts;

    /* Optional: arguments for both sides */
    char *(*more_args)(SwRig *rig);
    /* Optional: with the guest at work, before anything hangs */
    SwStep *setup;
    /* Optional: with a destination that does not listen yet */
    SwStep *at_destination;
    /* Optional: at "pre-switchover", before migrate-continue */
    SwStep *at_pre_switchover;
    /* What must come of it */
    SwStep *end;
} SwCase;

/* Of a connection that both sides get: not yet handed over, or -1 */
typedef struct SwEnds {
    int far;
    int near;
} SwEnds;

struct SwRig {
    const SwCase *c;
    char *dir;
    char *more_args;

    SwDisk *disk[2];
    /* Optional: what a mirror job writes to */
    SwDisk *mirror;
    /* Optional: a socket that hears what a network card sends */
    int network;
    /* Optional: who writes to an NBD export */
    SwChild *writer;

    /* What hangs, the name its nodes begin with, and the kind of request */
    SwDisk *victim;
    const char *victim_node;
    SwKind victim_kind;

    SwVM *src;
    SwVM *dst;
    char *dst_stderr;       /* file with what it said; NULL: on ours */
    unsigned destinations;
    unsigned ways;          /* that there were between them */
    /* Where the destination listens, and where the source connects to */
    char *dst_uri;
    char *uri;
    /* Optional: the same for the return path's channel */
    char *dst_link;
    char *link;
    /* Optional: what is between them */
    SwProxy *proxy;
    SwProxy *link_proxy;
    SwEnds ends;
    SwEnds link_ends;

    unsigned flowing;       /* requests seen that mean that I/O flows */
    int64_t stuck_us;       /* when the victim stopped answering */
    int64_t begun_us;       /* when the switchover was asked for */
    bool paused;            /* the user stopped the guest, ... */
    unsigned paused_beats;  /* ... after so many heartbeats */
    bool dst_paused;        /* nobody has told the destination to run */
    int64_t remaining;      /* memory to be sent, when it was looked at */
};

/*
 * Adds the case below @suite, to be run by @run, which gets it; those of the
 * full set only with -m slow.  The case has to stay.
 */
void sw_add_case(const char *suite, const SwCase *c, GTestDataFunc run);

/* NULL, with the test skipped, where something is not there */
SwRig *sw_rig_new(const SwCase *c);
void sw_rig_free(SwRig *rig);

void sw_rig_stick(SwRig *rig);
/* The victim holds a request of the source's monitor, on the guest's disk */
void sw_rig_stick_by_monitor(SwRig *rig);
void sw_rig_release(SwRig *rig);

void sw_rig_migrate(SwRig *rig);

/*
 * The same in two steps: it does not come to the switchover by itself, until it
 * is let go.
 */
void sw_rig_migrate_slowly(SwRig *rig);
void sw_rig_hasten(SwRig *rig);

/* The command migrate, to rig->uri and, if there is one, rig->link */
void sw_rig_connect(SwRig *rig);

/* The same, with something to be set between the two: the speed, at least */
void sw_rig_prepare(SwRig *rig);
void sw_rig_start(SwRig *rig);

/* After a migration that completed: from there to somewhere else */
void sw_rig_turn(SwRig *rig);

/* The guest idles, and all that it asked for is done */
void sw_rig_idle(SwRig *rig);

/*
 * The destination of a post-copy that was cut listens once more, and the source
 * connects there.
 */
void sw_rig_listen_again(SwRig *rig);
void sw_rig_resume(SwRig *rig);

/* A new destination, after a migration that came to nothing */
void sw_rig_renew_destination(SwRig *rig);

static inline bool sw_rig_pauses(SwRig *rig)
{
    return rig->c->pause_before_switchover || rig->c->libvirt;
}

/* Is there a phase "hold" to wait in?  Never in stock mode. */
static inline bool sw_rig_holds(SwRig *rig)
{
    return rig->c->ready == SW_BOTH && !sw_stock_mode();
}

static inline unsigned sw_rig_drain_timeout_ms(SwRig *rig)
{
    return rig->c->drain_timeout_ms ?: SW_DRAIN_TIMEOUT_MS;
}

#endif /* SWITCHOVER_RIG_H */
