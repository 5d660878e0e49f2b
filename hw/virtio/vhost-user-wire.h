/*
 * vhost-user: what is said on the wire
 *
 * The part of the protocol that the pipeline has to know, see
 * docs/interop/vhost-user.rst.  All in host byte order.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_VHOST_USER_WIRE_H
#define HW_VIRTIO_VHOST_USER_WIRE_H

typedef struct QEMU_PACKED VhostUserWireHeader {
    uint32_t request;
    uint32_t flags;
    uint32_t size;
} VhostUserWireHeader;

/* File descriptors that may come with a message */
#define WIRE_FDS_MAX 8

typedef struct QEMU_PACKED VhostUserWireRegion {
    uint64_t guest_addr;
    uint64_t size;
    uint64_t user_addr;
    uint64_t offset;            /* in the file */
} VhostUserWireRegion;

typedef struct QEMU_PACKED VhostUserWireTable {
    VhostUserWireHeader hdr;
    uint32_t n_regions;
    uint32_t padding;
    VhostUserWireRegion region[WIRE_FDS_MAX];
} VhostUserWireTable;

/* About the file descriptor of a ring */
typedef struct QEMU_PACKED VhostUserWireVring {
    VhostUserWireHeader hdr;
    uint64_t value;
} VhostUserWireVring;

#define WIRE_VERSION 0x1
#define WIRE_REPLY (1u << 2)
#define WIRE_NEED_REPLY (1u << 3)
#define WIRE_NO_REQUEST 0

#define WIRE_GET_FEATURES 1
#define WIRE_SET_FEATURES 2
#define WIRE_RESET_OWNER 4
#define WIRE_SET_MEM_TABLE 5
#define WIRE_SET_LOG_BASE 6
#define WIRE_SET_VRING_NUM 8
#define WIRE_SET_VRING_ADDR 9
#define WIRE_SET_VRING_BASE 10
#define WIRE_GET_VRING_BASE 11
#define WIRE_SET_VRING_KICK 12
#define WIRE_SET_VRING_CALL 13
#define WIRE_SET_VRING_ERR 14
#define WIRE_SET_VRING_ENABLE 18
#define WIRE_SEND_RARP 19
#define WIRE_RESET_DEVICE 34
#define WIRE_ADD_MEM_REG 37
#define WIRE_REM_MEM_REG 38
#define WIRE_SET_STATUS 39
#define WIRE_GET_STATUS 40

#endif /* HW_VIRTIO_VHOST_USER_WIRE_H */
