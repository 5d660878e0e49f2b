/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: migrations to somebody who stops reading
 *
 * What the migration is written to is a pipe, a command, or a socket, and
 * whoever reads stops before the first byte, in the middle of memory, or in the
 * completion phase.  The monitor answers, the guest of a migration that has not
 * come to its switchover does not notice, and migrate_cancel takes effect
 * within half a second.  Another migration is possible then.
 *
 * What failing looks like, on unpatched QEMU (QTEST_QEMU_BINARY): after
 * migrate_cancel "waited 2000 ms for migrate_cancel to take effect", as the
 * migration thread is in write().  Where it has the BQL, which is before the
 * first byte and in completion, "no answer within 60000 ms" from the monitor.
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "switchover/expect.h"
#include "switchover/harness.h"
#include "switchover/iterations-rig.h"
#include "switchover/iterations-tests.h"
#include "switchover/postcopy-hold.h"
#include "switchover/reader.h"
#include "switchover/scenario.h"

/* The least that a pipe can have */
#define PIPE_BYTES 4096
/* Somewhere in memory */
#define IN_RAM_BYTES (2 * 1024 * 1024)

/* So long only on purpose, on a machine that has other things to do, too */
#define STALL_THRESHOLD_MS (2000 * sw_patience())
#define ITERATION_LIMIT_MS 20
#define SLOW_BYTES_PER_S (400 * 1024)

#define CYCLES 100

#define LARGE_MIB 2048
/* None of it zeroes */
#define LOAD_MIB 512
#define LOAD_ANSWER_MS 60
#define DISK_STALLS 4
/* In between, for at most */
#define DISK_WORKS_US 100000

/*
 * Pipes
 */

/* Both ends, the one to write to first */
static void make_pipe(int ends[2])
{
    int fds[2];

    g_assert(!pipe2(fds, O_CLOEXEC));
    g_assert_cmpint(fcntl(fds[1], F_SETPIPE_SZ, PIPE_BYTES), ==, PIPE_BYTES);
    ends[0] = fds[1];
    ends[1] = fds[0];
}

/* Not one byte more fits */
static void fill(int fd)
{
    char byte[PIPE_BYTES] = { 0 };

    g_assert(g_unix_set_fd_nonblocking(fd, true, NULL));
    while (write(fd, byte, sizeof(byte)) > 0) {
        continue;
    }
    g_assert(g_unix_set_fd_nonblocking(fd, false, NULL));
}

static SwReader *migrate_to_pipe(SwRig *rig, bool full, uint64_t bytes)
{
    SwReader *reader;
    int ends[2];

    make_pipe(ends);
    if (full) {
        fill(ends[0]);
    }
    reader = sw_reader_new(ends[1]);
    sw_reader_go(reader, bytes);
    sw_monitor_give_fd(rig->src->mon, "stall", ends[0]);
    close(ends[0]);
    g_free(rig->uri);
    rig->uri = g_strdup("fd:stall");
    sw_rig_prepare(rig);
    sw_rig_start(rig);
    return reader;
}

/* The next one goes to a destination that reads */
static void expect_possible(SwRig *rig)
{
    sw_expect_working(rig);
    sw_rig_renew_destination(rig);
    sw_events_forget(rig->src->mon);
    sw_rig_migrate(rig);
    sw_expect_completed(rig);
}

/*
 * A FIFO by its name: who opens one waits for somebody to read it, so nobody
 * may have to be waited for.
 *
 * Unpatched QEMU waits for ever: no answer within 60000 ms.
 */
