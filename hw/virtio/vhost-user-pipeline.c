/*
 * vhost-user: many messages at once
 *
 * There is one pipeline for each connection, and one queue of messages in it.
 * Messages enter the queue with the BQL held, are sent in that order, and their
 * replies come in the same order.  They are removed with the BQL held when no
 * work is in progress.  What a worker changes (how much of a message was sent,
 * how much of a reply was received) is protected by the lock of the pipeline,
 * which is held for system calls that do not block only.
 *
 * A message of the queue has a reply if somebody tried to read one after writing
 * it, so nothing is said here about which kinds of messages have one.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include <sys/socket.h>
#include "block/timed-drain.h"
#include "chardev/char-fe.h"
#include "chardev/char-socket.h"
#include "hw/virtio/vhost.h"
#include "hw/virtio/vhost-backend.h"
#include "hw/virtio/vhost-user-blk.h"
#include "hw/virtio/vhost-user.h"
#include "hw/virtio/vhost-user-pipeline.h"
#include "hw/virtio/virtio.h"
#include "hw/virtio/virtio-notifier-batch.h"
#include "io/channel-socket.h"
#include "linux-headers/linux/vhost.h"
#include "migration/switchover-vmstate.h"
#include "qemu/error-report.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "standard-headers/linux/virtio_ids.h"
#include "system/runstate.h"
#include "system/vmstate-change.h"
#include "system/vmstate-worker.h"
#include "trace.h"

/* What is said on the wire: see docs/interop/vhost-user.rst */
typedef struct QEMU_PACKED VhostUserWireHeader {
    uint32_t request;
    uint32_t flags;
    uint32_t size;
} VhostUserWireHeader;

typedef struct QEMU_PACKED VhostUserWireRegion {
    uint64_t guest_addr;
    uint64_t size;
    uint64_t user_addr;
    uint64_t offset;            /* in the file */
} VhostUserWireRegion;

/* File descriptors that may come with a message */
#define WIRE_FDS_MAX 8

typedef struct QEMU_PACKED VhostUserWireTable {
    VhostUserWireHeader hdr;
    uint32_t n_regions;
    uint32_t padding;
    VhostUserWireRegion region[WIRE_FDS_MAX];
} VhostUserWireTable;

#define WIRE_VERSION 0x1
#define WIRE_REPLY (1u << 2)
#define WIRE_NEED_REPLY (1u << 3)
#define WIRE_NO_REQUEST 0

#define WIRE_GET_FEATURES 1
#define WIRE_SET_FEATURES 2
#define WIRE_RESET_OWNER 4
#define WIRE_SET_MEM_TABLE 5
#define WIRE_SET_LOG_BASE 6
#define WIRE_SET_VRING_NUM 8
#define WIRE_SET_VRING_ADDR 9
#define WIRE_SET_VRING_BASE 10
#define WIRE_GET_VRING_BASE 11
#define WIRE_SET_VRING_KICK 12
#define WIRE_SET_VRING_CALL 13
#define WIRE_SET_VRING_ERR 14
#define WIRE_SET_VRING_ENABLE 18
#define WIRE_RESET_DEVICE 34
#define WIRE_ADD_MEM_REG 37
#define WIRE_REM_MEM_REG 38
#define WIRE_SET_STATUS 39
#define WIRE_GET_STATUS 40

/* Larger than any reply in the protocol */
#define WIRE_REPLY_MAX 4096

/* How many messages without file descriptors are sent at once */
#define PIPELINE_IOV_MAX 64

typedef struct VhostUserPipelineMsg {
    QSIMPLEQ_ENTRY(VhostUserPipelineMsg) next;

    /* Constant once the message is in the queue */
    size_t size;
    int n_fds;
    int *fds;
    bool own_fds;               /* to be closed after sending */
    bool assumed;               /* its reply was assumed to be favourable */

    /* BQL */
    bool taken;                 /* a handler wrote it, and got the reply */

    /* The lock of the pipeline */
    bool sealed;                /* ready to be sent, has_reply is known */
    bool has_reply;
    size_t sent;
    size_t received;
    int reply_fd;
    uint8_t reply[sizeof(VhostUserWireHeader) + WIRE_REPLY_MAX];

    uint8_t data[];
} VhostUserPipelineMsg;

/* What becomes of a message that is written */
typedef enum VhostUserPipelineMode {
    PIPELINE_PASS,              /* sent, or found in the queue */
    PIPELINE_COMPOSE,           /* queued, the reply is for later */
    PIPELINE_ASSUME,            /* queued, the reply is assumed */
} VhostUserPipelineMode;

struct VhostUserPipeline {
    VMStateParallel parallel;
    VMStateWork work;
    VhostUserState *user;

    /* BQL */
    VhostUserPipelineMode mode;
    struct vhost_dev *first;    /* speaks for the whole device; or NULL */
    VHostUserBlk *blk;          /* if that is what it is */
    GArray *devs;               /* of struct vhost_dev *, started */
    const char *name;           /* lives for ever */
    QIOChannelSocket *sioc;     /* the connection the queue is for */
    VhostUserPipelineMsg *last; /* the one that was written last */
    size_t last_read;           /* bytes of its reply that were read */
    uint8_t canned[64];         /* reply to the last one, when assumed */
    size_t canned_size;
    QIOChannelSocket *known_sioc;   /* the connection this was learned on: */
    bool status_known;
    uint64_t status;
    bool table_known;
    GByteArray *table;          /* SET_MEM_TABLE, and its file descriptors */

