/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: a device, which has a connection now and then
 */

#include "qemu/osdep.h"
#include <poll.h>
#include <sys/socket.h>
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/sockets.h"
#include "backend.h"
#include "device.h"
#include "wire.h"

#define RETRY_MS 100

/* ---- the wire's thread --------------------------------------------------- */

static bool must_stop(SimDevice *dev)
{
    QEMU_LOCK_GUARD(&dev->lock);
    return dev->stop;
}

/* Until @fd (or -1) is readable, an order has come, or the time is over */
static void wait_for(SimDevice *dev, int fd, int timeout_ms)
{
    struct pollfd fds[] = {
        { .fd = event_notifier_get_fd(&dev->wake), .events = POLLIN },
        { .fd = fd, .events = POLLIN },
    };

    poll(fds, ARRAY_SIZE(fds), timeout_ms);
    event_notifier_test_and_clear(&dev->wake);
}

static int next_frontend(SimDevice *dev, bool *again)
{
    if (dev->listen_fd >= 0) {
        wait_for(dev, dev->listen_fd, -1);
        return accept4(dev->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    }
    if (*again) {
        wait_for(dev, -1, RETRY_MS);
    }
    *again = true;
    return unix_connect(dev->config->connect, NULL);
}

static int connect_backend(SimDevice *dev)
{
    Error *err = NULL;
    int pair[2], fd;

    if (dev->backend) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
            error_report("socketpair: %s", g_strerror(errno));
            return -1;
        }
        sim_backend_connect(dev->backend, pair[1]);
        return pair[0];
    }
    fd = unix_connect(dev->config->connect, &err);
    if (fd < 0) {
        error_reportf_err(err, "%s: ", dev->config->name);
        return -1;
    }
    qemu_socket_set_block(fd);
    return fd;
}

static void set_frontend(SimDevice *dev, int fd)
{
    QEMU_LOCK_GUARD(&dev->lock);
    dev->frontend = fd;
    if (fd >= 0) {
        dev->stats.connections++;
    } else {
        dev->is_held = dev->resume = false;
        sim_stats_disconnected(&dev->stats);
    }
    if (dev->stop && fd >= 0) {
        shutdown(fd, SHUT_RDWR);
    }
}

static void serve(SimDevice *dev, int frontend)
{
    int backend = connect_backend(dev);

    qemu_socket_set_block(frontend);
    if (backend >= 0) {
        set_frontend(dev, frontend);
        sim_journal_write(dev->journal, dev->config->name, "connect", NULL, 0);
        sim_wire_run(dev, frontend, backend);
        sim_journal_write(dev->journal, dev->config->name, "disconnect", NULL,
                          0);
        if (dev->backend) {
            sim_backend_disconnect(dev->backend);
        }
        set_frontend(dev, -1);
        close(backend);
    }
    close(frontend);
}

static void *device_main(void *opaque)
{
    SimDevice *dev = opaque;
    bool again = false;

    while (!must_stop(dev)) {
        int frontend = next_frontend(dev, &again);

        if (frontend >= 0) {
            serve(dev, frontend);
        }
    }
    return NULL;
}

/* ---- creation ------------------------------------------------------------ */

void sim_device_config_free(SimDeviceConfig *config)
{
    g_free(config->name);
    g_free(config->listen);
    g_free(config->connect);
    g_free(config->file);
    g_free(config);
}

static bool create_backend(SimDevice *dev, SimLoop *loop, Error **errp)
{
    switch (dev->config->type) {
    case SIM_DEVICE_NET:
        dev->backend = sim_net_new(dev, loop);
        return true;
    case SIM_DEVICE_BLK:
        dev->backend = sim_blk_new(dev, loop, errp);
        return dev->backend;
    default:
        return true;
    }
}

static bool start_listening(SimDevice *dev, Error **errp)
{
    if (!dev->config->listen) {
        return true;
    }
    dev->listen_fd = unix_listen(dev->config->listen, errp);
    if (dev->listen_fd < 0) {
        return false;
    }
    /* A frontend may go away between poll() and accept() */
    qemu_socket_set_nonblock(dev->listen_fd);
    return true;
}

