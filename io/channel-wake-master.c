/*
 * A channel that can be woken up: what channels on one master share
 *
 * Theory of operation. wake_master_new() finds out which descriptors the master
 * has, and sees to it that no attempt blocks, in the way that changes least for
 * others who share them:
 *
 * - a socket is told in each call not to wait,
 * - a pipe is opened again, and that is put into non-blocking mode,
 * - of other pipes, terminals and devices poll() is asked before each read, and
 *   a thread writes; this is all that can be done with files and disks,
 * - a TLS session calls what is below it itself, so it has to be the mode of
 *   that, which is put back at the end; a command's pipes are our own.
 *
 * From then on the master counts the channels on it: how many may still use it
 * (alive), were not closed (users) and exist (refs). The end of each count has
 * its own consequence: shutdown of the master, its close, and the end of this
 * object.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "io/channel-command.h"
#include "io/channel-file.h"
#include "io/channel-socket.h"
#include "io/channel-tls.h"
#include "qapi/error.h"
#include "qemu/host-utils.h"
#include "qemu/lockable.h"
#include "channel-wake-internal.h"

static bool is_a(QIOChannel *ioc, const char *type)
{
    return object_dynamic_cast(OBJECT(ioc), type);
}

/* What has the descriptors */
static QIOChannel *bottom_of(QIOChannel *ioc)
{
    return is_a(ioc, TYPE_QIO_CHANNEL_TLS) ? QIO_CHANNEL_TLS(ioc)->master : ioc;
}

static QIOChannelCommand *command_of(QIOChannel *ioc)
{
    ioc = bottom_of(ioc);
    return is_a(ioc, TYPE_QIO_CHANNEL_COMMAND) ? QIO_CHANNEL_COMMAND(ioc)
                                               : NULL;
}

/* Files and disks, of which poll() tells nothing, can only be written */
static bool file_directions(WakeMaster *master, int fd, Error **errp)
{
    int mode = fcntl(fd, F_GETFL);
    struct stat st;

    if (mode < 0 || fstat(fd, &st) < 0) {
        error_setg_errno(errp, errno, "Cannot use descriptor %d", fd);
        return false;
    }
    mode &= O_ACCMODE;
    master->fd[WAKE_IN] = mode == O_WRONLY ? -1 : fd;
    master->fd[WAKE_OUT] = mode == O_RDONLY ? -1 : fd;
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
        return true;
    }
    if (mode == O_RDONLY || is_a(master->ioc, TYPE_QIO_CHANNEL_TLS)) {
        error_setg(errp, "Descriptor %d is a file or a disk: waiting for it"
                   " cannot be interrupted", fd);
        return false;
    }
    master->fd[WAKE_IN] = -1;
    return true;
}

static bool find_fds(WakeMaster *master, Error **errp)
{
    QIOChannel *ioc = bottom_of(master->ioc);

    if (is_a(ioc, TYPE_QIO_CHANNEL_SOCKET)) {
        master->fd[WAKE_IN] = QIO_CHANNEL_SOCKET(ioc)->fd;
        master->fd[WAKE_OUT] = QIO_CHANNEL_SOCKET(ioc)->fd;
        return true;
    }
    if (is_a(ioc, TYPE_QIO_CHANNEL_COMMAND)) {
        master->fd[WAKE_IN] = QIO_CHANNEL_COMMAND(ioc)->readfd;
        master->fd[WAKE_OUT] = QIO_CHANNEL_COMMAND(ioc)->writefd;
        return true;
    }
    if (is_a(ioc, TYPE_QIO_CHANNEL_FILE)) {
        return file_directions(master, QIO_CHANNEL_FILE(ioc)->fd, errp);
    }
    error_setg(errp, "A channel of type '%s' cannot be woken up",
               object_get_typename(OBJECT(ioc)));
    return false;
}

/*
 * A second opening of the same pipe has a mode of its own. It fails without
 * /proc, with the permissions of somebody else, and if there is no reader.
 */
static bool open_again(WakeMaster *master)
{
    g_autofree char *path = NULL;
    struct stat st;
    int mode, fd;

    fd = QIO_CHANNEL_FILE(master->ioc)->fd;
    if (fstat(fd, &st) < 0 || !S_ISFIFO(st.st_mode)) {
        return false;
    }
    mode = fcntl(fd, F_GETFL) & O_ACCMODE;
    path = g_strdup_printf("/proc/self/fd/%d", fd);
    fd = qemu_open(path, mode | O_NONBLOCK, NULL);
    if (fd < 0) {
        return false;
    }
    master->io = QIO_CHANNEL(qio_channel_file_new_fd(fd));
    for (int i = 0; i < WAKE_DIRECTIONS; i++) {
        master->fd[i] = master->fd[i] < 0 ? -1 : fd;
    }
    return true;
}

