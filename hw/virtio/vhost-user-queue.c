/*
 * vhost-user: a queue of messages
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include <sys/socket.h>
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "vhost-user-queue.h"

/* How many messages without file descriptors are sent at once */
#define QUEUE_IOV_MAX 64

/*
 * The work.  The lock is held, and nothing else may be.
 *
 * QIOChannelSocket would sleep here now and then: while the chardev reads, it
 * makes the socket blocking, and that is a property of the socket, not of one
 * of its descriptors.  MSG_DONTWAIT is a property of the call.
 */

bool vhost_user_queue_replied(VhostUserQueueMsg *msg)
{
    return msg->received >= sizeof(VhostUserWireHeader) &&
           msg->received == sizeof(VhostUserWireHeader) +
                            vhost_user_queue_reply(msg)->size;
}

/* No further communication: what is outstanding will not come */
static void queue_break(VhostUserQueue *q)
{
    q->broken = true;
    shutdown(q->work.fd, SHUT_RDWR);
}

static void queue_close_fds(VhostUserQueueMsg *msg)
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
static int queue_fill_iov(VhostUserQueue *q, struct iovec *iov)
{
    VhostUserQueueMsg *msg = q->to_send;
    int n = 0;

    do {
        iov[n].iov_base = msg->data + msg->sent;
        iov[n].iov_len = msg->size - msg->sent;
        n++;
        msg = QSIMPLEQ_NEXT(msg, next);
    } while (msg && msg->sealed && !msg->n_fds && n < QUEUE_IOV_MAX);

    return n;
}

