/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: a thread that serves libvhost-user devices
 *
 * libvhost-user is not thread-safe: whatever is done with a device is done in
 * its loop's thread.
 */

#ifndef VHOST_USER_SIM_LOOP_H
#define VHOST_USER_SIM_LOOP_H

#include "device.h"
#include "libvhost-user.h"

typedef void SimLoopCall(void *opaque);

SimLoop *sim_loop_new(void);

/* Ends and joins the thread; nothing may be watched any more */
void sim_loop_free(SimLoop *loop);

/* From any other thread: calls @fn in the loop's, returns when it is done */
void sim_loop_call(SimLoop *loop, SimLoopCall *fn, void *opaque);

/*
 * In the loop's thread.  There is at most one watch for a file descriptor; a
 * new one replaces it.  It must be removed before the descriptor is closed.
 */
void sim_loop_watch(SimLoop *loop, VuDev *vu, int fd, int condition,
                    vu_watch_cb cb, void *data);
void sim_loop_unwatch(SimLoop *loop, int fd);

#endif
