/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: a disk that stops answering on command
 *
 * Two nbdkits.  The one at the back serves a sparse disk from memory, and is
 * stopped and continued by signal: nbdkit's pause filter would be the obvious
 * way, but lets flushes through.  The one in front passes requests on to it,
 * and its log filter writes down each request as it comes and each answer as it
 * goes: so what the disk holds back is known and not guessed.
 *
 * For drivers that want a file, qemu-storage-daemon shows the same export as a
 * FUSE file: a real file whose reads, writes and fsyncs hang.
 */
#ifndef SWITCHOVER_STUCK_DISK_H
#define SWITCHOVER_STUCK_DISK_H

typedef struct SwDisk SwDisk;

typedef enum SwKind {
    SW_KIND_ANY,
    SW_KIND_READ,
    SW_KIND_WRITE,
    SW_KIND_FLUSH,
    SW_KIND_DISCARD,
    SW_KIND__MAX,
} SwKind;

#define SW_DISK_MIB 64

/* The kind's name in QMP, which is also the guest's name for such a load */
const char *sw_kind_str(SwKind kind);

/*
 * A disk that takes @latency_ms for each read and write.
 * NULL, and the reason in @why, where nbdkit is not installed.
 */
SwDisk *sw_disk_new(const char *dir, const char *name, unsigned latency_ms,
                    char **why);
void sw_disk_free(SwDisk *disk);

const char *sw_disk_name(SwDisk *disk);
const char *sw_disk_socket(SwDisk *disk);

/* Shows the disk as a file; false, and the reason in @why, where FUSE is not */
bool sw_disk_as_file(SwDisk *disk, char **why);
const char *sw_disk_file(SwDisk *disk);

/* A name for a file that has nothing to do with what can be stuck */
const char *sw_disk_local(SwDisk *disk);

/* Requests sent from now on hang / hanging requests are answered, all go on */
void sw_disk_stick(SwDisk *disk);
void sw_disk_release(SwDisk *disk);

/* Requests, also those which the latency delays now, fail / succeed again */
void sw_disk_fail(SwDisk *disk);
void sw_disk_mend(SwDisk *disk);

/* Requests of @kind that came and were not answered yet */
unsigned sw_disk_held(SwDisk *disk, SwKind kind);

/* Requests of @kind that ever came, and what they were about */
unsigned sw_disk_seen(SwDisk *disk, SwKind kind);
uint64_t sw_disk_bytes(SwDisk *disk, SwKind kind);

#endif /* SWITCHOVER_STUCK_DISK_H */
