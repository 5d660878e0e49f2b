/*
 * The channel that a migration is written to
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "io/channel-tls.h"
#include "io/channel-wake.h"
#include "migration/iterations.h"
#include "migration/multifd-wait.h"
#include "migration/options.h"
#include "migration/outgoing-channel.h"
#include "migration/qemu-file.h"
#include "migration/stall.h"
#include "qapi/error.h"
#include "qemu/iov.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "trace.h"

#ifdef _WIN32
#define HAVE_WAKE false
#else
#define HAVE_WAKE true
#endif

#define TYPE_MIGRATION_OUTGOING "migration-outgoing-channel"
OBJECT_DECLARE_SIMPLE_TYPE(MigrationOutgoing, MIGRATION_OUTGOING)

struct MigrationOutgoing {
    QIOChannel parent;

    /* Set at creation */
    QIOChannelWake *wake;
    QIOChannel *bottom;
    MigrationIsBroken *is_broken;

    /*
     * What was kept. It is in one piece: a TLS session that would block has to
     * be given the same again, or more, but not less.
     */
    GByteArray *backlog;
    size_t backlog_done;

    uint64_t taken;             /* bytes that the channel below took */
    uint64_t mark;              /* where the guest is given away */
    MigrationStall stall;
};

/*
 * Atomic, set with the BQL: the guest was given away. It is of interest until
 * the status says so, too.
 */
static bool committed;

/* Set when the class is made, which is before there is an object of it */
static ObjectClass *outgoing_class;

static MigrationOutgoing *outgoing_of(QEMUFile *f)
{
    QIOChannel *ioc = f ? qemu_file_get_ioc(f) : NULL;

    /* Asked for each page in completion: no search by name */
    return ioc && object_get_class(OBJECT(ioc)) == outgoing_class ?
           (MigrationOutgoing *)ioc : NULL;
}

static size_t queued(MigrationOutgoing *out)
{
    return out->backlog->len - out->backlog_done;
}

/*
 * Wait until the channel below may take something again, until it was shut
 * down, or until get_clock() is @until_ns
 */
static void wait_for_room(MigrationOutgoing *out, int64_t until_ns,
                          size_t bytes)
{
    int ms = migration_stall_wait_begin(&out->stall, until_ns);

    if (bql_locked()) {
        trace_migration_outgoing_wait_bql(bytes);
    }
    qio_channel_wake_wait(out->wake, G_IO_OUT, ms);
    migration_stall_wait_end(&out->stall, bytes);
}

/* Wait until what was taken is where it belongs */
static bool wait_for_writer(MigrationOutgoing *out, Error **errp)
{
    int ret = qio_channel_wake_drain(out->wake, 0, errp);

    while (!ret) {
        int ms = migration_stall_wait_begin(&out->stall, INT64_MAX);

        ret = qio_channel_wake_drain(out->wake, ms, errp);
        migration_stall_wait_end(&out->stall, 0);
    }
    migration_stall_end(&out->stall, queued(out));
    return ret > 0;
}

/*
 * Writing
 */

/* What may be tried at once: up to the mark, that byte alone, or all */
static size_t allowed(MigrationOutgoing *out)
{
    return out->taken < out->mark ? MIN(out->mark - out->taken, SIZE_MAX) :
           out->taken == out->mark ? 1 : SIZE_MAX;
}

static ssize_t attempt(MigrationOutgoing *out, const struct iovec *iov,
                       size_t niov, Error **errp)
{
    g_autofree struct iovec *part = NULL;
    bool at_mark = out->taken == out->mark;
    size_t max = allowed(out);
    ssize_t ret;

    assert(!at_mark || bql_locked());
    if (max < SIZE_MAX && max < iov_size(iov, niov)) {
        part = g_new(struct iovec, niov);
        niov = iov_copy(part, niov, iov, niov, 0, max);
        iov = part;
    }
    ret = qio_channel_writev(QIO_CHANNEL(out->wake), iov, niov, errp);
    if (ret > 0) {
        out->taken += ret;
        migration_stall_end(&out->stall, queued(out));
        if (at_mark) {
            trace_migration_outgoing_commit(out->mark);
            qatomic_set(&committed, true);
        }
    }
    return ret;
}

