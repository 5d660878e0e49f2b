/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: who reads what a migration is written to
 *
 * A thread that reads for as long, or as far, as it is told, and keeps all of
 * it.
 */
#ifndef SWITCHOVER_READER_H
#define SWITCHOVER_READER_H

typedef struct SwReader SwReader;

/* Reads from @fd, which is its own from now on, but nothing yet */
SwReader *sw_reader_new(int fd);
/* Closes it */
void sw_reader_free(SwReader *reader);

/* Reads until it has @bytes in all; UINT64_MAX: until the end of file */
void sw_reader_go(SwReader *reader, uint64_t bytes);
/* Does not read any more when this returns */
void sw_reader_stop(SwReader *reader);
/* Reads at most so much a second; 0: as much as there is */
void sw_reader_slow(SwReader *reader, unsigned bytes_per_s);

/* What there was so far */
uint64_t sw_reader_total(SwReader *reader);
/* Waits until it has @bytes in all */
void sw_reader_wait(SwReader *reader, uint64_t bytes);
/* Waits for the end of file. What was read, owned by the reader. */
const GByteArray *sw_reader_wait_end(SwReader *reader);

#endif /* SWITCHOVER_READER_H */
