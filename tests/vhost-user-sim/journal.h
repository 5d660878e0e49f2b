/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: the log of what happened, to be read by tests
 *
 * One line per event, in the order of the events, written at once:
 *
 *     TIME_US DEVICE EVENT KIND QUEUE VALUE
 *
 * TIME_US is on the monotonic clock, QUEUE and VALUE are "-" where there is
 * none.  VALUE is hexadecimal: the number of a vring state (SET_VRING_BASE and
 * the like), else the first 8 bytes of the payload.  Events:
 *
 * connect, disconnect   KIND is "-"
 * arrive                a message was read from the frontend
 * forward               it went to the backend: its latency is over
 * reply                 something was sent to the frontend as its reply
 * stray                 as well, but nothing had been asked
 * fault:<TYPE>          a fault happens to this message
 * resume                it is no longer held
 */

#ifndef VHOST_USER_SIM_JOURNAL_H
#define VHOST_USER_SIM_JOURNAL_H

#include "message.h"

typedef struct SimJournal SimJournal;

/* @path: NULL makes a journal that drops everything */
SimJournal *sim_journal_new(const char *path, Error **errp);
void sim_journal_free(SimJournal *journal);

/* From any thread.  @msg may be NULL; @at_us 0 is now */
void sim_journal_write(SimJournal *journal, const char *device,
                       const char *event, const SimMessage *msg, int64_t at_us);

#endif