/* @f cannot be written any more; nobody needs to be told twice */
static void set_error(QEMUFile *f, int ret, Error *err)
{
    if (qemu_file_get_error(f)) {
        error_free(err);
    } else {
        qemu_file_set_error_obj(f, ret, err);
    }
}

/* One attempt. Returns 0, QIO_CHANNEL_ERR_BLOCK, or another negative value. */
static int send_some(MigrationOutgoing *out, Error **errp)
{
    struct iovec iov = {
        .iov_base = out->backlog->data + out->backlog_done,
        .iov_len = queued(out),
    };
    ssize_t ret = attempt(out, &iov, 1, errp);

    if (ret <= 0) {
        return ret;
    }
    out->backlog_done += ret;
    if (!queued(out)) {
        g_byte_array_set_size(out->backlog, 0);
        out->backlog_done = 0;
        trace_migration_outgoing_settled(out->taken);
    }
    return 0;
}

static void keep(MigrationOutgoing *out, const struct iovec *iov, size_t niov)
{
    size_t i;

    if (out->backlog_done > queued(out)) {
        g_byte_array_remove_range(out->backlog, 0, out->backlog_done);
        out->backlog_done = 0;
    }
    for (i = 0; i < niov; i++) {
        g_byte_array_append(out->backlog, iov[i].iov_base, iov[i].iov_len);
    }
    trace_migration_outgoing_keep(queued(out), bql_locked());
}

/* True if it is worth trying again, false if it is to be kept */
static bool be_patient(MigrationOutgoing *out, size_t bytes)
{
    int64_t until_ns = iterations_deadline();

    if (bql_locked()) {
        until_ns = queued(out) < MIGRATION_BACKLOG_MAX ? 0 : INT64_MAX;
    } else if (queued(out) >= MIGRATION_BACKLOG_RAM) {
        /* A huge page that cannot be sent in parts */
        until_ns = INT64_MAX;
    }
    if (get_clock() >= until_ns) {
        iterations_end_early();
        return false;
    }
    wait_for_room(out, until_ns, bytes);
    return true;
}

static ssize_t migration_outgoing_writev(QIOChannel *ioc,
                                         const struct iovec *iov, size_t niov,
                                         int *fds, size_t nfds, int flags,
                                         Error **errp)
{
    MigrationOutgoing *out = MIGRATION_OUTGOING(ioc);
    ssize_t ret;

    do {
        if (out->taken + queued(out) >= out->mark && out->taken <= out->mark) {
            /* It is for migration_outgoing_commit() to give the guest away */
            break;
        }
        do {
            ret = queued(out) ? send_some(out, errp)
                              : attempt(out, iov, niov, errp);
        } while (!ret && iov_size(iov, niov));
        if (ret != QIO_CHANNEL_ERR_BLOCK) {
            return ret;
        }
    } while (be_patient(out, queued(out) + iov_size(iov, niov)));

    keep(out, iov, niov);
    return iov_size(iov, niov);
}

/*
 * Everything else is as below
 */

static ssize_t migration_outgoing_readv(QIOChannel *ioc,
                                        const struct iovec *iov, size_t niov,
                                        int **fds, size_t *nfds, int flags,
                                        Error **errp)
{
    MigrationOutgoing *out = MIGRATION_OUTGOING(ioc);
    ssize_t ret;

    while ((ret = qio_channel_readv_full(QIO_CHANNEL(out->wake), iov, niov, fds,
                                         nfds, flags, errp)) ==
           QIO_CHANNEL_ERR_BLOCK) {
        qio_channel_wake_wait(out->wake, G_IO_IN, -1);
    }
    return ret;
}

/* It waits as it says above, whatever the mode */
static int migration_outgoing_set_blocking(QIOChannel *ioc, bool enabled,
                                           Error **errp)
{
    return 0;
}

