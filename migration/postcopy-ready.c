/*
 * Post-copy that waits for a word before the destination runs: the source
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See postcopy-ready.h for the protocol.
 */

#include "qemu/osdep.h"
#include <netinet/tcp.h>
#include "io/channel-socket.h"
#include "migration/migration.h"
#include "migration/migration-stats.h"
#include "migration/iterations.h"
#include "migration/options.h"
#include "migration/outgoing-channel.h"
#include "migration/postcopy-ready.h"
#include "migration/qemu-file.h"
#include "migration/savevm.h"
#include "migration/switchover.h"
#include "qapi/error.h"
#include "qapi/qapi-events-switchover.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "system/reset.h"
#include "system/runstate.h"
#include "trace.h"

/* While there is nothing to send, for how long not to look */
#define POSTCOPY_READY_POLL_MS 100

/*
 * During the hold, so many bytes that did not leave the host yet may lie
 * between us and the destination.  The word has to get past them.
 */
#define POSTCOPY_READY_UNSENT_BYTES (128 * 1024)

/* What is sent of a package before its content: command, lengths */
#define POSTCOPY_READY_PACKAGE_HEADER 9

static struct {
    /*
     * Migration thread only
     */
    bool committed;             /* after a hold */
    bool handed_over;           /* without one */
    bool prepare_sent;

    /*
     * Under lock
     */
    QemuMutex lock;
    bool ready;                 /* the destination says so */
    bool accepted;              /* it waits for what becomes of the commit */
    bool asked;                 /* somebody wants the commit */
    bool rp_ended;              /* nothing can be heard of it any more */
    bool kicked;                /* rate_limit_sem was posted by us */
    bool backed_out;

    /*
     * Atomic
     */
    unsigned passes;            /* of pre-copy, complete */

    /*
     * BQL
     */
    QEMUTimer *timer;
} pr;

/* Written under the lock, read without */
bool postcopy_ready_holding;

/* Atomic */
bool postcopy_ready_interrupting;

static void __attribute__((constructor)) postcopy_ready_init(void)
{
    qemu_mutex_init(&pr.lock);
}

/* What an earlier migration left behind would be taken for news */
static void postcopy_ready_empty(QemuSemaphore *sem)
{
    while (!qemu_sem_timedwait(sem, 0)) {
        continue;
    }
}

void postcopy_ready_begin(MigrationState *s)
{
    assert(bql_locked());

    postcopy_ready_empty(&s->rate_limit_sem);
    postcopy_ready_empty(&s->rp_state.rp_pong_acks);
    postcopy_ready_empty(&s->postcopy_qemufile_src_sem);
    qatomic_set(&pr.passes, 0);

    QEMU_LOCK_GUARD(&pr.lock);
    pr.backed_out = false;
    pr.committed = false;
    pr.handed_over = false;
    pr.prepare_sent = false;
    qatomic_set(&postcopy_ready_holding, false);
    pr.ready = false;
    pr.accepted = false;
    pr.asked = false;
    pr.rp_ended = false;
}

bool postcopy_ready_is_validated(void)
{
    /* savevm and loadvm are neither, and may find the guest in any state */
    return migrate_postcopy_ram() &&
           (migration_is_running() || runstate_check(RUN_STATE_INMIGRATE));
}

/* The lock is held.  There is something to look at for postcopy_ready_hold() */
static void postcopy_ready_kick(void)
{
    if (postcopy_ready_holding) {
        qatomic_set(&postcopy_ready_interrupting, true);
        if (!pr.kicked) {
            pr.kicked = true;
            migration_make_urgent_request();
        }
    }
}

void postcopy_ready_continue(void)
{
    assert(bql_locked());

    QEMU_LOCK_GUARD(&pr.lock);
    pr.asked = true;
    postcopy_ready_kick();
}

void postcopy_ready_on_ready(void)
{
    QEMU_LOCK_GUARD(&pr.lock);
    pr.ready = true;
    postcopy_ready_kick();
}

void postcopy_ready_on_accept(bool asked)
{
    QEMU_LOCK_GUARD(&pr.lock);
    pr.accepted = true;
    pr.asked |= asked;
    postcopy_ready_kick();
}

void postcopy_ready_on_end(void)
{
    QEMU_LOCK_GUARD(&pr.lock);
    pr.rp_ended = true;
    postcopy_ready_kick();
}

