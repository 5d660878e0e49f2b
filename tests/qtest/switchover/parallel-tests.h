/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SWITCHOVER_PARALLEL_TESTS_H
#define SWITCHOVER_PARALLEL_TESTS_H

/* A backend does not answer when the guest is stopped or started */
void par_add_stuck_tests(void);

/* A backend answers something wrong, or closes the connection */
void par_add_fault_tests(void);

/* Backends that others wrote, in the full set only */
void par_add_backend_tests(void);

/* Together with pause-before-switchover, and with post-copy */
void par_add_mode_tests(void);

/* What a user types; a worker that does what it must not */
void par_add_input_tests(void);

#endif /* SWITCHOVER_PARALLEL_TESTS_H */
