/*
 * A channel that can be woken up
 *
 * A thread that sleeps in read() or write() of a pipe is not woken up by
 * anything but the peer, and shutdown() exists for sockets only and always for
 * the whole of the connection. This channel lies on top of another one, its
 * master, and brings a shutdown of its own: a flag and an event for each
 * direction. Nobody sleeps inside of the master: it is only asked for what it
 * can do at once, and who has to wait does so in poll(), for the descriptor and
 * the event together.
 *
 * The master is a socket, a command, a file channel, whatever its descriptor
 * is, or a TLS channel on one of these. Files and disks can only be written.
 *
 * How it is used:
 *
 * - One channel on a master. Shutdown is passed on to a master that knows it,
 *   and a command is sent SIGTERM, once the channel is shut down in every
 *   direction that it has.
 *
 * - A pair on one master: a half that can only be read and one that can only
 *   be written. Each is closed and shut down for itself; the other one does not
 *   notice. The master is shut down when both are, and it is closed by the last
 *   one that is closed. A mutex keeps the two from being in the master at the
 *   same time, which is what a TLS session needs. As nobody sleeps with it, a
 *   reader that waits for its peer does not keep a writer from sending.
 *
 * Modes. Every channel has a blocking mode of its own, at first it is blocking,
 * and changing it changes nothing for others. A thread is never given
 * QIO_CHANNEL_ERR_BLOCK while the channel is blocking: callers would answer it
 * with qio_channel_wait(), which sets up a main loop for every wait. A
 * coroutine is always given it, as the thread that it runs in must not sleep.
 *
 * A descriptor belongs to QEMU, but what it refers to may be shared with other
 * processes, and O_NONBLOCK is a property of that: others, who expect to wait,
 * would be given EAGAIN. So it is left as it is, and not needed:
 *
 * - A socket is told in each call not to wait.
 * - A pipe or FIFO is opened a second time, if the host lets us.
 * - Other pipes and FIFOs, terminals, and all else that is a file channel are
 *   written by a thread. It takes what is written into a buffer, and errors
 *   come with a later write. poll() is asked before each read: somebody else
 *   must not read from the same source.
 * - With TLS the mode has to be changed. It is put back at the end.
 *
 * Descriptors are not passed over such a channel.
 *
 * Close does not wait for anything: not for the peer, not for a disk, and not
 * for the child of a command. What a thread has taken it goes on writing after
 * an orderly close, for as long as it takes; qio_channel_wake_drain() before
 * that tells whether and when it was written. After a shutdown it is dropped. A
 * child that was not told to end by a shutdown may live on; it is never killed,
 * and reaped when it ends. One that was told is killed 50 ms after SIGTERM at
 * the earliest, and after close.
 *
 * After shutdown, a read returns 0 (end of file) and a write fails, both at
 * once, whatever the master still has to give. Neither is different for a
 * channel that was closed.
 *
 * Coroutines of one AioContext must not wait for both halves of a pair at the
 * same time, as an AioContext has one handler for each descriptor.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QIO_CHANNEL_WAKE_H
#define QIO_CHANNEL_WAKE_H

#include "io/channel.h"

#define TYPE_QIO_CHANNEL_WAKE "qio-channel-wake"
OBJECT_DECLARE_SIMPLE_TYPE(QIOChannelWake, QIO_CHANNEL_WAKE)

/*
 * Creation. The channel takes a reference of @master, the caller keeps its own
 * and drops it when it likes. From then on @master must be used by nobody else,
 * and be closed only by closing the channels. On failure nothing was changed.
 *
 * A host without poll() for descriptors (Windows) always fails.
 */

/**
 * qio_channel_wake_new: Put a channel on top of @master
 *
 * Its directions are those of the master: a file channel that was opened for
 * writing cannot be read.
 */
QIOChannelWake *qio_channel_wake_new(QIOChannel *master, Error **errp);

/**
 * qio_channel_wake_new_pair: Put a channel for each direction on @master
 * @in: where to store the one that can only be read
 * @out: where to store the one that can only be written
 *
 * Returns: false with neither of them on failure
 */
bool qio_channel_wake_new_pair(QIOChannel *master, QIOChannelWake **in,
                               QIOChannelWake **out, Error **errp);

/*
 * Use. qio_channel_shutdown() is for any thread at any time for which the
 * caller has a reference. Reading and writing is for one thread a direction.
 * qio_channel_close() is for when nobody is in a read or write any more.
 */

/**
 * qio_channel_wake_wait: Wait in a thread, for a direction, and a time
 * @condition: G_IO_IN or G_IO_OUT, one that the channel has
 * @timeout_ms: 0 does not wait, -1 waits for ever
 *
 * For who has made the channel non-blocking, to know what it waits for and how
 * long it took. It belongs to reading, or to writing: one thread a direction.
 *
 * Returns: 1 if an attempt is worth while (an error is found by it, too), 0
 * after the time, -1 if the direction was shut down
 */
int qio_channel_wake_wait(QIOChannelWake *wioc, GIOCondition condition,
                          int timeout_ms);

/**
 * qio_channel_wake_drain: Wait in a thread until all that was taken is written
 * @timeout_ms: 0 does not wait, -1 waits for ever
 *
 * There is something to wait for only where a thread writes. "Written" is what
 * write() means by it. It belongs to writing: one thread a direction.
 *
 * Returns: 1 if nothing is left, 0 after the time, -1 with @errp set if the
 * channel was shut down, or a write failed
 */
int qio_channel_wake_drain(QIOChannelWake *wioc, int timeout_ms, Error **errp);

/**
 * qio_channel_wake_hung_up: Did the peer close, or is the connection broken?
 *
 * Looks at the descriptor of the master, reads nothing and does not wait. Data
 * that the peer sent before it closed may still be there. Any thread, as long
 * as the channel is not closed.
 */
bool qio_channel_wake_hung_up(QIOChannelWake *wioc);

/**
 * qio_channel_wake_writer_is_stuck: May something come late?
 *
 * A write to a disk that does not answer cannot be taken back. If the channel
 * is shut down or closed meanwhile, it ends some time later, and would hit what
 * others wrote to the same place since then. True while there is such a write
 * to a file, a disk or a device, of any channel. Any thread.
 */
bool qio_channel_wake_writer_is_stuck(void);

#endif
