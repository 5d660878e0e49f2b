/*
 * A channel that can be woken up
 *
 * A thread that sleeps in read() or write() of a pipe is not woken up by
 * anything but the peer, and shutdown() exists for sockets only and always for
 * the whole of the connection. This channel lies on top of another one, its
 * master, and brings a shutdown of its own: a flag and an event for each
 * direction. Nobody sleeps inside of the master. Its descriptor is in
 * non-blocking mode, and who has to wait does so in poll(), for the descriptor
 * and the event together.
 *
 * The master is a socket, a TLS channel on a socket, a file channel on a pipe,
 * a FIFO or a terminal, or a command.
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
 * processes, and O_NONBLOCK is a property of that. A pipe is opened a second
 * time, if the host lets us, so that nothing changes for the others. Where this
 * is not possible, the mode that was found is put back at the end.
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
 * qio_channel_wake_hung_up: Did the peer close, or is the connection broken?
 *
 * Looks at the descriptor of the master, reads nothing and does not wait. Data
 * that the peer sent before it closed may still be there. Any thread, as long
 * as the channel is not closed.
 */
bool qio_channel_wake_hung_up(QIOChannelWake *wioc);

#endif