static void restore_modes(WakeMaster *master)
{
    for (int i = 0; i < WAKE_DIRECTIONS; i++) {
        if (master->found_fd[i] >= 0) {
            g_unix_set_fd_nonblocking(master->found_fd[i], false, NULL);
            master->found_fd[i] = -1;
        }
    }
}

static bool make_nonblocking(WakeMaster *master, Error **errp)
{
    for (int i = 0; i < WAKE_DIRECTIONS; i++) {
        int fd = master->fd[i];
        int mode = fd < 0 ? O_NONBLOCK : fcntl(fd, F_GETFL);

        if (mode >= 0 && (mode & O_NONBLOCK)) {
            continue;
        }
        if (mode < 0 || !g_unix_set_fd_nonblocking(fd, true, NULL)) {
            error_setg_errno(errp, errno,
                             "Cannot make descriptor %d non-blocking", fd);
            restore_modes(master);
            return false;
        }
        master->found_fd[i] = fd;
    }
    return true;
}

static bool stop_blocking(WakeMaster *master, Error **errp)
{
    if (is_a(master->ioc, TYPE_QIO_CHANNEL_SOCKET)) {
        master->dontwait = true;
        return true;
    }
    if (!is_a(master->ioc, TYPE_QIO_CHANNEL_FILE)) {
        return make_nonblocking(master, errp);
    }
    if (open_again(master)) {
        return true;
    }
    master->ask_first = true;
    if (master->fd[WAKE_OUT] >= 0) {
        master->writer = wake_writer_new(master->fd[WAKE_OUT], errp);
    }
    return master->writer || master->fd[WAKE_OUT] < 0;
}

unsigned wake_master_directions(const WakeMaster *master)
{
    return (master->fd[WAKE_IN] < 0 ? 0 : WAKE_MASK_IN) |
           (master->fd[WAKE_OUT] < 0 ? 0 : WAKE_MASK_OUT);
}

WakeMaster *wake_master_new(QIOChannel *ioc, unsigned users, Error **errp)
{
    g_autofree WakeMaster *master = g_new(WakeMaster, 1);

    *master = (WakeMaster) {
        .ioc = ioc,
        .io = ioc,
        .fd = { -1, -1 },
        .found_fd = { -1, -1 },
        .refs = users,
        .users = users,
        .alive = users,
    };
    if (!find_fds(master, errp)) {
        return NULL;
    }
    if (ctpop32(wake_master_directions(master)) < users) {
        error_setg(errp, "Channel has %s", users > 1 ? "only one direction"
                                                     : "no descriptor");
        return NULL;
    }
    if (!stop_blocking(master, errp)) {
        return NULL;
    }
    object_ref(OBJECT(ioc));
    qemu_mutex_init(&master->lock);
    qemu_mutex_init(&master->state_lock);
    return g_steal_pointer(&master);
}

struct pollfd wake_master_pollfd(const WakeMaster *master, WakeDirection dir)
{
    if (dir == WAKE_OUT && master->writer) {
        return (struct pollfd) {
            .fd = wake_writer_room_fd(master->writer),
            .events = POLLIN,
        };
    }
    return (struct pollfd) {
        .fd = master->fd[dir],
        .events = dir == WAKE_IN ? POLLIN : POLLOUT,
    };
}

/* Of what a socket returned, apart from EINTR */
static ssize_t socket_result(ssize_t ret, const char *what, Error **errp)
{
    if (ret >= 0) {
        return ret;
    }
    if (errno == EAGAIN) {
        return QIO_CHANNEL_ERR_BLOCK;
    }
    error_setg_errno(errp, errno, "Unable to %s socket", what);
    return -1;
}

static bool is_readable(int fd)
{
    struct pollfd pfd = { .fd = fd, .events = POLLIN };

    return poll(&pfd, 1, 0) > 0;
}

ssize_t wake_master_readv(WakeMaster *master, const struct iovec *iov,
                          size_t niov, int flags, Error **errp)
{
    struct msghdr msg = { .msg_iov = (struct iovec *)iov, .msg_iovlen = niov };
    int peek = flags & QIO_CHANNEL_READ_FLAG_MSG_PEEK ? MSG_PEEK : 0;
    ssize_t ret;

    QEMU_LOCK_GUARD(&master->lock);
    if (master->ask_first && !is_readable(master->fd[WAKE_IN])) {
        return QIO_CHANNEL_ERR_BLOCK;
    }
    if (!master->dontwait) {
        return qio_channel_readv_full(master->io, iov, niov, NULL, NULL,
                                      flags, errp);
    }
    ret = RETRY_ON_EINTR(recvmsg(master->fd[WAKE_IN], &msg,
                                 MSG_DONTWAIT | peek));
    return socket_result(ret, "read from", errp);
}

