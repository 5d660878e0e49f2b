/*
 * vhost-user: VM state changes in which all devices take part at the same time
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "chardev/char-fe.h"
#include "hw/virtio/vhost-backend.h"
#include "hw/virtio/virtio-notifier-batch.h"
#include "hw/virtio/virtio.h"
#include "linux-headers/linux/vhost.h"
#include "qemu/error-report.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "standard-headers/linux/virtio_ids.h"
#include "system/runstate.h"
#include "trace.h"
#include "vhost-user-pipeline-internal.h"

#define REASON_CHARDEV "its chardev is not a socket, or has TLS, a protocol " \
                       "of its own, or a log file"

static VhostUserPipeline *pipeline_of(VMStateParallel *p)
{
    return container_of(p, VhostUserPipeline, parallel);
}

static const char *pipeline_name(VMStateParallel *p)
{
    return pipeline_of(p)->name;
}

/*
 * Devices which stop when the VM stops.  Others may go on, as vhost-user-gpu
 * does, or were not looked at.
 */
static bool pipeline_vdev_stops(VirtIODevice *vdev)
{
    switch (vdev->device_id) {
    case VIRTIO_ID_NET:
    case VIRTIO_ID_BLOCK:
    case VIRTIO_ID_SCSI:
    case VIRTIO_ID_FS:
    case VIRTIO_ID_RNG:
    case VIRTIO_ID_I2C_ADAPTER:
    case VIRTIO_ID_GPIO:
    case VIRTIO_ID_SOUND:
    case VIRTIO_ID_INPUT:
    case VIRTIO_ID_SCMI:
    case VIRTIO_ID_VSOCK:
        return true;
    default:
        return false;
    }
}

/* Such rings have to be told about when they are stopped, one at a time */
static bool pipeline_vdev_is_foreign(VirtIODevice *vdev)
{
    return !virtio_vdev_has_feature(vdev, VIRTIO_F_VERSION_1) &&
           virtio_is_big_endian(vdev) != HOST_BIG_ENDIAN;
}

static const char *pipeline_unfit(VhostUserPipeline *pl)
{
    for (int i = 0; i < pl->devs->len; i++) {
        struct vhost_dev *dev = g_array_index(pl->devs, struct vhost_dev *, i);

        if (!pipeline_vdev_stops(dev->vdev)) {
            return "it is not known to stop whenever the VM stops";
        }
        if (pipeline_vdev_is_foreign(dev->vdev)) {
            return "the byte order of its rings is not the host's";
        }
    }
    return vhost_user_pipeline_attach(pl) ? NULL : REASON_CHARDEV;
}

/* The messages of vhost_dev_stop() which have replies */
static void pipeline_compose_stop(struct vhost_dev *dev)
{
    VirtIODevice *vdev = dev->vdev;
    const VhostOps *ops = dev->vhost_ops;

    if (vdev->device_id != VIRTIO_ID_NET &&
        virtio_has_feature(dev->backend_features,
                           VHOST_USER_F_PROTOCOL_FEATURES)) {
        ops->vhost_set_vring_enable(dev, 0);
    }
    for (int i = 0; i < dev->nvqs; i++) {
        int idx = dev->vq_index + i;
        struct vhost_vring_state state = {
            .index = ops->vhost_get_vq_index(dev, idx),
        };

        if (virtio_queue_get_desc_addr(vdev, idx)) {
            ops->vhost_get_vring_base(dev, &state);
        }
    }
}

static void pipeline_work(VMStateParallel *p)
{
    VhostUserPipeline *pl = pipeline_of(p);

    /* What is left is of a device that failed to start */
    g_array_set_size(pl->kicks, 0);
    pl->mode = PIPELINE_PASS;
    vhost_user_pipeline_forget_reply(pl);
    if (!QSIMPLEQ_EMPTY(&pl->q.msgs)) {
        vhost_user_queue_seal(&pl->q);
        vhost_user_queue_submit(&pl->q, pl->name);
    }
}