static void migration_outgoing_set_delay(QIOChannel *ioc, bool enabled)
{
    qio_channel_set_delay(QIO_CHANNEL(MIGRATION_OUTGOING(ioc)->wake), enabled);
}

static void migration_outgoing_set_cork(QIOChannel *ioc, bool enabled)
{
    qio_channel_set_cork(QIO_CHANNEL(MIGRATION_OUTGOING(ioc)->wake), enabled);
}

static int migration_outgoing_shutdown(QIOChannel *ioc, QIOChannelShutdown how,
                                       Error **errp)
{
    return qio_channel_shutdown(QIO_CHANNEL(MIGRATION_OUTGOING(ioc)->wake), how,
                                errp);
}

/* What was kept is of no use if nobody has waited for it */
static int migration_outgoing_close(QIOChannel *ioc, Error **errp)
{
    MigrationOutgoing *out = MIGRATION_OUTGOING(ioc);

    migration_stall_end(&out->stall, queued(out));
    return qio_channel_close(QIO_CHANNEL(out->wake), errp);
}

static GSource *migration_outgoing_create_watch(QIOChannel *ioc,
                                                GIOCondition condition)
{
    return qio_channel_create_watch(QIO_CHANNEL(MIGRATION_OUTGOING(ioc)->wake),
                                    condition);
}

static void migration_outgoing_set_aio_fd_handler(QIOChannel *ioc,
                                                  AioContext *read_ctx,
                                                  IOHandler *io_read,
                                                  AioContext *write_ctx,
                                                  IOHandler *io_write,
                                                  void *opaque)
{
    qio_channel_set_aio_fd_handler(QIO_CHANNEL(MIGRATION_OUTGOING(ioc)->wake),
                                   read_ctx, io_read, write_ctx, io_write,
                                   opaque);
}

QIOChannel *migration_channel_below_tls(QIOChannel *ioc)
{
    QIOChannelTLS *tls =
        (QIOChannelTLS *)object_dynamic_cast(OBJECT(ioc), TYPE_QIO_CHANNEL_TLS);

    return tls ? tls->master : ioc;
}

#ifndef _WIN32
bool migration_outgoing_is_fifo(const char *path)
{
    struct stat st;

    return !migrate_mapped_ram() && !stat(path, &st) &&
           S_ISFIFO(st.st_mode);
}

QIOChannelFile *migration_outgoing_open_fifo(const char *path, Error **errp)
{
    int fd = qemu_open(path, O_WRONLY | O_NONBLOCK, NULL);

    if (fd < 0 && errno == ENXIO) {
        error_setg(errp, "Nobody reads the FIFO '%s': open it for reading "
                   "before the migration starts", path);
        return NULL;
    }
    if (fd < 0) {
        error_setg_errno(errp, errno, "Unable to open the FIFO '%s' for "
                         "writing", path);
        return NULL;
    }
    return qio_channel_file_new_fd(fd);
}
#else
bool migration_outgoing_is_fifo(const char *path)
{
    return false;
}

QIOChannelFile *migration_outgoing_open_fifo(const char *path, Error **errp)
{
    error_setg(errp, "'%s': this host has no FIFOs", path);
    return NULL;
}
#endif

/*
 * For the migration thread
 */

/* What was given up may come late, and hit what is written from now on */
static bool may_be_overwritten(QIOChannel *ioc)
{
    struct stat st;

    return HAVE_WAKE && qio_channel_wake_writer_is_stuck() &&
           object_dynamic_cast(OBJECT(ioc), TYPE_QIO_CHANNEL_FILE) &&
           !fstat(QIO_CHANNEL_FILE(ioc)->fd, &st) &&
           (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode));
}

static QIOChannelWake *make_wakeable(QIOChannel *ioc, Error **errp)
{
    if (object_dynamic_cast(OBJECT(ioc), TYPE_QIO_CHANNEL_WAKE)) {
        return QIO_CHANNEL_WAKE(object_ref(OBJECT(ioc)));
    }
    return qio_channel_wake_new(ioc, errp);
}

