/*
 * A return path with a socket of its own: between its files
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_RETURN_PATH_INTERNAL_H
#define QEMU_MIGRATION_RETURN_PATH_INTERNAL_H

#include "io/channel-socket.h"
#include "migration/return-path.h"

/*
 * The hello, big endian:
 *
 *    0  be32  RETURN_PATH_HELLO_MAGIC
 *    4  be16  version, 1
 *    6  be16  ReturnPathRole
 *    8  be32  flags, see return_path_flags()
 *   12  u8    token[16]
 *   28  be32  0
 */
#define RETURN_PATH_HELLO_SIZE 32
#define RETURN_PATH_TOKEN_SIZE 16

typedef enum ReturnPathRole {
    RETURN_PATH_ROLE_MAIN = 1,
    RETURN_PATH_ROLE_LINK = 2,
    RETURN_PATH_ROLE_FURTHER = 3,   /* multifd, postcopy-preempt */
} ReturnPathRole;

#define RETURN_PATH_FLAG_POSTCOPY   1   /* capability postcopy-ram */
#define RETURN_PATH_FLAG_URGENT     2   /* urgent pages go over the link */
#define RETURN_PATH_FLAG_RESUME     4
#define RETURN_PATH_FLAG_MULTIFD    8   /* capability multifd */
#define RETURN_PATH_FLAG_PREEMPT   16   /* capability postcopy-preempt */
#define RETURN_PATH_FLAGS          31

typedef struct ReturnPathHello {
    ReturnPathRole role;
    uint32_t flags;
    uint8_t token[RETURN_PATH_TOKEN_SIZE];
} ReturnPathHello;

/*
 * The answer, on the link:
 *
 *    0  be32  RETURN_PATH_ANSWER_MAGIC
 *    4  be16  version, 1
 *    6  be16  0: welcome; else refused
 *    8  be32  length of the text
 *   12  u8    text: why
 */
#define RETURN_PATH_ANSWER_MAGIC 0x4d525041
#define RETURN_PATH_ANSWER_SIZE 12
#define RETURN_PATH_TEXT_MAX 512

/* The flags that the capabilities stand for, without ..._RESUME */
uint32_t return_path_flags(void);

/*
 * Which capability the other side, with @theirs, has different; NULL if none.
 * The sentence is said at both sides, so it names them.
 */
char *return_path_compare_flags(uint32_t theirs);

void return_path_encode_hello(const ReturnPathHello *hello,
                              uint8_t buf[RETURN_PATH_HELLO_SIZE]);
bool return_path_decode_hello(ReturnPathHello *hello,
                              const uint8_t buf[RETURN_PATH_HELLO_SIZE],
                              Error **errp);

/* @text: NULL for welcome.  Returns the number of bytes. */
size_t return_path_encode_answer(const char *text,
                                 uint8_t buf[RETURN_PATH_ANSWER_SIZE +
                                             RETURN_PATH_TEXT_MAX]);
/* Sets *@refused, and *@length to that of the text which follows */
bool return_path_decode_answer(const uint8_t buf[RETURN_PATH_ANSWER_SIZE],
                               bool *refused, size_t *length, Error **errp);

/*
 * The link on the descriptor @fd, called @name by the user, which is closed if
 * it is none.  If @fd is negative, @errp was set by who looked for it.
 */
QIOChannelSocket *return_path_use_descriptor(int fd, const char *name,
                                             Error **errp);

/* Is @ioc a pipe or a command, with nothing that wakes up who waits for it? */
bool return_path_is_one_way(QIOChannel *ioc);

/* @ioc, or a channel on top of it that can be woken up; returns a reference */
QIOChannel *return_path_make_wakeable(QIOChannel *ioc, Error **errp);

/*
 * With TLS, the session of @ioc is used by one thread at a time from now on:
 * QEMU aborts if it is not.
 */
void return_path_make_exclusive(QIOChannel *ioc);

/* The source has a migration with the channel, or without */
void return_path_set_given(bool given);

/* The destination has answered: the link is ready.  Takes a reference. */
void return_path_welcomed(QIOChannel *link, const ReturnPathHello *hello);

/*
 * The incoming migration, whose status is @status, fails because of @err, which
 * is taken.  BQL held.
 */
void return_path_fail_incoming(MigrationStatus status, Error *err);

/* A link that was not opened is not needed any more */
void return_path_forget_link(void);

/*
 * The destination has both connections.  Takes references.  @link must be used
 * by nobody else from now on.
 */
bool return_path_pair(QIOChannel *main, QIOChannel *link, Error **errp);

#endif /* QEMU_MIGRATION_RETURN_PATH_INTERNAL_H */
