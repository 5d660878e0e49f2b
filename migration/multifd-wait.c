/*
 * Waiting for the channels of multifd
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/iterations.h"
#include "migration/multifd-wait.h"
#include "migration/options.h"
#include "migration/outgoing-channel.h"
#include "migration/stall.h"
#include "multifd.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "trace.h"

/* Migration thread */
static struct {
    MigrationStall stall;
    int64_t bql_until_ns;
    bool room;                  /* due: a channel that is ready */
    enum { SYNC_NONE, SYNC_DUE, SYNC_BEGUN } sync;
    int channels;               /* SYNC_BEGUN: to be waited for */
} due;

bool multifd_wait_is_used;

void multifd_wait_reset(void)
{
    assert(bql_locked());
    memset(&due, 0, sizeof(due));
    multifd_wait_is_used = migrate_multifd();
}

void multifd_wait_begin_pass(void)
{
    due.bql_until_ns = get_clock() + MIGRATION_PATIENCE_BQL_NS;
}

/* Until when the caller may wait, get_clock() */
static int64_t patience(void)
{
    return migrate_mapped_ram() || migrate_colo() ? INT64_MAX :
           bql_locked() ? due.bql_until_ns : iterations_deadline();
}

/* One wait until get_clock() is @until_ns. Returns for how many ms at most. */
static int wait_begin(int64_t until_ns)
{
    int ms = migration_stall_wait_begin(&due.stall, until_ns);

    return ms < 0 ? INT_MAX : ms;
}

static void wait_end(void)
{
    migration_stall_wait_end(&due.stall, 0);
}

static bool wait_for_room(int64_t until_ns)
{
    bool ready = multifd_send_wait_ready(0);

    while (!ready && get_clock() < until_ns) {
        ready = multifd_send_wait_ready(wait_begin(until_ns));
        wait_end();
    }
    if (ready) {
        migration_stall_end(&due.stall, 0);
    }
    due.room = !ready;
    return ready;
}

/* Returns 0, or a negative value, or how many channels are left */
static int wait_for_sync(int64_t until_ns)
{
    while (due.channels > 0) {
        int left = multifd_send_sync_wait(0);

        if (left == due.channels) {
            if (get_clock() >= until_ns) {
                break;
            }
            left = multifd_send_sync_wait(wait_begin(until_ns));
            wait_end();
        }
        if (left < due.channels) {
            migration_stall_end(&due.stall, 0);
            due.channels = left;
        }
    }
    return due.channels;
}

/* Returns 0, or a negative value, or a positive one if it is due */
static int sync_until(QEMUFile *f, int64_t until_ns)
{
    int ret;

    if (due.sync != SYNC_BEGUN) {
        due.sync = SYNC_DUE;
        if (multifd_ram_must_send(NULL) && !wait_for_room(until_ns)) {
            return 1;
        }
        due.channels = multifd_ram_sync_begin();
        due.sync = SYNC_BEGUN;
    }
    ret = wait_for_sync(until_ns);
    if (ret > 0) {
        return ret;
    }
    due.sync = SYNC_NONE;
    return ret ?: multifd_ram_sync_end(f);
}

static void be_late(void)
{
    trace_migration_multifd_late(due.sync, due.channels, bql_locked());
    iterations_end_early();
}

bool multifd_wait_for_queue(QEMUFile *f, const RAMBlock *block)
{
    if (!migrate_multifd()) {
        return true;
    }
    due.room = false;
    if ((due.sync != SYNC_NONE && sync_until(f, patience()) > 0) ||
        (multifd_ram_must_send(block) && !wait_for_room(patience()))) {
        be_late();
        return false;
    }
    return true;
}

int multifd_wait_end_round(QEMUFile *f)
{
    int ret = sync_until(f, patience());

    if (ret > 0) {
        be_late();
    }
    return MIN(ret, 0);
}

int multifd_wait_sync(QEMUFile *f)
{
    if (!migrate_multifd()) {
        return 0;
    }
    /* The channels may wait for what was kept of the main one */
    migration_outgoing_settle(f, INT64_MAX);
    return sync_until(f, INT64_MAX);
}

bool multifd_wait_is_due(void)
{
    /* savevm comes here, too: it owes nothing of what was cancelled before */
    return migrate_multifd() && (due.room || due.sync != SYNC_NONE);
}

bool multifd_wait_settle(int64_t until_ns)
{
    if (due.sync == SYNC_BEGUN) {
        return wait_for_sync(until_ns) <= 0;
    }
    return !multifd_wait_is_due() || wait_for_room(until_ns);
}