QIOChannel *migration_outgoing_wrap(QIOChannel *ioc,
                                    MigrationIsBroken *is_broken, Error **errp)
{
    MigrationState *s = migrate_get_current();
    MigrationOutgoing *out;
    QIOChannelWake *wake;

    assert(bql_locked());
    qatomic_set(&committed, false);
    if (may_be_overwritten(ioc)) {
        error_setg(errp, "What an earlier migration wrote to a file or a "
                   "device is still on its way there; wait for the disk, or "
                   "migrate to something else");
        return NULL;
    }
    if (!HAVE_WAKE || migrate_mapped_ram() || migrate_colo() ||
        migrate_mode_is_cpr(s)) {
        /* These seek, pass descriptors, or go on and on */
        return QIO_CHANNEL(object_ref(OBJECT(ioc)));
    }
    wake = make_wakeable(ioc, errp);
    if (!wake) {
        return NULL;
    }
    qio_channel_set_blocking(QIO_CHANNEL(wake), false, NULL);

    out = MIGRATION_OUTGOING(object_new(TYPE_MIGRATION_OUTGOING));
    out->wake = wake;
    out->bottom = QIO_CHANNEL(object_ref(OBJECT(ioc)));
    out->is_broken = is_broken;
    qio_channel_set_name(QIO_CHANNEL(out), ioc->name);
    qio_channel_set_feature(QIO_CHANNEL(out), QIO_CHANNEL_FEATURE_SHUTDOWN);
    return QIO_CHANNEL(out);
}

QIOChannel *migration_outgoing_bottom(QEMUFile *f)
{
    MigrationOutgoing *out = outgoing_of(f);

    return out ? out->bottom : qemu_file_get_ioc(f);
}

bool migration_outgoing_is_settled(QEMUFile *f)
{
    MigrationOutgoing *out = outgoing_of(f);

    return !out || !queued(out);
}

bool migration_outgoing_is_full(QEMUFile *f)
{
    MigrationOutgoing *out = outgoing_of(f);

    return out && queued(out) > MIGRATION_BACKLOG_RAM;
}

bool migration_outgoing_settle(QEMUFile *f, int64_t until_ns)
{
    MigrationOutgoing *out = outgoing_of(f);
    Error *err = NULL;
    int ret;

    while (out && queued(out)) {
        ret = send_some(out, &err);
        if (ret < 0 && ret != QIO_CHANNEL_ERR_BLOCK) {
            set_error(f, -EIO, err);
            return false;
        }
        if (queued(out) && get_clock() >= until_ns) {
            return false;
        }
        if (ret == QIO_CHANNEL_ERR_BLOCK) {
            wait_for_room(out, until_ns, queued(out));
        }
    }
    return true;
}

bool migration_outgoing_make_room(MigrationState *s)
{
    bool ok;

    bql_unlock();
    ok = migration_outgoing_settle(s->to_dst_file, INT64_MAX) &&
         multifd_wait_settle(INT64_MAX);
    bql_lock();
    return ok && !qemu_file_get_error(s->to_dst_file);
}

void migration_outgoing_mark(QEMUFile *f, size_t ahead)
{
    MigrationOutgoing *out = outgoing_of(f);

    if (out) {
        qemu_fflush(f);
        out->mark = out->taken + queued(out) + ahead;
    }
}

/* May the guest still be given away? Nobody can change that: BQL held. */
static bool is_wanted(MigrationState *s)
{
    return s->state == MIGRATION_STATUS_DEVICE &&
           !qemu_file_get_error(s->to_dst_file);
}

/*
 * One step towards the commit. Returns 0, QIO_CHANNEL_ERR_BLOCK if it has to be
 * waited for, or another negative value.
 */
static int commit_some(MigrationOutgoing *out, Error **errp)
{
    if (out->taken == out->mark) {
        /* What a thread writes may fail: the last byte comes after that */
        int ret = qio_channel_wake_drain(out->wake, 0, errp);

        if (ret <= 0) {
            return ret ? ret : QIO_CHANNEL_ERR_BLOCK;
        }
    }
    return send_some(out, errp);
}

