/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: devices that share one thread take turns
 *
 * A backend that serves all its connections from one thread handles one message
 * at a time, of whatever device.  Here each device goes on reading its own
 * connection, so as to know when messages arrive, but it may handle one only
 * while the turn is its own.  Turns are given in the order of the requests.
 */

#ifndef VHOST_USER_SIM_TURN_H
#define VHOST_USER_SIM_TURN_H

#include "qemu/event_notifier.h"

typedef struct SimTurn SimTurn;

SimTurn *sim_turn_new(void);
void sim_turn_free(SimTurn *turn);

/*
 * From any thread.  @who, which is set whenever its turn comes, stands for the
 * one that asks.  All of them do nothing, and grant, if @turn is NULL.
 */

/* Asks for the turn if @who has not yet; whether it has it */
bool sim_turn_take(SimTurn *turn, EventNotifier *who);

/* Gives the turn up, or the place in the queue for it, if @who has either */
void sim_turn_leave(SimTurn *turn, EventNotifier *who);

#endif
