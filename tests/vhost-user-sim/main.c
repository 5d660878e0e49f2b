/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: backends that are slow or wrong on demand
 *
 * For tests of how a frontend, QEMU, starts and stops many vhost-user devices:
 *
 *     vhost-user-sim --control /tmp/s/control --log /tmp/s/log \
 *         --net nic#,count=16,queue-pairs=4,listen=/tmp/s/nic#.sock,\
 *     latency=GET_VRING_BASE:2000 < some-pipe
 *
 *     $ socat - UNIX:/tmp/s/control
 *     fault nic3 hold GET_VRING_BASE n=2
 *     OK 1
 *     stats nic3
 *     OK {"device": "nic3", ...}
 *
 * --help has all options and commands, journal.h the format of the log.
 *
 * Theory of operation
 *
 *     frontend ===== wire ----- libvhost-user (net.c, blk.c)
 *              unix   |   socket
 *              socket |   pair, or a unix socket to another program (--proxy)
 *                     |
 *                  latency.h, fault.h, journal.h, stats.h
 *
 * Each device has a thread for its wire (wire.h), which knows the headers of
 * the protocol and little else; so whatever is behind it can be made late or
 * wrong.  Our own backends are served by a thread each (loop.h) or, with
 * --one-thread, by one; the wires then take turns as well (turn.h).  The main
 * thread obeys commands (control.h).
 */

#include "qemu/osdep.h"
#include <glib-unix.h>
#include <sys/prctl.h>
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "control.h"
#include "loop.h"
#include "options.h"

typedef struct Sim {
    SimOptions *options;
    GMainLoop *main_loop;
    SimJournal *journal;
    SimTurn *turn;          /* with --one-thread */
    GPtrArray *loops;       /* of SimLoop: one, or one for each device */
    GPtrArray *devices;     /* of SimDevice */
    SimControl *control;
} Sim;

static SimLoop *loop_for_next(Sim *sim)
{
    if (!sim->options->one_thread || !sim->loops->len) {
        g_ptr_array_add(sim->loops, sim_loop_new());
    }
    return g_ptr_array_index(sim->loops, sim->loops->len - 1);
}

static bool create_devices(Sim *sim, Error **errp)
{
    GPtrArray *configs = sim->options->devices;

    while (configs->len) {
        SimDeviceConfig *config = g_ptr_array_steal_index(configs, 0);
        /* What is behind a proxy has a thread elsewhere */
        bool is_proxy = config->type == SIM_DEVICE_PROXY;
        SimLoop *loop = is_proxy ? NULL : loop_for_next(sim);
        SimDevice *dev = sim_device_new(config, sim->journal,
                                        is_proxy ? NULL : sim->turn, loop,
                                        errp);

        if (!dev) {
            return false;
        }
        g_ptr_array_add(sim->devices, dev);
    }
    return true;
}

static bool create(Sim *sim, Error **errp)
{
    sim->loops = g_ptr_array_new_with_free_func((GDestroyNotify)sim_loop_free);
    sim->devices = g_ptr_array_new_with_free_func(
        (GDestroyNotify)sim_device_free);
    sim->journal = sim_journal_new(sim->options->log, errp);
    if (!sim->journal) {
        return false;
    }
    if (sim->options->one_thread) {
        sim->turn = sim_turn_new();
    }
    if (!create_devices(sim, errp)) {
        return false;
    }
    if (sim->options->control) {
        sim->control = sim_control_new(sim->options->control, sim->devices,
                                       sim->main_loop, errp);
        return sim->control;
    }
    return true;
}

static void destroy(Sim *sim)
{
    unsigned i;

    for (i = 0; i < sim->devices->len; i++) {
        sim_device_stop(g_ptr_array_index(sim->devices, i));
    }
    g_ptr_array_unref(sim->devices);
    g_ptr_array_unref(sim->loops);
    sim_turn_free(sim->turn);
    if (sim->journal) {
        sim_journal_free(sim->journal);
    }
    /* Last: where this connection ends, nothing else is left */
    sim_control_free(sim->control);
    g_main_loop_unref(sim->main_loop);
    sim_options_free(sim->options);
}

static gboolean on_signal(void *opaque)
{
    g_main_loop_quit(opaque);
    return G_SOURCE_CONTINUE;
}

/* What is said on standard input does not matter, its end does */
static gboolean on_stdin(int fd, GIOCondition condition, void *opaque)
{
    char buf[4096];

    if (RETRY_ON_EINTR(read(fd, buf, sizeof(buf))) <= 0) {
        g_main_loop_quit(opaque);
        return G_SOURCE_REMOVE;
    }
    return G_SOURCE_CONTINUE;
}

static void watch_for_the_end(Sim *sim, pid_t parent)
{
    g_unix_signal_add(SIGTERM, on_signal, sim->main_loop);
    g_unix_signal_add(SIGINT, on_signal, sim->main_loop);
    if (!sim->options->ignore_stdin) {
        g_unix_fd_add(STDIN_FILENO, G_IO_IN | G_IO_HUP, on_stdin,
                      sim->main_loop);
    }
    if (!sim->options->outlive_parent) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != parent) {
            exit(EXIT_FAILURE);
        }
    }
}

int main(int argc, char **argv)
{
    pid_t parent = getppid();
    Error *err = NULL;
    Sim sim = {};
    int status = EXIT_FAILURE;

    error_init(argv[0]);
    sim.options = sim_options_parse(&argc, &argv, &err);
    if (!sim.options) {
        error_report_err(err);
        return EXIT_FAILURE;
    }
    /* Latencies are in microseconds; the kernel adds 50 by default */
    prctl(PR_SET_TIMERSLACK, 1);
    sim.main_loop = g_main_loop_new(NULL, false);
    watch_for_the_end(&sim, parent);
    if (create(&sim, &err)) {
        printf("ready\n");
        fflush(stdout);
        g_main_loop_run(sim.main_loop);
        status = EXIT_SUCCESS;
    } else {
        error_report_err(err);
    }
    destroy(&sim);
    return status;
}
