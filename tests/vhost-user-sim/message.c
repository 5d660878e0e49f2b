/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: one message with its file descriptors
 */

#include "qemu/osdep.h"
#include <sys/socket.h>
#include "qapi/error.h"
#include "kinds.h"
#include "message.h"

static bool take_fds(SimMessage *msg, struct msghdr *mh, Error **errp)
{
    bool too_many = mh->msg_flags & MSG_CTRUNC;
    struct cmsghdr *cmsg;
    size_t i, n;

    for (cmsg = CMSG_FIRSTHDR(mh); cmsg; cmsg = CMSG_NXTHDR(mh, cmsg)) {
        if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (i = 0; i < n; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(int));
            if (msg->n_fds < SIM_FDS_MAX) {
                msg->fds[msg->n_fds++] = fd;
            } else {
                close(fd);
                too_many = true;
            }
        }
    }
    if (too_many) {
        error_setg(errp, "a message with more than %d file descriptors",
                   SIM_FDS_MAX);
        return false;
    }
    return true;
}

/* Bytes read, less than @len only at the end; -1 with an error set */
static ssize_t receive_all(int sock, void *buf, size_t len, SimMessage *msg,
                           Error **errp)
{
    char control[CMSG_SPACE(SIM_FDS_MAX * sizeof(int))];
    size_t done = 0;

    while (done < len) {
        struct iovec iov = { buf + done, len - done };
        struct msghdr mh = {
            .msg_iov = &iov, .msg_iovlen = 1,
            .msg_control = control, .msg_controllen = sizeof(control),
        };
        ssize_t n = RETRY_ON_EINTR(recvmsg(sock, &mh, MSG_CMSG_CLOEXEC));

        if (n < 0 && errno != ECONNRESET) {
            error_setg_errno(errp, errno, "recvmsg");
            return -1;
        }
        if (n <= 0) {
            break;
        }
        if (!take_fds(msg, &mh, errp)) {
            return -1;
        }
        done += n;
    }
    return done;
}

static bool receive(int sock, SimMessage *msg, Error **errp)
{
    ssize_t n = receive_all(sock, &msg->hdr, sizeof(msg->hdr), msg, errp);

    msg->at_us = g_get_monotonic_time();
    if (n < (ssize_t)sizeof(msg->hdr)) {
        return false;
    }
    if (msg->hdr.kind >= SIM_KIND_MAX || msg->hdr.size > SIM_PAYLOAD_MAX) {
        error_setg(errp, "a message of kind %u with %u bytes; known are kinds "
                   "below %d and at most %d bytes", msg->hdr.kind,
                   msg->hdr.size, SIM_KIND_MAX, SIM_PAYLOAD_MAX);
        return false;
    }
    n = receive_all(sock, msg->payload, msg->hdr.size, msg, errp);
    return n == msg->hdr.size;
}

SimMessage *sim_message_receive(int sock, Error **errp)
{
    g_autoptr(SimMessage) msg = g_new0(SimMessage, 1);

    return receive(sock, msg, errp) ? g_steal_pointer(&msg) : NULL;
}

bool sim_message_send(int sock, const SimMessage *msg, Error **errp)
{
    char control[CMSG_SPACE(SIM_FDS_MAX * sizeof(int))] = {};
    size_t len = sizeof(msg->hdr) + msg->hdr.size;
    struct iovec iov[] = {
        { (void *)&msg->hdr, sizeof(msg->hdr) },
        { (void *)msg->payload, msg->hdr.size },
    };
    struct msghdr mh = { .msg_iov = iov, .msg_iovlen = ARRAY_SIZE(iov) };
    ssize_t sent;

    if (msg->n_fds) {
        struct cmsghdr *cmsg;

        mh.msg_control = control;
        mh.msg_controllen = CMSG_SPACE(msg->n_fds * sizeof(int));
        cmsg = CMSG_FIRSTHDR(&mh);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(msg->n_fds * sizeof(int));
        memcpy(CMSG_DATA(cmsg), msg->fds, msg->n_fds * sizeof(int));
    }
    /* A blocking local socket takes all of a message, or fails */
    sent = RETRY_ON_EINTR(sendmsg(sock, &mh, MSG_NOSIGNAL));
    if (sent < 0) {
        error_setg_errno(errp, errno, "sendmsg");
        return false;
    }
    if (sent < len) {
        error_setg(errp, "sent %zd of %zu bytes", sent, len);
        return false;
    }
    return true;
}

void sim_message_free(SimMessage *msg)
{
    unsigned i;

    for (i = 0; msg && i < msg->n_fds; i++) {
        close(msg->fds[i]);
    }
    g_free(msg);
}

/* vhost-user is in the byte order of the host */
uint32_t sim_message_u32(const SimMessage *msg, unsigned at)
{
    uint32_t value;

    memcpy(&value, msg->payload + at, sizeof(value));
    return value;
}

uint64_t sim_message_u64(const SimMessage *msg)
{
    uint64_t value;

    memcpy(&value, msg->payload, sizeof(value));
    return value;
}

void sim_message_put_u32(SimMessage *msg, unsigned at, uint32_t value)
{
    memcpy(msg->payload + at, &value, sizeof(value));
}

void sim_message_put_u64(SimMessage *msg, uint64_t value)
{
    memcpy(msg->payload, &value, sizeof(value));
}

int sim_message_queue(const SimMessage *msg)
{
    if (sim_kind_has_vring_state(msg->hdr.kind)) {
        return MIN(sim_message_u32(msg, 0), INT_MAX);
    }
    if (sim_kind_has_vring_file(msg->hdr.kind)) {
        return sim_message_u64(msg) & 0xff;
    }
    return -1;
}

uint64_t sim_message_value(const SimMessage *msg)
{
    if (sim_kind_has_vring_state(msg->hdr.kind)) {
        return sim_message_u32(msg, 4);
    }
    return sim_message_u64(msg);
}