static void end_fifo(SwRig *rig)
{
    g_autofree char *path = g_strdup_printf("%s/fifo", rig->dir);
    g_autofree char *error = NULL;
    int64_t from_us = sw_now_us();
    SwReader *reader;
    int fd;

    g_assert(!mkfifo(path, 0600));
    g_free(rig->uri);
    rig->uri = g_strdup_printf("file:%s", path);
    sw_rig_prepare(rig);
    error = sw_qmp_error(rig->src->mon, "{ 'execute': 'migrate',"
                         " 'arguments': { 'uri': %s } }", rig->uri);
    g_assert_nonnull(strstr(error, "Nobody reads the FIFO"));

    /* Also for writing, or it would have read its end */
    fd = open(path, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    reader = sw_reader_new(fd);
    sw_reader_go(reader, IN_RAM_BYTES);
    sw_rig_start(rig);
    sw_reader_wait(reader, IN_RAM_BYTES);
    sw_wait_blocked(rig);
    sw_cancel(rig);
    sw_expect_unnoticed(rig, from_us);
    sw_reader_free(reader);
    g_assert(!unlink(path));
    expect_possible(rig);
}

static void set_threshold(SwRig *rig)
{
    if (!sw_stock_mode()) {
        sw_vm_set_parameter(rig->src, "stall-threshold", STALL_THRESHOLD_MS);
    }
}

static void end_before_first_byte(SwRig *rig)
{
    int64_t from_us = sw_now_us();
    SwReader *reader = migrate_to_pipe(rig, true, 0);

    sw_wait_blocked(rig);
    sw_cancel(rig);
    sw_expect_unnoticed(rig, from_us);
    sw_reader_free(reader);
    expect_possible(rig);
}

static void end_in_ram(SwRig *rig)
{
    int64_t from_us = sw_now_us();
    SwReader *reader = migrate_to_pipe(rig, false, IN_RAM_BYTES);

    sw_reader_wait(reader, IN_RAM_BYTES);
    sw_wait_blocked(rig);
    sw_cancel(rig);
    sw_expect_unnoticed(rig, from_us);
    sw_reader_free(reader);
    expect_possible(rig);
}

/* Nobody reads any more, and the switchover goes on */
static void expect_stall_in_completion(SwRig *rig)
{
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate-continue',"
              " 'arguments': { 'state': 'pre-switchover' } }");
    sw_wait_blocked(rig);
    sw_probe_expect_answers(rig->src->probe);
}

/* Its data */
static QDict *expect_stall_event(SwVM *vm, unsigned nth, bool ended)
{
    QDict *event = sw_event_wait(vm->mon, "MIGRATION_STALLED", nth, NULL);
    QDict *data = qdict_get_qdict(event, "data");

    g_assert(qdict_get_bool(data, "ended") == ended);
    return data;
}

/*
 * In completion the guest does not run, but the monitor answers.  A reader that
 * goes on for @bytes stops in what is left of memory, or after it.
 */
static SwReader *stall_in_completion(SwRig *rig, uint64_t bytes)
{
    SwReader *reader = migrate_to_pipe(rig, false, UINT64_MAX);

    sw_status_wait(rig->src->mon, "pre-switchover");
    sw_reader_stop(reader);
    sw_reader_go(reader, sw_reader_total(reader) + bytes);
    expect_stall_in_completion(rig);
    return reader;
}

static void cancel_in_completion(SwRig *rig, uint64_t bytes)
{
    SwReader *reader = stall_in_completion(rig, bytes);

    sw_cancel(rig);
    sw_reader_free(reader);
    sw_vm_wait_state(rig->src, "running");
}

static void end_in_completion(SwRig *rig)
{
    cancel_in_completion(rig, 0);
    sw_events_forget(rig->src->mon);
    cancel_in_completion(rig, 64 * 1024);
    sw_expect_working(rig);
}

/*
 * Who stops the guest while it does not run has stopped it.
 *
 * With the command not remembered: "waited 60000 ms for src to be 'paused'".
 * Unpatched QEMU does not answer it.
 */
static void end_stopped_in_completion(SwRig *rig)
{
    SwReader *reader = stall_in_completion(rig, 0);

    sw_qmp_ok(rig->src->mon, "{ 'execute': 'stop' }");
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'migrate_cancel' }");
    sw_status_wait(rig->src->mon, "cancelled");
    sw_vm_wait_state(rig->src, "paused");
    sw_reader_free(reader);
    sw_qmp_ok(rig->src->mon, "{ 'execute': 'cont' }");
    sw_expect_working(rig);
}

