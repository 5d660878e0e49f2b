/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: what a migration goes over
 */
#ifndef SWITCHOVER_TRANSPORT_H
#define SWITCHOVER_TRANSPORT_H

#include "qobject/qlist.h"
#include "switchover/rig.h"

/*
 * The argument 'channels' of migrate, migrate-incoming and migrate-recover.
 * @main and @link are of the form tcp:HOST:PORT, unix:PATH, vsock:CID:PORT,
 * fd:NAME, exec:CMD or file:PATH; either may be NULL.
 */
QList *sw_channels(const char *main, const char *link);

/* A port on the loopback interface that nobody uses */
unsigned sw_free_port(void);

/* The same of vsock; and why that does not lead back to this host, or NULL */
unsigned sw_free_vsock_port(void);
const char *sw_vsock_missing(void);

/*
 * TLS, with a key that both know, which is kept in @dir.  @endpoint: "client"
 * at the source, "server" at the destination.
 */
void sw_vm_use_tls(SwVM *vm, const char *dir, const char *endpoint);

/*
 * The same for both sides of a rig: to be used as a case's steps "setup" and
 * "at_destination"
 */
void sw_tls_client(SwRig *rig);
void sw_tls_server(SwRig *rig);

#endif /* SWITCHOVER_TRANSPORT_H */
