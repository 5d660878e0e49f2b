/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: devices that share one thread take turns
 */

#include "qemu/osdep.h"
#include "qemu/thread.h"
#include "turn.h"

struct SimTurn {
    QemuMutex lock;

    /* Under the lock: the first has the turn, the others wait for it */
    GQueue queue;
};

SimTurn *sim_turn_new(void)
{
    SimTurn *turn = g_new0(SimTurn, 1);

    qemu_mutex_init(&turn->lock);
    g_queue_init(&turn->queue);
    return turn;
}

void sim_turn_free(SimTurn *turn)
{
    if (turn) {
        assert(g_queue_is_empty(&turn->queue));
        qemu_mutex_destroy(&turn->lock);
        g_free(turn);
    }
}

bool sim_turn_take(SimTurn *turn, EventNotifier *who)
{
    bool mine;

    if (!turn) {
        return true;
    }
    qemu_mutex_lock(&turn->lock);
    if (!g_queue_find(&turn->queue, who)) {
        g_queue_push_tail(&turn->queue, who);
    }
    mine = g_queue_peek_head(&turn->queue) == who;
    qemu_mutex_unlock(&turn->lock);
    return mine;
}

void sim_turn_leave(SimTurn *turn, EventNotifier *who)
{
    bool had_it;

    if (!turn) {
        return;
    }
    qemu_mutex_lock(&turn->lock);
    had_it = g_queue_peek_head(&turn->queue) == who;
    g_queue_remove(&turn->queue, who);
    if (had_it && !g_queue_is_empty(&turn->queue)) {
        event_notifier_set(g_queue_peek_head(&turn->queue));
    }
    qemu_mutex_unlock(&turn->lock);
}
