/*
 * vhost-user: many messages at once
 *
 * A message of the queue has a reply if somebody tried to read one after
 * writing it, so nothing is said here about which kinds of messages have one.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/timed-drain.h"
#include "chardev/char-fe.h"
#include "chardev/char-socket.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "qemu/units.h"
#include "trace.h"
#include "vhost-user-pipeline-internal.h"

#define PIPELINE_LOOK_MS 100

/* A message that has to be acknowledged */
typedef struct VhostUserTold {
    VhostUserPipeline *pl;      /* a reference, as is the next */
    VhostUserQueueMsg *msg;
    void (*func)(struct vhost_dev *dev);
    struct vhost_dev *dev;      /* NULL: it was cleaned up */
    QSIMPLEQ_ENTRY(VhostUserTold) next;
} VhostUserTold;

/* All that there are, under the BQL */
static QLIST_HEAD(, VhostUserPipeline) pipelines =
    QLIST_HEAD_INITIALIZER(pipelines);
static QSIMPLEQ_HEAD(, VhostUserTold) tolds =
    QSIMPLEQ_HEAD_INITIALIZER(tolds);
static bool telling;

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

bool vhost_user_pipeline_is_current(VhostUserPipeline *pl)
{
    return pl->q.sioc && pl->q.sioc == pipeline_socket(pl);
}

bool vhost_user_pipeline_attach(VhostUserPipeline *pl)
{
    return vhost_user_queue_attach(&pl->q, pipeline_socket(pl));
}

void vhost_user_pipeline_forget_reply(VhostUserPipeline *pl)
{
    pl->last = NULL;
    pl->last_read = 0;
    pl->canned_size = 0;
}

void vhost_user_pipeline_need(VhostUserPipeline *pl, VhostUserQueueMsg *msg)
{
    int64_t ms = vmstate_parallel_patience_ms(&pl->parallel);

    if (!vhost_user_queue_wait(&pl->q, msg, ms)) {
        error_report("Backend of device '%s' has been asked to stop, and again "
                     "gave no answer within drain-timeout (%" PRId64 " ms): "
                     "disconnecting it", pl->name, ms);
        vhost_user_queue_break(&pl->q);
    }
}

/* Is there no message that somebody still has to look at? */
static bool pipeline_is_used_up(VhostUserPipeline *pl)
{
    VhostUserQueueMsg *msg;

    QSIMPLEQ_FOREACH(msg, &pl->q.msgs, next) {
        if (!msg->taken) {
            return false;
        }
    }
    return vhost_user_queue_is_idle(&pl->q);
}

static void pipeline_can(VhostUserPipeline *pl, uint32_t request,
                         const void *payload, size_t size)
{
    VhostUserWireHeader hdr = {
        .request = request,
        .flags = WIRE_VERSION | WIRE_REPLY,
        .size = size,
    };

    assert(sizeof(hdr) + size <= sizeof(pl->canned));
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
                                   VhostUserQueueMsg *msg)
{
    VhostUserWireHeader *hdr = vhost_user_queue_header(msg);

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
    case WIRE_SEND_RARP:
        return true;
    default:
        return false;
    }
}

