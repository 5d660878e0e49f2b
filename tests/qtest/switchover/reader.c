/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: who reads what a migration is written to
 */

#include "qemu/osdep.h"
#include <poll.h>
#include "qemu/cutils.h"
#include "switchover/harness.h"
#include "switchover/reader.h"

/* How often it is looked at what was told */
#define LOOK_MS 10

struct SwReader {
    int fd;
    GThread *thread;
    GMutex lock;
    /* Under lock */
    bool quit;
    bool ended;
    uint64_t until;
    unsigned bytes_per_s;
    GByteArray *data;
};

/* How much it may read now; under lock */
static size_t share(SwReader *reader)
{
    uint64_t left = reader->until - MIN(reader->until, reader->data->len);

    if (reader->bytes_per_s) {
        left = MIN(left, reader->bytes_per_s * LOOK_MS / 1000);
    }
    return MIN(left, 64 * 1024);
}

/* The lock is held for a read that does not block: stopped means stopped */
static bool read_some(SwReader *reader)
{
    uint8_t buf[64 * 1024];
    ssize_t len;
    size_t max;

    g_mutex_lock(&reader->lock);
    max = reader->ended ? 0 : share(reader);
    len = max ? read(reader->fd, buf, max) : -1;
    if (len > 0) {
        g_byte_array_append(reader->data, buf, len);
    } else if (!len) {
        reader->ended = true;
    }
    g_mutex_unlock(&reader->lock);
    return len > 0;
}

static void *read_thread(void *opaque)
{
    SwReader *reader = opaque;
    bool quit = false, idle;

    while (!quit) {
        struct pollfd fd = { .fd = reader->fd, .events = POLLIN };
        bool got = read_some(reader);

        g_mutex_lock(&reader->lock);
        quit = reader->quit;
        idle = reader->bytes_per_s || reader->ended || !share(reader);
        g_mutex_unlock(&reader->lock);
        if (idle) {
            g_usleep(LOOK_MS * 1000);
        } else if (!got) {
            poll(&fd, 1, LOOK_MS);
        }
    }
    return NULL;
}

SwReader *sw_reader_new(int fd)
{
    SwReader *reader = g_new0(SwReader, 1);

    g_assert(g_unix_set_fd_nonblocking(fd, true, NULL));
    reader->fd = fd;
    reader->data = g_byte_array_new();
    g_mutex_init(&reader->lock);
    reader->thread = g_thread_new("reader", read_thread, reader);
    return reader;
}

void sw_reader_free(SwReader *reader)
{
    g_mutex_lock(&reader->lock);
    reader->quit = true;
    g_mutex_unlock(&reader->lock);
    g_thread_join(reader->thread);
    close(reader->fd);
    g_mutex_clear(&reader->lock);
    g_byte_array_unref(reader->data);
    g_free(reader);
}

void sw_reader_go(SwReader *reader, uint64_t bytes)
{
    g_mutex_lock(&reader->lock);
    reader->until = bytes;
    g_mutex_unlock(&reader->lock);
}

void sw_reader_stop(SwReader *reader)
{
    sw_reader_go(reader, 0);
}

void sw_reader_slow(SwReader *reader, unsigned bytes_per_s)
{
    g_mutex_lock(&reader->lock);
    reader->bytes_per_s = bytes_per_s;
    g_mutex_unlock(&reader->lock);
}

uint64_t sw_reader_total(SwReader *reader)
{
    uint64_t total;

    g_mutex_lock(&reader->lock);
    total = reader->data->len;
    g_mutex_unlock(&reader->lock);
    return total;
}

typedef struct Wait {
    SwReader *reader;
    uint64_t bytes;
} Wait;

static bool has_read(void *opaque)
{
    Wait *wait = opaque;

    return sw_reader_total(wait->reader) >= wait->bytes;
}

void sw_reader_wait(SwReader *reader, uint64_t bytes)
{
    Wait wait = { .reader = reader, .bytes = bytes };

    sw_wait_until(has_read, &wait, SW_WAIT_MS, "the reader to have read");
}

static bool has_ended(void *opaque)
{
    SwReader *reader = opaque;
    bool ended;

    g_mutex_lock(&reader->lock);
    ended = reader->ended;
    g_mutex_unlock(&reader->lock);
    return ended;
}

const GByteArray *sw_reader_wait_end(SwReader *reader)
{
    sw_wait_until(has_ended, reader, SW_WAIT_MS, "the end of the stream");
    return reader->data;
}
