/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: a device, which has a connection now and then
 *
 * A device has a thread, the wire's, that waits for a frontend and then relays
 * between that and a backend (wire.h).  The backend is one of ours, served by a
 * loop's thread of its own or by one that it shares (backend.h, loop.h), or for
 * a proxy any other program's.  The main thread gives orders and asks for
 * counts (control.h).
 */

#ifndef VHOST_USER_SIM_DEVICE_H
#define VHOST_USER_SIM_DEVICE_H

#include "qemu/event_notifier.h"
#include "qemu/lockable.h"
#include "fault.h"
#include "journal.h"
#include "latency.h"
#include "stats.h"
#include "turn.h"

typedef enum SimDeviceType {
    SIM_DEVICE_NET,
    SIM_DEVICE_BLK,
    SIM_DEVICE_PROXY,
} SimDeviceType;

typedef struct SimDeviceConfig {
    SimDeviceType type;
    char *name;
    char *listen;           /* for the frontend; or NULL: a client */
    char *connect;          /* of the frontend, or of a proxy's backend */
    unsigned n_queues;      /* virtqueues, so two for a pair */
    uint64_t without;       /* protocol features not let through */
    SimLatency latency;     /* at the start */
    bool drop;              /* net: frames are not reflected */
    char *file;             /* blk: NULL is memory */
    uint64_t size;          /* blk: in bytes */
} SimDeviceConfig;

typedef struct SimBackend SimBackend;
typedef struct SimLoop SimLoop;

typedef struct SimDevice {
    /* Set at creation */
    SimDeviceConfig *config;
    SimJournal *journal;
    SimTurn *turn;          /* NULL: takes no turns with others */
    SimBackend *backend;    /* NULL for a proxy */
    int listen_fd;          /* -1 for a client */
    QemuThread thread;
    EventNotifier wake;     /* the wire's thread: something has changed */

    /* Under the lock */
    QemuMutex lock;
    SimLatency latency;
    GArray *faults;         /* of SimFault */
    SimStats stats;
    int frontend;           /* -1 while there is none */
    bool is_held;           /* by a fault */
    bool resume;            /* asked for */
    bool stop;              /* asked for, and final */
} SimDevice;

/* ---- from the main thread ------------------------------------------------ */

void sim_device_config_free(SimDeviceConfig *config);

/* Listens at once if it is a server.  Takes @config, also if it fails */
SimDevice *sim_device_new(SimDeviceConfig *config, SimJournal *journal,
                          SimTurn *turn, SimLoop *loop, Error **errp);

/* All of stop() before the first of free(), or they wait for each other */
void sim_device_stop(SimDevice *dev);
void sim_device_free(SimDevice *dev);

void sim_device_set_latency(SimDevice *dev, const SimLatency *latency);
void sim_device_add_fault(SimDevice *dev, const SimFault *fault);
void sim_device_clear_faults(SimDevice *dev);

/* Whether anything was held, or connected */
bool sim_device_resume(SimDevice *dev);
bool sim_device_drop(SimDevice *dev);

void sim_device_reset_stats(SimDevice *dev);
QDict *sim_device_describe(SimDevice *dev);

/* ---- from a loop's thread ------------------------------------------------ */

void sim_device_count_request(SimDevice *dev, int queue, bool good);

#endif