    /* Written with both the BQL and the lock held, read with one of them */
    QSIMPLEQ_HEAD(, VhostUserPipelineMsg) queue;

    /* The lock */
    QemuMutex lock;
    QemuCond progress;
    VhostUserPipelineMsg *to_send;      /* all before were sent */
    VhostUserPipelineMsg *to_receive;   /* all before were answered */
    bool broken;                /* nothing more can be sent or received */
};

/*
 * The wire.  The lock is held, and maybe nothing else.
 */

static VhostUserWireHeader *pipeline_header(VhostUserPipelineMsg *msg)
{
    return (VhostUserWireHeader *)msg->data;
}

static VhostUserWireHeader *pipeline_reply_header(VhostUserPipelineMsg *msg)
{
    return (VhostUserWireHeader *)msg->reply;
}

static bool pipeline_replied(VhostUserPipelineMsg *msg)
{
    return msg->received >= sizeof(VhostUserWireHeader) &&
           msg->received == sizeof(VhostUserWireHeader) +
                            pipeline_reply_header(msg)->size;
}

/* No further communication: what is outstanding will not come */
static void pipeline_break(VhostUserPipeline *pl)
{
    pl->broken = true;
    shutdown(pl->work.fd, SHUT_RDWR);
}

static void pipeline_close_fds(VhostUserPipelineMsg *msg)
{
    if (msg->own_fds) {
        for (int i = 0; i < msg->n_fds; i++) {
            close(msg->fds[i]);
        }
        msg->own_fds = false;
    }
}

/*
 * Fill in @iov from the next message on: one with file descriptors, which are
 * attached to the first byte; or some without.
 */
static int pipeline_fill_iov(VhostUserPipeline *pl, struct iovec *iov)
{
    VhostUserPipelineMsg *msg = pl->to_send;
    int n = 0;

    do {
        iov[n].iov_base = msg->data + msg->sent;
        iov[n].iov_len = msg->size - msg->sent;
        n++;
        msg = QSIMPLEQ_NEXT(msg, next);
    } while (msg && msg->sealed && !msg->n_fds && n < PIPELINE_IOV_MAX);

    return n;
}

static ssize_t pipeline_sendmsg(VhostUserPipeline *pl)
{
    VhostUserPipelineMsg *msg = pl->to_send;
    char control[CMSG_SPACE(sizeof(int) * WIRE_FDS_MAX)] = { 0 };
    struct iovec iov[PIPELINE_IOV_MAX];
    struct msghdr mh = {
        .msg_iov = iov,
        .msg_iovlen = pipeline_fill_iov(pl, iov),
    };

    if (msg->n_fds && !msg->sent) {
        size_t size = sizeof(int) * msg->n_fds;
        struct cmsghdr *cmsg;

        mh.msg_control = control;
        mh.msg_controllen = CMSG_SPACE(size);
        cmsg = CMSG_FIRSTHDR(&mh);
        cmsg->cmsg_len = CMSG_LEN(size);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        memcpy(CMSG_DATA(cmsg), msg->fds, size);
    }
    return RETRY_ON_EINTR(sendmsg(pl->work.fd, &mh,
                                  MSG_DONTWAIT | MSG_NOSIGNAL));
}

/* Returns whether there is more to send, but no room for it */
static bool pipeline_send(VhostUserPipeline *pl)
{
    while (pl->to_send && pl->to_send->sealed && !pl->broken) {
        ssize_t n = pipeline_sendmsg(pl);

        if (n < 0 && errno == EAGAIN) {
            return true;
        }
        if (n < 0) {
            pipeline_break(pl);
            break;
        }
        while (n) {
            VhostUserPipelineMsg *msg = pl->to_send;
            size_t part = MIN(n, msg->size - msg->sent);

            msg->sent += part;
            n -= part;
            if (msg->sent == msg->size) {
                pipeline_close_fds(msg);
                pl->to_send = QSIMPLEQ_NEXT(msg, next);
            }
        }
    }
    return false;
}

static void pipeline_take_reply_fds(VhostUserPipelineMsg *msg,
                                    struct msghdr *mh)
{
    struct cmsghdr *cmsg;

    for (cmsg = CMSG_FIRSTHDR(mh); cmsg; cmsg = CMSG_NXTHDR(mh, cmsg)) {
        if (cmsg->cmsg_level == SOL_SOCKET &&
            cmsg->cmsg_type == SCM_RIGHTS) {
            int n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            int *fds = (int *)CMSG_DATA(cmsg);

            for (int i = 0; i < n; i++) {
                if (msg->reply_fd < 0) {
                    msg->reply_fd = fds[i];
                } else {
                    close(fds[i]);
                }
            }
        }
    }
}

/* How many bytes of the reply to @msg are known to be missing */
static size_t pipeline_missing(VhostUserPipelineMsg *msg)
{
    size_t size = sizeof(VhostUserWireHeader);

    if (msg->received >= size) {
        size += pipeline_reply_header(msg)->size;
    }
    return size - msg->received;
}

