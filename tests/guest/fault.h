/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long the guest waits for memory that is not there
 *
 * A thread reads one page after the other of a big buffer, in an order in which
 * no page comes twice before all others came, and takes the time.  After a
 * post-copy switchover, what is slow is a page that had to be asked for.
 *
 * The clock goes on while a vCPU waits for a page, as long as the guest is not
 * stopped, so the guest itself can tell.  The thread has CPU 1 for itself,
 * which stands still meanwhile, and the rest of this program has CPU 0.
 *
 * A page says which one it is.  One that does not is SO PANIC.
 */
#ifndef GUEST_FAULT_H
#define GUEST_FAULT_H

/*
 * Fills @buffer_mib, a power of two, and begins to read a page of it every
 * @period_us.  Nothing if @buffer_mib is 0.
 */
void fault_start(unsigned buffer_mib, unsigned period_us);

/*
 * Forgets what was seen, after having learnt from it how long a read of a page
 * takes that is there: all but one in a thousand take less than the limit that
 * is said.  To be given while all memory is there.
 */
void fault_reset(void);

/*
 * Says the microseconds of all reads since then that took longer, in lines of
 * SO FAULTS, and ends with SO OK faults <how many> <of how many reads>.
 */
void fault_tell(void);

#endif
