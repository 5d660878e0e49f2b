/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: what one device counts
 */

#include "qemu/osdep.h"
#include "libvhost-user.h"
#include "qobject/qlist.h"
#include "stats.h"

void sim_stats_received(SimStats *stats, const SimMessage *msg)
{
    SimKindStats *kind = &stats->kinds[msg->hdr.kind];

    kind->received++;
    kind->pending++;
    kind->most_pending = MAX(kind->most_pending, kind->pending);
}

void sim_stats_answered(SimStats *stats, unsigned kind)
{
    stats->kinds[kind].answered++;
}

void sim_stats_done(SimStats *stats, const SimMessage *msg)
{
    stats->kinds[msg->hdr.kind].pending--;
}

void sim_stats_obeyed(SimStats *stats, const SimMessage *msg)
{
    int index = sim_message_queue(msg);
    SimQueueStats *queue;

    if (index < 0 || index >= SIM_QUEUES_MAX) {
        return;
    }
    stats->n_queues = MAX(stats->n_queues, index + 1);
    queue = &stats->queues[index];
    switch (msg->hdr.kind) {
    case VHOST_USER_SET_VRING_KICK:
        queue->running = true;
        break;
    case VHOST_USER_GET_VRING_BASE:
        queue->running = false;
        break;
    case VHOST_USER_SET_VRING_ENABLE:
        queue->enabled = sim_message_value(msg);
        break;
    }
}

void sim_stats_disconnected(SimStats *stats)
{
    unsigned i;

    for (i = 0; i < SIM_KIND_MAX; i++) {
        stats->kinds[i].pending = 0;
    }
    for (i = 0; i < SIM_QUEUES_MAX; i++) {
        stats->queues[i].running = stats->queues[i].enabled = false;
    }
}

void sim_stats_reset(SimStats *stats)
{
    unsigned i;

    for (i = 0; i < SIM_KIND_MAX; i++) {
        SimKindStats *kind = &stats->kinds[i];

        kind->received = kind->answered = 0;
        kind->most_pending = kind->pending;
    }
    for (i = 0; i < SIM_QUEUES_MAX; i++) {
        stats->queues[i].requests = stats->queues[i].errors = 0;
    }
    stats->connections = stats->faults = 0;
}

static QDict *describe_kind(const SimKindStats *kind)
{
    QDict *dict = qdict_new();

    qdict_put_int(dict, "received", kind->received);
    qdict_put_int(dict, "answered", kind->answered);
    qdict_put_int(dict, "pending", kind->pending);
    qdict_put_int(dict, "most-pending", kind->most_pending);
    return dict;
}

static QDict *describe_queue(const SimQueueStats *queue)
{
    QDict *dict = qdict_new();

    qdict_put_bool(dict, "running", queue->running);
    qdict_put_bool(dict, "enabled", queue->enabled);
    qdict_put_int(dict, "requests", queue->requests);
    qdict_put_int(dict, "errors", queue->errors);
    return dict;
}

void sim_stats_describe(const SimStats *stats, QDict *to)
{
    QDict *messages = qdict_new();
    QList *queues = qlist_new();
    unsigned i;

    for (i = 0; i < SIM_KIND_MAX; i++) {
        if (stats->kinds[i].received || stats->kinds[i].pending) {
            qdict_put(messages, sim_kind_name(i),
                      describe_kind(&stats->kinds[i]));
        }
    }
    for (i = 0; i < stats->n_queues; i++) {
        qlist_append(queues, describe_queue(&stats->queues[i]));
    }
    qdict_put_int(to, "connections", stats->connections);
    qdict_put_int(to, "faults", stats->faults);
    qdict_put(to, "messages", messages);
    qdict_put(to, "queues", queues);
}