/*
 * Wake up whoever reads from the destination, or writes to it: it need not do
 * its part.
 */
static void postcopy_ready_break(MigrationState *s)
{
    QEMU_LOCK_GUARD(&s->qemu_file_lock);

    if (s->to_dst_file) {
        qemu_file_shutdown(s->to_dst_file);
    }
    if (s->rp_state.from_dst_file) {
        qemu_file_shutdown(s->rp_state.from_dst_file);
    }
    if (s->postcopy_qemufile_src) {
        qemu_file_shutdown(s->postcopy_qemufile_src);
    }
}

/* The hold ends at the source, unless the commit was first.  Takes @reason. */
static void postcopy_ready_back_out(Error *reason)
{
    MigrationState *s = migrate_get_current();
    bool in_time;

    assert(bql_locked());

    WITH_QEMU_LOCK_GUARD(&pr.lock) {
        in_time = postcopy_ready_holding && !pr.backed_out;
        if (in_time) {
            pr.backed_out = true;
            postcopy_ready_kick();
        }
    }
    if (in_time) {
        /* Before there are errors because of what we do */
        migrate_set_error(s, reason);
        postcopy_ready_break(s);
    }
    error_free(reason);
}

void postcopy_ready_on_cancel(void)
{
    Error *reason = NULL;

    error_setg(&reason, "Post-copy was cancelled before the commit");
    postcopy_ready_back_out(reason);
}

static void postcopy_ready_expired(void *opaque)
{
    MigrationState *s = migrate_get_current();
    Error *reason = NULL;

    error_setg(&reason, s->state == MIGRATION_STATUS_POSTCOPY_READY ?
               "Post-copy was not continued within postcopy-ready-timeout (%"
               PRIu64 " ms)" :
               "The destination did not load its devices within "
               "postcopy-ready-timeout (%" PRIu64 " ms)",
               s->parameters.postcopy_ready_timeout);
    postcopy_ready_back_out(reason);
}

/* Memory changes, of which the destination has a part already */
static void postcopy_ready_reset(void *opaque)
{
    Error *reason = NULL;

    error_setg(&reason, "The guest was reset before post-copy was continued");
    postcopy_ready_back_out(reason);
}

static bool postcopy_ready_rp_ended(void)
{
    QEMU_LOCK_GUARD(&pr.lock);
    return pr.rp_ended;
}

static bool postcopy_ready_refused(MigrationState *s, Error **errp)
{
    const char *text = "The destination hung up before it agreed to "
                       "'postcopy-ready'; set the capability there as well, or "
                       "unset it here";

    WITH_QEMU_LOCK_GUARD(&s->error_mutex) {
        if (s->error) {
            /* It is the first error that is shown */
            error_prepend(&s->error, "%s: ", text);
        }
    }
    error_setg(errp, "%s", text);
    return false;
}

bool postcopy_ready_negotiate(MigrationState *s, Error **errp)
{
    QemuSemaphore *pong = &s->rp_state.rp_pong_acks;

    if (!migrate_postcopy_ready()) {
        return true;
    }
    if (!s->rp_state.rp_thread_created) {
        error_setg(errp, "Capability 'postcopy-ready' needs a channel in both "
                   "directions");
        return false;
    }
    /* It reads the ping only if it agrees with our capabilities */
    while (qemu_sem_timedwait(pong, POSTCOPY_READY_POLL_MS)) {
        if (qatomic_read(&s->state) == MIGRATION_STATUS_CANCELLING) {
            return true;
        }
        if (postcopy_ready_rp_ended()) {
            return postcopy_ready_refused(s, errp);
        }
    }
    /* Somebody else may wait for it */
    qemu_sem_post(pong);
    return true;
}

void postcopy_ready_count_pass(void)
{
    qatomic_inc(&pr.passes);
}

bool postcopy_ready_is_due(MigrationState *s, uint64_t pending_bytes)
{
    uint32_t passes = s->parameters.postcopy_after_passes;

    if (qatomic_read(&s->start_postcopy)) {
        return true;
    }
    /* What is about to converge need not fault */
    return passes && qatomic_read(&pr.passes) >= passes &&
           pending_bytes >= s->threshold_size;
}

