/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: a driver for its test, as small as can be
 *
 * Each queue has its ring and its buffers in a part of the guest's memory that
 * no other has, and one request at a time, or several without waiting.
 */

#ifndef VHOST_USER_SIM_RING_H
#define VHOST_USER_SIM_RING_H

#define RING_SIZE 16
#define RING_BUFFER_SIZE 4096

typedef struct GuestMemory GuestMemory;
typedef struct Ring Ring;

/* Tells the backend behind @fd where the memory is, for some rings */
GuestMemory *guest_memory_new(int fd, unsigned n_rings);
void guest_memory_free(GuestMemory *mem);

/* The dirty log's bit of a ring's buffer; false if there is no log */
void guest_memory_start_log(GuestMemory *mem, int fd);
bool guest_memory_is_dirty(GuestMemory *mem, const void *at);

/* Sets the queue up, from where it was stopped, and enables it */
Ring *ring_new(GuestMemory *mem, unsigned index);
void ring_start(Ring *ring, int fd);

/* GET_VRING_BASE, whose answer it checks */
void ring_stop(Ring *ring, int fd);
void ring_free(Ring *ring);

/* One of RING_SIZE buffers */
void *ring_buffer(Ring *ring, unsigned i);

/*
 * One request of buffer 0 to n-1 with these lengths; the first @n_out are read
 * by the device, the others are written.
 */
void ring_submit(Ring *ring, const uint32_t *len, unsigned n_out, unsigned n);

/* Waits until the next one is done, returns how much was written */
uint32_t ring_wait(Ring *ring);

#endif
