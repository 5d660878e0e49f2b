/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Verified direct I/O
 *
 * Theory of operation
 *
 * The log has one entry per block: the last generation that was written, and
 * whether the block is known to hold it.  It is not while a write is in flight,
 * after a write failed, and after a discard; such a block is not compared until
 * it has been written again.  Generations only grow, so a block that went back
 * in time shows.
 *
 * An I/O error is counted and life goes on.  A block that reads back as
 * something else is reported with SO PANIC and makes every later verification
 * fail.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "io.h"
#include "serial.h"
#include "stamp.h"

#define MAX_DISKS 32
#define FIRST_BLOCKS 64         /* written by each worker before READY */
#define CHUNK_BLOCKS 16         /* unit of discard and of verification */
#define CHUNK_BYTES (CHUNK_BLOCKS * BLOCK_BYTES)
#define FLUSH_EVERY 16          /* IO_RW: one flush per so many writes */
#define WRITE_EVERY 8           /* IO_FLUSH: one write per so many flushes */
#define DISK_TIMEOUT_S 60       /* for a disk to appear */

typedef struct Disk {
    unsigned index;
    char name[32];
    int fd;
    uint64_t blocks;
    atomic_ullong ops, errors;
} Disk;

typedef struct LogEntry {
    uint32_t generation;        /* 0 = never written */
    bool known;                 /* the disk holds exactly this generation */
} LogEntry;

/* All fields belong to the worker's own thread once it runs. */
typedef struct Worker {
    Disk *disk;
    uint64_t first;             /* first block of the region */
    unsigned blocks;
    LogEntry *log;
    unsigned char *buf;         /* CHUNK_BYTES bytes, aligned */
    uint64_t random;
    unsigned long turn;
    unsigned order_seen;        /* last verification that it did */
} Worker;

static struct {
    /* set by io_start() before there are workers, but for the counters */
    Disk disk[MAX_DISKS];
    unsigned disks;
    unsigned workers;
    unsigned think_us;

    /* atomic */
    _Atomic IoMode mode;
    atomic_uint order;          /* number of verifications ordered */
    atomic_bool mismatch;       /* a block was not what it should be */

    /* under lock */
    pthread_mutex_t lock;
    pthread_cond_t wake;        /* mode, order, busy or verify.left changed */
    unsigned starting;          /* workers that write the first generation */
    struct {
        unsigned left;          /* workers that have not finished */
        unsigned long blocks;
        bool unreadable;
    } verify;
} io = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .wake = PTHREAD_COND_INITIALIZER,
};

static const char *const mode_names[IO_MODE_MAX] = {
    [IO_IDLE] = "idle",
    [IO_RW] = "rw",
    [IO_READ] = "read",
    [IO_WRITE] = "write",
    [IO_FLUSH] = "flush",
    [IO_DISCARD] = "discard",
};

IoMode io_mode_by_name(const char *name)
{
    IoMode mode;

    for (mode = 0; mode < IO_MODE_MAX; mode++) {
        if (!strcmp(name, mode_names[mode])) {
            break;
        }
    }
    return mode;
}

bool io_stats(const char *name, uint64_t *ops, uint64_t *errors)
{
    bool found = !name;

    *ops = *errors = 0;
    for (unsigned i = 0; i < io.disks; i++) {
        Disk *disk = &io.disk[i];

        if (!name || !strcmp(name, disk->name)) {
            *ops += atomic_load(&disk->ops);
            *errors += atomic_load(&disk->errors);
            found = true;
        }
    }
    return found;
}

/* ---- one operation ------------------------------------------------------ */

static unsigned worker_random(Worker *w, unsigned below)
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return (w->random >> 16) % below;
}

static bool count(Worker *w, bool ok)
{
    atomic_fetch_add(ok ? &w->disk->ops : &w->disk->errors, 1);
    return ok;
}

static off_t worker_offset(const Worker *w, unsigned i)
{
    return (off_t)(w->first + i) * BLOCK_BYTES;
}

