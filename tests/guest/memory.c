/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory that is written all the time, and verified
 *
 * Only the ends of a page are written, and looked at: a page migrates as a
 * whole, and under TCG more would leave the guest no time for anything else.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>

#include "clock.h"
#include "memory.h"
#include "serial.h"

#define PAGE_BYTES 4096
#define MIB (1024 * 1024UL)
#define STEP_NS (10 * NSEC_PER_MSEC)

typedef struct Page {
    uint64_t number;
    uint64_t round;
    uint64_t unused[PAGE_BYTES / sizeof(uint64_t) - 3];
    uint64_t seal;
} Page;

_Static_assert(sizeof(Page) == PAGE_BYTES, "a page has no padding");

static struct {
    /* Set before there is a thread */
    Page *page;
    uint64_t pages;
    uint64_t pages_per_step;

    /* Under the lock, like what the pages hold */
    pthread_mutex_t lock;
    uint64_t next;              /* page to write next, ... */
    uint64_t round;             /* ... in this round, from 1 */
    bool wrong;
} mem = { .lock = PTHREAD_MUTEX_INITIALIZER };

static uint64_t page_seal(uint64_t number, uint64_t round)
{
    return ~(number * 0x9e3779b97f4a7c15ULL) ^ (round << 40);
}

static void page_write(uint64_t number, uint64_t round)
{
    Page *p = &mem.page[number];

    p->number = number;
    p->round = round;
    p->seal = page_seal(number, round);
}

/* Says what is wrong, the first time. */
static bool page_verify(uint64_t number)
{
    uint64_t round = number < mem.next ? mem.round : mem.round - 1;
    const Page *p = &mem.page[number];

    if (p->number == number && p->round == round &&
        p->seal == page_seal(number, round)) {
        return true;
    }
    if (!mem.wrong) {
        say("SO PANIC memory: page %" PRIu64 " of round %" PRIu64
            " says page %" PRIu64 " of round %" PRIu64 ", seal %s", number,
            round, p->number, p->round,
            p->seal == page_seal(p->number, p->round) ? "intact" : "broken");
    }
    mem.wrong = true;
    return false;
}

static void write_next(void)
{
    page_write(mem.next, mem.round);
    if (++mem.next == mem.pages) {
        mem.next = 0;
        mem.round++;
    }
}

/* Returns false if a page was wrong. */
static bool write_step(void)
{
    pthread_mutex_lock(&mem.lock);
    for (uint64_t n = 0; n < mem.pages_per_step && !mem.wrong; n++) {
        if (page_verify(mem.next)) {
            write_next();
        }
    }
    pthread_mutex_unlock(&mem.lock);
    return !mem.wrong;
}

static void *memory_main(void *opaque)
{
    int64_t due = now_ns();

    while (write_step()) {
        due = next_beat_ns(due, STEP_NS);
        sleep_until_ns(due);
    }
    return opaque;
}

void memory_start(unsigned mib_per_s, unsigned buffer_mib)
{
    pthread_t thread;

    if (!mib_per_s) {
        return;
    }
    mem.page = mmap(NULL, buffer_mib * MIB, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mem.page == MAP_FAILED) {
        fatal("so.dirtybuf=%u", buffer_mib);
    }
    mem.pages = buffer_mib * MIB / PAGE_BYTES;
    mem.pages_per_step = mib_per_s * MIB / PAGE_BYTES / 100;
    mem.round = 1;
    while (mem.round == 1) {
        write_next();
    }
    if (pthread_create(&thread, NULL, memory_main, NULL)) {
        fatal("so.dirty");
    }
}

bool memory_verify(void)
{
    bool good = true;

    pthread_mutex_lock(&mem.lock);
    for (uint64_t number = 0; number < mem.pages && good; number++) {
        good = page_verify(number);
    }
    pthread_mutex_unlock(&mem.lock);
    return good;
}