static void destroy(SimDevice *dev)
{
    sim_backend_free(dev->backend);
    if (dev->listen_fd >= 0) {
        close(dev->listen_fd);
        unlink(dev->config->listen);
    }
    g_array_unref(dev->faults);
    qemu_mutex_destroy(&dev->lock);
    sim_device_config_free(dev->config);
    g_free(dev);
}

SimDevice *sim_device_new(SimDeviceConfig *config, SimJournal *journal,
                          SimTurn *turn, SimLoop *loop, Error **errp)
{
    SimDevice *dev = g_new0(SimDevice, 1);

    dev->config = config;
    dev->journal = journal;
    dev->turn = turn;
    dev->listen_fd = dev->frontend = -1;
    dev->latency = config->latency;
    dev->faults = g_array_new(false, false, sizeof(SimFault));
    dev->stats.n_queues = config->n_queues;
    qemu_mutex_init(&dev->lock);
    if (!create_backend(dev, loop, errp) || !start_listening(dev, errp)) {
        error_prepend(errp, "%s: ", config->name);
        destroy(dev);
        return NULL;
    }
    if (event_notifier_init(&dev->wake, 0) < 0) {
        g_error("eventfd: %s", g_strerror(errno));
    }
    qemu_thread_create(&dev->thread, "sim-wire", device_main, dev,
                       QEMU_THREAD_JOINABLE);
    return dev;
}

void sim_device_stop(SimDevice *dev)
{
    qemu_mutex_lock(&dev->lock);
    dev->stop = true;
    qemu_mutex_unlock(&dev->lock);
    sim_device_drop(dev);
    event_notifier_set(&dev->wake);
}

void sim_device_free(SimDevice *dev)
{
    qemu_thread_join(&dev->thread);
    event_notifier_cleanup(&dev->wake);
    destroy(dev);
}

/* ---- orders and counts --------------------------------------------------- */

void sim_device_set_latency(SimDevice *dev, const SimLatency *latency)
{
    QEMU_LOCK_GUARD(&dev->lock);
    dev->latency = *latency;
}

void sim_device_add_fault(SimDevice *dev, const SimFault *fault)
{
    QEMU_LOCK_GUARD(&dev->lock);
    g_array_append_vals(dev->faults, fault, 1);
}

void sim_device_clear_faults(SimDevice *dev)
{
    QEMU_LOCK_GUARD(&dev->lock);
    g_array_set_size(dev->faults, 0);
}

bool sim_device_resume(SimDevice *dev)
{
    QEMU_LOCK_GUARD(&dev->lock);
    if (!dev->is_held) {
        return false;
    }
    dev->resume = true;
    event_notifier_set(&dev->wake);
    return true;
}

bool sim_device_drop(SimDevice *dev)
{
    QEMU_LOCK_GUARD(&dev->lock);
    if (dev->frontend < 0) {
        return false;
    }
    shutdown(dev->frontend, SHUT_RDWR);
    return true;
}

void sim_device_reset_stats(SimDevice *dev)
{
    QEMU_LOCK_GUARD(&dev->lock);
    sim_stats_reset(&dev->stats);
}

QDict *sim_device_describe(SimDevice *dev)
{
    static const char *const types[] = { "net", "blk", "proxy" };
    QDict *dict = qdict_new();

    QEMU_LOCK_GUARD(&dev->lock);
    qdict_put_str(dict, "device", dev->config->name);
    qdict_put_str(dict, "type", types[dev->config->type]);
    qdict_put_bool(dict, "connected", dev->frontend >= 0);
    qdict_put_bool(dict, "held", dev->is_held);
    sim_stats_describe(&dev->stats, dict);
    return dict;
}

void sim_device_count_request(SimDevice *dev, int queue, bool good)
{
    QEMU_LOCK_GUARD(&dev->lock);
    dev->stats.queues[queue].requests++;
    dev->stats.queues[queue].errors += !good;
}
