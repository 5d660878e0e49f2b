/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: the wire between a frontend and a backend
 *
 * Theory of operation
 *
 * sim_wire_run() relays one connection, in a thread that does nothing else and
 * that waits in poll() only.  So a message is read, and its arrival logged, as
 * soon as it is there, whatever the wire is doing with those before it.
 *
 * What was read waits in a queue, and goes through these states one by one:
 *
 *     IDLE ----> (ASLEEP) ----> TURN ----> (HELD) ----> DELAYED ----> ASKED
 *       ^                                                  |            |
 *       +--------------------------------------------------+------------+
 *
 * ASLEEP   latency mode wakeup: the backend has not looked yet
 * TURN     waits until no other device is being served (turn.h)
 * HELD     a fault; left by "resume" only
 * DELAYED  latency mode serial: the backend is at it
 * ASKED    the backend has the message, and must reply
 *
 * A message that gets no reply is done with when the backend has it.  The
 * backend itself never sees a message before it has answered the one before:
 * that is how replies are matched with requests, without trusting anybody.
 */

#ifndef VHOST_USER_SIM_WIRE_H
#define VHOST_USER_SIM_WIRE_H

#include "device.h"

/*
 * In the device's thread.  Returns when either side has gone, or was thrown
 * out; both sockets, which must be blocking ones, stay open.
 */
void sim_wire_run(SimDevice *dev, int frontend, int backend);

#endif
