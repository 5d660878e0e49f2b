/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: the command line
 */

#ifndef VHOST_USER_SIM_OPTIONS_H
#define VHOST_USER_SIM_OPTIONS_H

#include "device.h"

typedef struct SimOptions {
    GPtrArray *devices;     /* of SimDeviceConfig, each at most once stolen */
    char *control;          /* path of a socket, or NULL */
    char *log;              /* path of a file, or NULL */
    gboolean one_thread;
    gboolean ignore_stdin;
    gboolean outlive_parent;
} SimOptions;

/* From the main thread */

/* Exits on --help; NULL on an error that says which option and why */
SimOptions *sim_options_parse(int *argc, char ***argv, Error **errp);
void sim_options_free(SimOptions *options);

#endif
