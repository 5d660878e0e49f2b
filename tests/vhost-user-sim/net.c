/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: a network card at the end of a very short cable
 *
 * A frame that the guest sends is given back to it, with source and destination
 * swapped, on the receive queue of the same pair; or it is dropped.
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/iov.h"
#include "standard-headers/linux/virtio_net.h"
#include "backend.h"

#define ETHERNET_ADDR_LEN 6
#define FRAME_MIN (2 * ETHERNET_ADDR_LEN)
#define FRAME_MAX 65536

static void swap_addresses(uint8_t *frame)
{
    uint8_t destination[ETHERNET_ADDR_LEN];

    memcpy(destination, frame, ETHERNET_ADDR_LEN);
    memcpy(frame, frame + ETHERNET_ADDR_LEN, ETHERNET_ADDR_LEN);
    memcpy(frame + ETHERNET_ADDR_LEN, destination, ETHERNET_ADDR_LEN);
}

/*
 * A ring may run before it is said whom to notify: kick comes before call.  The
 * guest is notified when that is said.
 */
static void notify(VuDev *vu, VuVirtq *vq)
{
    if (vq->call_fd >= 0) {
        vu_queue_notify(vu, vq);
    }
}

static bool is_running(VuDev *vu, VuVirtq *vq)
{
    return vu_queue_started(vu, vq) && vu_queue_enabled(vu, vq);
}

/* False if the guest has no room for it now */
static bool receive(VuDev *vu, int index, const uint8_t *frame, size_t len)
{
    /* libvhost-user speaks virtio 1 only: always with num_buffers */
    struct virtio_net_hdr_mrg_rxbuf hdr = { .num_buffers = cpu_to_le16(1) };
    VuVirtq *vq = vu_get_queue(vu, index);
    VuVirtqElement *elem;

    if (!is_running(vu, vq)) {
        return false;
    }
    elem = vu_queue_pop(vu, vq, sizeof(*elem));
    if (!elem) {
        return false;
    }
    if (iov_size(elem->in_sg, elem->in_num) < sizeof(hdr) + len) {
        vu_queue_unpop(vu, vq, elem, 0);
        free(elem);
        return false;
    }
    iov_from_buf(elem->in_sg, elem->in_num, 0, &hdr, sizeof(hdr));
    iov_from_buf(elem->in_sg, elem->in_num, sizeof(hdr), frame, len);
    vu_queue_push(vu, vq, elem, sizeof(hdr) + len);
    notify(vu, vq);
    free(elem);
    return true;
}

static bool transmit(VuDev *vu, int index, VuVirtqElement *elem)
{
    SimDevice *dev = sim_backend_of(vu)->dev;
    size_t hdr_len = sizeof(struct virtio_net_hdr_mrg_rxbuf);
    size_t len = iov_size(elem->out_sg, elem->out_num);
    g_autofree uint8_t *frame = NULL;
    bool received;

    if (len < hdr_len + FRAME_MIN || len > hdr_len + FRAME_MAX) {
        return false;
    }
    if (dev->config->drop || !is_running(vu, vu_get_queue(vu, index - 1))) {
        return true;
    }
    len -= hdr_len;
    frame = g_malloc(len);
    iov_to_buf(elem->out_sg, elem->out_num, hdr_len, frame, len);
    swap_addresses(frame);
    received = receive(vu, index - 1, frame, len);
    if (received) {
        sim_device_count_request(dev, index - 1, true);
    }
    return received;
}

static void handle_tx(VuDev *vu, int index)
{
    VuVirtq *vq = vu_get_queue(vu, index);
    VuVirtqElement *elem;

    while ((elem = sim_backend_pop(vu, vq, sizeof(*elem)))) {
        bool good = transmit(vu, index, elem);

        vu_queue_push(vu, vq, elem, 0);
        notify(vu, vq);
        free(elem);
        sim_device_count_request(sim_backend_of(vu)->dev, index, good);
    }
}

/* The guest has new buffers: nothing waits for them */
static void handle_rx(VuDev *vu, int index)
{
}

static void handle_queue(VuDev *vu, int index)
{
    (index % 2 ? handle_tx : handle_rx)(vu, index);
}

/* With GUEST_ANNOUNCE, QEMU need not send RARP frames for the guest */
static uint64_t get_features(VuDev *vu)
{
    return 1ull << VIRTIO_NET_F_MRG_RXBUF | 1ull << VIRTIO_NET_F_MQ |
           1ull << VIRTIO_NET_F_GUEST_ANNOUNCE;
}

static void net_free(SimBackend *backend)
{
    g_free(backend);
}

static const SimBackendClass net_class = {
    .iface = { .get_features = get_features },
    .handle_queue = handle_queue,
    .free = net_free,
};

SimBackend *sim_net_new(SimDevice *dev, SimLoop *loop)
{
    SimBackend *backend = g_new0(SimBackend, 1);

    sim_backend_init(backend, &net_class, dev, loop);
    return backend;
}
