/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: disk devices and the drivers under them
 */

#include "qemu/osdep.h"
#include "switchover/disk-config.h"
#include "switchover/harness.h"

/* Smaller than the disk, which has to hold its metadata too */
#define QCOW2_MIB 56

const SwDevice sw_virtio_blk = {
    .name = "virtio-blk",
    .machine = "q35",
    .guest_disk = "vda",
    .guest_disks = "vda,vdb",
    .device = "-device virtio-blk-pci,id=dev%u,drive=disk%u",
};

const SwDevice sw_virtio_blk_iothread = {
    .name = "virtio-blk-iothread",
    .machine = "q35",
    .guest_disk = "vda",
    .guest_disks = "vda,vdb",
    .before = "-object iothread,id=iot0",
    .device = "-device virtio-blk-pci,id=dev%u,drive=disk%u,iothread=iot0",
};

const SwDevice sw_virtio_blk_vq_mapping = {
    .name = "virtio-blk-vq-mapping",
    .machine = "q35",
    .guest_disk = "vda",
    .guest_disks = "vda,vdb",
    .before = "-object iothread,id=iot0 -object iothread,id=iot1",
    .device = "-device '{\"driver\":\"virtio-blk-pci\",\"id\":\"dev%u\","
              "\"drive\":\"disk%u\",\"num-queues\":2,\"iothread-vq-mapping\":"
              "[{\"iothread\":\"iot0\"},{\"iothread\":\"iot1\"}]}'",
};

const SwDevice sw_virtio_blk_no_ioeventfd = {
    .name = "virtio-blk-no-ioeventfd",
    .machine = "q35",
    .guest_disk = "vda",
    .guest_disks = "vda,vdb",
    .device = "-device virtio-blk-pci,id=dev%u,drive=disk%u,ioeventfd=off",
};

const SwDevice sw_virtio_scsi = {
    .name = "virtio-scsi",
    .machine = "q35",
    .guest_disk = "sda",
    .guest_disks = "sda,sdb",
    .before = "-device virtio-scsi-pci,id=scsi0",
    .device = "-device scsi-hd,bus=scsi0.0,id=dev%u,drive=disk%u",
};

const SwDevice sw_virtio_scsi_iothread = {
    .name = "virtio-scsi-iothread",
    .machine = "q35",
    .guest_disk = "sda",
    .guest_disks = "sda,sdb",
    .before = "-object iothread,id=iot0 "
              "-device virtio-scsi-pci,id=scsi0,iothread=iot0",
    .device = "-device scsi-hd,bus=scsi0.0,id=dev%u,drive=disk%u",
};

const SwDevice sw_ide = {
    .name = "ide",
    .machine = "pc",
    .guest_disk = "sda",
    .guest_disks = "sda,sdb",
    .device = "-device ide-hd,id=dev%u,drive=disk%u",
};

const SwDevice sw_ahci = {
    .name = "ahci",
    .machine = "q35",
    .guest_disk = "sda",
    .guest_disks = "sda,sdb",
    .device = "-device ide-hd,id=dev%u,drive=disk%u",
};

const SwDevice sw_virtio_blk_4_queues = {
    .name = "virtio-blk-4-queues",
    .machine = "q35",
    .guest_disk = "vda",
    .guest_disks = "vda,vdb",
    .before = "-object iothread,id=iot0",
    .device = "-device virtio-blk-pci,id=dev%u,drive=disk%u,iothread=iot0,"
              "num-queues=4",
};

const SwDevice sw_virtio_scsi_4_queues = {
    .name = "virtio-scsi-4-queues",
    .machine = "q35",
    .guest_disk = "sda",
    .guest_disks = "sda,sdb",
    .before = "-object iothread,id=iot0 "
              "-device virtio-scsi-pci,id=scsi0,iothread=iot0,num_queues=4",
    .device = "-device scsi-hd,bus=scsi0.0,id=dev%u,drive=disk%u",
};

const SwDevice sw_virtio_blk_port = {
    .name = "virtio-blk-port",
    .machine = "q35",
    .guest_disk = "vda",
    .guest_disks = "vda,vdb",
    .before = "-device pcie-root-port,id=rp0,chassis=1",
    .device = "-device virtio-blk-pci,id=dev%u,drive=disk%u",
};

const SwDevice sw_virtio_blk_stop = {
    .name = "virtio-blk-stop",
    .machine = "q35",
    .guest_disk = "vda",
    .guest_disks = "vda,vdb",
    .before = "-object iothread,id=iot0",
    .device = "-device virtio-blk-pci,id=dev%u,drive=disk%u,iothread=iot0,"
              "werror=stop,rerror=stop",
};

