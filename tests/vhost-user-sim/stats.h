/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: what one device counts
 *
 * An object without a lock: the device that owns it has one.
 */

#ifndef VHOST_USER_SIM_STATS_H
#define VHOST_USER_SIM_STATS_H

#include "kinds.h"
#include "message.h"
#include "qobject/qdict.h"

#define SIM_QUEUES_MAX 256

typedef struct SimKindStats {
    uint64_t received;
    uint64_t answered;      /* a reply was sent, a false one included */
    uint64_t pending;       /* received and not done with */
    uint64_t most_pending;
} SimKindStats;

typedef struct SimQueueStats {
    bool running;           /* has a kick, was not asked for its base since */
    bool enabled;
    uint64_t requests;      /* of the data plane; unknown to a proxy: 0 */
    uint64_t errors;        /* of these: failed requests, dropped frames */
} SimQueueStats;

typedef struct SimStats {
    SimKindStats kinds[SIM_KIND_MAX];
    SimQueueStats queues[SIM_QUEUES_MAX];
    unsigned n_queues;      /* that there are or were seen */
    uint64_t connections;
    uint64_t faults;        /* that happened */
} SimStats;

void sim_stats_received(SimStats *stats, const SimMessage *msg);
void sim_stats_answered(SimStats *stats, unsigned kind);

/* With or without a reply */
void sim_stats_done(SimStats *stats, const SimMessage *msg);

/* The backend has got, or answered if it answers, @msg */
void sim_stats_obeyed(SimStats *stats, const SimMessage *msg);

/* Nothing pending, no queue runs */
void sim_stats_disconnected(SimStats *stats);

/* All counts to zero; states and what is pending stay */
void sim_stats_reset(SimStats *stats);

/* Adds "connections", "faults", "messages" and "queues" */
void sim_stats_describe(const SimStats *stats, QDict *to);

#endif
