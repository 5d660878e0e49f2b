/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: vhost-user backends that others wrote
 *
 * qemu-storage-daemon ($QTEST_QEMU_STORAGE_DAEMON_BINARY) serves disks, DPDK's
 * dpdk-testpmd network cards, which return each frame to its sender.  They
 * listen; their sockets are <dir>/<device>.<host>, their images
 * <dir>/<device>.img, as of the simulator.
 */
#ifndef SWITCHOVER_REAL_BACKEND_H
#define SWITCHOVER_REAL_BACKEND_H

#include "switchover/child.h"

/* Why there is no such program, or NULL if there is */
char *sw_storage_daemon_missing(void);
char *sw_testpmd_missing(void);

/*
 * One process for the @n devices from number @first on, of @queues queues or
 * pairs of queues each.  If there was one before, it has ended.
 */
SwChild *sw_storage_daemon_new(const char *dir, unsigned host, unsigned first,
                               unsigned n, unsigned queues);
SwChild *sw_testpmd_new(const char *dir, unsigned host, unsigned first,
                        unsigned n, unsigned queues);

#endif /* SWITCHOVER_REAL_BACKEND_H */
