/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: a disk, in a file or in memory
 *
 * Requests are done one by one when they are found, so that none is in flight
 * when the frontend asks for the base of a queue.
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/bswap.h"
#include "qemu/iov.h"
#include "qemu/memfd.h"
#include "standard-headers/linux/virtio_blk.h"
#include "backend.h"

#define SECTOR_SIZE 512

typedef struct SimBlk {
    SimBackend parent;

    /* Set at creation */
    int fd;
    struct virtio_blk_config config;
} SimBlk;

static SimBlk *blk_of(VuDev *vu)
{
    return container_of(sim_backend_of(vu), SimBlk, parent);
}

/* Of a request: the header, the data and the status are where iov_* says */
typedef struct Request {
    VuVirtqElement *elem;
    struct virtio_blk_outhdr hdr;
    uint64_t at;            /* in bytes */
    size_t written;         /* to the guest, in bytes */
} Request;

/* Everything, or -1 */
static ssize_t transfer(int fd, bool is_write, char *buf, size_t len,
                        uint64_t at)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = is_write ? pwrite(fd, buf + done, len - done, at + done)
                             : pread(fd, buf + done, len - done, at + done);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return -1;
        }
        done += n;
    }
    return done;
}

static bool is_inside(SimBlk *blk, uint64_t sector, size_t len)
{
    uint64_t capacity = le64_to_cpu(blk->config.capacity);

    return len % SECTOR_SIZE == 0 && sector <= capacity &&
           len / SECTOR_SIZE <= capacity - sector;
}

static uint8_t do_read(SimBlk *blk, Request *req)
{
    VuVirtqElement *elem = req->elem;
    size_t len = iov_size(elem->in_sg, elem->in_num) - 1;
    g_autofree char *buf = g_malloc(len);

    if (!is_inside(blk, le64_to_cpu(req->hdr.sector), len) ||
        transfer(blk->fd, false, buf, len, req->at) < 0) {
        return VIRTIO_BLK_S_IOERR;
    }
    req->written = iov_from_buf(elem->in_sg, elem->in_num, 0, buf, len);
    return VIRTIO_BLK_S_OK;
}

static uint8_t do_write(SimBlk *blk, Request *req)
{
    VuVirtqElement *elem = req->elem;
    size_t len = iov_size(elem->out_sg, elem->out_num) - sizeof(req->hdr);
    g_autofree char *buf = g_malloc(len);

    iov_to_buf(elem->out_sg, elem->out_num, sizeof(req->hdr), buf, len);
    if (!is_inside(blk, le64_to_cpu(req->hdr.sector), len) ||
        transfer(blk->fd, true, buf, len, req->at) < 0) {
        return VIRTIO_BLK_S_IOERR;
    }
    return VIRTIO_BLK_S_OK;
}

static uint8_t do_get_id(SimBlk *blk, Request *req)
{
    VuVirtqElement *elem = req->elem;
    char id[VIRTIO_BLK_ID_BYTES] = {};
    size_t len = iov_size(elem->in_sg, elem->in_num) - 1;

    strncpy(id, blk->parent.dev->config->name, sizeof(id) - 1);
    req->written = iov_from_buf(elem->in_sg, elem->in_num, 0, id,
                                MIN(len, sizeof(id)));
    return VIRTIO_BLK_S_OK;
}

static uint8_t do_request(SimBlk *blk, Request *req)
{
    switch (le32_to_cpu(req->hdr.type)) {
    case VIRTIO_BLK_T_IN:
        return do_read(blk, req);
    case VIRTIO_BLK_T_OUT:
        return do_write(blk, req);
    case VIRTIO_BLK_T_FLUSH:
        return fdatasync(blk->fd) ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
    case VIRTIO_BLK_T_GET_ID:
        return do_get_id(blk, req);
    default:
        return VIRTIO_BLK_S_UNSUPP;
    }
}