/* A stream that cannot be divided into replies is of no use any more */
static bool pipeline_header_is_sane(VhostUserPipelineMsg *msg)
{
    VhostUserWireHeader *hdr = pipeline_reply_header(msg);

    return hdr->flags == (WIRE_REPLY | WIRE_VERSION) &&
           hdr->size <= WIRE_REPLY_MAX;
}

/* Returns whether there is more to receive, but nothing has arrived */
static bool pipeline_receive(VhostUserPipeline *pl)
{
    while (pl->to_receive && pl->to_receive->sealed && !pl->broken) {
        VhostUserPipelineMsg *msg = pl->to_receive;
        char control[CMSG_SPACE(sizeof(int) * WIRE_FDS_MAX)];
        struct iovec iov;
        struct msghdr mh = {
            .msg_iov = &iov, .msg_iovlen = 1,
            .msg_control = control, .msg_controllen = sizeof(control),
        };
        ssize_t n;

        if (!msg->has_reply) {
            pl->to_receive = QSIMPLEQ_NEXT(msg, next);
            continue;
        }
        iov.iov_base = msg->reply + msg->received;
        iov.iov_len = pipeline_missing(msg);
        n = RETRY_ON_EINTR(recvmsg(pl->work.fd, &mh,
                                   MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
        if (n < 0 && errno == EAGAIN) {
            return true;
        }
        if (n <= 0) {
            pipeline_break(pl);
            break;
        }
        pipeline_take_reply_fds(msg, &mh);
        msg->received += n;
        if (msg->received == sizeof(VhostUserWireHeader) &&
            !pipeline_header_is_sane(msg)) {
            pipeline_break(pl);
            break;
        }
        if (pipeline_replied(msg)) {
            pl->to_receive = QSIMPLEQ_NEXT(msg, next);
        }
    }
    return false;
}

/* Is everything sent and answered, or will it never be? */
static bool pipeline_idle(VhostUserPipeline *pl)
{
    return pl->broken || ((!pl->to_send || !pl->to_send->sealed) &&
                          (!pl->to_receive || !pl->to_receive->sealed));
}

static bool pipeline_step_locked(VhostUserPipeline *pl, short *events)
{
    bool send = pipeline_send(pl);
    bool receive = pipeline_receive(pl);

    *events = (send ? POLLOUT : 0) | (receive ? POLLIN : 0);
    qemu_cond_broadcast(&pl->progress);
    if (pipeline_idle(pl)) {
        pl->parallel.done_ns = get_clock();
        return true;
    }
    return false;
}

/* Called by a worker */
static bool pipeline_step(VMStateWork *work, short *events)
{
    VhostUserPipeline *pl = container_of(work, VhostUserPipeline, work);

    QEMU_LOCK_GUARD(&pl->lock);
    return pipeline_step_locked(pl, events);
}

/*
 * The queue.  The BQL is held.
 */

/* Have the workers go on */
static void pipeline_submit(VhostUserPipeline *pl)
{
    if (!vmstate_work_poke(&pl->work)) {
        pl->work.device = pl->name;
        vmstate_work_submit(&pl->work);
    }
}

/* Nothing is going to be read after the last message, or it was just read */
static void pipeline_seal(VhostUserPipeline *pl)
{
    VhostUserPipelineMsg *msg;

    QEMU_LOCK_GUARD(&pl->lock);
    QSIMPLEQ_FOREACH(msg, &pl->queue, next) {
        msg->sealed = true;
    }
}

/* What is read now is not a reply to a message of ours */
static void pipeline_forget_reply(VhostUserPipeline *pl)
{
    pl->last = NULL;
    pl->last_read = 0;
    pl->canned_size = 0;
}

/* No worker uses the queue after this, and nobody else */
static void pipeline_clear(VhostUserPipeline *pl)
{
    VhostUserPipelineMsg *msg;

    vmstate_work_cancel(&pl->work);
    while ((msg = QSIMPLEQ_FIRST(&pl->queue))) {
        QSIMPLEQ_REMOVE_HEAD(&pl->queue, next);
        pipeline_close_fds(msg);
        if (msg->reply_fd >= 0) {
            close(msg->reply_fd);
        }
        g_free(msg->fds);
        g_free(msg);
    }
    pl->to_send = NULL;
    pl->to_receive = NULL;
    pipeline_forget_reply(pl);
    pl->broken = false;
    if (pl->sioc) {
        close(pl->work.fd);
        pl->work.fd = -1;
        object_unref(OBJECT(pl->sioc));
        pl->sioc = NULL;
    }
}

static VhostUserPipelineMsg *pipeline_append(VhostUserPipeline *pl,
                                             const void *data, size_t size,
                                             const int *fds, int n_fds)
{
    VhostUserPipelineMsg *msg = g_malloc0(sizeof(*msg) + size);

    assert(n_fds <= WIRE_FDS_MAX);
    msg->size = size;
    msg->reply_fd = -1;
    msg->n_fds = n_fds;
    msg->fds = g_memdup2(fds, n_fds * sizeof(int));
    memcpy(msg->data, data, size);

    pipeline_seal(pl);
    QEMU_LOCK_GUARD(&pl->lock);
    QSIMPLEQ_INSERT_TAIL(&pl->queue, msg, next);
    pl->to_send = pl->to_send ?: msg;
    pl->to_receive = pl->to_receive ?: msg;
    pl->parallel.n_messages++;
    return msg;
}

/* The socket, if there is nothing between it and the messages */
static QIOChannelSocket *pipeline_socket(VhostUserPipeline *pl)
{
    Chardev *chr = pl->user->chr ? pl->user->chr->chr : NULL;
    SocketChardev *s = (SocketChardev *)
        (chr ? object_dynamic_cast(OBJECT(chr), TYPE_CHARDEV_SOCKET) : NULL);

    if (!s || s->state != TCP_CHARDEV_STATE_CONNECTED || !s->sioc ||
        s->ioc != QIO_CHANNEL(s->sioc) || chr->logfd >= 0) {
        return NULL;
    }
    return s->sioc;
}

/* A queue for another connection is worthless */
static bool pipeline_is_current(VhostUserPipeline *pl)
{
    return pl->sioc && pl->sioc == pipeline_socket(pl);
}

/* Begin to queue messages for the connection there is now */
static bool pipeline_attach(VhostUserPipeline *pl)
{
    QIOChannelSocket *sioc;
    int fd;

    if (pipeline_is_current(pl)) {
        return true;
    }
    pipeline_clear(pl);
    sioc = pipeline_socket(pl);
    /* The original is closed when the backend hangs up */
    fd = sioc ? fcntl(sioc->fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (fd < 0) {
        return false;
    }
    object_ref(OBJECT(sioc));
    pl->sioc = sioc;
    pl->work.fd = fd;
    return true;
}

/*
 * Sleep until @msg is answered (NULL: everything), for at most @ms (-1: no
 * limit).  Returns whether it is, or never will be.
 */
static bool pipeline_wait(VhostUserPipeline *pl, VhostUserPipelineMsg *msg,
                          int64_t ms)
{
    int64_t end_ns = ms < 0 ? INT64_MAX : get_clock() + ms * SCALE_MS;

    QEMU_LOCK_GUARD(&pl->lock);
    while (!pipeline_idle(pl) && !(msg && pipeline_replied(msg))) {
        int64_t left_ms = (end_ns - get_clock()) / SCALE_MS;

        if (left_ms <= 0) {
            return false;
        }
        qemu_cond_timedwait(&pl->progress, &pl->lock, MIN(left_ms, INT_MAX));
    }
    return true;
}

/* For a device whose stop we have been waiting for, long enough already */
static int64_t pipeline_patience_ms(VhostUserPipeline *pl)
{
    int64_t timeout_ms = switchover_drain_timeout();

    return pl->parallel.late && !pl->parallel.late_running && timeout_ms ?
           timeout_ms : -1;
}

/* Like pipeline_wait(), but there is no way to go on without the answer */
static void pipeline_need(VhostUserPipeline *pl, VhostUserPipelineMsg *msg)
{
    int64_t ms = pipeline_patience_ms(pl);

    if (!pipeline_wait(pl, msg, ms)) {
        error_report("Backend of device '%s' has been asked to stop, and again "
                     "gave no answer within drain-timeout (%" PRId64 " ms): "
                     "disconnecting it", pl->name, ms);
        WITH_QEMU_LOCK_GUARD(&pl->lock) {
            pipeline_break(pl);
        }
    }
}

static bool pipeline_is_idle(VhostUserPipeline *pl)
{
    QEMU_LOCK_GUARD(&pl->lock);
    return pipeline_idle(pl);
}

/* Is there no message that somebody still has to look at? */
static bool pipeline_is_used_up(VhostUserPipeline *pl)
{
    VhostUserPipelineMsg *msg;

    QSIMPLEQ_FOREACH(msg, &pl->queue, next) {
        if (!msg->taken) {
            return false;
        }
    }
    return pipeline_is_idle(pl);
}

static void pipeline_can(VhostUserPipeline *pl, uint32_t request,
                         const void *payload, size_t size)
{
    VhostUserWireHeader hdr = {
        .request = request,
        .flags = WIRE_VERSION | WIRE_REPLY,
        .size = size,
    };

    memcpy(pl->canned, &hdr, sizeof(hdr));
    if (size) {
        memcpy(pl->canned + sizeof(hdr), payload, size);
    }
    pl->canned_size = sizeof(hdr) + size;
}

static void pipeline_can_u64(VhostUserPipeline *pl, uint32_t request,
                             uint64_t value)
{
    pipeline_can(pl, request, &value, sizeof(value));
}

/*
 * Make up the reply to a message that was just queued.  Returns false if that
 * is not possible, because the reply has to say something.
 */
static bool pipeline_make_up_reply(VhostUserPipeline *pl,
                                   VhostUserPipelineMsg *msg)
{
    VhostUserWireHeader *hdr = pipeline_header(msg);

    if (pl->mode == PIPELINE_COMPOSE && hdr->size &&
        !(hdr->flags & WIRE_NEED_REPLY)) {
        /* Of the same form, and thrown away */
        pipeline_can(pl, hdr->request, msg->data + sizeof(*hdr), hdr->size);
        return true;
    }
    if (hdr->flags & WIRE_NEED_REPLY) {
        pipeline_can_u64(pl, hdr->request, 0);
        return true;
    }
    switch (hdr->request) {
    case WIRE_GET_FEATURES:
        /* Asked only to learn that what came before was processed */
        pipeline_can_u64(pl, hdr->request, 0);
        return true;
    case WIRE_GET_STATUS:
        pipeline_can_u64(pl, hdr->request, 0);
        return pl->mode == PIPELINE_COMPOSE;
    case WIRE_SET_LOG_BASE:
        pipeline_can(pl, hdr->request, NULL, 0);
        return true;
    default:
        return false;
    }
}

/* Messages which have no reply unless they ask for one */
static bool pipeline_is_silent(const VhostUserWireHeader *hdr)
{
    if (hdr->flags & WIRE_NEED_REPLY) {
        return false;
    }
    switch (hdr->request) {
    case WIRE_SET_FEATURES:
    case WIRE_SET_VRING_NUM:
    case WIRE_SET_VRING_ADDR:
    case WIRE_SET_VRING_BASE:
    case WIRE_SET_VRING_KICK:
    case WIRE_SET_VRING_CALL:
    case WIRE_SET_VRING_ERR:
    case WIRE_SET_VRING_ENABLE:
    case WIRE_SET_STATUS:
        return true;
    default:
        return false;
    }
}

static VhostUserPipelineMsg *pipeline_find(VhostUserPipeline *pl,
                                           const void *data, size_t size)
{
    VhostUserPipelineMsg *msg;

    QSIMPLEQ_FOREACH(msg, &pl->queue, next) {
        if (!msg->taken && !msg->assumed && msg->size == size &&
            !memcmp(msg->data, data, size)) {
            return msg;
        }
    }
    return NULL;
}

/* Say it later: nobody is going to wait for an answer */
static void pipeline_append_silent(VhostUserPipeline *pl, const void *data,
                                   size_t size, const int *fds, int n_fds)
{
    g_autofree int *copies = g_new(int, MAX(n_fds, 1));
    VhostUserPipelineMsg *msg;

    for (int i = 0; i < n_fds; i++) {
        copies[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
    }
    msg = pipeline_append(pl, data, size, copies, n_fds);
    msg->own_fds = true;
    msg->taken = true;
    pipeline_seal(pl);
    pipeline_submit(pl);
}

/* Was this said already? */
static bool pipeline_take(VhostUserPipeline *pl, const void *data, size_t size)
{
    VhostUserPipelineMsg *msg = pipeline_find(pl, data, size);

    if (msg) {
        msg->taken = true;
        pl->last = msg;
    }
    return msg;
}

/* A message is written while there is a queue */
static bool pipeline_pass(VhostUserPipeline *pl, const void *data, size_t size,
                          const int *fds, int n_fds)
{
    if (pipeline_is_idle(pl)) {
        return false;
    }
    if (pipeline_is_silent(data)) {
        pipeline_append_silent(pl, data, size, fds, n_fds);
        return true;
    }
    pipeline_need(pl, NULL);
    return false;
}

/* What is known about a backend does not outlive the connection to it */
static void pipeline_check_knowledge(VhostUserPipeline *pl)
{
    QIOChannelSocket *sioc = pipeline_socket(pl);

    if (sioc == pl->known_sioc) {
        return;
    }
    if (pl->known_sioc) {
        object_unref(OBJECT(pl->known_sioc));
    }
    pl->known_sioc = sioc ? QIO_CHANNEL_SOCKET(object_ref(OBJECT(sioc))) : NULL;
    pl->status_known = false;
    pl->table_known = false;
}

/* Take note of what the backend is told */
static void pipeline_learn(VhostUserPipeline *pl, const void *data, size_t size,
                           const int *fds, int n_fds)
{
    const VhostUserWireHeader *hdr = data;

    switch (hdr->request) {
    case WIRE_SET_STATUS:
        memcpy(&pl->status, data + sizeof(*hdr), sizeof(pl->status));
        pl->status_known = true;
        break;
    case WIRE_RESET_OWNER:
    case WIRE_RESET_DEVICE:
    case WIRE_ADD_MEM_REG:
    case WIRE_REM_MEM_REG:
        pl->table_known = false;
        break;
    case WIRE_SET_MEM_TABLE:
        /* If it refuses, it is disconnected, or the next start tells it anew */
        pl->table_known = pl->mode == PIPELINE_ASSUME &&
                          (hdr->flags & WIRE_NEED_REPLY);
        g_byte_array_set_size(pl->table, 0);
        g_byte_array_append(pl->table, data, size);
        g_byte_array_append(pl->table, (const guint8 *)fds,
                            n_fds * sizeof(int));
        break;
    default:
        break;
    }
}

/* What the firmware switches between RAM and something else */
#define LOW_MEMORY_END (1 * MiB)

/* Is there nothing but a hole in low memory between two parts of a file? */
static bool pipeline_hole_between(const VhostUserWireRegion *a, int fd_a,
                                  const VhostUserWireRegion *b, int fd_b)
{
    return fd_a == fd_b && a->guest_addr + a->size <= b->guest_addr &&
           b->guest_addr <= LOW_MEMORY_END &&
           a->user_addr - a->guest_addr == b->user_addr - b->guest_addr &&
           a->offset - a->guest_addr == b->offset - b->guest_addr;
}

/*
 * Which part of low memory is RAM, depends on the state of the chipset.  At the
 * destination that comes late, and a backend that is told a table which differs
 * maps everything once more.  So tell it that all of low memory is RAM.  That is
 * what it is told, too, when memory consists of huge pages.  A well-behaved
 * guest has no buffers where there is no RAM; others get at their own memory.
 */
static void pipeline_merge_low_memory(VhostUserWireTable *table, int *fds,
                                      int *n_fds)
{
    VhostUserWireRegion *region = table->region;
    int n = 1;

    for (int i = 1; i < table->n_regions; i++) {
        if (pipeline_hole_between(&region[n - 1], fds[n - 1],
                                  &region[i], fds[i])) {
            region[n - 1].size = region[i].guest_addr + region[i].size -
                                 region[n - 1].guest_addr;
        } else {
            region[n] = region[i];
            fds[n] = fds[i];
            n++;
        }
    }
    table->n_regions = n;
    table->hdr.size = offsetof(VhostUserWireTable, region[n]) -
                      sizeof(table->hdr);
    *n_fds = n;
}

/* Is this the memory table that the backend has, mapped and acknowledged? */
static bool pipeline_has_table(VhostUserPipeline *pl, const void *data,
                               size_t size, const int *fds, int n_fds)
{
    size_t fds_size = n_fds * sizeof(int);

    return pl->table_known && pl->table->len == size + fds_size &&
           !memcmp(pl->table->data, data, size) &&
           !memcmp(pl->table->data + size, fds, fds_size);
}

/* Answer from what we know, without asking the backend */
static bool pipeline_answer(VhostUserPipeline *pl, const void *data)
{
    const VhostUserWireHeader *hdr = data;

    if (hdr->request != WIRE_GET_STATUS || !pl->status_known) {
        return false;
    }
    pipeline_can_u64(pl, hdr->request, pl->status);
    return true;
}

/* Write to the queue, for a reply that is not waited for */
static void pipeline_write_later(VhostUserPipeline *pl, const void *data,
                                 size_t size, const int *fds, int n_fds)
{
    pipeline_learn(pl, data, size, fds, n_fds);
    pl->last = pipeline_append(pl, data, size, fds, n_fds);
    pl->last->assumed = pl->mode == PIPELINE_ASSUME;
}

static void pipeline_write_table(VhostUserPipeline *pl, const void *data,
                                 size_t size, const int *fds, int n_fds)
{
    VhostUserWireTable table = { 0 };
    int table_fds[WIRE_FDS_MAX];

    assert(size <= sizeof(table) && n_fds <= WIRE_FDS_MAX);
    memcpy(&table, data, size);
    memcpy(table_fds, fds, n_fds * sizeof(int));
    assert(table.n_regions == n_fds);
    pipeline_merge_low_memory(&table, table_fds, &n_fds);
    size = sizeof(table.hdr) + table.hdr.size;

    if (pipeline_has_table(pl, &table, size, table_fds, n_fds)) {
        trace_vhost_user_pipeline_same_table(pl->name);
        pipeline_can_u64(pl, table.hdr.request, 0);
    } else {
        pipeline_write_later(pl, &table, size, table_fds, n_fds);
    }
}

bool vhost_user_pipeline_write(VhostUserPipeline *pl, const void *data,
                               size_t size, const int *fds, int n_fds)
{
    const VhostUserWireHeader *hdr = data;

    assert(bql_locked());

    pipeline_forget_reply(pl);
    pipeline_check_knowledge(pl);

    if (pl->mode != PIPELINE_PASS && !pipeline_is_current(pl)) {
        /* The queue is for a connection that was closed */
        pl->mode = PIPELINE_PASS;
    }
    if (pl->mode == PIPELINE_PASS && !QSIMPLEQ_EMPTY(&pl->queue) &&
        (!pipeline_is_current(pl) || pipeline_is_used_up(pl))) {
        pipeline_clear(pl);
    }
    if (pl->mode == PIPELINE_PASS && QSIMPLEQ_EMPTY(&pl->queue)) {
        pipeline_learn(pl, data, size, fds, n_fds);
        return false;
    }
    if (pipeline_answer(pl, data) || pipeline_take(pl, data, size)) {
        return true;
    }
    if (pl->mode == PIPELINE_PASS) {
        pipeline_learn(pl, data, size, fds, n_fds);
        return pipeline_pass(pl, data, size, fds, n_fds);
    }
    if (pl->mode == PIPELINE_ASSUME && hdr->request == WIRE_SET_MEM_TABLE &&
        (hdr->flags & WIRE_NEED_REPLY)) {
        pipeline_write_table(pl, data, size, fds, n_fds);
    } else {
        pipeline_write_later(pl, data, size, fds, n_fds);
    }
    return true;
}

/* A reply to another ring's question must not become a position of this one */
static void pipeline_check_ring(VhostUserPipeline *pl,
                                VhostUserPipelineMsg *msg)
{
    VhostUserWireHeader *hdr = pipeline_reply_header(msg);
    uint32_t asked, answered;

    if (hdr->request != WIRE_GET_VRING_BASE ||
        hdr->size != 2 * sizeof(uint32_t)) {
        return;
    }
    memcpy(&asked, msg->data + sizeof(*hdr), sizeof(asked));
    memcpy(&answered, msg->reply + sizeof(*hdr), sizeof(answered));
    if (asked != answered) {
        error_report("Backend of device '%s' was asked for ring %" PRIu32
                     ", and answered for ring %" PRIu32, pl->name, asked,
                     answered);
        hdr->request = WIRE_NO_REQUEST;
    }
}

/* Have the real reply to @msg */
static void pipeline_fetch_reply(VhostUserPipeline *pl,
                                 VhostUserPipelineMsg *msg)
{
    pipeline_need(pl, msg);
    QEMU_LOCK_GUARD(&pl->lock);
    if (pipeline_replied(msg)) {
        pipeline_check_ring(pl, msg);
    }
}

/* The first read of the reply to the last message, which is in the queue */
static void pipeline_prepare_reply(VhostUserPipeline *pl)
{
    VhostUserPipelineMsg *msg = pl->last;

    if (msg->taken) {
        pipeline_fetch_reply(pl, msg);
        return;
    }
    WITH_QEMU_LOCK_GUARD(&pl->lock) {
        msg->has_reply = true;
        msg->sealed = true;
    }
    if (!pipeline_make_up_reply(pl, msg)) {
        trace_vhost_user_pipeline_ask(pl->name, pipeline_header(msg)->request);
        msg->assumed = false;
        msg->taken = true;
        pipeline_submit(pl);
        pipeline_fetch_reply(pl, msg);
    }
}

int vhost_user_pipeline_read(VhostUserPipeline *pl, void *buf, int size)
{
    VhostUserPipelineMsg *msg = pl->last;
    const uint8_t *reply = pl->canned;
    size_t reply_size;

    assert(bql_locked());

    if (msg && !pl->canned_size && !pl->last_read) {
        pipeline_prepare_reply(pl);
    }
    reply_size = pl->canned_size;
    if (msg && !reply_size) {
        /* No worker touches it any more */
        reply = msg->reply;
        reply_size = msg->received;
    }
    if (pl->last_read + size > reply_size) {
        /* Not from us; or it was closed, let the chardev find out */
        return qemu_chr_fe_read_all(pl->user->chr, buf, size);
    }
    memcpy(buf, reply + pl->last_read, size);
    pl->last_read += size;
    return size;
}

int vhost_user_pipeline_get_msgfd(VhostUserPipeline *pl)
{
    int fd = -1;

    assert(bql_locked());

    if (!pl->last) {
        return qemu_chr_fe_get_msgfd(pl->user->chr);
    }
    QEMU_LOCK_GUARD(&pl->lock);
    fd = pl->last->reply_fd;
    pl->last->reply_fd = -1;
    return fd;
}

/*
 * VM state changes
 */

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
    if (!pipeline_attach(pl)) {
        return "its chardev is not a socket, or has TLS, a protocol of its "
               "own, or a log file";
    }
    return NULL;
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

static bool pipeline_prepare_stop(VhostUserPipeline *pl, const char **reason)
{
    if (!pl->devs->len) {
        return false;
    }
    *reason = pipeline_unfit(pl);
    if (*reason) {
        return false;
    }
    pl->mode = PIPELINE_COMPOSE;
    for (int i = 0; i < pl->devs->len; i++) {
        pipeline_compose_stop(g_array_index(pl->devs, struct vhost_dev *, i));
    }
    pl->mode = PIPELINE_PASS;
    pipeline_forget_reply(pl);
    if (QSIMPLEQ_EMPTY(&pl->queue)) {
        return false;
    }
    pipeline_seal(pl);
    pipeline_submit(pl);
    return true;
}

static void pipeline_work(VMStateParallel *p)
{
    VhostUserPipeline *pl = pipeline_of(p);

    pl->mode = PIPELINE_PASS;
    pipeline_forget_reply(pl);
    if (!QSIMPLEQ_EMPTY(&pl->queue)) {
        pipeline_seal(pl);
        pipeline_submit(pl);
    }
}

/*
 * A disk that starts for the first time asks for the memory in which requests in
 * flight are noted, and needs the answer at once.  So have it ready.
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

static bool pipeline_prepare_start(VhostUserPipeline *pl)
{
    if (pl->devs->len || !pipeline_attach(pl)) {
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
    VhostUserPipelineMsg *msg = pipeline_append(pl, &hdr, sizeof(hdr), NULL, 0);

    msg->has_reply = true;
    msg->taken = true;
}

/* The memory table, which takes long to map, and the status */
static bool pipeline_early(VMStateParallel *p)
{
    VhostUserPipeline *pl = pipeline_of(p);
    struct vhost_dev *dev = pl->first;

    if (!dev || pl->devs->len || !dev->mem || !dev->mem->nregions ||
        !pipeline_attach(pl)) {
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

    return running ? pipeline_prepare_start(pl) :
                     pipeline_prepare_stop(pl, reason);
}

static bool pipeline_wait_all(VMStateParallel *p, int64_t ms)
{
    return pipeline_wait(pipeline_of(p), NULL, ms);
}

/* Did the backend agree to what was assumed? */
static bool pipeline_agreed(VhostUserPipelineMsg *msg)
{
    VhostUserWireHeader *hdr = pipeline_header(msg);
    VhostUserWireHeader *reply = pipeline_reply_header(msg);
    uint64_t nack = 0;

    if (!msg->assumed || (msg->sent == msg->size && !msg->has_reply)) {
        return true;
    }
    if (!pipeline_replied(msg) || reply->request != hdr->request) {
        return false;
    }
    if (hdr->flags & WIRE_NEED_REPLY && reply->size == sizeof(nack)) {
        memcpy(&nack, msg->reply + sizeof(*reply), sizeof(nack));
    }
    return !nack;
}

/* The first message that was not agreed to, or NULL */
static VhostUserPipelineMsg *pipeline_refused(VhostUserPipeline *pl)
{
    VhostUserPipelineMsg *msg;

    QEMU_LOCK_GUARD(&pl->lock);
    QSIMPLEQ_FOREACH(msg, &pl->queue, next) {
        if (!pipeline_agreed(msg)) {
            return msg;
        }
    }
    return NULL;
}

/* From the reply to pipeline_ask_status(), unless it was set in the meantime */
static void pipeline_learn_status(VhostUserPipeline *pl)
{
    VhostUserPipelineMsg *msg;

    QEMU_LOCK_GUARD(&pl->lock);
    QSIMPLEQ_FOREACH(msg, &pl->queue, next) {
        VhostUserWireHeader *hdr = pipeline_reply_header(msg);

        if (pipeline_header(msg)->request == WIRE_GET_STATUS &&
            pipeline_replied(msg) && hdr->request == WIRE_GET_STATUS &&
            hdr->size == sizeof(pl->status) && !pl->status_known) {
            memcpy(&pl->status, msg->reply + sizeof(*hdr), sizeof(pl->status));
            pl->status_known = true;
        }
    }
}

static void pipeline_commit(VMStateParallel *p, bool running)
{
    VhostUserPipeline *pl = pipeline_of(p);
    bool current = pipeline_is_current(pl);
    VhostUserPipelineMsg *refused = pipeline_refused(pl);

    if (refused && current) {
        error_report("Backend of device '%s' did not agree to vhost-user "
                     "request %" PRIu32 " of its start: disconnecting it",
                     pl->name, pipeline_header(refused)->request);
    }
    pipeline_learn_status(pl);
    pipeline_clear(pl);
    if (refused) {
        pl->table_known = false;
        if (current) {
            qemu_chr_fe_disconnect(pl->user->chr);
        }
    }
}

static void pipeline_restart(VMStateParallel *p)
{
    VhostUserPipeline *pl = pipeline_of(p);
    struct vhost_dev *dev;
    VirtIODevice *vdev;

    if (!pl->devs->len) {
        /* Its connection was closed in the meantime */
        return;
    }
    dev = g_array_index(pl->devs, struct vhost_dev *, 0);
    vdev = dev->vdev;
    virtio_vmstate_change(vdev, false, RUN_STATE_PAUSED);
    pipeline_prepare_start(pl);
    virtio_vmstate_change(vdev, true, RUN_STATE_RUNNING);
}

static const VMStateParallelOps pipeline_ops = {
    .name = pipeline_name,
    .prepare = pipeline_prepare,
    .early = pipeline_early,
    .work = pipeline_work,
    .wait = pipeline_wait_all,
    .commit = pipeline_commit,
    .restart = pipeline_restart,
};

static int pipeline_find_dev(VhostUserPipeline *pl, struct vhost_dev *dev)
{
    for (int i = 0; i < pl->devs->len; i++) {
        if (g_array_index(pl->devs, struct vhost_dev *, i) == dev) {
            return i;
        }
    }
    return -1;
}

void vhost_user_pipeline_note(VhostUserPipeline *pl, struct vhost_dev *dev,
                              bool started)
{
    int i = pipeline_find_dev(pl, dev);

    assert(bql_locked());

    if (!started && i >= 0) {
        g_array_remove_index(pl->devs, i);
    } else if (started && i < 0) {
        g_autofree char *name = bdrv_timed_drain_device_name(DEVICE(dev->vdev));

        g_array_append_val(pl->devs, dev);
        pl->name = g_intern_string(name);
    }
}

void vhost_user_pipeline_dev_init(VhostUserPipeline *pl, struct vhost_dev *dev)
{
    if (!dev->vq_index) {
        pl->first = dev;
    }
}

void vhost_user_pipeline_dev_cleanup(VhostUserPipeline *pl,
                                     struct vhost_dev *dev)
{
    vhost_user_pipeline_note(pl, dev, false);
    if (pl->first == dev) {
        pl->first = NULL;
    }
}

void vhost_user_pipeline_set_blk(VhostUserPipeline *pl, VHostUserBlk *blk)
{
    pl->blk = blk;
}

VhostUserPipeline *vhost_user_pipeline_new(VhostUserState *user)
{
    VhostUserPipeline *pl = g_new0(VhostUserPipeline, 1);

    assert(bql_locked());

    pl->user = user;
    pl->name = g_intern_string(user->chr->chr->label);
    pl->devs = g_array_new(false, false, sizeof(struct vhost_dev *));
    pl->table = g_byte_array_new();
    pl->work.fd = -1;
    pl->work.step = pipeline_step;
    QSIMPLEQ_INIT(&pl->queue);
    qemu_mutex_init(&pl->lock);
    qemu_cond_init(&pl->progress);
    vmstate_parallel_register(&pl->parallel, &pipeline_ops);
    return pl;
}

void vhost_user_pipeline_free(VhostUserPipeline *pl)
{
    assert(bql_locked());

    vmstate_parallel_unregister(&pl->parallel);
    pipeline_clear(pl);
    if (pl->known_sioc) {
        object_unref(OBJECT(pl->known_sioc));
    }
    g_array_free(pl->devs, true);
    g_byte_array_unref(pl->table);
    qemu_mutex_destroy(&pl->lock);
    qemu_cond_destroy(&pl->progress);
    g_free(pl);
}
