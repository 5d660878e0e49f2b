/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest of the switchover tests: network cards whose other end reflects frames
 */
#ifndef GUEST_NET_H
#define GUEST_NET_H

#include <stdbool.h>
#include <stdint.h>

#define NET_NICS_MAX 64

/*
 * Brings up eth0 to eth@nics-1 and sends a frame on each every @period_ms, in a
 * thread of its own that goes from CPU to CPU.  Ends the guest if one is not
 * there.
 */
void net_start(unsigned nics, unsigned period_ms);

/* Frames that went out on all cards, and of these the ones that came back */
void net_stats(uint64_t *sent, uint64_t *received);

/*
 * Frames that @cpu sent on eth@nic, and that came back there.  False if there
 * is no such card or CPU.
 */
bool net_returned(unsigned nic, unsigned cpu, uint64_t *frames);

#endif