static void postcopy_ready_limit_unsent(MigrationState *s, int bytes)
{
    QIOChannel *ioc = migration_outgoing_bottom(s->to_dst_file);
    QIOChannelSocket *sioc;

    ioc = migration_channel_below_tls(ioc);
    sioc = (QIOChannelSocket *)object_dynamic_cast(OBJECT(ioc),
                                                   TYPE_QIO_CHANNEL_SOCKET);
    if (sioc) {
        /* Other sockets than those of TCP do without */
        setsockopt(sioc->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes,
                   sizeof(bytes));
    }
}

/* What happened since we last looked */
typedef struct PostcopyReadyNews {
    bool ready;
    bool accepted;
    bool asked;
    bool rp_ended;
    bool backed_out;
} PostcopyReadyNews;

static PostcopyReadyNews postcopy_ready_look(void)
{
    bool kicked;
    PostcopyReadyNews news;

    WITH_QEMU_LOCK_GUARD(&pr.lock) {
        kicked = pr.kicked;
        pr.kicked = false;
        qatomic_set(&postcopy_ready_interrupting, false);
        news = (PostcopyReadyNews) {
            .ready = pr.ready, .accepted = pr.accepted, .asked = pr.asked,
            .rp_ended = pr.rp_ended, .backed_out = pr.backed_out,
        };
    }
    if (kicked) {
        migration_consume_urgent_request();
    }
    return news;
}

/* Is there no way but back?  Sets @errp then. */
static bool postcopy_ready_is_over(MigrationState *s, PostcopyReadyNews *news,
                                   Error **errp)
{
    ERRP_GUARD();

    if (news->backed_out) {
        /* The reason is known already */
        error_setg(errp, "Post-copy was backed out of before the commit");
    } else if (qemu_file_get_error_obj_any(s->to_dst_file,
                                           s->postcopy_qemufile_src, errp)) {
        if (!*errp) {
            error_setg(errp, "The connection to the destination broke before "
                       "the commit");
        }
    } else if (news->rp_ended) {
        error_setg(errp, "The destination hung up before the commit");
    }
    return *errp;
}

static void postcopy_ready_set_timer(MigrationState *s)
{
    uint64_t timeout_ms = s->parameters.postcopy_ready_timeout;

    if (timeout_ms) {
        timer_mod(pr.timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) +
                            timeout_ms);
    }
}

static void postcopy_ready_announce(MigrationState *s)
{
    if (s->state != MIGRATION_STATUS_DEVICE) {
        return;
    }
    migrate_set_state(&s->state, MIGRATION_STATUS_DEVICE,
                      MIGRATION_STATUS_POSTCOPY_READY);
    if (s->state == MIGRATION_STATUS_POSTCOPY_READY) {
        postcopy_ready_set_timer(s);
        trace_postcopy_ready_source();
        qapi_event_send_migration_postcopy_ready();
    }
}

/*
 * The commit.  From here on the guest belongs to the destination, although it
 * does not know yet.  Returns false if the migration was backed out of before.
 *
 * Whoever backs out has the BQL, too.
 */
static bool postcopy_ready_commit(MigrationState *s)
{
    bql_lock();
    WITH_QEMU_LOCK_GUARD(&pr.lock) {
        if (!pr.backed_out) {
            migrate_set_state(&s->state, MIGRATION_STATUS_POSTCOPY_READY,
                              MIGRATION_STATUS_POSTCOPY_ACTIVE);
            pr.committed = s->state == MIGRATION_STATUS_POSTCOPY_ACTIVE;
            /* For migration_in_postcopy(), the state comes first */
            qatomic_store_release(&postcopy_ready_holding, !pr.committed);
        }
    }
    bql_unlock();

    trace_postcopy_ready_commit(pr.committed);
    return pr.committed;
}

bool postcopy_ready_committed(void)
{
    return pr.committed || pr.handed_over;
}

/*
 * Whatever error the file has got meanwhile: what counts is whether the channel
 * took the last byte.
 */
