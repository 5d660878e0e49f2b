/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: what a migration goes over
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "qemu/cutils.h"
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <linux/vm_sockets.h>
#include "switchover/harness.h"
#include "switchover/transport.h"

static QDict *socket_address(const char *type)
{
    QDict *addr = qdict_new();

    qdict_put_str(addr, "transport", "socket");
    qdict_put_str(addr, "type", type);
    return addr;
}

static QDict *inet_address(const char *text)
{
    QDict *addr = socket_address("inet");
    const char *port = strrchr(text, ':');
    g_autofree char *host = g_strndup(text, port - text);

    qdict_put_str(addr, "host", host);
    qdict_put_str(addr, "port", port + 1);
    return addr;
}

static QDict *vsock_address(const char *text)
{
    QDict *addr = socket_address("vsock");
    g_auto(GStrv) part = g_strsplit(text, ":", 2);

    qdict_put_str(addr, "cid", part[0]);
    qdict_put_str(addr, "port", part[1]);
    return addr;
}

static QDict *exec_address(const char *command)
{
    QDict *addr = qdict_new();
    QList *args = qlist_new();

    qlist_append_str(args, "/bin/sh");
    qlist_append_str(args, "-c");
    qlist_append_str(args, command);
    qdict_put_str(addr, "transport", "exec");
    qdict_put(addr, "args", args);
    return addr;
}

static QDict *file_address(const char *path)
{
    QDict *addr = qdict_new();

    qdict_put_str(addr, "transport", "file");
    qdict_put_str(addr, "filename", path);
    qdict_put_int(addr, "offset", 0);
    return addr;
}

static QDict *address(const char *uri)
{
    const char *rest;
    QDict *addr = NULL;

    if (strstart(uri, "unix:", &rest)) {
        addr = socket_address("unix");
        qdict_put_str(addr, "path", rest);
    } else if (strstart(uri, "fd:", &rest)) {
        addr = socket_address("fd");
        qdict_put_str(addr, "str", rest);
    } else if (strstart(uri, "tcp:", &rest)) {
        addr = inet_address(rest);
    } else if (strstart(uri, "vsock:", &rest)) {
        addr = vsock_address(rest);
    } else if (strstart(uri, "exec:", &rest)) {
        addr = exec_address(rest);
    } else if (strstart(uri, "file:", &rest)) {
        addr = file_address(rest);
    }
    SW_CHECK(addr, "cannot make an address of '%s'", uri);
    return addr;
}

static void add_channel(QList *list, const char *type, const char *uri)
{
    QDict *channel;

    if (uri) {
        channel = qdict_new();
        qdict_put_str(channel, "channel-type", type);
        qdict_put(channel, "addr", address(uri));
        qlist_append(list, channel);
    }
}

QList *sw_channels(const char *main, const char *link)
{
    QList *list = qlist_new();

    add_channel(list, "main", main);
    add_channel(list, "return-path", link);
    return list;
}

unsigned sw_free_port(void)
{
    struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    socklen_t len = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    SW_CHECK(!bind(fd, (struct sockaddr *)&addr, len) &&
             !getsockname(fd, (struct sockaddr *)&addr, &len),
             "no free port: %s", strerror(errno));
    close(fd);
    return ntohs(addr.sin_port);
}

/* Listens at any port, of which it is the address then; -1: cannot */
static int vsock_listen(struct sockaddr_vm *addr)
{
    socklen_t len = sizeof(*addr);
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

    *addr = (struct sockaddr_vm) {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_LOCAL,
        .svm_port = VMADDR_PORT_ANY,
    };
    if (bind(fd, (struct sockaddr *)addr, len) || listen(fd, 1) ||
        getsockname(fd, (struct sockaddr *)addr, &len)) {
        close(fd);
        return -1;
    }
    return fd;
}

unsigned sw_free_vsock_port(void)
{
    struct sockaddr_vm addr;
    int fd = vsock_listen(&addr);

    SW_CHECK(fd >= 0, "no free vsock port: %s", strerror(errno));
    close(fd);
    return addr.svm_port;
}

/* A host without loopback may let it wait instead of saying so */
static bool vsock_connects(const struct sockaddr_vm *addr)
{
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct pollfd pfd = { .fd = fd, .events = POLLOUT };
    int error = 0;
    socklen_t len = sizeof(error);
    bool ok;

    ok = (!connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) ||
          errno == EINPROGRESS) && poll(&pfd, 1, 1000) == 1 &&
         !getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) && !error;
    close(fd);
    return ok;
}

const char *sw_vsock_missing(void)
{
    struct sockaddr_vm addr;
    int fd = vsock_listen(&addr);
    bool ok;

    if (fd < 0) {
        return "this host has no vsock";
    }
    ok = vsock_connects(&addr);
    close(fd);
    return ok ? NULL : "vsock does not lead back to this host";
}

void sw_vm_use_tls(SwVM *vm, const char *dir, const char *endpoint)
{
    g_autofree char *path = g_build_filename(dir, "keys.psk", NULL);

    g_assert(g_file_set_contents(path, "qemu:00112233445566778899aabbccddeeff",
                                 -1, NULL));
    sw_qmp_ok(vm->mon, "{ 'execute': 'object-add', 'arguments': {"
              " 'qom-type': 'tls-creds-psk', 'id': 'tls', 'endpoint': %s,"
              " 'dir': %s } }", endpoint, dir);
    sw_qmp_ok(vm->mon, "{ 'execute': 'migrate-set-parameters',"
              " 'arguments': { 'tls-creds': 'tls' } }");
}

void sw_tls_client(SwRig *rig)
{
    sw_vm_use_tls(rig->src, rig->dir, "client");
}

void sw_tls_server(SwRig *rig)
{
    sw_vm_use_tls(rig->dst, rig->dir, "server");
}