static void write_block(Worker *w, unsigned i)
{
    LogEntry *e = &w->log[i];

    stamp_fill(w->buf, w->disk->index, w->first + i, e->generation + 1);
    e->known = false;
    e->generation++;
    e->known = count(w, pwrite(w->disk->fd, w->buf, BLOCK_BYTES,
                               worker_offset(w, i)) == BLOCK_BYTES);
}

static bool check_block(const Worker *w, unsigned i, const void *data)
{
    const LogEntry *e = &w->log[i];
    char found[128];

    if (!e->known || stamp_matches(data, w->disk->index, w->first + i,
                                   e->generation)) {
        return true;
    }
    stamp_describe(data, found, sizeof(found));
    say("SO PANIC %s block %llu: expected generation %u, found %s",
        w->disk->name, (unsigned long long)(w->first + i), e->generation,
        found);
    atomic_store(&io.mismatch, true);
    return false;
}

/* Reads @n blocks and compares those that are known. */
static bool read_blocks(Worker *w, unsigned i, unsigned n)
{
    ssize_t size = (ssize_t)n * BLOCK_BYTES;

    if (!count(w, pread(w->disk->fd, w->buf, size,
                        worker_offset(w, i)) == size)) {
        return false;
    }
    for (unsigned k = 0; k < n; k++) {
        if (!check_block(w, i + k, w->buf + k * BLOCK_BYTES)) {
            break;
        }
    }
    return true;
}

static void flush_disk(Worker *w)
{
    count(w, fdatasync(w->disk->fd) == 0);
}

static void discard_chunk(Worker *w, unsigned i)
{
    uint64_t range[2] = { worker_offset(w, i), CHUNK_BYTES };

    for (unsigned k = 0; k < CHUNK_BLOCKS; k++) {
        w->log[i + k].known = false;
    }
    count(w, ioctl(w->disk->fd, BLKDISCARD, range) == 0);
}

/* A random known block, or -1 if a good number of tries found none. */
static int known_block(Worker *w)
{
    for (unsigned try = 0; try < 64; try++) {
        unsigned i = worker_random(w, w->blocks);

        if (w->log[i].known) {
            return i;
        }
    }
    for (unsigned i = 0; i < w->blocks; i++) {
        if (w->log[i].known) {
            return i;
        }
    }
    return -1;
}

/* ---- one turn in each mode ---------------------------------------------- */

static void turn_rw(Worker *w)
{
    unsigned i = worker_random(w, w->blocks);

    write_block(w, i);
    read_blocks(w, i, 1);
    if (w->turn % FLUSH_EVERY == 0) {
        flush_disk(w);
    }
}

static void turn_read(Worker *w)
{
    int i = known_block(w);

    if (i >= 0) {
        read_blocks(w, i, 1);
    } else {
        usleep(10000);      /* all of it was discarded or failed */
    }
}

static void turn_write(Worker *w)
{
    write_block(w, worker_random(w, w->blocks));
}

static void turn_flush(Worker *w)
{
    if (w->turn % WRITE_EVERY == 0) {
        write_block(w, worker_random(w, w->blocks));
    }
    flush_disk(w);
}

static void turn_discard(Worker *w)
{
    unsigned i = worker_random(w, w->blocks / CHUNK_BLOCKS) * CHUNK_BLOCKS;

    discard_chunk(w, i);
    write_block(w, i + worker_random(w, CHUNK_BLOCKS));
}

static void (*const turns[IO_MODE_MAX])(Worker *w) = {
    [IO_RW] = turn_rw,
    [IO_READ] = turn_read,
    [IO_WRITE] = turn_write,
    [IO_FLUSH] = turn_flush,
    [IO_DISCARD] = turn_discard,
};

/* ---- verification ------------------------------------------------------- */

static unsigned long known_in_chunk(const Worker *w, unsigned i)
{
    unsigned long n = 0;

    for (unsigned k = 0; k < CHUNK_BLOCKS; k++) {
        n += w->log[i + k].known;
    }
    return n;
}

