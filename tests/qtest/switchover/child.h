/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: a process that lives no longer than the test
 *
 * Each child is the leader of its own process group.  It is stopped with
 * sw_child_free(); killed when the test aborts; and killed by the kernel when
 * the test is.
 */
#ifndef SWITCHOVER_CHILD_H
#define SWITCHOVER_CHILD_H

typedef struct SwChild SwChild;

/*
 * Starts @argv (NULL-terminated) and returns once it has written @pidfile,
 * which is how all the servers used here say that they are ready.
 * Without @pidfile, returns at once.
 * Returns NULL and the reason in @why if it cannot be started.
 */
SwChild *sw_child_new(const char *const *argv, const char *pidfile,
                      char **why);
bool sw_child_alive(SwChild *child);

/* Stops it (SIGSTOP) / lets it go on.  Go on before sw_child_free(). */
void sw_child_freeze(SwChild *child);
void sw_child_thaw(SwChild *child);

/* As if it had crashed: SIGKILL, also if it is stopped.  It is gone then. */
void sw_child_kill(SwChild *child);

void sw_child_free(SwChild *child);

/* When the test aborts: kills them all without waiting for anything */
void sw_children_kill(void);

#endif /* SWITCHOVER_CHILD_H */
