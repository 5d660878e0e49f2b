/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Init of the guest in which switchovers are tried: heartbeat and verified I/O
 *
 * Theory of operation
 *
 * boot()        mounts what is needed, opens the serial port, loads the modules
 * io_start()    opens the disks and starts the I/O workers (io.h)
 * heart_main()  says SO HB every so many milliseconds, SO IO every second
 * memory_start() optional: writes to memory, and verifies it (memory.h)
 * fault_start() optional: times the absence of memory (fault.h)
 * obey()        the main thread: answers the commands of the other end
 *
 * The heartbeat tells the host whether the guest executes instructions.  So it
 * depends on nothing but the clock and the serial port: its thread has
 * real-time priority, all memory is locked, and it takes no lock.  The clock of
 * the guest stands still while the guest is stopped; a gap in the heartbeat, as
 * seen by the host, is the time for which the guest was stopped or not given a
 * CPU.  Beats that were missed are not made up for.
 *
 * Kernel command line (all optional)
 *
 * so.disks=vda,sda     disks to use, none by default
 * so.drivers=net,rng   drivers to load besides those of the disks
 * so.mode=rw           first mode: rw, read, write, flush, discard, idle
 * so.depth=4           workers, and so requests in flight, per disk
 * so.blocks=1024       blocks of 4 KiB per worker
 * so.think=1000        microseconds a worker pauses after an operation
 * so.hb=10             milliseconds between heartbeats
 * so.dirty=0           MiB of memory written per second
 * so.dirtybuf=64       MiB of memory that so.dirty goes round in
 * so.faultbuf=0        MiB of memory, a power of two, whose absence is timed
 * so.faultus=1000      microseconds between looks at it (fault.h)
 * so.nics=0            virtio network cards to send frames on (net.h)
 * so.nicms=10          milliseconds between frames
 *
 * Says: SO READY <ndisks>, SO HB <n>, SO IO <operations> <errors>,
 * SO OK <command> ..., SO FAIL <command> <reason>, SO PANIC <text>
 *
 * Obeys: mode <mode>, verify, stats [<disk>], netstats [<card> <CPU>],
 * faults [reset], present <disk>, poweroff
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "clock.h"
#include "fault.h"
#include "io.h"
#include "memory.h"
#include "net.h"
#include "serial.h"

#define MODULES "/modules/"

static char cmdline[4096];

/* ---- kernel command line ------------------------------------------------ */

/* The text after "so.@name=", in a buffer of its own, or @otherwise. */
static const char *option(const char *name, const char *otherwise)
{
    char key[32];
    const char *p = cmdline;
    int len = snprintf(key, sizeof(key), "so.%s=", name);

    for (;; p++) {
        p = strstr(p, key);
        if (!p) {
            return otherwise;
        }
        if (p == cmdline || p[-1] == ' ') {
            return strndup(p + len, strcspn(p + len, " "));
        }
    }
}

static unsigned option_number(const char *name, unsigned otherwise)
{
    const char *text = option(name, NULL);
    unsigned value;
    char rest;

    if (!text) {
        return otherwise;
    }
    if (sscanf(text, "%9u%c", &value, &rest) != 1) {
        errno = EINVAL;
        fatal("so.%s=%s", name, text);
    }
    return value;
}

static unsigned option_positive(const char *name, unsigned otherwise)
{
    unsigned value = option_number(name, otherwise);

    if (!value) {
        errno = ERANGE;
        fatal("so.%s=0", name);
    }
    return value;
}

/* ---- boot --------------------------------------------------------------- */

static void load_module(const char *file, const char *args)
{
    char path[128];
    int fd;

    snprintf(path, sizeof(path), MODULES "%s", file);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        fatal("%s", path);
    }
    if (syscall(SYS_finit_module, fd, args, 0) < 0 && errno != EEXIST) {
        fatal("module %s", file);
    }
    close(fd);
}