/* Adds to @blocks what was compared.  False if something was unreadable. */
static bool verify_region(Worker *w, unsigned long *blocks)
{
    bool ok = true;

    for (unsigned i = 0; i < w->blocks; i += CHUNK_BLOCKS) {
        unsigned long n = known_in_chunk(w, i);

        if (n) {
            ok &= read_blocks(w, i, CHUNK_BLOCKS);
            *blocks += n;
        }
    }
    return ok;
}

static bool verify_ordered(const Worker *w)
{
    return atomic_load(&io.order) != w->order_seen;
}

static void verify_answer(void)
{
    if (atomic_load(&io.mismatch)) {
        say("SO FAIL verify data mismatch");
    } else if (io.verify.unreadable) {
        say("SO FAIL verify read error");
    } else {
        say("SO OK verify %lu", io.verify.blocks);
    }
}

/* Does the worker's part, then waits for the others: nobody does I/O. */
static void verify_turn(Worker *w)
{
    unsigned long blocks = 0;
    bool ok = verify_region(w, &blocks);

    pthread_mutex_lock(&io.lock);
    w->order_seen++;
    io.verify.blocks += blocks;
    io.verify.unreadable |= !ok;
    if (--io.verify.left == 0) {
        verify_answer();
        pthread_cond_broadcast(&io.wake);
    }
    while (io.verify.left && !verify_ordered(w)) {
        pthread_cond_wait(&io.wake, &io.lock);
    }
    pthread_mutex_unlock(&io.lock);
}

const char *io_verify(void)
{
    const char *busy = NULL;

    pthread_mutex_lock(&io.lock);
    if (io.verify.left) {
        busy = "busy";
    } else if (!io.workers) {
        verify_answer();
    } else {
        io.verify.left = io.workers;
        io.verify.blocks = 0;
        io.verify.unreadable = false;
        atomic_fetch_add(&io.order, 1);
        pthread_cond_broadcast(&io.wake);
    }
    pthread_mutex_unlock(&io.lock);
    return busy;
}

/* ---- workers ------------------------------------------------------------ */

static void wait_idle(Worker *w)
{
    pthread_mutex_lock(&io.lock);
    while (atomic_load(&io.mode) == IO_IDLE && !verify_ordered(w)) {
        pthread_cond_wait(&io.wake, &io.lock);
    }
    pthread_mutex_unlock(&io.lock);
}

static void write_first_generation(Worker *w)
{
    for (unsigned i = 0; i < FIRST_BLOCKS && i < w->blocks; i++) {
        write_block(w, i);
    }
    pthread_mutex_lock(&io.lock);
    io.starting--;
    pthread_cond_broadcast(&io.wake);
    pthread_mutex_unlock(&io.lock);
}

static void think(void)
{
    struct timespec t = {
        .tv_sec = io.think_us / 1000000,
        .tv_nsec = io.think_us % 1000000 * 1000L,
    };

    if (io.think_us) {
        nanosleep(&t, NULL);
    }
}

static void *worker_main(void *opaque)
{
    Worker *w = opaque;
    IoMode mode;

    write_first_generation(w);
    for (;;) {
        mode = atomic_load(&io.mode);
        if (verify_ordered(w)) {
            verify_turn(w);
        } else if (mode == IO_IDLE) {
            wait_idle(w);
        } else {
            turns[mode](w);
            w->turn++;
            think();
        }
    }
    return NULL;
}

static Worker *worker_new(Disk *disk, unsigned n, const IoConfig *config)
{
    uint64_t stride = disk->blocks / config->depth / CHUNK_BLOCKS *
                      CHUNK_BLOCKS;
    uint64_t most = config->region_blocks / CHUNK_BLOCKS * CHUNK_BLOCKS;
    Worker *w = calloc(1, sizeof(*w));

    if (!stride || !most) {
        errno = ENOSPC;
        fatal("%s is too small", disk->name);
    }
    if (!w || posix_memalign((void **)&w->buf, BLOCK_BYTES, CHUNK_BYTES)) {
        fatal("worker");
    }
    w->disk = disk;
    w->first = n * stride;
    w->blocks = stride < most ? stride : most;
    w->random = 0x2545f4914f6cdd1dULL * (disk->index * 1000 + n + 1);
    w->log = calloc(w->blocks, sizeof(*w->log));
    if (!w->log) {
        fatal("log");
    }
    return w;
}