ssize_t wake_master_writev(WakeMaster *master, const struct iovec *iov,
                           size_t niov, int flags, Error **errp)
{
    struct msghdr msg = { .msg_iov = (struct iovec *)iov, .msg_iovlen = niov };
    ssize_t ret;

    if (master->writer) {
        return wake_writer_put(master->writer, iov, niov, errp);
    }
    QEMU_LOCK_GUARD(&master->lock);
    if (!master->dontwait) {
        return qio_channel_writev_full(master->io, iov, niov, NULL, 0,
                                       flags, errp);
    }
    ret = RETRY_ON_EINTR(sendmsg(master->fd[WAKE_OUT], &msg, MSG_DONTWAIT));
    return socket_result(ret, "write to", errp);
}

bool wake_master_pending(WakeMaster *master)
{
    if (!is_a(master->io, TYPE_QIO_CHANNEL_TLS)) {
        return false;
    }
    QEMU_LOCK_GUARD(&master->lock);
    return qcrypto_tls_session_check_pending(
        qio_channel_tls_get_session(QIO_CHANNEL_TLS(master->io)));
}

void wake_master_shut_down(WakeMaster *master)
{
    QEMU_LOCK_GUARD(&master->state_lock);

    if (--master->alive || master->closed) {
        return;
    }
    if (qio_channel_has_feature(master->ioc, QIO_CHANNEL_FEATURE_SHUTDOWN)) {
        qio_channel_shutdown(master->ioc, QIO_CHANNEL_SHUTDOWN_BOTH, NULL);
    }
    if (master->writer) {
        wake_writer_abandon(master->writer);
    }
    if (command_of(master->ioc)) {
        master->terminated_ms =
            wake_child_terminate(command_of(master->ioc)->pid);
    }
}

/*
 * Its own close would wait for the child in waitpid(). The child has to see the
 * end of what was written before it can end.
 */
static int close_command(QIOChannelCommand *command, int64_t terminated_ms,
                         Error **errp)
{
    int ret = 0;

    if (command->readfd != -1 && close(command->readfd) < 0) {
        ret = -1;
    }
    if (command->writefd != -1 && command->writefd != command->readfd &&
        close(command->writefd) < 0) {
        ret = -1;
    }
    if (ret < 0) {
        error_setg_errno(errp, errno, "Unable to close command");
    }
    command->readfd = command->writefd = -1;
    wake_child_reap(command->pid, terminated_ms);
    command->pid = 0;
    return ret;
}

/* Its own close would wait for a disk that has to take what was written */
static void close_written(WakeMaster *master)
{
    QIOChannelFile *file = QIO_CHANNEL_FILE(master->ioc);

    wake_writer_close(master->writer, file->fd);
    file->fd = -1;
}

int wake_master_close(WakeMaster *master, bool was_alive, Error **errp)
{
    QIOChannelCommand *command = command_of(master->ioc);

    WITH_QEMU_LOCK_GUARD(&master->state_lock) {
        master->alive -= was_alive;
        if (--master->users) {
            return 0;
        }
        master->closed = true;
    }

    restore_modes(master);
    if (master->io != master->ioc) {
        qio_channel_close(master->io, NULL);
    }
    if (command) {
        return close_command(command, master->terminated_ms, errp);
    }
    if (master->writer) {
        close_written(master);
        return 0;
    }
    return qio_channel_close(master->ioc, errp);
}

void wake_master_unref(WakeMaster *master, bool was_closed, bool was_alive)
{
    bool closed;

    WITH_QEMU_LOCK_GUARD(&master->state_lock) {
        master->alive -= was_alive;
        master->users -= !was_closed;
        closed = master->closed;
        if (--master->refs) {
            return;
        }
    }

    if (!closed) {
        restore_modes(master);
        if (master->writer) {
            wake_writer_close(master->writer, -1);
        }
    }
    if (master->io != master->ioc) {
        object_unref(OBJECT(master->io));
    }
    object_unref(OBJECT(master->ioc));
    if (master->writer) {
        wake_writer_unref(master->writer);
    }
    qemu_mutex_destroy(&master->state_lock);
    qemu_mutex_destroy(&master->lock);
    g_free(master);
}
