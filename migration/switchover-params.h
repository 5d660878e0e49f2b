/*
 * Migration switchover: parameters
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_SWITCHOVER_PARAMS_H
#define QEMU_MIGRATION_SWITCHOVER_PARAMS_H

#include "monitor/monitor.h"
#include "qapi/qapi-types-migration.h"
#include "qapi/qapi-types-switchover.h"
#include "qapi/visitor.h"

/*
 * The structs for migrate-set-parameters and query-migrate-parameters have
 * SwitchoverParameters as their base, so one set of functions serves all.
 *
 * Called by the main thread, BQL held.
 */

/* Mark all of @params as present. */
void switchover_params_init(SwitchoverParameters *params);

/* Copy to @dst what is present in @src. */
void switchover_params_apply(SwitchoverParameters *dst,
                             const SwitchoverParameters *src);

/* Are the values of @params within their limits? */
bool switchover_params_check(const SwitchoverParameters *params, Error **errp);

/* May what is present in @params be set now? */
bool switchover_params_settable(const SwitchoverParameters *params,
                                Error **errp);

/* May capabilities be changed from @old_caps to @new_caps? */
bool switchover_caps_check(const bool *old_caps, const bool *new_caps,
                           Error **errp);

/*
 * HMP
 */

/* migrate_set_parameter: read the value of @which from @v into @params. */
void switchover_hmp_set_parameter(SwitchoverParameters *params,
                                  MigrationParameter which, Visitor *v,
                                  const char *name, Error **errp);

/* info migrate_parameters */
void switchover_hmp_info_parameters(Monitor *mon,
                                    const SwitchoverParameters *params);

/* info migrate; @info may be NULL */
void switchover_hmp_info(Monitor *mon, const SwitchoverInfo *info);

#endif /* QEMU_MIGRATION_SWITCHOVER_PARAMS_H */
