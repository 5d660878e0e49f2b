/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a block on disk looks like
 *
 * A block says which disk, which place and which generation it is, and carries
 * a body that follows from these three.  So a block that is read back is
 * either exactly the expected one, or an intact one of another generation or
 * place (a request was lost, repeated or went astray), or damaged.
 */
#ifndef GUEST_STAMP_H
#define GUEST_STAMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BLOCK_BYTES 4096

typedef struct Stamp {
    uint64_t magic;
    uint32_t disk;
    uint32_t generation;
    uint64_t block;
    uint64_t checksum;      /* of the body */
} Stamp;

/* Makes @buf the block that @disk should hold at @block. */
void stamp_fill(void *buf, uint32_t disk, uint64_t block, uint32_t generation);

/* Whether @buf is exactly that block. */
bool stamp_matches(const void *buf, uint32_t disk, uint64_t block,
                   uint32_t generation);

/* Describes what @buf holds instead, in at most @size bytes at @text. */
void stamp_describe(const void *buf, char *text, size_t size);

#endif
