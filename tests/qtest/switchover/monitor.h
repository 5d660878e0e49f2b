/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: one QMP connection with deadlines
 *
 * libqtest's own connection waits up to 50 s inside a read and then aborts
 * without a word; these tests are about monitors that do not answer, so they
 * bring their own.  A thread reads: replies go to whoever waits for one,
 * events go to a list with their time of arrival, and stay there.
 *
 * One command at a time per connection.
 */
#ifndef SWITCHOVER_MONITOR_H
#define SWITCHOVER_MONITOR_H

#include "qobject/qdict.h"

typedef struct SwMonitor SwMonitor;

/*
 * Takes over @fd, reads the greeting, leaves negotiation mode; with @oob, such
 * that commands may be "exec-oob", which do not need QEMU's main loop
 */
SwMonitor *sw_monitor_new(int fd, const char *name, bool oob);
void sw_monitor_free(SwMonitor *mon);

/*
 * The whole response, error or not; waits SW_WAIT_MS for it.
 * NULL only if QEMU closed the connection.
 */
QDict *sw_qmp_try(SwMonitor *mon, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
QDict *sw_vqmp_try(SwMonitor *mon, const char *fmt, va_list ap)
    G_GNUC_PRINTF(2, 0);

/*
 * Two commands without arguments, sent as one: QEMU has the second before it
 * answers the first, which must succeed.  The whole response to the second.
 */
QDict *sw_qmp_pair_try(SwMonitor *mon, const char *first, const char *second);

/*
 * A command without arguments, whose response is waited for, and not looked at,
 * by a thread of its own.
 */
typedef struct SwOrder {
    SwMonitor *mon;
    const char *name;
    GThread *thread;
} SwOrder;

void sw_order_begin(SwOrder *order, SwMonitor *mon, const char *name);
void sw_order_end(SwOrder *order);

/* As sw_qmp_try(), but the test fails if it is not a success */
QDict *sw_qmp_rsp(SwMonitor *mon, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* As above; the "return" member, which must be an object */
QDict *sw_qmp(SwMonitor *mon, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* As above, for commands that return nothing of interest */
void sw_qmp_ok(SwMonitor *mon, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* Fails unless the command fails; the error's description */
char *sw_qmp_error(SwMonitor *mon, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/*
 * Hands over a duplicate of @fd: "fd:NAME" in a later command on this
 * connection
 */
void sw_monitor_give_fd(SwMonitor *mon, const char *name, int fd);

/* The output of an HMP command */
char *sw_hmp(SwMonitor *mon, const char *cmd);

/*
 * Waits for event @name number @nth (from 0) of those heard since creation or
 * since sw_events_forget().  Stays owned by @mon.  Its time of arrival goes to
 * @when_us unless that is NULL.
 */
QDict *sw_event_wait(SwMonitor *mon, const char *name, unsigned nth,
                     int64_t *when_us);

/* How many events @name were heard */
unsigned sw_event_count(SwMonitor *mon, const char *name);

void sw_events_forget(SwMonitor *mon);

/*
 * Waits for the MIGRATION event that says @status.  Fails at once on an event
 * that says that the migration ended otherwise.  Returns when it arrived.
 */
int64_t sw_status_wait(SwMonitor *mon, const char *status);
/* The same; returns the event, which stays owned by @mon */
QDict *sw_status_wait_event(SwMonitor *mon, const char *status);

/* When QEMU made the event, by its host's clock */
int64_t sw_event_stamp_us(QDict *event);

/* Whether the MIGRATION event that says @status was heard */
bool sw_status_seen(SwMonitor *mon, const char *status);

#endif /* SWITCHOVER_MONITOR_H */
