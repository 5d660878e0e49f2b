/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: disk devices and the drivers under them
 */
#ifndef SWITCHOVER_DISK_CONFIG_H
#define SWITCHOVER_DISK_CONFIG_H

#include "switchover/stuck-disk.h"

typedef struct SwDevice {
    const char *name;           /* in the test's path */
    const char *machine;
    const char *guest_disks;    /* what the guest calls disk 0 and disk 1 */
    const char *guest_disk;     /* what it calls disk 0 */
    const char *before;         /* arguments needed once */
    const char *device;         /* printf format: qdev id, node name */
} SwDevice;

typedef struct SwDriver {
    const char *name;           /* in the test's path */
    const char *aio;            /* NULL: straight over NBD */
    bool qcow2;
    bool local;                 /* a file that QEMU locks, without latency */
    bool throttled;             /* by throttle group "limits", unlimited yet */
} SwDriver;

extern const SwDevice sw_virtio_blk;
extern const SwDevice sw_virtio_blk_iothread;
extern const SwDevice sw_virtio_blk_vq_mapping;
extern const SwDevice sw_virtio_blk_no_ioeventfd;
extern const SwDevice sw_virtio_scsi;
extern const SwDevice sw_virtio_scsi_iothread;
extern const SwDevice sw_ide;
extern const SwDevice sw_ahci;

/* Not in sw_devices: with four queues; with a port to plug another one into */
extern const SwDevice sw_virtio_blk_4_queues;
extern const SwDevice sw_virtio_scsi_4_queues;
extern const SwDevice sw_virtio_blk_port;
/* An error of the disk stops the guest */
extern const SwDevice sw_virtio_blk_stop;

extern const SwDriver sw_nbd;
extern const SwDriver sw_nbd_throttled;
extern const SwDriver sw_file_threads;
extern const SwDriver sw_file_native;
extern const SwDriver sw_file_io_uring;
extern const SwDriver sw_qcow2_nbd;
extern const SwDriver sw_qcow2_local;
extern const SwDriver sw_qcow2_threads;
extern const SwDriver sw_qcow2_native;
extern const SwDriver sw_qcow2_io_uring;

/* All of them but sw_qcow2_local, NULL-terminated */
extern const SwDevice *const sw_devices[];
extern const SwDriver *const sw_drivers[];

/*
 * Makes @disk what @driver needs: a file where it wants one, an image where it
 * wants that.  False, and the reason in @why, where it cannot be had.
 */
bool sw_driver_prepare(const SwDriver *driver, SwDisk *disk, char **why);

/* The -blockdev arguments that give node disk<@n> on top of @disk */
char *sw_driver_args(const SwDriver *driver, SwDisk *disk, unsigned n);

/*
 * The -device arguments that give device dev<@n> with node disk<@n>; @share
 * lets others write to the node.
 */
char *sw_device_args(const SwDevice *device, unsigned n, bool share);

#endif /* SWITCHOVER_DISK_CONFIG_H */