static VhostUserQueueMsg *pipeline_find(VhostUserPipeline *pl,
                                        const void *data, size_t size)
{
    VhostUserQueueMsg *msg;

    if (!pl->q.n_open) {
        return NULL;
    }
    QSIMPLEQ_FOREACH(msg, &pl->q.msgs, next) {
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
    VhostUserQueueMsg *msg;

    for (int i = 0; i < n_fds; i++) {
        copies[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
    }
    msg = vhost_user_queue_append(&pl->q, data, size, copies, n_fds, false);
    msg->own_fds = true;
    vhost_user_queue_take(&pl->q, msg);
    vhost_user_queue_seal(&pl->q);
    vhost_user_queue_submit(&pl->q, pl->name);
}

/* Was this said already? */
static bool pipeline_take(VhostUserPipeline *pl, const void *data, size_t size)
{
    VhostUserQueueMsg *msg = pipeline_find(pl, data, size);

    if (msg) {
        vhost_user_queue_take(&pl->q, msg);
        pl->last = msg;
    }
    return msg;
}

/* A message is written while there is a queue */
static bool pipeline_pass(VhostUserPipeline *pl, const void *data, size_t size,
                          const int *fds, int n_fds)
{
    if (vhost_user_queue_is_idle(&pl->q)) {
        return false;
    }
    if (pipeline_is_silent(data)) {
        pipeline_append_silent(pl, data, size, fds, n_fds);
        return true;
    }
    vhost_user_pipeline_need(pl, NULL);
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

/* Its regions, and which files they are in: descriptors are used again */
static void pipeline_describe_table(GByteArray *table, const void *data,
                                    size_t size, const int *fds, int n_fds)
{
    g_byte_array_append(table, data, size);
    for (int i = 0; i < n_fds; i++) {
        struct stat st = { 0 };

        fstat(fds[i], &st);
        g_byte_array_append(table, (guint8 *)&st.st_dev, sizeof(st.st_dev));
        g_byte_array_append(table, (guint8 *)&st.st_ino, sizeof(st.st_ino));
    }
}

/* Take note of what the backend is told */
static void pipeline_learn(VhostUserPipeline *pl, const void *data)
{
    const VhostUserWireHeader *hdr = data;

    switch (hdr->request) {
    case WIRE_SET_STATUS:
        memcpy(&pl->status, data + sizeof(*hdr), sizeof(pl->status));
        pl->status_known = true;
        break;
    case WIRE_RESET_OWNER:
    case WIRE_RESET_DEVICE:
    case WIRE_SET_MEM_TABLE:
    case WIRE_ADD_MEM_REG:
    case WIRE_REM_MEM_REG:
        pl->table_known = false;
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
 * Which part of low memory is RAM, depends on the state of the chipset.  At
 * the destination that comes late, and a backend that is told a table which
 * differs maps everything once more.  So tell it that all of low memory is
 * RAM.  That is what it is told, too, when memory consists of huge pages.  A
 * well-behaved guest has no buffers where there is no RAM; others get at their
 * own memory.
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
    pipeline_learn(pl, data);
    pl->last = vhost_user_queue_append(&pl->q, data, size, fds, n_fds,
                                       pl->mode == PIPELINE_ASSUME);
    pl->parallel.n_messages++;
}

/*
 * QEMU starts a ring before it says how to interrupt the guest.  That is no
 * harm as long as the guest stands still, but it may run before we are
 * through.  Some backends do not survive a request that they cannot interrupt
 * for.
 */
static void pipeline_hold_kick(VhostUserPipeline *pl, const void *data,
                               size_t size, const int *fds, int n_fds)
{
    VhostUserKick kick = { .fd = n_fds ? fds[0] : -1 };

    assert(size == sizeof(kick.msg));
    memcpy(&kick.msg, data, size);
    g_array_append_val(pl->kicks, kick);
}

/* All else that the rings need has been queued */
static void pipeline_queue_kicks(VhostUserPipeline *pl)
{
    for (int i = 0; i < pl->kicks->len; i++) {
        VhostUserKick *kick = &g_array_index(pl->kicks, VhostUserKick, i);

        if (vhost_user_pipeline_is_current(pl)) {
            vhost_user_queue_append(&pl->q, &kick->msg, sizeof(kick->msg),
                                    &kick->fd, kick->fd >= 0, true);
            pl->parallel.n_messages++;
        }
    }
    g_array_set_size(pl->kicks, 0);
}

static void pipeline_write_table(VhostUserPipeline *pl, const void *data,
                                 size_t size, const int *fds, int n_fds)
{
    g_autoptr(GByteArray) description = g_byte_array_new();
    VhostUserWireTable table = { 0 };
    int table_fds[WIRE_FDS_MAX];

    assert(size <= sizeof(table) && n_fds <= WIRE_FDS_MAX);
    memcpy(&table, data, size);
    memcpy(table_fds, fds, n_fds * sizeof(int));
    assert(table.n_regions == n_fds);
    pipeline_merge_low_memory(&table, table_fds, &n_fds);
    size = sizeof(table.hdr) + table.hdr.size;

    pipeline_describe_table(description, &table, size, table_fds, n_fds);
    if (pl->table_known && pl->table->len == description->len &&
        !memcmp(pl->table->data, description->data, description->len)) {
        /* It has mapped this, and said so */
        trace_vhost_user_pipeline_same_table(pl->name);
        pipeline_can_u64(pl, table.hdr.request, 0);
        return;
    }
    pipeline_write_later(pl, &table, size, table_fds, n_fds);
    /* If it refuses, it is disconnected, or the next start tells it anew */
    g_byte_array_unref(pl->table);
    pl->table = g_steal_pointer(&description);
    pl->table_known = true;
}

bool vhost_user_pipeline_write(VhostUserPipeline *pl, const void *data,
                               size_t size, const int *fds, int n_fds)
{
    const VhostUserWireHeader *hdr = data;

    assert(bql_locked());

    vhost_user_pipeline_forget_reply(pl);
    pipeline_check_knowledge(pl);

    if (pl->mode != PIPELINE_PASS && !vhost_user_pipeline_is_current(pl)) {
        /* The queue is for a connection that was closed */
        pl->mode = PIPELINE_PASS;
        g_array_set_size(pl->kicks, 0);
    }
    if (pl->mode == PIPELINE_PASS && !QSIMPLEQ_EMPTY(&pl->q.msgs) &&
        (!vhost_user_pipeline_is_current(pl) || pipeline_is_used_up(pl))) {
        vhost_user_queue_clear(&pl->q);
    }
    if (pl->mode == PIPELINE_PASS && QSIMPLEQ_EMPTY(&pl->q.msgs)) {
        pipeline_learn(pl, data);
        return false;
    }
    if (pipeline_answer(pl, data) || pipeline_take(pl, data, size)) {
        return true;
    }
    if (pl->mode == PIPELINE_PASS) {
        pipeline_learn(pl, data);
        return pipeline_pass(pl, data, size, fds, n_fds);
    }
    if (pl->mode == PIPELINE_ASSUME && hdr->request == WIRE_SET_VRING_KICK) {
        pipeline_hold_kick(pl, data, size, fds, n_fds);
    } else if (pl->mode == PIPELINE_ASSUME &&
               hdr->request == WIRE_SET_MEM_TABLE &&
               (hdr->flags & WIRE_NEED_REPLY)) {
        pipeline_write_table(pl, data, size, fds, n_fds);
    } else {
        pipeline_write_later(pl, data, size, fds, n_fds);
    }
    return true;
}

/* A reply to another ring's question must not become a position of this one */
static void pipeline_check_ring(VhostUserPipeline *pl,
                                VhostUserQueueMsg *msg)
{
    VhostUserWireHeader *hdr = vhost_user_queue_reply(msg);
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
                                 VhostUserQueueMsg *msg)
{
    vhost_user_pipeline_need(pl, msg);
    QEMU_LOCK_GUARD(&pl->q.lock);
    if (vhost_user_queue_replied(msg)) {
        pipeline_check_ring(pl, msg);
    }
}

/* The first read of the reply to the last message, which is in the queue */
static void pipeline_prepare_reply(VhostUserPipeline *pl)
{
    VhostUserQueueMsg *msg = pl->last;

    if (msg->taken) {
        pipeline_fetch_reply(pl, msg);
        return;
    }
    vhost_user_queue_expect_reply(&pl->q);
    if (!pipeline_make_up_reply(pl, msg)) {
        trace_vhost_user_pipeline_ask(pl->name,
                                      vhost_user_queue_header(msg)->request);
        msg->assumed = false;
        msg->taken = true;
        vhost_user_queue_submit(&pl->q, pl->name);
        pipeline_fetch_reply(pl, msg);
    }
}

int vhost_user_pipeline_read(VhostUserPipeline *pl, void *buf, int size)
{
    VhostUserQueueMsg *msg = pl->last;
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
    QEMU_LOCK_GUARD(&pl->q.lock);
    fd = pl->last->reply_fd;
    pl->last->reply_fd = -1;
    return fd;
}

/* Sleep until @msg is answered (NULL: everything), or never will be */
static void pipeline_sleep(VhostUserPipeline *pl, VhostUserQueueMsg *msg)
{
    assert(!bql_locked());

    /* A backend may take as long as it likes; only we wait for it */
    vhost_user_queue_wait(&pl->q, msg, -1);
}

static void pipeline_clear_used_up(VhostUserPipeline *pl)
{
    if (pipeline_is_used_up(pl)) {
        vhost_user_pipeline_forget_reply(pl);
        vhost_user_queue_clear(&pl->q);
    }
}

static void pipeline_unref(VhostUserPipeline *pl)
{
    if (--pl->refs) {
        return;
    }
    vhost_user_queue_destroy(&pl->q);
    if (pl->known_sioc) {
        object_unref(OBJECT(pl->known_sioc));
    }
    g_array_free(pl->devs, true);
    g_array_free(pl->kicks, true);
    g_byte_array_unref(pl->table);
    g_free(pl);
}

/* An answer that was not looked at yet belongs to a VM state change */
static VhostUserPipeline *pipeline_find_in_use(void)
{
    VhostUserPipeline *pl;

    QLIST_FOREACH(pl, &pipelines, next) {
        if (!pipeline_is_used_up(pl)) {
            return pl;
        }
    }
    return NULL;
}

void vhost_user_pipelines_begin_telling(void)
{
    VhostUserPipeline *pl;

    assert(!bql_locked());

    bql_lock();
    while ((pl = pipeline_find_in_use())) {
        pl->refs++;
        bql_unlock();
        if (vhost_user_queue_is_idle(&pl->q)) {
            vhost_user_queue_wait_cleared(&pl->q, PIPELINE_LOOK_MS);
        } else {
            pipeline_sleep(pl, NULL);
        }
        bql_lock();
        pipeline_unref(pl);
    }
    telling = true;
}

bool vhost_user_pipeline_tell(VhostUserPipeline *pl, const void *data,
                              size_t size, void (*func)(struct vhost_dev *dev),
                              struct vhost_dev *dev)
{
    VhostUserTold *told;

    assert(bql_locked());

    if (!telling) {
        return false;
    }
    if (!vmstate_workers_active()) {
        vmstate_workers_start(1);
    }
    pipeline_clear_used_up(pl);
    if (!vmstate_workers_active() || !vhost_user_pipeline_attach(pl)) {
        return false;
    }
    told = g_new(VhostUserTold, 1);
    *told = (VhostUserTold) { .pl = pl, .func = func, .dev = dev };
    told->msg = vhost_user_queue_append(&pl->q, data, size, NULL, 0, false);
    vhost_user_queue_ref(told->msg);
    pl->refs++;
    QSIMPLEQ_INSERT_TAIL(&tolds, told, next);
    vhost_user_queue_expect_reply(&pl->q);
    vhost_user_queue_submit(&pl->q, pl->name);
    return true;
}

static bool pipeline_acknowledged(VhostUserTold *told)
{
    VhostUserWireHeader *hdr = vhost_user_queue_reply(told->msg);
    uint64_t nack = 1;

    QEMU_LOCK_GUARD(&told->pl->q.lock);
    if (vhost_user_queue_replied(told->msg) &&
        hdr->request == vhost_user_queue_header(told->msg)->request &&
        hdr->size == sizeof(nack)) {
        memcpy(&nack, told->msg->reply + sizeof(*hdr), sizeof(nack));
    }
    return !nack;
}

/* Whatever became of it.  Returns false if it has to be there, and is not. */
static bool pipeline_end_told(VhostUserTold *told)
{
    VhostUserPipeline *pl = told->pl;
    bool ok = pipeline_acknowledged(told);

    QSIMPLEQ_REMOVE_HEAD(&tolds, next);
    if (!told->msg->taken) {
        vhost_user_queue_take(&pl->q, told->msg);
    }
    vhost_user_queue_unref(told->msg);
    pipeline_clear_used_up(pl);
    if (ok && told->dev) {
        told->func(told->dev);
    }
    ok |= !told->dev;
    pipeline_unref(pl);
    g_free(told);
    return ok;
}

int vhost_user_pipelines_end_telling(Error **errp)
{
    VhostUserTold *told;
    int ret = 0;

    assert(bql_locked());

    telling = false;
    while ((told = QSIMPLEQ_FIRST(&tolds))) {
        const char *name = told->pl->name;

        bql_unlock();
        pipeline_sleep(told->pl, told->msg);
        bql_lock();
        if (!pipeline_end_told(told) && !ret) {
            error_setg(errp, "Backend of device '%s' did not acknowledge the "
                       "end of post-copy", name);
            ret = -EIO;
        }
    }
    bql_unlock();
    return ret;
}

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
        pl->parallel.opaque = dev->vdev;
        pl->name = g_intern_string(name);
        pipeline_queue_kicks(pl);
    }
}

void vhost_user_pipeline_dev_init(VhostUserPipeline *pl, struct vhost_dev *dev)
{
    if (!dev->vq_index) {
        pl->first = dev;
    }
}

void vhost_user_pipeline_dev_cleanup(struct vhost_dev *dev)
{
    VhostUserPipeline *pl;
    VhostUserTold *told;

    QSIMPLEQ_FOREACH(told, &tolds, next) {
        if (told->dev == dev) {
            told->dev = NULL;
        }
    }
    QLIST_FOREACH(pl, &pipelines, next) {
        vhost_user_pipeline_note(pl, dev, false);
        if (pl->first == dev) {
            pl->first = NULL;
        }
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

    pl->refs = 1;
    pl->user = user;
    pl->name = g_intern_string(user->chr->chr->label);
    pl->devs = g_array_new(false, false, sizeof(struct vhost_dev *));
    pl->kicks = g_array_new(false, false, sizeof(VhostUserKick));
    pl->table = g_byte_array_new();
    vhost_user_queue_init(&pl->q);
    QLIST_INSERT_HEAD(&pipelines, pl, next);
    vmstate_parallel_register(&pl->parallel, &vhost_user_vmstate_ops);
    return pl;
}

void vhost_user_pipeline_free(VhostUserPipeline *pl)
{
    assert(bql_locked());

    vmstate_parallel_unregister(&pl->parallel);
    QLIST_REMOVE(pl, next);
    vhost_user_queue_clear(&pl->q);
    pl->user = NULL;
    pipeline_unref(pl);
}
