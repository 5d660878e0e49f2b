/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: how long the monitor takes to answer, at worst
 *
 * A thread asks query-migrate every 20 ms on a connection of its own.  A
 * question that is still open counts with its age: a monitor that never
 * answers is not an answer that was quick.
 */
#ifndef SWITCHOVER_MONITOR_PROBE_H
#define SWITCHOVER_MONITOR_PROBE_H

#include "switchover/monitor.h"

typedef struct SwProbe SwProbe;

/* Takes over @mon */
SwProbe *sw_probe_new(SwMonitor *mon);
void sw_probe_free(SwProbe *probe);

/* Forgets what was; the question that is open now counts from now */
void sw_probe_mark(SwProbe *probe);
int64_t sw_probe_worst_ms(SwProbe *probe);

/* None took long: the monitor does not hang */
void sw_probe_expect_answers(SwProbe *probe);

#endif /* SWITCHOVER_MONITOR_PROBE_H */
