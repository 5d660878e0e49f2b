/*
 * Migration switchover: parameters that concern VM state changes
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_SWITCHOVER_VMSTATE_H
#define MIGRATION_SWITCHOVER_VMSTATE_H

/*
 * Called with the BQL held
 */

/* The capability parallel-vmstate-change */
bool switchover_parallel_vmstate_change(void);

/* vmstate-change-threads; 0: one for each host CPU */
unsigned switchover_vmstate_change_threads(void);

/* drain-timeout, in ms; 0: no limit */
int64_t switchover_drain_timeout(void);

#endif /* MIGRATION_SWITCHOVER_VMSTATE_H */
