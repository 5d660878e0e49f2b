/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: a driver for its test
 */

#include "qemu/osdep.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include "qapi/error.h"
#include "qemu/atomic.h"
#include "qemu/memfd.h"
#include "client.h"
#include "ring.h"

#define DESC_AT 0
#define AVAIL_AT 0x1000
#define USED_AT 0x2000
#define BUFFERS_AT 0x3000
#define RING_MEMORY (BUFFERS_AT + RING_SIZE * RING_BUFFER_SIZE)

/* Not zero, so that a forgotten translation shows */
#define GUEST_PHYS_ADDR 0x10000000ull
#define DIRTY_LOG_SIZE 65536

struct GuestMemory {
    void *host;
    size_t size;
    uint8_t *log;
};

struct Ring {
    GuestMemory *mem;
    unsigned index;
    void *host;
    struct vring_desc *desc;
    struct vring_avail *avail;
    struct vring_used *used;
    uint16_t base;          /* how many requests there ever were */
    uint16_t seen;          /* and how many were waited for */
    int kick, call;
};

static void *map(const char *name, size_t size, int *fd)
{
    void *host;

    *fd = qemu_memfd_create(name, size, false, 0, 0, &error_abort);
    host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    g_assert_true(host != MAP_FAILED);
    return host;
}

GuestMemory *guest_memory_new(int fd, unsigned n_rings)
{
    GuestMemory *mem = g_new0(GuestMemory, 1);
    VhostUserMemory table = { .nregions = 1 };
    int memfd;

    mem->size = (size_t)n_rings * RING_MEMORY;
    mem->host = map("guest", mem->size, &memfd);
    table.regions[0] = (VhostUserMemoryRegion) {
        .guest_phys_addr = GUEST_PHYS_ADDR,
        .memory_size = mem->size,
        .userspace_addr = (uintptr_t)mem->host,
    };
    fe_send(fd, VHOST_USER_SET_MEM_TABLE, SIM_FLAG_NEED_REPLY, &table,
            sizeof(table), &memfd, 1);
    g_assert_cmpint(fe_receive_u64(fd, VHOST_USER_SET_MEM_TABLE), ==, 0);
    close(memfd);
    return mem;
}

void guest_memory_free(GuestMemory *mem)
{
    munmap(mem->host, mem->size);
    if (mem->log) {
        munmap(mem->log, DIRTY_LOG_SIZE);
    }
    g_free(mem);
}

static uint64_t phys(GuestMemory *mem, const void *at)
{
    return GUEST_PHYS_ADDR + (at - mem->host);
}

void guest_memory_start_log(GuestMemory *mem, int fd)
{
    VhostUserLog log = { .mmap_size = DIRTY_LOG_SIZE };
    int memfd;

    mem->log = map("log", DIRTY_LOG_SIZE, &memfd);
    fe_send(fd, VHOST_USER_SET_LOG_BASE, 0, &log, sizeof(log), &memfd, 1);
    sim_message_free(fe_receive(fd));
    close(memfd);
}

bool guest_memory_is_dirty(GuestMemory *mem, const void *at)
{
    uint64_t page = phys(mem, at) / VHOST_LOG_PAGE;

    g_assert_cmpint(page / 8, <, DIRTY_LOG_SIZE);
    return qatomic_read(&mem->log[page / 8]) & 1 << page % 8;
}

Ring *ring_new(GuestMemory *mem, unsigned index)
{
    Ring *ring = g_new0(Ring, 1);

    g_assert_cmpint((index + 1) * RING_MEMORY, <=, mem->size);
    ring->mem = mem;
    ring->index = index;
    ring->host = mem->host + index * RING_MEMORY;
    ring->desc = ring->host + DESC_AT;
    ring->avail = ring->host + AVAIL_AT;
    ring->used = ring->host + USED_AT;
    ring->kick = ring->call = -1;
    return ring;
}

void ring_start(Ring *ring, int fd)
{
    struct vhost_vring_addr addr = {
        .index = ring->index,
        .desc_user_addr = (uintptr_t)ring->desc,
        .avail_user_addr = (uintptr_t)ring->avail,
        .used_user_addr = (uintptr_t)ring->used,
    };

    ring->kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    ring->call = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    fe_send_state(fd, VHOST_USER_SET_VRING_NUM, ring->index, RING_SIZE);
    fe_send_state(fd, VHOST_USER_SET_VRING_BASE, ring->index, ring->base);
    fe_send(fd, VHOST_USER_SET_VRING_ADDR, 0, &addr, sizeof(addr), NULL, 0);
    fe_send_fd(fd, VHOST_USER_SET_VRING_CALL, ring->index, ring->call);
    fe_send_state(fd, VHOST_USER_SET_VRING_ENABLE, ring->index, 1);
    fe_send_fd(fd, VHOST_USER_SET_VRING_KICK, ring->index, ring->kick);
}

void ring_stop(Ring *ring, int fd)
{
    uint64_t state;

    fe_send_state(fd, VHOST_USER_GET_VRING_BASE, ring->index, 0);
    state = fe_receive_u64(fd, VHOST_USER_GET_VRING_BASE);
    g_assert_cmpint(state & UINT32_MAX, ==, ring->index);
    g_assert_cmpint(state >> 32, ==, ring->base);
    close(ring->kick);
    close(ring->call);
}

void ring_free(Ring *ring)
{
    g_free(ring);
}

void *ring_buffer(Ring *ring, unsigned i)
{
    return ring->host + BUFFERS_AT + i * RING_BUFFER_SIZE;
}

void ring_submit(Ring *ring, const uint32_t *len, unsigned n_out, unsigned n)
{
    unsigned i;

    for (i = 0; i < n; i++) {
        ring->desc[i] = (struct vring_desc) {
            .addr = phys(ring->mem, ring_buffer(ring, i)),
            .len = len[i],
            .flags = (i < n - 1 ? VRING_DESC_F_NEXT : 0) |
                     (i < n_out ? 0 : VRING_DESC_F_WRITE),
            .next = i + 1,
        };
    }
    ring->avail->ring[ring->base % RING_SIZE] = 0;
    ring->base++;
    qatomic_store_release(&ring->avail->idx, ring->base);
    g_assert_cmpint(eventfd_write(ring->kick, 1), ==, 0);
}

uint32_t ring_wait(Ring *ring)
{
    struct pollfd call = { .fd = ring->call, .events = POLLIN };
    eventfd_t count;

    while (qatomic_load_acquire(&ring->used->idx) == ring->seen) {
        g_assert_cmpint(poll(&call, 1, CLIENT_WAIT_MS), >, 0);
        eventfd_read(ring->call, &count);
    }
    return ring->used->ring[ring->seen++ % RING_SIZE].len;
}