/* Whether a name in @list, separated by commas, begins with @prefix. */
static bool any_begins_with(const char *list, const char *prefix)
{
    size_t len = strlen(prefix);

    for (const char *p = list; *p; p += strcspn(p, ",")) {
        p += *p == ',';
        if (!strncmp(p, prefix, len)) {
            return true;
        }
    }
    return false;
}

/*
 * The list has one module per line, in the order to load them in:
 *     <disk name prefix, or driver> <file> [parameters]
 * Only those for the kinds of disk in use and for so.drivers are loaded; that
 * is most of the time of a boot.
 */
static void load_modules(const char *disks)
{
    const char *drivers = option("drivers", "");
    char line[256], prefix[16], file[96];
    FILE *f = fopen(MODULES "order", "re");
    int args;

    if (!f) {
        fatal(MODULES "order");
    }
    while (fgets(line, sizeof(line), f)) {
        line[strcspn(line, "\n")] = '\0';
        if (sscanf(line, "%15s %95s %n", prefix, file, &args) == 2 &&
            (any_begins_with(disks, prefix) ||
             any_begins_with(drivers, prefix))) {
            load_module(file, line + args);
        }
    }
    fclose(f);
}

static void mount_or_die(const char *type, const char *where)
{
    mkdir(where, 0755);
    if (mount(type, where, type, 0, NULL) < 0 && errno != EBUSY) {
        fatal("mount %s", where);
    }
}

static void read_cmdline(void)
{
    int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, cmdline, sizeof(cmdline) - 1);

    if (len < 0) {
        fatal("/proc/cmdline");
    }
    cmdline[len] = '\0';
    cmdline[strcspn(cmdline, "\n")] = '\0';
    close(fd);
}

/* Locked memory is memory in use: small stacks keep the guest small. */
static void lock_memory(void)
{
    pthread_attr_t attr;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 64 * 1024);
    pthread_setattr_default_np(&attr);
    if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0) {
        fatal("mlockall");
    }
}

static void boot(void)
{
    mount_or_die("devtmpfs", "/dev");
    if (!serial_open()) {
        _exit(1);       /* nobody to tell */
    }
    mount_or_die("proc", "/proc");
    mount_or_die("sysfs", "/sys");
    read_cmdline();
    lock_memory();
}

/* ---- heartbeat ---------------------------------------------------------- */

static void say_io(void)
{
    uint64_t ops, errors;

    io_stats(NULL, &ops, &errors);
    say("SO IO %" PRIu64 " %" PRIu64, ops, errors);
}

static void *heart_main(void *opaque)
{
    int64_t period = *(unsigned *)opaque * NSEC_PER_MSEC;
    int64_t due = now_ns(), io_due = due;

    for (uint64_t n = 1;; n++) {
        due = next_beat_ns(due, period);
        sleep_until_ns(due);
        say("SO HB %" PRIu64, n);
        if (due >= io_due) {
            say_io();
            io_due = due + NSEC_PER_SEC;
        }
    }
    return NULL;
}

static void start_heart(unsigned *period_ms)
{
    struct sched_param urgent = { .sched_priority = 50 };
    pthread_t thread;

    if (pthread_create(&thread, NULL, heart_main, period_ms)) {
        fatal("heartbeat");
    }
    pthread_setschedparam(thread, SCHED_FIFO, &urgent);
}

/* ---- commands ----------------------------------------------------------- */

static IoMode mode_or_fail(const char *name)
{
    IoMode mode = io_mode_by_name(name);

    if (mode == IO_MODE_MAX) {
        say("SO FAIL mode unknown: %s", name);
    }
    return mode;
}

static void obey_mode(const char *name)
{
    IoMode mode = mode_or_fail(name);
    const char *problem;

    if (mode == IO_MODE_MAX) {
        return;
    }
    problem = io_set_mode(mode);
    if (problem) {
        say("SO FAIL mode %s: %s", name, problem);
    } else {
        say("SO OK mode %s", name);
    }
}

