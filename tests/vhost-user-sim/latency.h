/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: how long messages take
 *
 * Two models:
 *
 * serial  Every message of a kind takes as long as is given for that kind, one
 *         after another on the connection: what a backend does has a price.
 * wakeup  The price is for looking at the connection.  A backend with nothing
 *         to do notices the first message to arrive after the time that is
 *         given for that message's kind, and then handles all that has arrived
 *         without further delay, until there is nothing left.
 */

#ifndef VHOST_USER_SIM_LATENCY_H
#define VHOST_USER_SIM_LATENCY_H

#include "kinds.h"

#define SIM_LATENCY_MAX_US (600 * 1000 * 1000)

typedef enum SimLatencyMode {
    SIM_LATENCY_SERIAL,
    SIM_LATENCY_WAKEUP,
} SimLatencyMode;

/* All zero: no latency.  A value; whoever holds it does the locking */
typedef struct SimLatency {
    SimLatencyMode mode;
    int64_t us[SIM_KIND_MAX + 1];       /* at SIM_KIND_ANY: all others */
} SimLatency;

bool sim_latency_mode_parse(const char *name, SimLatencyMode *mode,
                            Error **errp);

/* Adds "KIND:MICROSECONDS[,...]"; on an error, @latency is unchanged */
bool sim_latency_parse(SimLatency *latency, const char *text, Error **errp);

int64_t sim_latency_us(const SimLatency *latency, unsigned kind);

#endif