static void start_workers(Disk *disk, const IoConfig *config)
{
    pthread_t thread;

    for (unsigned n = 0; n < config->depth; n++) {
        if (pthread_create(&thread, NULL, worker_main,
                           worker_new(disk, n, config))) {
            fatal("pthread_create");
        }
    }
}

/* ---- disks -------------------------------------------------------------- */

/*
 * Give a request as long as it takes: a drive that the guest's own driver
 * resets says nothing about the host.  Drivers without a timeout lack the file.
 */
static void lift_request_timeout(const Disk *disk)
{
    char path[128];
    int fd;

    snprintf(path, sizeof(path), "/sys/block/%s/device/timeout", disk->name);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (write(fd, "3600", 4) != 4) {
            fatal("%s", path);
        }
        close(fd);
    }
}

static bool try_open(Disk *disk)
{
    char path[64];
    uint64_t size;

    snprintf(path, sizeof(path), "/dev/%s", disk->name);
    disk->fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
    if (disk->fd < 0) {
        return false;
    }
    if (ioctl(disk->fd, BLKGETSIZE64, &size) < 0 || !size) {
        close(disk->fd);
        return false;
    }
    disk->blocks = size / BLOCK_BYTES;
    return true;
}

static void open_disk(const char *name)
{
    Disk *disk = &io.disk[io.disks];

    if (io.disks == MAX_DISKS) {
        errno = E2BIG;
        fatal("disk %s", name);
    }
    disk->index = io.disks;
    snprintf(disk->name, sizeof(disk->name), "%s", name);
    for (int ms = 0; !try_open(disk); ms += 5) {
        if (ms > DISK_TIMEOUT_S * 1000) {
            fatal("disk %s did not appear", name);
        }
        usleep(5000);
    }
    lift_request_timeout(disk);
    io.disks++;
}

static void open_disks(const char *names)
{
    char *list = strdup(names);
    char *save = NULL;

    for (char *name = strtok_r(list, ",", &save); name;
         name = strtok_r(NULL, ",", &save)) {
        open_disk(name);
    }
    free(list);
}

static bool disk_can_discard(const Disk *disk)
{
    unsigned long long most = 0;
    char path[128];
    FILE *f;

    snprintf(path, sizeof(path), "/sys/block/%s/queue/discard_max_bytes",
             disk->name);
    f = fopen(path, "re");
    if (f) {
        if (fscanf(f, "%llu", &most) != 1) {
            most = 0;
        }
        fclose(f);
    }
    return most != 0;
}

const char *io_set_mode(IoMode mode)
{
    for (unsigned i = 0; mode == IO_DISCARD && i < io.disks; i++) {
        if (!disk_can_discard(&io.disk[i])) {
            return "a disk cannot discard";
        }
    }
    pthread_mutex_lock(&io.lock);
    atomic_store(&io.mode, mode);
    pthread_cond_broadcast(&io.wake);
    pthread_mutex_unlock(&io.lock);
    return NULL;
}

unsigned io_start(const IoConfig *config, IoMode mode)
{
    const char *problem;

    open_disks(config->disks);
    io.think_us = config->think_us;
    io.workers = io.starting = io.disks * config->depth;
    for (unsigned i = 0; i < io.disks; i++) {
        start_workers(&io.disk[i], config);
    }
    pthread_mutex_lock(&io.lock);
    while (io.starting) {
        pthread_cond_wait(&io.wake, &io.lock);
    }
    pthread_mutex_unlock(&io.lock);

    problem = io_set_mode(mode);
    if (problem) {
        errno = EOPNOTSUPP;
        fatal("%s", problem);
    }
    return io.disks;
}