static void obey_verify(void)
{
    const char *problem = memory_verify() ? io_verify() : "memory mismatch";

    if (problem) {
        say("SO FAIL verify %s", problem);
    }
}

static void obey_stats(void)
{
    uint64_t ops, errors;

    io_stats(NULL, &ops, &errors);
    say("SO OK stats %" PRIu64 " %" PRIu64, ops, errors);
}

static void obey_stats_of(const char *disk)
{
    uint64_t ops, errors;

    if (io_stats(disk, &ops, &errors)) {
        say("SO OK stats %" PRIu64 " %" PRIu64, ops, errors);
    } else {
        say("SO FAIL stats no such disk: %s", disk);
    }
}

static void obey_netstats(void)
{
    uint64_t sent, received;

    net_stats(&sent, &received);
    say("SO OK netstats %" PRIu64 " %" PRIu64, sent, received);
}

static void obey_netstats_of(const char *card_and_cpu)
{
    unsigned card, cpu;
    uint64_t returned;

    if (sscanf(card_and_cpu, "%u %u", &card, &cpu) == 2 &&
        net_returned(card, cpu, &returned)) {
        say("SO OK netstats %" PRIu64, returned);
    } else {
        say("SO FAIL netstats no such card or CPU: %s", card_and_cpu);
    }
}

static void obey_present(const char *disk)
{
    char path[SERIAL_LINE_MAX + 8];

    snprintf(path, sizeof(path), "/dev/%s", disk);
    say("SO OK present %s", access(path, F_OK) == 0 ? "yes" : "no");
}

/* Nothing is synced: direct I/O has nothing to lose, and a disk may hang. */
static void obey_poweroff(void)
{
    say("SO OK poweroff");
    reboot(RB_POWER_OFF);
}

static void obey(const char *line)
{
    if (!strncmp(line, "mode ", 5)) {
        obey_mode(line + 5);
    } else if (!strcmp(line, "verify")) {
        obey_verify();
    } else if (!strcmp(line, "stats")) {
        obey_stats();
    } else if (!strncmp(line, "stats ", 6)) {
        obey_stats_of(line + 6);
    } else if (!strcmp(line, "netstats")) {
        obey_netstats();
    } else if (!strncmp(line, "netstats ", 9)) {
        obey_netstats_of(line + 9);
    } else if (!strcmp(line, "faults reset")) {
        fault_reset();
    } else if (!strcmp(line, "faults")) {
        fault_tell();
    } else if (!strncmp(line, "present ", 8)) {
        obey_present(line + 8);
    } else if (!strcmp(line, "poweroff")) {
        obey_poweroff();
    } else {
        say("SO FAIL %s unknown command", line);
    }
}

int main(void)
{
    static unsigned period_ms;
    char line[SERIAL_LINE_MAX];
    IoConfig config;
    IoMode mode;
    unsigned nics;

    boot();
    config = (IoConfig) {
        .disks = option("disks", ""),
        .depth = option_positive("depth", 4),
        .region_blocks = option_positive("blocks", 1024),
        .think_us = option_number("think", 1000),
    };
    mode = mode_or_fail(option("mode", "rw"));
    if (mode == IO_MODE_MAX) {
        errno = EINVAL;
        fatal("so.mode");
    }
    period_ms = option_positive("hb", 10);

    load_modules(config.disks);
    nics = option_number("nics", 0);
    if (nics) {
        load_modules("net");
    }
    net_start(nics, option_positive("nicms", 10));
    fault_start(option_number("faultbuf", 0), option_positive("faultus", 1000));
    memory_start(option_number("dirty", 0), option_positive("dirtybuf", 64));
    say("SO READY %u", io_start(&config, mode));
    start_heart(&period_ms);
    for (;;) {
        listen_line(line);
        obey(line);
    }
}
