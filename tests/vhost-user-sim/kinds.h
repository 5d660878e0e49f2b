/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: the kinds of messages, by docs/interop/vhost-user.rst
 *
 * A kind is the request code of a message; in options, commands and logs it has
 * the name of the specification without VHOST_USER_ (GET_VRING_BASE).
 */

#ifndef VHOST_USER_SIM_KINDS_H
#define VHOST_USER_SIM_KINDS_H

#define SIM_KIND_MAX 64
#define SIM_KIND_ANY SIM_KIND_MAX

/* Callable from any thread */

/* Never NULL; numbers without a name are "KIND_<number>" */
const char *sim_kind_name(unsigned kind);

/* True with *@kind set, SIM_KIND_ANY for "ANY"; else an error */
bool sim_kind_parse(const char *name, unsigned *kind, Error **errp);

/* Has a reply of its own, also without being asked for an acknowledgment */
bool sim_kind_is_answered(unsigned kind);

/* The payload is a queue's index and a number, each of 32 bits */
bool sim_kind_has_vring_state(unsigned kind);

/* The payload is a number whose lowest 8 bits are a queue's index */
bool sim_kind_has_vring_file(unsigned kind);

#endif
