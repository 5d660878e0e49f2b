/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: a libvhost-user device behind the wire
 */

#include "qemu/osdep.h"
#include <sys/eventfd.h>
#include <sys/socket.h>
#include "qemu/atomic.h"
#include "qemu/error-report.h"
#include "backend.h"

static void close_connection(SimBackend *backend)
{
    if (backend->is_open) {
        sim_loop_unwatch(backend->loop, backend->vu.sock);
        vu_deinit(&backend->vu);
        backend->is_open = false;
    }
}

/* The connection is closed by read_messages(): we are deep in libvhost-user */
static void on_panic(VuDev *vu, const char *text)
{
    SimBackend *backend = sim_backend_of(vu);

    warn_report("%s: %s", backend->dev->config->name, text ?: "panic");
    backend->is_broken = true;
    shutdown(vu->sock, SHUT_RDWR);
}

static bool has_message(VuDev *vu)
{
    GPollFD pfd = { .fd = vu->sock, .events = G_IO_IN };

    return g_poll(&pfd, 1, 0) > 0;
}

/*
 * All that there are: the loop looks at every ring before it comes back, and
 * there are about as many messages as rings.
 */
static void read_messages(VuDev *vu, int condition, void *data)
{
    SimBackend *backend = sim_backend_of(vu);

    do {
        if (backend->is_broken || !vu_dispatch(vu) || backend->is_broken) {
            close_connection(backend);
            return;
        }
    } while (has_message(vu));
}

static void set_watch(VuDev *vu, int fd, int condition, vu_watch_cb cb,
                      void *data)
{
    sim_loop_watch(sim_backend_of(vu)->loop, vu, fd, condition, cb, data);
}

static void remove_watch(VuDev *vu, int fd)
{
    sim_loop_unwatch(sim_backend_of(vu)->loop, fd);
}

/* At the end of its socket libvhost-user sees a message of kind NONE */
static int process_msg(VuDev *vu, VhostUserMsg *msg, int *do_reply)
{
    if (msg->request == VHOST_USER_NONE) {
        sim_backend_of(vu)->is_broken = true;
        return 1;
    }
    return 0;
}

/*
 * Who polls its queues would look at them when they are started.  So do we: the
 * kick for what lies there may have been seen by somebody else before.
 */
static void queue_set_started(VuDev *vu, int index, bool started)
{
    SimBackend *backend = sim_backend_of(vu);
    VuVirtq *vq = vu_get_queue(vu, index);

    vu_set_queue_handler(vu, vq, started ? backend->class->handle_queue : NULL);
    if (started && vq->kick_fd >= 0) {
        eventfd_write(vq->kick_fd, 1);
    }
}

void *sim_backend_pop(VuDev *vu, VuVirtq *vq, size_t size)
{
    void *elem = vu_queue_pop(vu, vq, size);

    if (!elem) {
        /* A guest that did not see our event index yet does not kick */
        smp_mb();
        elem = vu_queue_pop(vu, vq, size);
    }
    return elem;
}

static bool is_in_order(VuDev *vu, int index)
{
    return true;
}

void sim_backend_init(SimBackend *backend, const SimBackendClass *class,
                      SimDevice *dev, SimLoop *loop)
{
    backend->class = class;
    backend->dev = dev;
    backend->loop = loop;
    backend->iface = class->iface;
    backend->iface.process_msg = process_msg;
    backend->iface.queue_set_started = queue_set_started;
    backend->iface.queue_is_processed_in_order = is_in_order;
}

void sim_backend_free(SimBackend *backend)
{
    if (backend) {
        assert(!backend->is_open);
        backend->class->free(backend);
    }
}

typedef struct Connect {
    SimBackend *backend;
    int sock;
} Connect;

static void do_connect(void *opaque)
{
    Connect *connect = opaque;
    SimBackend *backend = connect->backend;

    assert(!backend->is_open);
    if (!vu_init(&backend->vu, backend->dev->config->n_queues, connect->sock,
                 on_panic, NULL, set_watch, remove_watch, &backend->iface)) {
        g_error("out of memory");
    }
    backend->is_broken = false;
    backend->is_open = true;
    sim_loop_watch(backend->loop, &backend->vu, connect->sock, VU_WATCH_IN,
                   read_messages, NULL);
}

void sim_backend_connect(SimBackend *backend, int sock)
{
    Connect connect = { .backend = backend, .sock = sock };

    sim_loop_call(backend->loop, do_connect, &connect);
}

static void do_disconnect(void *opaque)
{
    close_connection(opaque);
}

void sim_backend_disconnect(SimBackend *backend)
{
    sim_loop_call(backend->loop, do_disconnect, backend);
}

static void fill_in_region(VuDev *vu, VhostUserMemoryRegion *region)
{
    unsigned i;

    for (i = 0; i < vu->nregions; i++) {
        VuDevRegion *r = &vu->regions[i];

        if (r->gpa == region->guest_phys_addr) {
            region->userspace_addr = r->mmap_addr + r->mmap_offset;
        }
    }
}

/*
 * libvhost-user of QEMU 10.0 fills them in, but into a copy of what it sends.
 * It does not touch its regions before the next message.
 */
void sim_backend_fill_in(SimBackend *backend, SimMessage *reply)
{
    VhostUserMemory table;
    VhostUserMemRegMsg single;
    unsigned i;

    if (reply->hdr.kind == VHOST_USER_ADD_MEM_REG) {
        memcpy(&single, reply->payload, sizeof(single));
        fill_in_region(&backend->vu, &single.region);
        memcpy(reply->payload, &single, sizeof(single));
        return;
    }
    memcpy(&table, reply->payload, sizeof(table));
    for (i = 0; i < MIN(table.nregions, ARRAY_SIZE(table.regions)); i++) {
        fill_in_region(&backend->vu, &table.regions[i]);
    }
    memcpy(reply->payload, &table, sizeof(table));
}
