/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: a libvhost-user device behind the wire
 *
 * It obeys at once and correctly; being late or wrong is the wire's business.
 * There is one for each simulated device, with one connection at a time.
 */

#ifndef VHOST_USER_SIM_BACKEND_H
#define VHOST_USER_SIM_BACKEND_H

#include "device.h"
#include "loop.h"
#include "message.h"

typedef struct SimBackendClass {
    VuDevIface iface;       /* what libvhost-user asks the class itself */
    vu_queue_handler_cb handle_queue;
    void (*free)(SimBackend *backend);
} SimBackendClass;

struct SimBackend {
    /* Set at creation */
    const SimBackendClass *class;
    SimDevice *dev;
    SimLoop *loop;

    /* In the loop's thread only */
    VuDevIface iface;
    VuDev vu;
    bool is_open;
    bool is_broken;         /* of no use until the next connection */
};

/* From the main thread */
SimBackend *sim_blk_new(SimDevice *dev, SimLoop *loop, Error **errp);
SimBackend *sim_net_new(SimDevice *dev, SimLoop *loop);
void sim_backend_init(SimBackend *backend, const SimBackendClass *class,
                      SimDevice *dev, SimLoop *loop);
void sim_backend_free(SimBackend *backend);

/* From the wire's thread.  connect() takes @sock */
void sim_backend_connect(SimBackend *backend, int sock);
void sim_backend_disconnect(SimBackend *backend);

/*
 * In post-copy, from the wire's thread while @reply, to a message about
 * regions, is on its way: the frontend shall know where they are mapped.
 */
void sim_backend_fill_in(SimBackend *backend, SimMessage *reply);

/*
 * In the loop's thread: vu_queue_pop(), which returns NULL only if the guest is
 * going to kick for the next request.
 */
void *sim_backend_pop(VuDev *vu, VuVirtq *vq, size_t size);

static inline SimBackend *sim_backend_of(VuDev *vu)
{
    return container_of(vu, SimBackend, vu);
}

#endif
