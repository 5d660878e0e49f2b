/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a block on disk looks like
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "stamp.h"

#define STAMP_MAGIC 0x7377697463686f76ULL
#define BODY_WORDS ((BLOCK_BYTES - sizeof(Stamp)) / sizeof(uint64_t))

typedef struct Block {
    Stamp stamp;
    uint64_t body[BODY_WORDS];
} Block;

_Static_assert(sizeof(Block) == BLOCK_BYTES, "a block has no padding");

/* A Weyl sequence, stirred: cheap under TCG and different for every seed. */
static uint64_t body_word(uint64_t seed, size_t i)
{
    uint64_t x = seed + (i + 1) * 0x9e3779b97f4a7c15ULL;

    return x ^ (x >> 29);
}

static uint64_t body_seed(uint32_t disk, uint64_t block, uint32_t generation)
{
    return (block * 0xd1342543de82ef95ULL) ^ ((uint64_t)generation << 32) ^
           ((uint64_t)disk << 56);
}

static uint64_t body_checksum(const Block *b)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < BODY_WORDS; i++) {
        sum = ((sum << 7) | (sum >> 57)) ^ b->body[i];
    }
    return sum;
}

void stamp_fill(void *buf, uint32_t disk, uint64_t block, uint32_t generation)
{
    uint64_t seed = body_seed(disk, block, generation);
    Block *b = buf;

    b->stamp = (Stamp) {
        .magic = STAMP_MAGIC,
        .disk = disk,
        .generation = generation,
        .block = block,
    };
    for (size_t i = 0; i < BODY_WORDS; i++) {
        b->body[i] = body_word(seed, i);
    }
    b->stamp.checksum = body_checksum(b);
}

bool stamp_matches(const void *buf, uint32_t disk, uint64_t block,
                   uint32_t generation)
{
    uint64_t seed = body_seed(disk, block, generation);
    const Block *b = buf;

    if (b->stamp.magic != STAMP_MAGIC || b->stamp.disk != disk ||
        b->stamp.block != block || b->stamp.generation != generation) {
        return false;
    }
    for (size_t i = 0; i < BODY_WORDS; i++) {
        if (b->body[i] != body_word(seed, i)) {
            return false;
        }
    }
    return b->stamp.checksum == body_checksum(b);
}

void stamp_describe(const void *buf, char *text, size_t size)
{
    const Block *b = buf;

    if (b->stamp.magic != STAMP_MAGIC) {
        snprintf(text, size, "no stamp (first word %016" PRIx64 ")",
                 b->stamp.magic);
        return;
    }
    snprintf(text, size, "%s disk %" PRIu32 " block %" PRIu64 " generation %"
             PRIu32,
             stamp_matches(buf, b->stamp.disk, b->stamp.block,
                           b->stamp.generation) ? "intact" : "damaged",
             b->stamp.disk, b->stamp.block, b->stamp.generation);
}
