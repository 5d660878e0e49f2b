/*
 * Migration switchover: the destination's side
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The phases at the destination, and what begins them:
 *
 *   load          the source announces the device state
 *   activate      disks are taken over, to run the guest or for "cont"
 *   device-start  VM state change handlers run
 *   resume        vCPUs run
 *
 * All functions are called with the BQL held.  An old machine type on the
 * source does not announce the device state; then no phase is recorded.
 */

#ifndef INCLUDE_MIGRATION_SWITCHOVER_INCOMING_H
#define INCLUDE_MIGRATION_SWITCHOVER_INCOMING_H

/* A migration begins to come in. */
void switchover_incoming_setup(void);

/* Device state follows. */
void switchover_incoming_load(void);

/* All device state has been loaded. */
void switchover_incoming_loaded(void);

/* The disks are about to be activated. */
void switchover_incoming_activate(void);

/* Same as vm_start(), with the phases noted if it is the guest's first run. */
void switchover_incoming_vm_start(void);

/*
 * "cont" while the migration comes in: during phase hold it asks the source for
 * the commit, see migration/postcopy-ready.h.  Returns false with @errp set if
 * the guest can never run here.
 */
bool postcopy_ready_cont(Error **errp);

#endif /* INCLUDE_MIGRATION_SWITCHOVER_INCOMING_H */
