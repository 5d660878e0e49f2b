/*
 * A return path with a socket of its own: the link in use
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * At the source the link is read, and urgent pages are written to it, by the
 * return path thread alone, through two files on one channel.
 *
 * At the destination many threads write messages, one at a time (rp_mutex),
 * while the thread for urgent pages reads.  They have a channel each, which
 * share the socket and, with TLS, its session: see io/channel-wake.h.
 */

#include "qemu/osdep.h"
#include <poll.h>
#include "io/channel-wake.h"
#include "migration/postcopy-ram.h"
#include "migration/qemu-file.h"
#include "migration/return-path-internal.h"
#include "migration/options.h"
#include "migration/outgoing-channel.h"
#include "migration/yank_functions.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "trace.h"

#ifndef POLLRDHUP
#define POLLRDHUP 0
#endif

/* How often a wait looks whether it is in vain */
#define WAIT_MS 10

/* Source */
static struct {
    /*
     * Atomic; changed only while there is no migration thread
     */
    bool given;
    /*
     * Main thread; after that it stays as long as there are connections
     */
    ReturnPathHello hello;
    /*
     * BQL
     */
    QIOChannel *link;           /* from the welcome until it is opened */
    /*
     * Who opens and closes the return path: main thread or migration thread
     */
    bool opened;
} out;

/* Destination */
static struct {
    /*
     * Atomic
     */
    bool given;
    bool urgent;                /* pages come by the link */
    bool broken;
    /*
     * Under lock: the connections in use, for those who do not own the files
     */
    QemuMutex lock;
    QIOChannel *main;
    QIOChannelWake *half;       /* the one to write to */
} in;

static void __attribute__((constructor)) return_path_init(void)
{
    qemu_mutex_init(&in.lock);
}

/*
 * Source
 */

bool return_path_is_given(void)
{
    return qatomic_read(&out.given);
}

void return_path_set_given(bool given)
{
    assert(bql_locked());
    qatomic_set(&out.given, given);
}

bool postcopy_urgent_outgoing(void)
{
    return migrate_postcopy_preempt() || return_path_is_given();
}

void return_path_welcomed(QIOChannel *link, const ReturnPathHello *hello)
{
    assert(bql_locked());
    assert(!out.link);
    object_ref(OBJECT(link));
    out.link = link;
    out.hello = *hello;
}

void return_path_forget_link(void)
{
    assert(bql_locked());
    if (out.link) {
        qio_channel_shutdown(out.link, QIO_CHANNEL_SHUTDOWN_BOTH, NULL);
        object_unref(OBJECT(out.link));
        out.link = NULL;
    }
}

void return_path_greet(QIOChannel *ioc)
{
    uint8_t buf[RETURN_PATH_HELLO_SIZE];
    ReturnPathHello hello = out.hello;

    if (!return_path_is_given()) {
        return;
    }
    return_path_make_exclusive(ioc);
    hello.role = RETURN_PATH_ROLE_FURTHER;
    return_path_encode_hello(&hello, buf);
    /* If this fails, so does what comes after it, and that is looked at */
    qio_channel_write_all(ioc, (char *)buf, sizeof(buf), NULL);
}

QEMUFile *return_path_open(MigrationState *ms)
{
    QIOChannel *link = out.link;
    QEMUFile *file;

    assert(bql_locked());
    if (!link) {
        return NULL;
    }
    out.link = NULL;
    out.opened = true;
    qio_channel_set_blocking(link, true, NULL);
    file = qemu_file_new_input(link);
    migration_ioc_register_yank(link);
    if (migrate_postcopy_ram() && !migrate_postcopy_preempt()) {
        /* Who closes it takes its yank function away as well */
        migration_ioc_register_yank(link);
        ms->postcopy_qemufile_src = qemu_file_new_output(link);
    }
    object_unref(OBJECT(link));
    trace_return_path_open();
    return file;
}

void return_path_release(QEMUFile *file)
{
    if (out.opened) {
        out.opened = false;
        migration_ioc_unregister_yank_from_file(file);
    }
}

void return_path_break(MigrationState *ms)
{
    if (!return_path_is_given()) {
        return;
    }
    QEMU_LOCK_GUARD(&ms->qemu_file_lock);
    if (ms->rp_state.from_dst_file) {
        qemu_file_shutdown(ms->rp_state.from_dst_file);
    }
}

static bool is_hung_up(QIOChannel *ioc)
{
    QIOChannel *bottom = migration_channel_below_tls(ioc);
    struct pollfd pfd = {
        .fd = QIO_CHANNEL_SOCKET(bottom)->fd,
        .events = POLLRDHUP,
    };

    return pfd.fd < 0 || poll(&pfd, 1, 0) > 0;
}

bool return_path_is_broken(MigrationState *ms)
{
    QEMUFile *file;

    if (!return_path_is_given()) {
        return false;
    }
    QEMU_LOCK_GUARD(&ms->qemu_file_lock);
    file = ms->rp_state.from_dst_file;
    return !file || qemu_file_get_error(file) ||
           is_hung_up(qemu_file_get_ioc(file));
}

void return_path_failed(MigrationState *ms, Error **err)
{
    if (!return_path_is_given()) {
        return;
    }
    error_prepend(err, "Channel 'return-path': ");
    /* It is the first error that is shown: before there is one of 'main' */
    migrate_set_error(ms, *err);
    trace_return_path_failed();

    QEMU_LOCK_GUARD(&ms->qemu_file_lock);
    if (ms->to_dst_file) {
        qemu_file_shutdown(ms->to_dst_file);
    }
}

