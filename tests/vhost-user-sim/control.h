/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: commands over a socket; see --help for what there is
 */

#ifndef VHOST_USER_SIM_CONTROL_H
#define VHOST_USER_SIM_CONTROL_H

typedef struct SimControl SimControl;

/*
 * All from the main thread, whose main loop serves the socket.  @devices, of
 * SimDevice, is not owned; @quit is run by the command of that name.
 */
SimControl *sim_control_new(const char *path, const GPtrArray *devices,
                            GMainLoop *quit, Error **errp);
void sim_control_free(SimControl *control);

#endif