static bool pipeline_prepare_stop(VhostUserPipeline *pl, const char **reason)
{
    if (!pl->devs->len) {
        return false;
    }
    if (pl->stop_asked && pl->q.n_open && vhost_user_pipeline_is_current(pl)) {
        /* Still waiting for the answers */
        return true;
    }
    *reason = pipeline_unfit(pl);
    if (*reason) {
        return false;
    }
    pl->mode = PIPELINE_COMPOSE;
    for (int i = 0; i < pl->devs->len; i++) {
        pipeline_compose_stop(g_array_index(pl->devs, struct vhost_dev *, i));
    }
    pipeline_work(&pl->parallel);
    pl->stop_asked = !QSIMPLEQ_EMPTY(&pl->q.msgs);
    return pl->stop_asked;
}

/*
 * A disk that starts for the first time asks for the memory in which requests
 * in flight are noted, and needs the answer at once.  So have it ready.
 */
static void pipeline_compose_inflight(VhostUserPipeline *pl, VHostUserBlk *blk)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(blk);
    struct vhost_inflight inflight = { 0 };

    if (blk->inflight->addr || !blk->connected ||
        !virtio_device_started(vdev, vdev->status)) {
        return;
    }
    if (!pl->status_known &&
        virtio_has_feature(blk->dev.protocol_features,
                           VHOST_USER_PROTOCOL_F_STATUS)) {
        /* To set features means to add to the status */
        return;
    }
    pl->mode = PIPELINE_COMPOSE;
    blk->dev.acked_features = vdev->guest_features;
    vhost_dev_prepare_inflight(&blk->dev, vdev);
    vhost_dev_get_inflight(&blk->dev, blk->queue_size, &inflight);
    pipeline_work(&pl->parallel);
}

static bool pipeline_prepare_start(VhostUserPipeline *pl, const char **reason)
{
    if (pl->devs->len || !pl->first) {
        return false;
    }
    if (!vhost_user_pipeline_attach(pl)) {
        *reason = REASON_CHARDEV;
        return false;
    }
    if (pl->blk) {
        pipeline_compose_inflight(pl, pl->blk);
    }
    pl->mode = PIPELINE_ASSUME;
    return true;
}

/* What it answers is learned when this is committed */
static void pipeline_ask_status(VhostUserPipeline *pl)
{
    VhostUserWireHeader hdr = {
        .request = WIRE_GET_STATUS,
        .flags = WIRE_VERSION,
    };
    VhostUserQueueMsg *msg = vhost_user_queue_append(&pl->q, &hdr, sizeof(hdr),
                                                     NULL, 0, false);

    vhost_user_queue_expect_reply(&pl->q);
    vhost_user_queue_take(&pl->q, msg);
}

/* The memory table, which takes long to map, and the status */
static bool pipeline_early(VMStateParallel *p)
{
    VhostUserPipeline *pl = pipeline_of(p);
    struct vhost_dev *dev = pl->first;

    if (!dev || pl->devs->len || !dev->mem || !dev->mem->nregions ||
        !vhost_user_pipeline_attach(pl)) {
        return false;
    }
    pl->mode = PIPELINE_ASSUME;
    if (virtio_has_feature(dev->protocol_features,
                           VHOST_USER_PROTOCOL_F_STATUS)) {
        pipeline_ask_status(pl);
    }
    dev->vhost_ops->vhost_set_mem_table(dev, dev->mem);
    pipeline_work(p);
    return true;
}

static bool pipeline_prepare(VMStateParallel *p, bool running,
                             const char **reason)
{
    VhostUserPipeline *pl = pipeline_of(p);

    return running ? pipeline_prepare_start(pl, reason) :
                     pipeline_prepare_stop(pl, reason);
}

/* Did the backend agree to what was assumed? */
static bool pipeline_agreed(VhostUserQueueMsg *msg)
{
    VhostUserWireHeader *hdr = vhost_user_queue_header(msg);
    VhostUserWireHeader *reply = vhost_user_queue_reply(msg);
    uint64_t nack = 0;

    if (!msg->assumed || (msg->sent == msg->size && !msg->has_reply)) {
        return true;
    }
    if (!vhost_user_queue_replied(msg) || reply->request != hdr->request) {
        return false;
    }
    if (hdr->flags & WIRE_NEED_REPLY && reply->size == sizeof(nack)) {
        memcpy(&nack, msg->reply + sizeof(*reply), sizeof(nack));
    }
    return !nack;
}

/* Is there a message that was not agreed to? */
static bool pipeline_refused(VhostUserPipeline *pl)
{
    VhostUserQueueMsg *msg;

    QEMU_LOCK_GUARD(&pl->q.lock);
    QSIMPLEQ_FOREACH(msg, &pl->q.msgs, next) {
        if (!pipeline_agreed(msg)) {
            return true;
        }
    }
    return false;
}