static ssize_t queue_sendmsg(VhostUserQueue *q)
{
    VhostUserQueueMsg *msg = q->to_send;
    char control[CMSG_SPACE(sizeof(int) * WIRE_FDS_MAX)] = { 0 };
    struct iovec iov[QUEUE_IOV_MAX];
    struct msghdr mh = {
        .msg_iov = iov,
        .msg_iovlen = queue_fill_iov(q, iov),
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
    return RETRY_ON_EINTR(sendmsg(q->work.fd, &mh,
                                  MSG_DONTWAIT | MSG_NOSIGNAL));
}

/* Returns whether there is more to send, but no room for it */
static bool queue_send(VhostUserQueue *q)
{
    while (q->to_send && q->to_send->sealed && !q->broken) {
        ssize_t n = queue_sendmsg(q);

        if (n < 0 && errno == EAGAIN) {
            return true;
        }
        if (n < 0) {
            queue_break(q);
            break;
        }
        while (n) {
            VhostUserQueueMsg *msg = q->to_send;
            size_t part = MIN(n, msg->size - msg->sent);

            msg->sent += part;
            n -= part;
            if (msg->sent == msg->size) {
                queue_close_fds(msg);
                q->to_send = QSIMPLEQ_NEXT(msg, next);
            }
        }
    }
    return false;
}

static void queue_take_reply_fds(VhostUserQueueMsg *msg,
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
static size_t queue_missing(VhostUserQueueMsg *msg)
{
    size_t size = sizeof(VhostUserWireHeader);

    if (msg->received >= size) {
        size += vhost_user_queue_reply(msg)->size;
    }
    return size - msg->received;
}

/* A stream that cannot be divided into replies is of no use any more */
static bool queue_header_is_sane(VhostUserQueueMsg *msg)
{
    VhostUserWireHeader *hdr = vhost_user_queue_reply(msg);

    return hdr->flags == (WIRE_REPLY | WIRE_VERSION) &&
           hdr->size <= VHOST_USER_QUEUE_REPLY_MAX;
}

/* Returns whether there is more to receive, but nothing has arrived */
static bool queue_receive(VhostUserQueue *q)
{
    while (q->to_receive && q->to_receive->sealed && !q->broken) {
        VhostUserQueueMsg *msg = q->to_receive;
        char control[CMSG_SPACE(sizeof(int) * WIRE_FDS_MAX)];
        struct iovec iov;
        struct msghdr mh = {
            .msg_iov = &iov, .msg_iovlen = 1,
            .msg_control = control, .msg_controllen = sizeof(control),
        };
        ssize_t n;

        if (!msg->has_reply) {
            q->to_receive = QSIMPLEQ_NEXT(msg, next);
            continue;
        }
        iov.iov_base = msg->reply + msg->received;
        iov.iov_len = queue_missing(msg);
        n = RETRY_ON_EINTR(recvmsg(q->work.fd, &mh,
                                   MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
        if (n < 0 && errno == EAGAIN) {
            return true;
        }
        if (n <= 0) {
            queue_break(q);
            break;
        }
        queue_take_reply_fds(msg, &mh);
        msg->received += n;
        if (msg->received == sizeof(VhostUserWireHeader) &&
            !queue_header_is_sane(msg)) {
            queue_break(q);
            break;
        }
        if (vhost_user_queue_replied(msg)) {
            q->to_receive = QSIMPLEQ_NEXT(msg, next);
        }
    }
    return false;
}

/* Is everything sent and answered, or will it never be? */
static bool queue_idle(VhostUserQueue *q)
{
    return q->broken || ((!q->to_send || !q->to_send->sealed) &&
                          (!q->to_receive || !q->to_receive->sealed));
}

/* Called by a worker, which holds nothing */
static bool queue_step(VMStateWork *work, short *events)
{
    VhostUserQueue *q = container_of(work, VhostUserQueue, work);
    bool send, receive;

    QEMU_LOCK_GUARD(&q->lock);
    send = queue_send(q);
    receive = queue_receive(q);
    *events = (send ? POLLOUT : 0) | (receive ? POLLIN : 0);
    qemu_cond_broadcast(&q->progress);
    if (queue_idle(q)) {
        q->done_ns = get_clock();
        return true;
    }
    return false;
}

/*
 * The queue.  The BQL is held.
 */

void vhost_user_queue_init(VhostUserQueue *q)
{
    assert(bql_locked());

    q->work.fd = -1;
    q->work.step = queue_step;
    QSIMPLEQ_INIT(&q->msgs);
    qemu_mutex_init(&q->lock);
    qemu_cond_init(&q->progress);
}

void vhost_user_queue_destroy(VhostUserQueue *q)
{
    vhost_user_queue_clear(q);
    qemu_mutex_destroy(&q->lock);
    qemu_cond_destroy(&q->progress);
}

static void queue_free_msg(VhostUserQueueMsg *msg)
{
    queue_close_fds(msg);
    if (msg->reply_fd >= 0) {
        close(msg->reply_fd);
    }
    g_free(msg);
}

void vhost_user_queue_ref(VhostUserQueueMsg *msg)
{
    assert(bql_locked());

    msg->refs++;
}

void vhost_user_queue_unref(VhostUserQueueMsg *msg)
{
    assert(bql_locked());

    if (!--msg->refs) {
        queue_free_msg(msg);
    }
}

void vhost_user_queue_clear(VhostUserQueue *q)
{
    VhostUserQueueMsg *msg;

    assert(bql_locked());

    vmstate_work_cancel(&q->work);
    WITH_QEMU_LOCK_GUARD(&q->lock) {
        while ((msg = QSIMPLEQ_FIRST(&q->msgs))) {
            QSIMPLEQ_REMOVE_HEAD(&q->msgs, next);
            msg->taken = true;
            vhost_user_queue_unref(msg);
        }
        q->to_send = NULL;
        q->to_receive = NULL;
        q->broken = false;
        qemu_cond_broadcast(&q->progress);
    }
    q->n_open = 0;
    if (q->sioc) {
        close(q->work.fd);
        q->work.fd = -1;
        object_unref(OBJECT(q->sioc));
        q->sioc = NULL;
    }
}

bool vhost_user_queue_attach(VhostUserQueue *q, QIOChannelSocket *sioc)
{
    int fd;

    assert(bql_locked());

    if (sioc && q->sioc == sioc) {
        return true;
    }
    vhost_user_queue_clear(q);
    /* The original is closed when the backend hangs up */
    fd = sioc ? fcntl(sioc->fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (fd < 0) {
        return false;
    }
    q->sioc = QIO_CHANNEL_SOCKET(object_ref(OBJECT(sioc)));
    q->work.fd = fd;
    return true;
}

void vhost_user_queue_seal(VhostUserQueue *q)
{
    VhostUserQueueMsg *msg = QSIMPLEQ_LAST(&q->msgs, VhostUserQueueMsg, next);

    QEMU_LOCK_GUARD(&q->lock);
    if (msg) {
        msg->sealed = true;
    }
}

void vhost_user_queue_expect_reply(VhostUserQueue *q)
{
    VhostUserQueueMsg *msg = QSIMPLEQ_LAST(&q->msgs, VhostUserQueueMsg, next);

    QEMU_LOCK_GUARD(&q->lock);
    assert(!msg->sealed);
    msg->has_reply = true;
    msg->sealed = true;
}

VhostUserQueueMsg *vhost_user_queue_append(VhostUserQueue *q, const void *data,
                                           size_t size, const int *fds,
                                           int n_fds, bool assumed)
{
    VhostUserQueueMsg *msg = g_malloc(sizeof(*msg) + size);

    assert(bql_locked());
    assert(q->sioc);
    assert(n_fds <= WIRE_FDS_MAX);

    *msg = (VhostUserQueueMsg) {
        .size = size,
        .n_fds = n_fds,
        .assumed = assumed,
        .refs = 1,
        .reply_fd = -1,
    };
    if (n_fds) {
        memcpy(msg->fds, fds, n_fds * sizeof(int));
    }
    memcpy(msg->data, data, size);

    vhost_user_queue_seal(q);
    QEMU_LOCK_GUARD(&q->lock);
    QSIMPLEQ_INSERT_TAIL(&q->msgs, msg, next);
    q->to_send = q->to_send ?: msg;
    q->to_receive = q->to_receive ?: msg;
    q->n_open += !assumed;
    return msg;
}

void vhost_user_queue_take(VhostUserQueue *q, VhostUserQueueMsg *msg)
{
    assert(bql_locked());
    assert(!msg->taken);

    msg->taken = true;
    if (!msg->assumed) {
        q->n_open--;
    }
}

void vhost_user_queue_submit(VhostUserQueue *q, const char *device)
{
    if (!vmstate_work_poke(&q->work)) {
        q->work.device = device;
        vmstate_work_submit(&q->work);
    }
}

bool vhost_user_queue_wait(VhostUserQueue *q, VhostUserQueueMsg *msg,
                           int64_t ms)
{
    int64_t end_ns = ms < 0 ? INT64_MAX : get_clock() + ms * SCALE_MS;

    QEMU_LOCK_GUARD(&q->lock);
    while (!queue_idle(q) && !(msg && vhost_user_queue_replied(msg))) {
        int64_t left_ms = (end_ns - get_clock()) / SCALE_MS;

        if (left_ms <= 0) {
            return false;
        }
        qemu_cond_timedwait(&q->progress, &q->lock, MIN(left_ms, INT_MAX));
    }
    return true;
}

void vhost_user_queue_wait_cleared(VhostUserQueue *q, int ms)
{
    QEMU_LOCK_GUARD(&q->lock);
    if (!QSIMPLEQ_EMPTY(&q->msgs)) {
        qemu_cond_timedwait(&q->progress, &q->lock, ms);
    }
}

bool vhost_user_queue_is_idle(VhostUserQueue *q)
{
    QEMU_LOCK_GUARD(&q->lock);
    return queue_idle(q);
}

bool vhost_user_queue_is_broken(VhostUserQueue *q)
{
    QEMU_LOCK_GUARD(&q->lock);
    return q->broken;
}

bool vhost_user_queue_has_stray(VhostUserQueue *q)
{
    char byte;

    assert(bql_locked());

    return q->sioc && vhost_user_queue_is_idle(q) &&
           recv(q->work.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

void vhost_user_queue_break(VhostUserQueue *q)
{
    QEMU_LOCK_GUARD(&q->lock);
    queue_break(q);
}
