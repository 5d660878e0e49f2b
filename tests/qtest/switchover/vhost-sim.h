/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: vhost-user backends that are slow or wrong on command
 *
 * One process of tests/vhost-user-sim ($SWITCHOVER_VHOST_SIM) for any number of
 * devices.  It writes counts and log before a frontend can see a reply, so what
 * is asked after QEMU answered is complete.
 */
#ifndef SWITCHOVER_VHOST_SIM_H
#define SWITCHOVER_VHOST_SIM_H

#include "qobject/qdict.h"

typedef struct SwSim SwSim;

/* Why there is no simulator, or NULL if there is */
const char *sw_sim_missing(void);

/*
 * Starts one with @devices, words such as "--blk", "disk#,count=2,..." up to a
 * NULL.  Its control socket and its log are files of @dir that begin with
 * @name.  Ends with the test.
 */
SwSim *sw_sim_new(const char *dir, const char *name,
                  const char *const *devices);
void sw_sim_free(SwSim *sim);

/* As if the host gave it no CPU (SIGSTOP), and on it goes */
void sw_sim_freeze(SwSim *sim);
void sw_sim_thaw(SwSim *sim);

/*
 * A command; fails the test unless the answer is OK, and returns what follows
 */
char *sw_sim_order(SwSim *sim, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* As above, for commands that return nothing of interest */
void sw_sim_do(SwSim *sim, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* "stats" of one device */
QDict *sw_sim_stats(SwSim *sim, const char *device);

/*
 * Of the messages of @kind: "received", "answered", "pending", "most-pending"
 */
int64_t sw_sim_count(SwSim *sim, const char *device, const char *kind,
                     const char *what);

/* Requests that all queues of @device have served */
int64_t sw_sim_requests(SwSim *sim, const char *device);

/* How many of its queues run */
unsigned sw_sim_running(SwSim *sim, const char *device);

bool sw_sim_connected(SwSim *sim, const char *device);

/* How often a frontend connected to @device */
int64_t sw_sim_connections(SwSim *sim, const char *device);

/* Close the connection of @device, and wait for a new one */
void sw_sim_drop(SwSim *sim, const char *device);

/* Is a message of @device held by the fault "hold"? */
bool sw_sim_holds(SwSim *sim, const char *device);
void sw_sim_wait_held(SwSim *sim, const char *device);

/*
 * When @event ("arrive", "reply") happened to messages of @kind of @device
 * since @since_us: the first one, or the last one.  0 if none did.
 */
int64_t sw_sim_when(SwSim *sim, const char *device, const char *event,
                    const char *kind, int64_t since_us, bool last);

#endif /* SWITCHOVER_VHOST_SIM_H */
