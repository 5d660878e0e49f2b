/*
 * vhost-user: many messages at once
 *
 * Each vhost-user device has a connection to its backend, on which QEMU sends
 * a message, waits for the reply, and then sends the next.  When the VM is
 * stopped or started, this sends all of them first and collects the replies
 * afterwards, and does so on all connections at the same time (see
 * vmstate-change.h).
 *
 * vhost-user.c and the devices do not know.  They go on to write and read one
 * message after the other, but what they write may not go to the socket now:
 *
 *   - To prepare a stop, its messages are written by us, and queued.  The
 *     workers send them and collect the replies.  Later the handlers that stop
 *     the device write the same messages again.  These are found in the queue,
 *     and are answered from there.
 *
 *   - When a device is started, messages are queued, and the answer is assumed
 *     to be favourable.  The workers send them.  If a reply is unfavourable,
 *     the backend is disconnected.
 *
 * If a device wants to say something else while the queue is not empty, it is
 * queued as well: on the socket, messages keep the order in which they were
 * written.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_VHOST_USER_PIPELINE_H
#define HW_VIRTIO_VHOST_USER_PIPELINE_H

typedef struct VhostUserPipeline VhostUserPipeline;
struct VhostUserState;
struct VHostUserBlk;
struct vhost_dev;

/*
 * Called with the BQL held, by vhost-user.c
 */

VhostUserPipeline *vhost_user_pipeline_new(struct VhostUserState *user);
void vhost_user_pipeline_free(VhostUserPipeline *pl);

/*
 * Write a message.  Returns true if it was taken care of, false if the caller
 * has to send it.
 */
bool vhost_user_pipeline_write(VhostUserPipeline *pl, const void *msg,
                               size_t size, const int *fds, int n_fds);

/*
 * Read a part of the reply to the last message.  Like qemu_chr_fe_read_all():
 * returns the number of bytes, which is smaller than @size if the connection
 * was closed, or -1 with errno set.
 */
int vhost_user_pipeline_read(VhostUserPipeline *pl, void *buf, int size);

/* A file descriptor that came with the reply, or -1. */
int vhost_user_pipeline_get_msgfd(VhostUserPipeline *pl);

/* @dev can be talked to from now on. */
void vhost_user_pipeline_dev_init(VhostUserPipeline *pl, struct vhost_dev *dev);

/*
 * @dev cannot be talked to any more.  Its pipeline may not exist any more: a
 * network card's goes away with its first pair of queues.
 */
void vhost_user_pipeline_dev_cleanup(struct vhost_dev *dev);

/* It is the connection of a disk. */
void vhost_user_pipeline_set_blk(VhostUserPipeline *pl,
                                 struct VHostUserBlk *blk);

/* @dev has been started, or is going to be stopped. */
void vhost_user_pipeline_note(VhostUserPipeline *pl, struct vhost_dev *dev,
                              bool started);

/*
 * Write a message that has to be acknowledged, but do not wait for that:
 * vhost_user_pipelines_end_telling() does, and then calls @func, unless @dev
 * has been cleaned up.  Returns false if that is not possible on this
 * connection, or now.
 */
bool vhost_user_pipeline_tell(VhostUserPipeline *pl, const void *msg,
                              size_t size, void (*func)(struct vhost_dev *dev),
                              struct vhost_dev *dev);

/*
 * For the end of post-copy at the destination, by the thread that received the
 * pages.  Backends may take as long as they like to answer: only this thread
 * waits, and whoever writes to the same backend meanwhile.  What is told, and
 * whom, is up to the devices; they are called in between with the BQL held, and
 * must not sleep, since they may go away meanwhile.
 */

/*
 * Called without the BQL, returns with it: as soon as everything that was
 * queued is answered, and the answers were looked at.
 */
void vhost_user_pipelines_begin_telling(void);

/*
 * Called with the BQL, returns without it: when everybody has answered.
 * Returns 0, or -EIO if a backend refused or hung up.
 */
int vhost_user_pipelines_end_telling(Error **errp);

#endif /* HW_VIRTIO_VHOST_USER_PIPELINE_H */