/* Returns the longest one, in ms; any number of @stalls if that is negative */
static int64_t expect_counted(SwVM *vm, int64_t stalls, int64_t blocked_ms)
{
    QDict *it = sw_vm_migration(vm, "iterations");
    int64_t count = qdict_get_int(it, "count"), sum = 0;
    int64_t max_ms = qdict_get_int(it, "max-us") / 1000;
    const QListEntry *entry;
    int64_t from_us = -1;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(it, "histogram"), entry) {
        QDict *bucket = qobject_to(QDict, qlist_entry_obj(entry));

        g_assert_cmpint(qdict_get_int(bucket, "from-us"), >, from_us);
        from_us = qdict_get_int(bucket, "from-us");
        sum += qdict_get_int(bucket, "count");
    }
    g_assert_cmpint(count, >, 0);
    g_assert_cmpint(sum, ==, count);
    g_assert_cmpint(qdict_get_int(it, "min-us"), <=,
                    qdict_get_int(it, "avg-us"));
    g_assert_cmpint(qdict_get_int(it, "avg-us"), <=,
                    qdict_get_int(it, "max-us"));
    g_assert(stalls < 0 || qdict_get_int(it, "stalls") == stalls);
    g_assert_cmpint(qdict_get_int(it, "blocked-ms"), >=, blocked_ms);
    qobject_unref(it);
    return max_ms;
}

/*
 * Commands
 */

static bool has_no_child(void *opaque)
{
    return !sw_vm_children(opaque);
}

/* It is stopped by its own hand, when it has read a little */
static void migrate_to_command(SwRig *rig)
{
    g_free(rig->uri);
    rig->uri = g_strdup("exec:head -c 1000000 >/dev/null; kill -STOP $$;"
                        " cat >/dev/null");
    sw_rig_prepare(rig);
    sw_rig_start(rig);
}

static void end_command(SwRig *rig)
{
    int64_t from_us = sw_now_us();

    migrate_to_command(rig);
    sw_status_wait(rig->src->mon, "active");
    sw_wait_blocked(rig);
    sw_cancel(rig);
    sw_expect_unnoticed(rig, from_us);
    sw_wait_until(has_no_child, rig->src, SW_WAIT_MS, "the child to be reaped");
    expect_possible(rig);
}

/*
 * What this began with: a large guest is saved through a pipe to a command that
 * writes with O_DIRECT, and its disk stalls now and then.  That is a command
 * which is stopped.
 */

static char *large_memory(SwRig *rig)
{
    return g_strdup_printf(" -m %u", LARGE_MIB);
}

static bool has_pid(void *opaque)
{
    g_autofree char *text = NULL;

    return g_file_get_contents(opaque, &text, NULL, NULL) &&
           strchr(text, '\n');
}

/* Returns its process id, or 0 if there is no O_DIRECT here */
static int save_directly(SwRig *rig)
{
    g_autofree char *saved = g_strdup_printf("%s/saved", rig->dir);
    g_autofree char *pid_file = g_strdup_printf("%s/pid", rig->dir);
    g_autofree char *text = NULL;
    int fd = open(saved, O_WRONLY | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);

    if (fd < 0) {
        return 0;
    }
    close(fd);
    g_free(rig->uri);
    rig->uri = g_strdup_printf("exec:echo $$ >%s; exec dd of=%s bs=1M "
                               "iflag=fullblock oflag=direct status=none",
                               pid_file, saved);
    sw_rig_prepare(rig);
    sw_rig_start(rig);
    sw_wait_until(has_pid, pid_file, SW_WAIT_MS, "the command to begin");
    g_assert(g_file_get_contents(pid_file, &text, NULL, NULL));
    return atoi(text);
}

static void end_direct(SwRig *rig)
{
    int64_t from_us = sw_now_us();
    int pid;

    if (!sw_stock_mode()) {
        sw_vm_set_parameter(rig->src, "iteration-limit", ITERATION_LIMIT_MS);
    }
    pid = save_directly(rig);
    if (!pid) {
        g_test_skip("no O_DIRECT in the directory for temporary files");
        return;
    }
    for (unsigned i = 0; i < DISK_STALLS; i++) {
        kill(pid, SIGSTOP);
        sw_wait_blocked(rig);
        if (i < DISK_STALLS - 1) {
            kill(pid, SIGCONT);
            g_usleep(g_random_int_range(0, DISK_WORKS_US));
        }
    }
    sw_cancel(rig);
    sw_expect_unnoticed(rig, from_us);
    sw_wait_until(has_no_child, rig->src, SW_WAIT_MS, "the child to be reaped");
    if (!sw_stock_mode()) {
        SW_CHECK_SOON(expect_counted(rig->src, -1, 0), 2 * ITERATION_LIMIT_MS,
                      "an iteration");
    }
    sw_expect_working(rig);
}