/*
 * Destination
 */

bool return_path_is_given_incoming(void)
{
    return qatomic_read(&in.given);
}

bool return_path_is_recovering(MigrationIncomingState *mis)
{
    return return_path_is_given_incoming() &&
           qatomic_read(&mis->state) == MIGRATION_STATUS_POSTCOPY_RECOVER;
}

bool postcopy_urgent_incoming(void)
{
    return migrate_postcopy_preempt() || qatomic_read(&in.urgent);
}

/* What was left over from a pairing that broke before it was used */
static void forget_posts(QemuSemaphore *sem)
{
    while (!qemu_sem_timedwait(sem, 0)) {
        continue;
    }
}

static void use_for_urgent_pages(QIOChannel *half)
{
    MigrationIncomingState *mis = migration_incoming_get_current();

    forget_posts(&mis->postcopy_qemufile_dst_done);
    migration_ioc_register_yank(half);
    postcopy_preempt_new_channel(mis, qemu_file_new_input(half));
}

bool return_path_pair(QIOChannel *main, QIOChannel *link, Error **errp)
{
    bool urgent = migrate_postcopy_ram() && !migrate_postcopy_preempt();
    QIOChannelWake *reader, *writer;

    if (!qio_channel_wake_new_pair(link, &reader, &writer, errp)) {
        return false;
    }
    migration_ioc_register_yank(QIO_CHANNEL(writer));
    WITH_QEMU_LOCK_GUARD(&in.lock) {
        assert(!in.main && !in.half);
        object_ref(OBJECT(main));
        in.main = main;
        in.half = writer;
    }
    qatomic_set(&in.broken, false);
    qatomic_set(&in.urgent, urgent);
    qatomic_set(&in.given, true);
    if (urgent) {
        use_for_urgent_pages(QIO_CHANNEL(reader));
    } else {
        qio_channel_close(QIO_CHANNEL(reader), NULL);
    }
    object_unref(OBJECT(reader));
    return true;
}

QEMUFile *return_path_open_incoming(MigrationIncomingState *mis)
{
    QEMU_LOCK_GUARD(&in.lock);
    return in.half ? qemu_file_new_output(QIO_CHANNEL(in.half)) : NULL;
}

void return_path_forget_main(void)
{
    QIOChannel *main;

    WITH_QEMU_LOCK_GUARD(&in.lock) {
        main = g_steal_pointer(&in.main);
    }
    object_unref(OBJECT(main));
}

void return_path_release_incoming(void)
{
    QIOChannel *half;

    return_path_forget_main();
    WITH_QEMU_LOCK_GUARD(&in.lock) {
        half = QIO_CHANNEL(g_steal_pointer(&in.half));
    }
    if (half) {
        migration_ioc_unregister_yank(half);
        qio_channel_close(half, NULL);
        object_unref(OBJECT(half));
    }
}

void return_path_end_incoming(void)
{
    return_path_release_incoming();
    qatomic_set(&in.given, false);
    qatomic_set(&in.urgent, false);
}

static bool is_broken_incoming(void)
{
    QEMU_LOCK_GUARD(&in.lock);
    return in.half && qio_channel_wake_hung_up(in.half);
}

void return_path_fail_incoming(MigrationStatus status, Error *err)
{
    MigrationIncomingState *mis = migration_incoming_get_current();

    assert(bql_locked());
    migrate_set_state(&mis->state, status, MIGRATION_STATUS_FAILED);
    migrate_set_error(migrate_get_current(), err);
    error_report_err(err);
    if (mis->exit_on_error) {
        exit(EXIT_FAILURE);
    }
    migration_incoming_state_destroy();
}

bool return_path_fails_incoming(void)
{
    Error *err = NULL;

    assert(bql_locked());
    if (!is_broken_incoming()) {
        return false;
    }
    error_setg(&err, "Channel 'return-path' broke before the guest could run "
               "here: it runs at the source");
    return_path_fail_incoming(MIGRATION_STATUS_ACTIVE, err);
    return true;
}

void return_path_broke(void)
{
    if (!return_path_is_given_incoming()) {
        return;
    }
    trace_return_path_broke();
    qatomic_set(&in.broken, true);
    QEMU_LOCK_GUARD(&in.lock);
    if (in.half) {
        qio_channel_shutdown(QIO_CHANNEL(in.half), QIO_CHANNEL_SHUTDOWN_BOTH,
                             NULL);
    }
    if (in.main) {
        qio_channel_shutdown(in.main, QIO_CHANNEL_SHUTDOWN_BOTH, NULL);
    }
}

int return_path_wait_for_pages(MigrationIncomingState *mis)
{
    PostcopyState ps = postcopy_state_get();

    if (!qatomic_read(&in.urgent) || ps < POSTCOPY_INCOMING_LISTENING ||
        ps == POSTCOPY_INCOMING_END) {
        return 0;
    }
    QEMU_LOCK_GUARD(&mis->page_request_mutex);
    while (qatomic_read(&mis->page_requested_count)) {
        if (qatomic_read(&in.broken) ||
            qemu_file_get_error(mis->from_src_file)) {
            return -EIO;
        }
        qemu_cond_timedwait(&mis->page_request_cond, &mis->page_request_mutex,
                            WAIT_MS);
    }
    return 0;
}
