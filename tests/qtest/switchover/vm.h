/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: one QEMU with what listens to it
 *
 * QEMU is started by libqtest, which also ends it.  Monitors and serial line
 * are sockets that the test listens on before QEMU starts, so that nothing
 * said early is lost.
 *
 * A guest is Debian's kernel with a small init, from $SWITCHOVER_GUEST.
 */
#ifndef SWITCHOVER_VM_H
#define SWITCHOVER_VM_H

#include "libqtest.h"
#include "switchover/guest.h"
#include "switchover/monitor.h"
#include "switchover/monitor-probe.h"

typedef struct SwVM {
    char *name;
    QTestState *qts;
    SwMonitor *mon;
    SwProbe *probe;
    SwGuest *guest;
    bool killed;
} SwVM;

/*
 * @binary_env: environment variable that names the binary, NULL for the one
 * under test.  @args: passed to a shell.
 */
SwVM *sw_vm_new(const char *dir, const char *name, const char *binary_env,
                const char *args);

/* Ends QEMU; its exit status must be the expected one */
void sw_vm_free(SwVM *vm);

/* As if the host had died: SIGKILL.  sw_vm_free() is still due. */
void sw_vm_kill(SwVM *vm);

/* Stops it (SIGSTOP) / lets it go on.  Go on before sw_vm_free(). */
void sw_vm_freeze(SwVM *vm);
void sw_vm_thaw(SwVM *vm);

/*
 * Waits until QEMU ends by itself with status @status, as a destination does
 * that got no migration; or not, if it was killed.  sw_vm_free() is still due.
 */
void sw_vm_wait_exit(SwVM *vm, int status);

/* Waits until QEMU was ended by a signal, and returns that */
int sw_vm_wait_signal(SwVM *vm);

/* Why @binary_env names no QEMU that can be run, or NULL if it does */
char *sw_binary_missing(const char *binary_env);

/* Why no guest can be run here, or NULL if it can */
const char *sw_guest_missing(void);

/*
 * Arguments that boot the guest on @cpus vCPUs with I/O on @disks, like
 * "vda,sda", @depth requests at a time on each.
 */
char *sw_guest_args(const char *disks, unsigned depth, unsigned cpus);

/* The same, with frames sent on @nics virtio network cards */
char *sw_guest_args_nics(const char *disks, unsigned nics, unsigned depth,
                         unsigned cpus);

/* The same, with @mib_per_s of memory written, going round @mib; 0: none */
char *sw_guest_args_dirty(const char *disks, unsigned mib_per_s, unsigned mib,
                          unsigned depth, unsigned cpus);

/* query-status' "status" */
char *sw_vm_run_state(SwVM *vm);
bool sw_vm_in_state(SwVM *vm, const char *run_state);
void sw_vm_wait_state(SwVM *vm, const char *run_state);

/* How many "fd" (descriptors) or "task" (threads) its process has */
unsigned sw_vm_count(SwVM *vm, const char *what);

/* How many of its threads are in system call @number, such as SYS_sendmsg */
unsigned sw_vm_count_in_call(SwVM *vm, long number);

/* Processes that it has started, and that it has not waited for */
unsigned sw_vm_children(SwVM *vm);

/* What query-migrate has to say about it, which must be there; to be unref'd */
QDict *sw_vm_migration(SwVM *vm, const char *member);

void sw_vm_set_capability(SwVM *vm, const char *capability);
/* A migration parameter that is a number */
void sw_vm_set_parameter(SwVM *vm, const char *name, int64_t value);

#endif /* SWITCHOVER_VM_H */