/*
 * Sockets
 */

static void end_socket_completion(SwRig *rig)
{
    sw_rig_migrate(rig);
    sw_status_wait(rig->src->mon, "pre-switchover");
    sw_proxy_stall(rig->proxy, SW_TO_DESTINATION);
    expect_stall_in_completion(rig);
    sw_cancel(rig);
    sw_vm_wait_state(rig->src, "running");
    sw_expect_working(rig);
}

/*
 * multifd: memory goes to other connections than the rest, all of them stall
 */

static void refuse_device(SwRig *rig)
{
    int64_t asked_us = sw_now_us();
    g_autofree char *error = NULL;

    error = sw_qmp_error(rig->src->mon, "{ 'execute': 'device_add',"
                         " 'arguments': { 'driver': 'virtio-rng-pci' } }");
    SW_CHECK_SOON(sw_since_ms(asked_us), SW_ANSWER_LIMIT_MS, "device_add");
}

/*
 * With waits that do not end: device_add gets no answer within 60000 ms, and no
 * event comes.  It is the same with unpatched QEMU.
 */
static void end_multifd_ram(SwRig *rig)
{
    set_threshold(rig);
    sw_rig_migrate_slowly(rig);
    sw_vm_freeze(rig->dst);
    sw_rig_hasten(rig);
    sw_wait_blocked(rig);
    refuse_device(rig);
    expect_stall_event(rig->src, 0, false);
    sw_probe_expect_answers(rig->src->probe);
    sw_vm_thaw(rig->dst);
    expect_stall_event(rig->src, 1, true);
    sw_expect_completed(rig);
}

static void stall_multifd_in_completion(SwRig *rig)
{
    sw_rig_migrate(rig);
    sw_status_wait(rig->src->mon, "pre-switchover");
    sw_vm_freeze(rig->dst);
    expect_stall_in_completion(rig);
}

/* With the BQL held, and with unpatched QEMU: no answer within 60000 ms. */
static void end_multifd_completion(SwRig *rig)
{
    stall_multifd_in_completion(rig);
    sw_cancel(rig);
    sw_vm_wait_state(rig->src, "running");
    sw_vm_thaw(rig->dst);
    sw_expect_as_before(rig);
}

/*
 * What is sent after the stall is all there is.
 *
 * With the end of the last round forgotten: "dst0: QEMU closed the monitor", as
 * it misses memory.  Unpatched QEMU: as above.
 */
static void end_multifd_completed(SwRig *rig)
{
    stall_multifd_in_completion(rig);
    sw_vm_thaw(rig->dst);
    sw_status_wait(rig->src->mon, "completed");
    sw_vm_wait_state(rig->dst, "running");
    sw_expect_guest_working(rig->dst->guest);
}

/*
 * What is said about it
 */

static void expect_event(SwVM *vm, unsigned nth, bool ended)
{
    QDict *data = expect_stall_event(vm, nth, ended);

    g_assert_cmpstr(qdict_get_str(data, "phase"), ==, "approach");
    g_assert_cmpint(qdict_get_int(data, "blocked-ms"), >=, STALL_THRESHOLD_MS);
    g_assert_cmpint(qdict_get_int(data, "bytes-queued"), >, 0);
}

/*
 * A stall is reported, and that it is over, and then it completes.
 *
 * Unpatched QEMU has no such event.
 */
static void end_reported(SwRig *rig)
{
    set_threshold(rig);
    sw_rig_migrate_slowly(rig);
    sw_proxy_stall(rig->proxy, SW_TO_DESTINATION);
    sw_rig_hasten(rig);
    expect_event(rig->src, 0, false);
    expect_counted(rig->src, 1, STALL_THRESHOLD_MS);
    sw_proxy_let_go(rig->proxy);
    expect_event(rig->src, 1, true);
    sw_expect_completed(rig);
    expect_counted(rig->src, 1, STALL_THRESHOLD_MS);
    expect_counted(rig->dst, 0, 0);
}