static void commit_wait(MigrationOutgoing *out)
{
    bql_unlock();
    if (out->taken < out->mark) {
        wait_for_room(out, INT64_MAX, queued(out));
    } else if (wait_for_writer(out, NULL)) {
        wait_for_room(out, INT64_MAX, queued(out));
    }
    bql_lock();
}

int migration_outgoing_commit(MigrationState *s)
{
    QEMUFile *f = s->to_dst_file;
    MigrationOutgoing *out = outgoing_of(f);
    Error *err = NULL;
    int ret;

    assert(bql_locked());
    while (out && queued(out) && out->taken <= out->mark) {
        if (!is_wanted(s) || out->is_broken(s)) {
            set_error(f, -ECANCELED, NULL);
            return -ECANCELED;
        }
        ret = commit_some(out, &err);
        if (ret == QIO_CHANNEL_ERR_BLOCK) {
            commit_wait(out);
        } else if (ret < 0) {
            set_error(f, -EIO, err);
            return -EIO;
        }
    }
    /* An error after that byte does not take it back */
    return out && out->taken > out->mark ? 0 : qemu_file_get_error(f);
}

int migration_outgoing_finish(MigrationState *s)
{
    QEMUFile *f = s->to_dst_file;
    MigrationOutgoing *out = outgoing_of(f);
    Error *err = NULL;

    if (migration_outgoing_settle(f, INT64_MAX) && out &&
        !qemu_file_get_error(f) && !wait_for_writer(out, &err)) {
        set_error(f, -EIO, err);
    }
    qatomic_set(&committed, false);
    return qemu_file_get_error(f);
}

bool migration_outgoing_is_committed(void)
{
    bool late;

    assert(bql_locked());
    late = qatomic_read(&committed) &&
           migrate_get_current()->state == MIGRATION_STATUS_DEVICE;
    if (late) {
        trace_migration_outgoing_too_late();
    }
    return late;
}

static void migration_outgoing_init(Object *obj)
{
    MigrationOutgoing *out = MIGRATION_OUTGOING(obj);

    out->backlog = g_byte_array_new();
    out->mark = UINT64_MAX;
}

static void migration_outgoing_finalize(Object *obj)
{
    MigrationOutgoing *out = MIGRATION_OUTGOING(obj);

    g_byte_array_unref(out->backlog);
    object_unref(OBJECT(out->bottom));
    object_unref(OBJECT(out->wake));
}

static void migration_outgoing_class_init(ObjectClass *klass, void *class_data)
{
    QIOChannelClass *ioc_klass = QIO_CHANNEL_CLASS(klass);

    outgoing_class = klass;
    ioc_klass->io_writev = migration_outgoing_writev;
    ioc_klass->io_readv = migration_outgoing_readv;
    ioc_klass->io_set_blocking = migration_outgoing_set_blocking;
    ioc_klass->io_set_delay = migration_outgoing_set_delay;
    ioc_klass->io_set_cork = migration_outgoing_set_cork;
    ioc_klass->io_shutdown = migration_outgoing_shutdown;
    ioc_klass->io_close = migration_outgoing_close;
    ioc_klass->io_create_watch = migration_outgoing_create_watch;
    ioc_klass->io_set_aio_fd_handler = migration_outgoing_set_aio_fd_handler;
}

static const TypeInfo migration_outgoing_info = {
    .parent = TYPE_QIO_CHANNEL,
    .name = TYPE_MIGRATION_OUTGOING,
    .instance_size = sizeof(MigrationOutgoing),
    .instance_init = migration_outgoing_init,
    .instance_finalize = migration_outgoing_finalize,
    .class_init = migration_outgoing_class_init,
};

static void migration_outgoing_register_types(void)
{
    type_register_static(&migration_outgoing_info);
}

type_init(migration_outgoing_register_types);
