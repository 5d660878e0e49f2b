/*
 * Batches of memory transactions
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A memory transaction that ends commits: it builds the views of all address
 * spaces anew.  Whoever is about to do many transactions in a row, in code that
 * knows nothing of each other, opens a batch: one transaction around them all.
 *
 * What code inside a batch may rely on is what it could rely on without one:
 *
 * - Whoever reads the map sees all changes made before.  A reader with the BQL
 *   that finds a batch open has it committed first, and goes on to read.
 *   (Without the BQL, changes become visible at some time, as they always did.)
 * - An ioeventfd that was removed is not in use any more, so it can be closed,
 *   and a memory region that ceases to exist is not in any view.  Such changes
 *   are committed when the transaction that made them ends.
 * - The BQL is never released inside a batch.  Whoever is about to release it,
 *   or to wait for a condition with it, ends the batch; so nobody else ever
 *   runs inside.  Code that leaves a coroutine has to do the same by itself.
 *
 * So a batch can end at any time, and whoever opened it cannot rely on it to be
 * open still.  It is opened again with memory_batch_begin().
 *
 * One thing is different.  A reader inside a transaction of its own, nested in
 * the batch, sees what this transaction has changed so far.
 */

#ifndef EXEC_MEMORY_BATCH_H
#define EXEC_MEMORY_BATCH_H

#include "qemu/atomic.h"

/* Written with the BQL, by memory-batch.c */
extern bool memory_batch_is_open;

/*
 * For who opens batches; called with the BQL.
 */

/* Nothing happens if one is open, or inside a memory transaction */
void memory_batch_begin(void);

/* Nothing happens if none is open; @why is for the trace */
void memory_batch_end(const char *why);

/*
 * For memory.c: how readers and writers of the map meet the batch.
 */

/* Called from anywhere */
void memory_batch_commit_for_reader(void);

/* Called with the BQL, when @depth transactions are left open */
void memory_batch_transaction_ended(unsigned depth, bool ioeventfds_pending);

/* Called with the BQL: the next transaction to end is to be committed */
void memory_batch_set_urgent(void);

/* Before an address space's view is read */
static inline void memory_batch_before_read(void)
{
    if (unlikely(qatomic_read(&memory_batch_is_open))) {
        memory_batch_commit_for_reader();
    }
}

/* Before the BQL is released, by who holds it */
static inline void memory_batch_before_release(void)
{
    if (unlikely(qatomic_read(&memory_batch_is_open))) {
        memory_batch_end("the BQL is released");
    }
}

/*
 * In memory.c, for memory-batch.c only; called with the BQL.
 */

/* 0 outside of all memory transactions */
unsigned memory_region_transaction_nesting(void);

/* Commits inside a transaction, which goes on; false: nothing was pending */
bool memory_region_transaction_flush(void);

#endif /* EXEC_MEMORY_BATCH_H */