/* The status, and the bytes written to the guest in @used */
static uint8_t handle(SimBlk *blk, VuVirtqElement *elem, size_t *used)
{
    Request req = { .elem = elem };
    size_t in_len = iov_size(elem->in_sg, elem->in_num);
    uint8_t status = VIRTIO_BLK_S_IOERR;

    *used = 0;
    if (!in_len) {
        return status;
    }
    if (iov_to_buf(elem->out_sg, elem->out_num, 0, &req.hdr, sizeof(req.hdr))
        == sizeof(req.hdr)) {
        req.at = le64_to_cpu(req.hdr.sector) * SECTOR_SIZE;
        status = do_request(blk, &req);
    }
    iov_from_buf(elem->in_sg, elem->in_num, in_len - 1, &status, 1);
    /* For the dirty log it is all up to and with the status */
    *used = req.written ? in_len : 1;
    return status;
}

static void handle_queue(VuDev *vu, int index)
{
    SimBlk *blk = blk_of(vu);
    VuVirtq *vq = vu_get_queue(vu, index);
    VuVirtqElement *elem;
    size_t used;

    while ((elem = sim_backend_pop(vu, vq, sizeof(*elem)))) {
        uint8_t status = handle(blk, elem, &used);

        vu_queue_push(vu, vq, elem, used);
        vu_queue_notify(vu, vq);
        free(elem);
        sim_device_count_request(blk->parent.dev, index,
                                 status == VIRTIO_BLK_S_OK);
    }
}

static uint64_t get_features(VuDev *vu)
{
    return 1ull << VIRTIO_BLK_F_SEG_MAX | 1ull << VIRTIO_BLK_F_BLK_SIZE |
           1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_BLK_F_MQ;
}

static uint64_t get_protocol_features(VuDev *vu)
{
    return 1ull << VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD;
}

static int get_config(VuDev *vu, uint8_t *config, uint32_t len)
{
    SimBlk *blk = blk_of(vu);

    if (len > sizeof(blk->config)) {
        return -1;
    }
    memcpy(config, &blk->config, len);
    return 0;
}

/* Nothing can be set; libvhost-user offers CONFIG only if this is here */
static int set_config(VuDev *vu, const uint8_t *data, uint32_t offset,
                      uint32_t size, uint32_t flags)
{
    return -1;
}

static void blk_free(SimBackend *backend)
{
    SimBlk *blk = container_of(backend, SimBlk, parent);

    close(blk->fd);
    g_free(blk);
}

static const SimBackendClass blk_class = {
    .iface = {
        .get_features = get_features,
        .get_protocol_features = get_protocol_features,
        .get_config = get_config,
        .set_config = set_config,
    },
    .handle_queue = handle_queue,
    .free = blk_free,
};

/* A file that is there keeps its contents, and its size if that is larger */
static int open_file(const char *path, uint64_t size, Error **errp)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0 ||
        (st.st_size < size && ftruncate(fd, size) < 0)) {
        error_setg_errno(errp, errno, "disk file '%s'", path);
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    return fd;
}

SimBackend *sim_blk_new(SimDevice *dev, SimLoop *loop, Error **errp)
{
    const SimDeviceConfig *config = dev->config;
    int fd = config->file ? open_file(config->file, config->size, errp)
           : qemu_memfd_create("vhost-user-sim", config->size, false, 0, 0,
                               errp);
    SimBlk *blk;

    if (fd < 0) {
        return NULL;
    }
    blk = g_new0(SimBlk, 1);
    blk->fd = fd;
    blk->config = (struct virtio_blk_config) {
        .capacity = cpu_to_le64(lseek(fd, 0, SEEK_END) / SECTOR_SIZE),
        .seg_max = cpu_to_le32(126),
        .blk_size = cpu_to_le32(SECTOR_SIZE),
        .num_queues = cpu_to_le16(config->n_queues),
    };
    sim_backend_init(&blk->parent, &blk_class, dev, loop);
    return &blk->parent;
}