/* A reader that is slow all the time: iterations are short nevertheless */
static void end_limited(SwRig *rig)
{
    SwReader *reader;
    int64_t max_ms;

    sw_vm_set_parameter(rig->src, "iteration-limit", ITERATION_LIMIT_MS);
    reader = migrate_to_pipe(rig, false, 0);
    sw_reader_slow(reader, SLOW_BYTES_PER_S);
    sw_reader_go(reader, UINT64_MAX);
    sw_reader_wait(reader, IN_RAM_BYTES);
    max_ms = expect_counted(rig->src, 0, 1000);
    sw_cancel(rig);
    SW_CHECK_SOON(max_ms, 2 * ITERATION_LIMIT_MS, "an iteration");
    sw_reader_free(reader);
}

/*
 * The destination's monitor answers while memory arrives as fast as it can be
 * loaded.
 *
 * Unpatched QEMU loads 128 MiB, a quarter of all, before it looks after the
 * monitor: "an answer of the destination took 218 ms, the limit is 60 ms".
 */
static void end_load(SwRig *rig)
{
    int64_t from_us = sw_now_us(), worst_ms, limit_ms;

    sw_probe_mark(rig->dst->probe);
    sw_rig_migrate(rig);
    sw_status_wait(rig->src->mon, "completed");
    worst_ms = sw_probe_worst_ms(rig->dst->probe);
    limit_ms = MAX(LOAD_ANSWER_MS, sw_since_ms(from_us) / 8);
    g_test_message("destination silent for %d ms at worst", (int)worst_ms);
    SW_CHECK_SOON(worst_ms, limit_ms, "an answer of the destination");
}

/*
 * Others
 */

/*
 * A device is refused while a migration runs, which waits for a grace period of
 * RCU: an iteration must not be in one for as long as the reader stalls.
 *
 * Unpatched QEMU: no answer.
 */
static void end_grace_period(SwRig *rig)
{
    SwReader *reader = migrate_to_pipe(rig, false, IN_RAM_BYTES);

    sw_reader_wait(reader, IN_RAM_BYTES);
    sw_wait_blocked(rig);
    refuse_device(rig);
    sw_cancel(rig);
    sw_reader_free(reader);
}

/*
 * Others have the pipe, too: they find it as it was, and their writes wait.
 *
 * Without a pipe of its own, or with O_NONBLOCK set: EAGAIN.
 */
static void *write_blocking(void *opaque)
{
    char byte = 0;

    return GINT_TO_POINTER(write(GPOINTER_TO_INT(opaque), &byte, 1) == 1);
}

static void end_shared(SwRig *rig)
{
    SwReader *reader;
    GThread *thread;
    int ends[2], mode;

    make_pipe(ends);
    mode = fcntl(ends[0], F_GETFL);
    reader = sw_reader_new(ends[1]);
    sw_reader_go(reader, IN_RAM_BYTES);
    sw_monitor_give_fd(rig->src->mon, "stall", ends[0]);
    g_free(rig->uri);
    rig->uri = g_strdup("fd:stall");
    sw_rig_prepare(rig);
    sw_rig_start(rig);
    sw_reader_wait(reader, IN_RAM_BYTES);
    sw_wait_blocked(rig);
    g_assert_cmpint(fcntl(ends[0], F_GETFL), ==, mode);
    thread = g_thread_new("writer", write_blocking,
                          GINT_TO_POINTER(ends[0]));
    sw_cancel(rig);
    g_assert_cmpint(fcntl(ends[0], F_GETFL), ==, mode);
    sw_reader_go(reader, UINT64_MAX);
    g_assert(GPOINTER_TO_INT(g_thread_join(thread)));
    close(ends[0]);
    sw_reader_free(reader);
}

/*
 * The reader dies: the migration fails, as it does with unpatched QEMU, and
 * another one is possible.  With errors of the channel below dropped it fails
 * later, with another reason.
 */
static void end_dies(SwRig *rig)
{
    SwReader *reader = migrate_to_pipe(rig, false, IN_RAM_BYTES);

    sw_reader_wait(reader, IN_RAM_BYTES);
    sw_reader_free(reader);
    sw_status_wait(rig->src->mon, "failed");
    sw_expect_migration_error(rig->src, "Broken pipe");
    expect_possible(rig);
}

