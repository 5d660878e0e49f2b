/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory that is written all the time, and verified
 *
 * A thread goes round a buffer.  Each page says which one it is and which round
 * it was written in; before it is written again it has to be what the last
 * round left.  So a page that was lost, is old, or belongs elsewhere is noticed
 * one round later at most, or by memory_verify(): SO PANIC says which.
 */
#ifndef GUEST_MEMORY_H
#define GUEST_MEMORY_H

#include <stdbool.h>

/*
 * Writes the first round of a buffer of @buffer_mib, and then @mib_per_s in
 * steps of 10 ms, until a page is wrong.  Nothing if @mib_per_s is 0.
 */
void memory_start(unsigned mib_per_s, unsigned buffer_mib);

/* Whether every page of the buffer is as it was written last. */
bool memory_verify(void);

#endif
