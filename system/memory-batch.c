/*
 * Batches of memory transactions
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Theory of operation
 *
 * An open batch is a memory transaction like any other: while it is open, the
 * transactions of devices are nested in it and commit nothing.  A commit on
 * behalf of a reader closes the batch for as long as it takes.  Memory
 * listeners are called then, and they find everything as in a commit without a
 * batch: they may read views, and begin and end transactions.
 *
 * All of this is protected by the BQL, which is held from the beginning of a
 * batch to its end.  So whoever has the BQL and finds a batch open is the one
 * who is inside.
 */

#include "qemu/osdep.h"
#include "exec/memory.h"
#include "exec/memory-batch.h"
#include "qemu/main-loop.h"
#include "trace.h"

bool memory_batch_is_open;

/* The transaction that goes on has to be committed when it ends */
static bool urgent;

void memory_batch_begin(void)
{
    assert(bql_locked());

    if (memory_batch_is_open || memory_region_transaction_nesting()) {
        return;
    }
    memory_region_transaction_begin();
    urgent = false;
    qatomic_set(&memory_batch_is_open, true);
    trace_memory_batch_begin();
}

void memory_batch_end(const char *why)
{
    bool committed;

    assert(bql_locked());

    if (!memory_batch_is_open) {
        return;
    }
    qatomic_set(&memory_batch_is_open, false);
    /* If a device's own transaction is open, it stays so, but without ours */
    committed = memory_region_transaction_flush();
    memory_region_transaction_commit();
    trace_memory_batch_end(why, committed);
}

static void memory_batch_commit(const char *why)
{
    unsigned depth = memory_region_transaction_nesting();
    bool committed;

    qatomic_set(&memory_batch_is_open, false);
    urgent = false;
    committed = memory_region_transaction_flush();
    qatomic_set(&memory_batch_is_open, true);
    if (committed) {
        trace_memory_batch_commit(why, depth - 1);
    }
}

void memory_batch_commit_for_reader(void)
{
    /* Without the BQL it is not ours, and may be gone by now */
    if (bql_locked()) {
        memory_batch_commit("the map is read");
    }
}

/* Called by memory.c with the BQL, when @depth transactions are left open */
void memory_batch_transaction_ended(unsigned depth, bool ioeventfds_pending)
{
    if (!memory_batch_is_open || depth != 1) {
        return;
    }
    if (ioeventfds_pending) {
        /* A file descriptor may be closed next */
        memory_batch_commit("an ioeventfd changed");
    } else if (urgent) {
        memory_batch_commit("a region ceases to exist");
    }
}

void memory_batch_set_urgent(void)
{
    urgent = true;
}
