/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: what goes wrong, and with which message
 *
 *     TYPE KIND [n=N] [times=N] [queue=N] [PARAMETER=N ...]
 *
 * It happens to the n-th message (1, the next, by default) of this kind, or of
 * this kind and queue, and to the times-1 ones that follow it.  Messages count
 * when the backend takes them up, in their order.
 *
 * hold      nothing is done, and nothing with later messages, until "resume"
 * close     the connection is closed
 *
 * The others concern the reply; only messages that get one are counted:
 *
 * swallow   the backend obeys and the reply is lost
 * short     the reply is cut to size=N bytes of payload, 4 by default
 * kind      the reply says that it is one to another kind, to=KIND
 * value     the reply's payload is changed: its first 8 bytes to value=N, its
 *           first 4 to index=N, the next 4 to num=N
 * swap      the reply is kept until after the next one
 * twice     the reply is sent twice
 * nack      an acknowledgment says value=N, 1 by default; only for messages
 *           that have no reply but this one
 */

#ifndef VHOST_USER_SIM_FAULT_H
#define VHOST_USER_SIM_FAULT_H

#include "message.h"

typedef enum SimFaultType {
    SIM_FAULT_HOLD,
    SIM_FAULT_CLOSE,
    SIM_FAULT_SWALLOW,
    SIM_FAULT_SHORT,
    SIM_FAULT_KIND,
    SIM_FAULT_VALUE,
    SIM_FAULT_SWAP,
    SIM_FAULT_TWICE,
    SIM_FAULT_NACK,
    SIM_FAULT__MAX,
    SIM_FAULT_NONE = SIM_FAULT__MAX,
} SimFaultType;

/* A value; whoever holds it does the locking */
typedef struct SimFault {
    SimFaultType type;
    unsigned kind;          /* SIM_KIND_ANY for all */
    int queue;              /* -1 for all */
    unsigned n;             /* messages until it happens, this one included */
    unsigned times;         /* how often it still happens; 0: it is over */
    uint64_t size;
    unsigned to;
    bool has_value, has_index, has_num;
    uint64_t value, index, num;
} SimFault;

const char *sim_fault_name(SimFaultType type);

/* @words: as above, ended by NULL */
bool sim_fault_parse(SimFault *fault, char **words, Error **errp);

/* Counts @msg, which @is_answered or not.  True: it happens to this one */
bool sim_fault_strikes(SimFault *fault, const SimMessage *msg,
                       bool is_answered);

/* For the types short, kind, value and nack; no effect otherwise */
void sim_fault_alter(const SimFault *fault, SimMessage *reply);

#endif
