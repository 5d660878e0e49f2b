/*
 * A return path with a socket of its own: what cannot be combined with it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/return-path-internal.h"
#include "migration/options.h"
#include "qapi/error.h"
#include "qapi/util.h"
#include "qemu/sockets.h"

bool return_path_pick_channels(MigrationChannelList *list,
                               MigrationAddress **main,
                               MigrationAddress **return_path, Error **errp)
{
    MigrationAddress *addr[MIGRATION_CHANNEL_TYPE__MAX] = { NULL };

    for (; list; list = list->next) {
        MigrationChannelType type = list->value->channel_type;

        if (type == MIGRATION_CHANNEL_TYPE_CPR) {
            error_setg(errp, "Channel 'cpr' can only be given on the command "
                       "line here; the list may have 'main' and 'return-path'");
            return false;
        }
        if (addr[type]) {
            error_setg(errp, "Channel list has more than one %s entry",
                       MigrationChannelType_str(type));
            return false;
        }
        addr[type] = list->value->addr;
    }
    *main = addr[MIGRATION_CHANNEL_TYPE_MAIN];
    *return_path = addr[MIGRATION_CHANNEL_TYPE_RETURN_PATH];
    if (!*main) {
        error_setg(errp, "Channel list has no main entry");
        return false;
    }
    return true;
}

/* What the migration is, rather than what it goes over */
static const char *unsuitable_migration(const char **cure)
{
    if (migrate_colo()) {
        *cure = "unset 'x-colo'";
        return "COLO has a protocol of its own in both directions";
    }
    if (migrate_background_snapshot()) {
        *cure = "unset 'background-snapshot'";
        return "a background snapshot has no return path";
    }
    if (migrate_mapped_ram()) {
        *cure = "unset 'mapped-ram'";
        return "nobody reads a file of 'mapped-ram' while it is written";
    }
    if (migrate_mode() != MIG_MODE_NORMAL) {
        *cure = "set 'mode' to 'normal'";
        return "CPR does not use a return path";
    }
    return NULL;
}

static bool is_regular_file(const char *path)
{
    struct stat st;

    /* One that is not there is going to be made */
    return stat(path, &st) < 0 || S_ISREG(st.st_mode);
}

static const char *unsuitable_main(MigrationAddress *main, const char **cure)
{
    bool tls = migrate_tls();

    switch (main->transport) {
    case MIGRATION_ADDRESS_TYPE_RDMA:
        *cure = "use another transport for the channel 'main'";
        return "RDMA has a return path of its own";
    case MIGRATION_ADDRESS_TYPE_FILE:
        if (is_regular_file(main->u.file.filename)) {
            *cure = "use a FIFO, a pipe or a socket for the channel 'main'";
            return "nobody reads a file while it is written";
        }
        break;
    case MIGRATION_ADDRESS_TYPE_EXEC:
        break;
    default:
        return NULL;
    }
    if (tls) {
        *cure = "encrypt in the command or beyond it, and unset 'tls-creds'";
        return "TLS needs a channel 'main' in both directions";
    }
    return NULL;
}

static bool is_socket(MigrationAddress *addr)
{
    return addr->transport == MIGRATION_ADDRESS_TYPE_SOCKET;
}

static bool is_same_address(MigrationAddress *a, MigrationAddress *b)
{
    SocketAddress *sa = &a->u.socket;
    SocketAddress *sb = &b->u.socket;

    if (!is_socket(a) || !is_socket(b) || sa->type != sb->type) {
        return false;
    }
    switch (sa->type) {
    case SOCKET_ADDRESS_TYPE_INET:
        return g_str_equal(sa->u.inet.host, sb->u.inet.host) &&
               g_str_equal(sa->u.inet.port, sb->u.inet.port) &&
               !g_str_equal(sa->u.inet.port, "0");
    case SOCKET_ADDRESS_TYPE_UNIX:
        return g_str_equal(sa->u.q_unix.path, sb->u.q_unix.path);
    case SOCKET_ADDRESS_TYPE_VSOCK:
        return g_str_equal(sa->u.vsock.cid, sb->u.vsock.cid) &&
               g_str_equal(sa->u.vsock.port, sb->u.vsock.port);
    case SOCKET_ADDRESS_TYPE_FD:
        return g_str_equal(sa->u.fd.str, sb->u.fd.str);
    default:
        return false;
    }
}

static bool check_addresses(MigrationAddress *main,
                            MigrationAddress *return_path, Error **errp)
{
    const char *cure = NULL;
    const char *reason = unsuitable_migration(&cure) ?:
                         unsuitable_main(main, &cure);

    if (reason) {
        error_setg(errp, "Channel 'return-path' cannot be used: %s; %s, or "
                   "give no such channel", reason, cure);
        return false;
    }
    if (!is_socket(return_path)) {
        error_setg(errp, "Channel 'return-path' must be a socket, since both "
                   "sides write to it; use 'tcp', 'unix', 'vsock', or 'fd' "
                   "with a socket");
        return false;
    }
    if (is_same_address(main, return_path)) {
        error_setg(errp, "Channels 'main' and 'return-path' have the same "
                   "address; give each its own");
        return false;
    }
    return true;
}

/* A paused migration has the channel, or it has not */
static bool check_recovery(bool given, MigrationAddress *return_path,
                           Error **errp)
{
    if (given && !return_path) {
        error_setg(errp, "The paused migration has a channel 'return-path'; "
                   "give one to recover it as well");
        return false;
    }
    if (!given && return_path) {
        error_setg(errp, "The paused migration has no channel 'return-path'; "
                   "give none to recover it");
        return false;
    }
    return true;
}

bool return_path_check_outgoing(MigrationAddress *main,
                                MigrationAddress *return_path, bool resume,
                                Error **errp)
{
    if (resume &&
        migrate_get_current()->state == MIGRATION_STATUS_POSTCOPY_PAUSED &&
        !check_recovery(return_path_is_given(), return_path, errp)) {
        return false;
    }
    return !return_path || check_addresses(main, return_path, errp);
}

bool return_path_check_incoming(MigrationAddress *main,
                                MigrationAddress *return_path, Error **errp)
{
    return !return_path || check_addresses(main, return_path, errp);
}

bool return_path_check_recovery(MigrationChannelList *channels, Error **errp)
{
    MigrationAddress *main = NULL, *return_path = NULL;

    if (channels &&
        !return_path_pick_channels(channels, &main, &return_path, errp)) {
        return false;
    }
    return check_recovery(return_path_is_given_incoming(), return_path, errp) &&
           return_path_check_incoming(main, return_path, errp);
}

QIOChannelSocket *return_path_use_descriptor(int fd, const char *name,
                                             Error **errp)
{
    QIOChannelSocket *sioc;

    if (fd < 0) {
        return NULL;
    }
    if (!fd_is_socket(fd)) {
        error_setg(errp, "Channel 'return-path' must be a socket, since both "
                   "sides write to it; descriptor '%s' is none", name);
        close(fd);
        return NULL;
    }
    sioc = qio_channel_socket_new_fd(fd, errp);
    if (!sioc) {
        close(fd);
    }
    return sioc;
}
