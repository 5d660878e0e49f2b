/*
 * Loading devices in batches
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * While the state of devices is loaded, a batch of memory transactions is open
 * (exec/memory-batch.h), so that the maps are built once for all devices and
 * not several times for each.  What a device has to do with the new map, when
 * its own state has been loaded, can wait until then.
 *
 * The batch ends, and what waits is done in the order in which it was said,
 *
 * - before anything else in the stream: iterative state, a command, the end;
 * - before the load waits for the stream: others may run then.
 *
 * The BQL is held by who loads, and protects everything here.  A thread that
 * loads without it (the listen thread of post-copy) has no batch.
 */
#ifndef MIGRATION_LOAD_BATCH_H
#define MIGRATION_LOAD_BATCH_H

#include "io/channel.h"
#include "qemu/coroutine.h"

/*
 * For devices, while they are loaded.
 */

/* As of VMStateDescription.post_load: negative if the load is to fail */
typedef int LoadBatchFunc(void *opaque);

/*
 * Calls @func once the map is committed, with the BQL and outside of any
 * coroutine.  If it fails, the load fails as if the section that is loaded now
 * had failed with its return value.
 *
 * @owner is kept alive until then.  Without a device of that name any more, or
 * after an error, @func is not called.  @opaque is freed with @destroy.
 *
 * Returns false if there is no batch: the caller has to do it now.
 */
bool load_batch_defer(DeviceState *owner, LoadBatchFunc *func, void *opaque,
                      GDestroyNotify destroy);

/*
 * For savevm.c.
 */

/*
 * A section is about to be loaded.  @batched: it is the state of a device.
 * Negative if something that waited has failed.
 */
int coroutine_mixed_fn load_batch_section(bool batched, const char *idstr,
                                          uint32_t instance_id);

/* Negative if something that waited has failed */
int coroutine_mixed_fn load_batch_end(void);

/*
 * For whoever leaves the coroutine that loads.
 */

/* Before @ioc is read: some channels wait inside of that */
void coroutine_mixed_fn load_batch_before_read(QIOChannel *ioc);

/* Before waiting for @ioc; if it returns true, read it again instead */
bool coroutine_mixed_fn load_batch_before_channel_wait(QIOChannel *ioc);

/* Before waiting for anything else */
void coroutine_mixed_fn load_batch_before_wait(void);

#endif /* MIGRATION_LOAD_BATCH_H */
