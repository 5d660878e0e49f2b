/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: one message with its file descriptors
 */

#ifndef VHOST_USER_SIM_MESSAGE_H
#define VHOST_USER_SIM_MESSAGE_H

#define SIM_PAYLOAD_MAX 4096
#define SIM_FDS_MAX 16

#define SIM_FLAG_VERSION 0x1
#define SIM_FLAG_REPLY 0x4
#define SIM_FLAG_NEED_REPLY 0x8

typedef struct QEMU_PACKED SimHeader {
    uint32_t kind;
    uint32_t flags;
    uint32_t size;      /* of the payload, in bytes */
} SimHeader;

typedef struct SimMessage {
    SimHeader hdr;
    uint8_t payload[SIM_PAYLOAD_MAX];   /* zeroes behind hdr.size */
    int fds[SIM_FDS_MAX];
    unsigned n_fds;
    int64_t at_us;                      /* when it was read, monotonic */
} SimMessage;

/*
 * Callable from any thread; a socket has one reader and one writer at a time.
 */

/* Waits for a whole message.  NULL without an error: the other end has gone */
SimMessage *sim_message_receive(int sock, Error **errp);

/* The message keeps its file descriptors */
bool sim_message_send(int sock, const SimMessage *msg, Error **errp);

/* Closes its file descriptors */
void sim_message_free(SimMessage *msg);

uint32_t sim_message_u32(const SimMessage *msg, unsigned at);
uint64_t sim_message_u64(const SimMessage *msg);
void sim_message_put_u32(SimMessage *msg, unsigned at, uint32_t value);
void sim_message_put_u64(SimMessage *msg, uint64_t value);

/* -1 if the message is about no queue */
int sim_message_queue(const SimMessage *msg);

/* What a reader of a log wants to know: a queue's number, or 8 bytes */
uint64_t sim_message_value(const SimMessage *msg);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(SimMessage, sim_message_free)

#endif