const SwDevice *const sw_devices[] = {
    &sw_virtio_blk, &sw_virtio_blk_iothread, &sw_virtio_blk_vq_mapping,
    &sw_virtio_blk_no_ioeventfd, &sw_virtio_scsi, &sw_virtio_scsi_iothread,
    &sw_ide, &sw_ahci, NULL
};

const SwDriver sw_nbd = { "nbd", NULL, false };
const SwDriver sw_nbd_throttled = { "nbd-throttled", .throttled = true };
const SwDriver sw_qcow2_local = { "qcow2-local", .qcow2 = true, .local = true };
const SwDriver sw_file_threads = { "file-threads", "threads", false };
const SwDriver sw_file_native = { "file-native", "native", false };
const SwDriver sw_file_io_uring = { "file-io_uring", "io_uring", false };
const SwDriver sw_qcow2_nbd = { "qcow2-nbd", NULL, true };
const SwDriver sw_qcow2_threads = { "qcow2-file-threads", "threads", true };
const SwDriver sw_qcow2_native = { "qcow2-file-native", "native", true };
const SwDriver sw_qcow2_io_uring = { "qcow2-file-io_uring", "io_uring", true };

const SwDriver *const sw_drivers[] = {
    &sw_nbd, &sw_file_threads, &sw_file_native, &sw_file_io_uring,
    &sw_qcow2_nbd, &sw_qcow2_threads, &sw_qcow2_native, &sw_qcow2_io_uring,
    NULL
};

static bool make_image(const SwDriver *driver, SwDisk *disk, char **why)
{
    g_autoptr(GError) err = NULL;
    g_autofree char *uri = driver->local ? g_strdup(sw_disk_local(disk)) :
        g_strdup_printf("nbd+unix:///?socket=%s", sw_disk_socket(disk));
    g_autofree char *size = g_strdup_printf("%dM", QCOW2_MIB);
    const char *img = sw_env_path("QTEST_QEMU_IMG");
    const char *argv[] = {
        img, "create", "-q", "-f", "qcow2", uri, size, NULL
    };
    int status;

    if (!img) {
        *why = g_strdup("QTEST_QEMU_IMG names no program");
        return false;
    }
    SW_CHECK(g_spawn_sync(NULL, (char **)argv, NULL, 0, NULL, NULL, NULL, NULL,
                          &status, &err), "qemu-img: %s", err->message);
    SW_CHECK(status == 0, "qemu-img create: wait status %d", status);
    return true;
}

bool sw_driver_prepare(const SwDriver *driver, SwDisk *disk, char **why)
{
    if (driver->qcow2 && !make_image(driver, disk, why)) {
        return false;
    }
    return !driver->aio || sw_disk_as_file(disk, why);
}

char *sw_driver_args(const SwDriver *driver, SwDisk *disk, unsigned n)
{
    g_autofree char *node = g_strdup_printf("disk%u", n);
    bool stacked = driver->qcow2 || driver->throttled;
    g_autofree char *lower = g_strdup_printf("disk%u%s", n,
                                             stacked ? "-proto" : "");
    g_autofree char *upper = NULL;
    g_autofree char *proto = NULL;

    if (driver->aio) {
        proto = g_strdup_printf("driver=file,filename=%s,aio=%s,"
                                "cache.direct=on",
                                sw_disk_file(disk), driver->aio);
    } else if (driver->local) {
        proto = g_strdup_printf("driver=file,filename=%s",
                                sw_disk_local(disk));
    } else {
        proto = g_strdup_printf("driver=nbd,server.type=unix,server.path=%s",
                                sw_disk_socket(disk));
    }
    if (driver->qcow2) {
        upper = g_strdup_printf(" -blockdev driver=qcow2,node-name=%s,file=%s,"
                                "discard=unmap", node, lower);
    } else if (driver->throttled) {
        upper = g_strdup_printf(" -object throttle-group,id=limits"
                                " -blockdev driver=throttle,node-name=%s,"
                                "file=%s,throttle-group=limits,discard=unmap",
                                node, lower);
    }
    return g_strdup_printf("-blockdev %s,node-name=%s,discard=unmap%s",
                           proto, lower, upper ?: "");
}

char *sw_device_args(const SwDevice *device, unsigned n, bool share)
{
    g_autofree char *args = g_strdup_printf(device->device, n, n);

    return g_strdup_printf("%s%s", args, share ? ",share-rw=on" : "");
}
