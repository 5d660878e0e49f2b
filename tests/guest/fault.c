/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long the guest waits for memory that is not there
 *
 * Only the ends of a page are written, and looked at: a page migrates as a
 * whole.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "clock.h"
#include "fault.h"
#include "serial.h"

#define PAGE_BYTES 4096
#define MIB (1024 * 1024UL)
#define NSEC_PER_USEC 1000

#define READER_CPU 1
#define OTHER_CPU 0
#define READER_PRIORITY 40      /* below the heartbeat */

#define READS_MAX (256 * 1024)
#define READS_TO_LEARN_FROM 1000
#define LIMIT_MIN_US 100        /* nothing that is near is slower */

typedef struct Page {
    uint64_t number;
    uint64_t unused[PAGE_BYTES / sizeof(uint64_t) - 2];
    uint64_t seal;
} Page;

_Static_assert(sizeof(Page) == PAGE_BYTES, "a page has no padding");

static struct {
    /* Set before there is a thread */
    const volatile Page *page;
    uint64_t pages;
    int64_t period_ns;

    /* Under the lock */
    pthread_mutex_t lock;
    uint32_t *us;               /* of each read */
    unsigned reads;
    uint32_t limit_us;          /* 0 if it was not learnt yet */
} fault = { .lock = PTHREAD_MUTEX_INITIALIZER };

static uint64_t page_seal(uint64_t number)
{
    return ~(number * 0x9e3779b97f4a7c15ULL);
}

static void fill(Page *page, uint64_t pages)
{
    for (uint64_t i = 0; i < pages; i++) {
        page[i].number = i;
        page[i].seal = page_seal(i);
    }
}

/* Goes through all numbers below a power of two before it repeats one */
static uint64_t next_page(uint64_t number)
{
    return (number * 1664525 + 1013904223) & (fault.pages - 1);
}

static int64_t read_page(uint64_t number)
{
    const volatile Page *page = &fault.page[number];
    int64_t start = now_ns();
    uint64_t said = page->number;
    int64_t end = now_ns();

    if (said != number || page->seal != page_seal(number)) {
        say("SO PANIC fault: page %" PRIu64 " says page %" PRIu64, number,
            said);
    }
    return end - start;
}

static void note_read(int64_t ns)
{
    pthread_mutex_lock(&fault.lock);
    if (fault.reads < READS_MAX) {
        fault.us[fault.reads++] = ns / NSEC_PER_USEC;
    }
    pthread_mutex_unlock(&fault.lock);
}

static void *fault_main(void *opaque)
{
    int64_t due = now_ns();

    for (uint64_t number = 0;; number = next_page(number)) {
        note_read(read_page(number));
        due = next_beat_ns(due, fault.period_ns);
        sleep_until_ns(due);
    }
    return opaque;
}

static void pin(int tid, int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(tid, sizeof(set), &set) < 0 && errno != ESRCH) {
        fatal("so.faultbuf: CPU %d", cpu);
    }
}

/* New threads are where those are that start them */
static void pin_others(void)
{
    DIR *dir = opendir("/proc/self/task");
    struct dirent *entry;

    if (!dir) {
        fatal("/proc/self/task");
    }
    while ((entry = readdir(dir))) {
        if (entry->d_name[0] != '.') {
            pin(atoi(entry->d_name), OTHER_CPU);
        }
    }
    closedir(dir);
}

static void start_reader(void)
{
    struct sched_param urgent = { .sched_priority = READER_PRIORITY };
    pthread_t thread;
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(READER_CPU, &set);
    if (pthread_create(&thread, NULL, fault_main, NULL)) {
        fatal("so.faultbuf");
    }
    pthread_setaffinity_np(thread, sizeof(set), &set);
    pthread_setschedparam(thread, SCHED_FIFO, &urgent);
}

void fault_start(unsigned buffer_mib, unsigned period_us)
{
    Page *page;

    if (!buffer_mib) {
        return;
    }
    if (buffer_mib & (buffer_mib - 1)) {
        errno = EINVAL;
        fatal("so.faultbuf=%u", buffer_mib);
    }
    page = mmap(NULL, buffer_mib * MIB, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    fault.us = calloc(READS_MAX, sizeof(*fault.us));
    if (page == MAP_FAILED || !fault.us) {
        fatal("so.faultbuf=%u", buffer_mib);
    }
    fault.page = page;
    fault.pages = buffer_mib * MIB / PAGE_BYTES;
    fault.period_ns = period_us * (int64_t)NSEC_PER_USEC;
    fill(page, fault.pages);
    pin_others();
    start_reader();
}

static int compare_us(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static void learn_limit(void)
{
    qsort(fault.us, fault.reads, sizeof(*fault.us), compare_us);
    fault.limit_us = fault.us[fault.reads - 1 - fault.reads / 1000];
    if (fault.limit_us < LIMIT_MIN_US) {
        fault.limit_us = LIMIT_MIN_US;
    }
}

void fault_reset(void)
{
    pthread_mutex_lock(&fault.lock);
    if (fault.reads < READS_TO_LEARN_FROM) {
        say("SO FAIL faults: only %u reads", fault.reads);
    } else {
        learn_limit();
        fault.reads = 0;
        say("SO OK faults %" PRIu32, fault.limit_us);
    }
    pthread_mutex_unlock(&fault.lock);
}

/* As many numbers as fit into a line, from read @i on; returns the next one */
static unsigned tell_line(unsigned i, unsigned *told)
{
    char line[SERIAL_LINE_MAX - 16] = "";
    size_t len = 0;

    for (; i < fault.reads && len < sizeof(line) - 16; i++) {
        if (fault.us[i] > fault.limit_us) {
            len += snprintf(line + len, sizeof(line) - len, " %" PRIu32,
                            fault.us[i]);
            ++*told;
        }
    }
    if (len) {
        say("SO FAULTS%s", line);
    }
    return i;
}

void fault_tell(void)
{
    unsigned told = 0;

    pthread_mutex_lock(&fault.lock);
    if (!fault.limit_us) {
        say("SO FAIL faults: no reset before");
    } else {
        for (unsigned i = 0; i < fault.reads;) {
            i = tell_line(i, &told);
        }
        say("SO OK faults %u %u", told, fault.reads);
    }
    pthread_mutex_unlock(&fault.lock);
}
