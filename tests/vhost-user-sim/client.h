/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: what its test needs to talk to it
 *
 * Whatever does not work ends the test with a message: nothing here returns an
 * error.  Nothing waits longer than CLIENT_WAIT_MS.
 */

#ifndef VHOST_USER_SIM_CLIENT_H
#define VHOST_USER_SIM_CLIENT_H

#include "message.h"
#include "qobject/qdict.h"
#include "libvhost-user.h"

#define CLIENT_WAIT_MS 30000

/* The path of the program; the environment's VHOST_USER_SIM, if set */
char *sim_program(void);

/* A running simulator; it has a directory of its own */
typedef struct Sim Sim;

/* @args: a command line, in which every @ stands for the directory */
Sim *sim_start(const char *args);

/* Expects that it does not start, and returns what it says about that */
char *sim_start_refused(const char *args);

/* Ends it by the end of its standard input, and expects success */
void sim_end(Sim *sim);

char *sim_path(Sim *sim, const char *name);
pid_t sim_pid(Sim *sim);

/* What a command answers, without the line's end; or behind the OK */
char *sim_command(Sim *sim, const char *format, ...) G_GNUC_PRINTF(2, 3);
char *sim_ok(Sim *sim, const char *format, ...) G_GNUC_PRINTF(2, 3);

QDict *sim_stats(Sim *sim, const char *device);

/* Of "messages" in the stats: @what is received, answered and so on */
int64_t sim_count(Sim *sim, const char *device, const char *kind,
                  const char *what);
void sim_wait_count(Sim *sim, const char *device, const char *kind,
                    const char *what, int64_t count);
void sim_wait_held(Sim *sim, const char *device, bool held);

/* The words of the lines of the log that are about @device, as arrays of 6 */
GPtrArray *sim_log(Sim *sim, const char *device);

/* ---- a frontend's connection --------------------------------------------- */

int fe_connect(Sim *sim, const char *socket_name);

/* The second is with one file descriptor, and all ask for no acknowledgment */
void fe_send_u64(int fd, unsigned kind, uint64_t value);
void fe_send_fd(int fd, unsigned kind, uint64_t value, int with);
void fe_send_state(int fd, unsigned kind, uint32_t index, uint32_t num);
void fe_send(int fd, unsigned kind, uint32_t flags, const void *payload,
             uint32_t size, const int *fds, unsigned n_fds);

SimMessage *fe_receive(int fd);
bool fe_is_closed(int fd);      /* waits until it is, or something arrives */
bool fe_has_input(int fd);      /* now */

/* Expects a reply of this kind, and returns its value */
uint64_t fe_receive_u64(int fd, unsigned kind);

/* Owner and features, with REPLY_ACK if the backend has it */
void fe_hello(int fd);

#endif