int postcopy_ready_hand_over(MigrationState *s, const uint8_t *package,
                             size_t size)
{
    uint64_t before;

    assert(bql_locked());
    qemu_fflush(s->to_dst_file);
    migration_outgoing_mark(s->to_dst_file,
                            POSTCOPY_READY_PACKAGE_HEADER + size - 1);
    before = stat64_get(&mig_stats.qemu_file_transferred);
    if (qemu_savevm_send_packaged(s->to_dst_file, package, size)) {
        return -1;
    }
    qemu_fflush(s->to_dst_file);
    /* It may be more: urgent pages count as well */
    pr.handed_over = stat64_get(&mig_stats.qemu_file_transferred) - before >=
                     POSTCOPY_READY_PACKAGE_HEADER + size &&
                     !migration_outgoing_commit(s);
    return pr.handed_over ? 0 : -1;
}

typedef struct PostcopyReadyPump {
    bool urgent;                /* a page was asked for */
    bool done;                  /* all that there was has been sent */
} PostcopyReadyPump;

/* Send RAM, or sleep, until there is something to look at */
static void postcopy_ready_pump(MigrationState *s, PostcopyReadyPump *pump)
{
    if (pump->urgent ||
        (!pump->done && !migration_rate_exceeded(s->to_dst_file))) {
        pump->done = iterations_may_begin(s) && iterations_run(s, true) > 0 &&
                     migration_outgoing_is_settled(s->to_dst_file);
    }
    if (!pump->done) {
        pump->urgent = migration_rate_limit();
        return;
    }
    pump->urgent = !qemu_sem_timedwait(&s->rate_limit_sem,
                                       POSTCOPY_READY_POLL_MS);
    if (pump->urgent) {
        /* It is taken when the request is processed */
        qemu_sem_post(&s->rate_limit_sem);
    }
}

static bool postcopy_ready_wait(MigrationState *s, Error **errp)
{
    PostcopyReadyPump pump = { 0 };

    while (true) {
        PostcopyReadyNews news = postcopy_ready_look();

        if (postcopy_ready_is_over(s, &news, errp)) {
            return false;
        }
        if (news.ready) {
            postcopy_ready_announce(s);
        }
        if (news.ready && news.asked && !news.accepted && !pr.prepare_sent) {
            pr.prepare_sent = true;
            qemu_savevm_send_postcopy_prepare(s->to_dst_file);
        }
        if (news.ready && news.asked && news.accepted &&
            postcopy_ready_commit(s)) {
            return true;
        }
        postcopy_ready_pump(s, &pump);
    }
}

/* BQL held */
static void postcopy_ready_hold_begin(MigrationState *s)
{
    switchover_enter_hold(s);
    WITH_QEMU_LOCK_GUARD(&pr.lock) {
        qatomic_set(&postcopy_ready_holding, true);
    }
    if (!pr.timer) {
        pr.timer = timer_new_ms(QEMU_CLOCK_REALTIME, postcopy_ready_expired,
                                NULL);
        qemu_register_reset(postcopy_ready_reset, NULL);
    }
    postcopy_ready_set_timer(s);
    migration_rate_set(migrate_max_postcopy_bandwidth());
    postcopy_ready_limit_unsent(s, POSTCOPY_READY_UNSENT_BYTES);
}

/* BQL held */
static void postcopy_ready_hold_end(MigrationState *s)
{
    timer_del(pr.timer);
    postcopy_ready_limit_unsent(s, 0);
    WITH_QEMU_LOCK_GUARD(&pr.lock) {
        qatomic_store_release(&postcopy_ready_holding, false);
    }
    postcopy_ready_look();
}

int postcopy_ready_hold(MigrationState *s, const uint8_t *package, size_t size,
                        Error **errp)
{
    ERRP_GUARD();
    bool committed;

    assert(bql_locked());

    postcopy_ready_hold_begin(s);
    bql_unlock();

    /* If this fails the file has an error */
    qemu_savevm_send_packaged(s->to_dst_file, package, size);
    committed = postcopy_ready_wait(s, errp);
    if (committed) {
        qemu_savevm_send_postcopy_run(s->to_dst_file);
    } else {
        /* Before there are errors because of what we do */
        migrate_set_error(s, *errp);
        /* The thread of the return path may be sending a page */
        postcopy_ready_break(s);
    }

    bql_lock();
    postcopy_ready_hold_end(s);
    return committed ? 0 : -1;
}

void postcopy_ready_recovered(MigrationState *s)
{
    if (pr.committed) {
        trace_postcopy_ready_recovered();
        qemu_savevm_send_postcopy_run(s->to_dst_file);
    }
}
