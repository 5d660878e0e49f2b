/*
 * Migration switchover: what the rest of QEMU needs to know
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef INCLUDE_MIGRATION_SWITCHOVER_DEFER_H
#define INCLUDE_MIGRATION_SWITCHOVER_DEFER_H

#include "qapi/qapi-types-run-state.h"

/*
 * Shall a request to stop the VM wait for the switchover that is under way?
 *
 * While a switchover waits for disks, the guest is stopped already, but only
 * for a time, and the BQL is free.  Stopping it "once more" would wait for the
 * same disks without a limit.  So the request is noted, and answered by true;
 * if the switchover backs out, the guest ends up in @state.
 *
 * BQL held.
 */
bool switchover_defer_vm_stop(RunState state);

#endif /* INCLUDE_MIGRATION_SWITCHOVER_DEFER_H */
