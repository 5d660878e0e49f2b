/*
 * vhost-user: state of a pipeline
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_VHOST_USER_PIPELINE_INTERNAL_H
#define HW_VIRTIO_VHOST_USER_PIPELINE_INTERNAL_H

#include "hw/virtio/vhost-user-blk.h"
#include "hw/virtio/vhost-user-pipeline.h"
#include "hw/virtio/vhost-user.h"
#include "hw/virtio/vhost.h"
#include "system/vmstate-change.h"
#include "vhost-user-queue.h"

/* What becomes of a message that is written */
typedef enum VhostUserPipelineMode {
    PIPELINE_PASS,              /* sent, or found in the queue */
    PIPELINE_COMPOSE,           /* queued, the reply is for later */
    PIPELINE_ASSUME,            /* queued, the reply is assumed */
} VhostUserPipelineMode;

/* A ring is to be started */
typedef struct VhostUserKick {
    VhostUserWireVring msg;
    int fd;                     /* -1: none */
} VhostUserKick;

/* All fields are protected by the BQL, but for what is said in the queue. */
struct VhostUserPipeline {
    VMStateParallel parallel;
    unsigned refs;
    VhostUserState *user;       /* NULL: it is gone, only references are left */
    const char *name;           /* of the device, lives for ever */
    VhostUserPipelineMode mode;
    VhostUserQueue q;

    bool stop_asked;            /* by messages that are in the queue */
    GArray *kicks;              /* of VhostUserKick, to be queued last */

    /* The device */
    struct vhost_dev *first;    /* speaks for the whole of it; or NULL */
    VHostUserBlk *blk;          /* if that is what it is */
    GArray *devs;               /* of struct vhost_dev *, started */

    /* The message that was written last, and the reply to it */
    VhostUserQueueMsg *last;    /* NULL: it is not in the queue */
    size_t last_read;           /* bytes of the reply that were read */
    uint8_t canned[64];         /* the reply, if it was made up */
    size_t canned_size;

    /* What was learned on one connection */
    QIOChannelSocket *known_sioc;
    bool status_known;
    uint64_t status;
    bool table_known;
    GByteArray *table;          /* SET_MEM_TABLE, and the files */

    QLIST_ENTRY(VhostUserPipeline) next;
};

/* vhost-user-vmstate.c */
extern const VMStateParallelOps vhost_user_vmstate_ops;

/*
 * Called with the BQL held
 */

/* Begin to queue messages for the connection that there is now. */
bool vhost_user_pipeline_attach(VhostUserPipeline *pl);

/* A queue for another connection is worthless. */
bool vhost_user_pipeline_is_current(VhostUserPipeline *pl);

/*
 * Sleep until @msg is answered (NULL: everything), because there is no way to
 * go on without.  For a device that was waited for before, this is not for
 * ever.
 */
void vhost_user_pipeline_need(VhostUserPipeline *pl, VhostUserQueueMsg *msg);

/* What is read now is not a reply to a message of ours. */
void vhost_user_pipeline_forget_reply(VhostUserPipeline *pl);

#endif /* HW_VIRTIO_VHOST_USER_PIPELINE_INTERNAL_H */