/* Again and again, at any time; nothing is left behind */
static void end_again_and_again(SwRig *rig)
{
    unsigned fds = 0, threads = 0;

    for (unsigned i = 0; i < CYCLES; i++) {
        SwReader *reader = NULL;

        sw_events_forget(rig->src->mon);
        if (i % 3) {
            reader = migrate_to_pipe(rig, i % 3 == 1,
                                     g_random_int_range(0, IN_RAM_BYTES));
        } else {
            migrate_to_command(rig);
        }
        g_usleep(g_random_int_range(0, 100000));
        sw_cancel(rig);
        if (reader) {
            sw_reader_free(reader);
        }
        sw_wait_until(has_no_child, rig->src, SW_WAIT_MS,
                      "the child to be reaped");
        if (i == 5) {
            /* What is made once has been made */
            fds = sw_vm_count(rig->src, "fd");
            threads = sw_vm_count(rig->src, "task");
        }
    }
    g_assert_cmpuint(sw_vm_count(rig->src, "fd"), <=, fds);
    g_assert_cmpuint(sw_vm_count(rig->src, "task"), <=, threads + 1);
    expect_possible(rig);
}

static const SwCase cases[] = {
    {
        .path = "stall/pipe/first-byte",
        SW_ITERATIONS_BUSY_GUEST,
        .end = end_before_first_byte,
    }, {
        .path = "stall/pipe/ram",
        SW_ITERATIONS_BUSY_GUEST,
        .end = end_in_ram,
    }, {
        .path = "stall/pipe/fifo",
        SW_ITERATIONS_BUSY_GUEST,
        .end = end_fifo,
    }, {
        .path = "stall/pipe/completion",
        SW_ITERATIONS_BUSY_GUEST,
        .pause_before_switchover = true,
        .end = end_in_completion,
    }, {
        .path = "stall/pipe/completion-stopped",
        SW_ITERATIONS_BUSY_GUEST,
        .pause_before_switchover = true,
        .end = end_stopped_in_completion,
    }, {
        .path = "stall/exec/ram",
        SW_ITERATIONS_BUSY_GUEST,
        .end = end_command,
    }, {
        .path = "stall/exec/direct",
        .full = true,
        SW_ITERATIONS_BUSY_GUEST,
        .more_args = large_memory,
        .end = end_direct,
    }, {
        .path = "stall/unix/completion",
        SW_ITERATIONS_BUSY_GUEST,
        .proxied = true,
        .pause_before_switchover = true,
        .end = end_socket_completion,
    }, {
        .path = "stall/multifd/ram",
        SW_ITERATIONS_BUSY_GUEST,
        .capabilities = { "multifd" },
        .end = end_multifd_ram,
    }, {
        .path = "stall/multifd/completion",
        SW_ITERATIONS_BUSY_GUEST,
        .capabilities = { "multifd" },
        .pause_before_switchover = true,
        .end = end_multifd_completion,
    }, {
        .path = "stall/multifd/completed",
        SW_ITERATIONS_BUSY_GUEST,
        .capabilities = { "multifd" },
        .pause_before_switchover = true,
        .end = end_multifd_completed,
    }, {
        .path = "stall/reported",
        SW_ITERATIONS_BUSY_GUEST,
        .proxied = true,
        .end = end_reported,
    }, {
        .path = "stall/limited",
        SW_ITERATIONS_BUSY_GUEST,
        .end = end_limited,
    }, {
        .path = "stall/load",
        .full = true,
        SW_ITERATIONS_GUEST,
        .dirty_mib_per_s = 1,
        .dirty_mib = LOAD_MIB,
        .more_args = large_memory,
        .end = end_load,
    }, {
        .path = "stall/grace-period",
        SW_ITERATIONS_BUSY_GUEST,
        .end = end_grace_period,
    }, {
        .path = "stall/shared",
        SW_ITERATIONS_BUSY_GUEST,
        .end = end_shared,
    }, {
        .path = "stall/dies",
        SW_ITERATIONS_BUSY_GUEST,
        .end = end_dies,
    }, {
        .path = "stall/again-and-again",
        .full = true,
        SW_ITERATIONS_BUSY_GUEST,
        .end = end_again_and_again,
    },
};

void sw_add_stall_tests(void)
{
    sw_add_iterations_cases(cases, ARRAY_SIZE(cases));
}