/* From the reply to pipeline_ask_status(), unless it was set in the meantime */
static void pipeline_learn_status(VhostUserPipeline *pl)
{
    VhostUserQueueMsg *msg;

    QEMU_LOCK_GUARD(&pl->q.lock);
    QSIMPLEQ_FOREACH(msg, &pl->q.msgs, next) {
        VhostUserWireHeader *hdr = vhost_user_queue_reply(msg);

        if (vhost_user_queue_header(msg)->request == WIRE_GET_STATUS &&
            vhost_user_queue_replied(msg) && hdr->request == WIRE_GET_STATUS &&
            hdr->size == sizeof(pl->status) && !pl->status_known) {
            memcpy(&pl->status, msg->reply + sizeof(*hdr), sizeof(pl->status));
            pl->status_known = true;
        }
    }
}

/* Which device is concerned; the handlers are going to say what is wrong */
static void pipeline_report_stop(VhostUserPipeline *pl)
{
    VhostUserQueueMsg *msg;

    QEMU_LOCK_GUARD(&pl->q.lock);
    QSIMPLEQ_FOREACH(msg, &pl->q.msgs, next) {
        VhostUserWireHeader *hdr = vhost_user_queue_header(msg);
        VhostUserWireHeader *reply = vhost_user_queue_reply(msg);

        if (hdr->request == WIRE_GET_VRING_BASE &&
            (!vhost_user_queue_replied(msg) || reply->size != hdr->size ||
             reply->request != hdr->request)) {
            error_report("Backend of device '%s' did not answer properly when "
                         "it was asked to stop: the used rings tell how far "
                         "it has come", pl->name);
            return;
        }
    }
}

static bool pipeline_wait(VMStateParallel *p, int64_t ms)
{
    VhostUserPipeline *pl = pipeline_of(p);
    bool done = true;

    if (ms < 0) {
        vhost_user_pipeline_need(pl, NULL);
        pipeline_report_stop(pl);
    } else {
        done = vhost_user_queue_wait(&pl->q, NULL, ms);
    }
    QEMU_LOCK_GUARD(&pl->q.lock);
    p->done_ns = pl->q.done_ns;
    return done;
}

/* What is wrong with the answers to a start, or to a stop; NULL: nothing */
static const char *pipeline_fault(VhostUserPipeline *pl)
{
    if (pipeline_refused(pl)) {
        return vhost_user_queue_is_broken(&pl->q) ?
               "hung up, or sent nonsense, when it was started" :
               "did not agree to be started";
    }
    return vhost_user_queue_has_stray(&pl->q) ?
           "answers what it was not asked" : NULL;
}

static void pipeline_commit(VMStateParallel *p, bool running)
{
    VhostUserPipeline *pl = pipeline_of(p);
    bool current = vhost_user_pipeline_is_current(pl);
    const char *fault = current ? pipeline_fault(pl) : NULL;

    pipeline_learn_status(pl);
    pl->stop_asked = false;
    vhost_user_queue_clear(&pl->q);
    if (fault) {
        error_report("Backend of device '%s' %s: disconnecting it", pl->name,
                     fault);
        pl->table_known = false;
        qemu_chr_fe_disconnect(pl->user->chr);
    }
}

static void pipeline_restart(VMStateParallel *p)
{
    VhostUserPipeline *pl = pipeline_of(p);
    const char *reason;
    struct vhost_dev *dev;
    VirtIODevice *vdev;

    if (!pl->devs->len) {
        /* Its connection was closed in the meantime */
        return;
    }
    dev = g_array_index(pl->devs, struct vhost_dev *, 0);
    vdev = dev->vdev;
    virtio_vmstate_change(vdev, false, RUN_STATE_PAUSED);
    pl->stop_asked = false;
    pipeline_prepare_start(pl, &reason);
    virtio_vmstate_change(vdev, true, RUN_STATE_RUNNING);
}

const VMStateParallelOps vhost_user_vmstate_ops = {
    .name = pipeline_name,
    .prepare = pipeline_prepare,
    .early = pipeline_early,
    .work = pipeline_work,
    .wait = pipeline_wait,
    .commit = pipeline_commit,
    .restart = pipeline_restart,
};
