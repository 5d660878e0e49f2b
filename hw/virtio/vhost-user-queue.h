/*
 * vhost-user: a queue of messages
 *
 * Messages enter the queue with the BQL held, are sent in that order, and
 * their replies come in the same order.  Sending and receiving is the work
 * that workers do (see vmstate-worker.h).  Messages are removed, all of them,
 * with the BQL held when no work is in progress.
 *
 * A message is sealed before it is sent: then it is known whether it has a
 * reply. Only the last one may not be.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_VHOST_USER_QUEUE_H
#define HW_VIRTIO_VHOST_USER_QUEUE_H

#include "io/channel-socket.h"
#include "qemu/queue.h"
#include "qemu/thread.h"
#include "system/vmstate-worker.h"
#include "vhost-user-wire.h"

/* Replies that are larger are not understood */
#define VHOST_USER_QUEUE_REPLY_MAX 512

typedef struct VhostUserQueueMsg {
    QSIMPLEQ_ENTRY(VhostUserQueueMsg) next;

    /* Constant once the message is in the queue */
    size_t size;
    int n_fds;
    int fds[WIRE_FDS_MAX];

    /* BQL */
    bool assumed;               /* its reply was assumed to be favourable */
    bool taken;                 /* whoever wrote it has been told the reply */
    unsigned refs;              /* the queue has one */

    /* The lock of the queue */
    bool own_fds;               /* to be closed after sending */
    bool sealed;                /* ready to be sent, has_reply is known */
    bool has_reply;
    size_t sent;
    size_t received;
    int reply_fd;
    uint8_t reply[sizeof(VhostUserWireHeader) + VHOST_USER_QUEUE_REPLY_MAX];

    uint8_t data[];
} VhostUserQueueMsg;

typedef struct VhostUserQueue {
    VMStateWork work;           /* its fd: a duplicate of the socket */

    /* BQL */
    QIOChannelSocket *sioc;     /* the connection; NULL: the queue is empty */
    unsigned n_open;            /* messages neither assumed nor taken */

    /* Written with both the BQL and the lock held, read with one of them */
    QSIMPLEQ_HEAD(, VhostUserQueueMsg) msgs;

    /* The lock.  It is held for system calls that do not block only. */
    QemuMutex lock;
    QemuCond progress;
    VhostUserQueueMsg *to_send;     /* all before were sent */
    VhostUserQueueMsg *to_receive;  /* all before were answered */
    bool broken;                /* nothing more can be sent or received */
    int64_t done_ns;            /* get_clock(), when there was nothing to do */
} VhostUserQueue;

static inline VhostUserWireHeader *
vhost_user_queue_header(VhostUserQueueMsg *msg)
{
    return (VhostUserWireHeader *)msg->data;
}

static inline VhostUserWireHeader *
vhost_user_queue_reply(VhostUserQueueMsg *msg)
{
    return (VhostUserWireHeader *)msg->reply;
}

/*
 * Called with the BQL held
 */

void vhost_user_queue_init(VhostUserQueue *q);
void vhost_user_queue_destroy(VhostUserQueue *q);

/*
 * Use this connection from now on.  What is there for another one is dropped.
 * Returns false if that is not possible.
 */
bool vhost_user_queue_attach(VhostUserQueue *q, QIOChannelSocket *sioc);

/* Drop all messages, whether they were sent or not. */
void vhost_user_queue_clear(VhostUserQueue *q);

/* The one before it is sealed. */
VhostUserQueueMsg *vhost_user_queue_append(VhostUserQueue *q, const void *data,
                                           size_t size, const int *fds,
                                           int n_fds, bool assumed);

/* Whether the last message has a reply is known now. */
void vhost_user_queue_seal(VhostUserQueue *q);

/* The last message has a reply.  Seals it. */
void vhost_user_queue_expect_reply(VhostUserQueue *q);

/* Nobody is going to look at @msg again. */
void vhost_user_queue_take(VhostUserQueue *q, VhostUserQueueMsg *msg);

/* Let @msg outlive the queue's interest in it. */
void vhost_user_queue_ref(VhostUserQueueMsg *msg);
void vhost_user_queue_unref(VhostUserQueueMsg *msg);

/* Have the workers go on, on behalf of @device (which lives for ever). */
void vhost_user_queue_submit(VhostUserQueue *q, const char *device);

/*
 * Sleep until @msg is answered (NULL: everything), for at most @ms (-1: no
 * limit).  Returns whether it is, or never will be.
 */
bool vhost_user_queue_wait(VhostUserQueue *q, VhostUserQueueMsg *msg,
                           int64_t ms);

/* Sleep until the queue is cleared, for at most @ms. */
void vhost_user_queue_wait_cleared(VhostUserQueue *q, int ms);

/* Is there nothing to do? */
bool vhost_user_queue_is_idle(VhostUserQueue *q);

/* Was the connection closed, or is it of no use? */
bool vhost_user_queue_is_broken(VhostUserQueue *q);

/* Nothing is outstanding: did something arrive nevertheless? */
bool vhost_user_queue_has_stray(VhostUserQueue *q);

/* Disconnect: what is outstanding will not come. */
void vhost_user_queue_break(VhostUserQueue *q);

/*
 * Called with the lock held
 */

/* Is the reply to @msg complete? */
bool vhost_user_queue_replied(VhostUserQueueMsg *msg);

#endif /* HW_VIRTIO_VHOST_USER_QUEUE_H */
