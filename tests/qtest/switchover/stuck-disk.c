/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: a disk that stops answering on command
 *
 * The log filter writes one line as a request comes,
 *   <date> <time> connection=1 Write id=7 offset=0x0 count=0x1000 fua=0 ...
 * and one as it is answered,
 *   <date> <time> connection=1 ...Write id=7 return=0
 * where the id counts within the connection.
 */

#include "qemu/osdep.h"
#include "switchover/child.h"
#include "switchover/harness.h"
#include "switchover/stuck-disk.h"

struct SwDisk {
    char *name;
    char *dir;
    char *socket;           /* of the front */
    char *log_path;
    char *error_path;       /* while it exists, requests fail */
    char *file;             /* NULL until sw_disk_as_file() */
    char *local;
    SwChild *back;
    SwChild *front;
    SwChild *fuse;
    bool stuck;

    FILE *log;
    GString *log_line;      /* read so far, the end may be yet to come */
    GHashTable *held;       /* "connection id" -> SwKind */
    unsigned seen[SW_KIND__MAX];
    uint64_t bytes[SW_KIND__MAX];
};

static const struct {
    const char *qmp;
    const char *nbdkit;
} kinds[SW_KIND__MAX] = {
    [SW_KIND_ANY]     = { "rw", NULL },
    [SW_KIND_READ]    = { "read", "Read" },
    [SW_KIND_WRITE]   = { "write", "Write" },
    [SW_KIND_FLUSH]   = { "flush", "Flush" },
    [SW_KIND_DISCARD] = { "discard", "Trim" },
};

const char *sw_kind_str(SwKind kind)
{
    return kinds[kind].qmp;
}

const char *sw_disk_name(SwDisk *disk)
{
    return disk->name;
}

const char *sw_disk_socket(SwDisk *disk)
{
    return disk->socket;
}

static char *disk_path(SwDisk *disk, const char *suffix)
{
    return g_strdup_printf("%s/%s.%s", disk->dir, disk->name, suffix);
}

static bool start_servers(SwDisk *disk, unsigned latency_ms, char **why)
{
    g_autofree char *back_pid = disk_path(disk, "back.pid");
    g_autofree char *front_pid = disk_path(disk, "front.pid");
    g_autofree char *back_socket = disk_path(disk, "back");
    g_autofree char *size = g_strdup_printf("size=%dM", SW_DISK_MIB);
    g_autofree char *log = g_strdup_printf("logfile=%s", disk->log_path);
    g_autofree char *to_back = g_strdup_printf("socket=%s", back_socket);
    g_autofree char *rdelay = g_strdup_printf("rdelay=%ums", latency_ms);
    g_autofree char *wdelay = g_strdup_printf("wdelay=%ums", latency_ms);
    g_autofree char *error = g_strdup_printf("error-file=%s", disk->error_path);
    const char *back[] = {
        "nbdkit", "--foreground", "--unix", back_socket, "--pidfile", back_pid,
        "memory", size, NULL
    };
    /* Filters are passed in this order: a request is delayed, then fails */
    const char *front[] = {
        "nbdkit", "--foreground", "--unix", disk->socket,
        "--pidfile", front_pid, "--threads", "64",
        "--filter=log", "--filter=delay", "--filter=error", "nbd", to_back,
        log, rdelay, wdelay, "error=EIO", "error-rate=100%", error, NULL
    };

    disk->back = sw_child_new(back, back_pid, why);
    if (disk->back) {
        disk->front = sw_child_new(front, front_pid, why);
    }
    return disk->front != NULL;
}

SwDisk *sw_disk_new(const char *dir, const char *name, unsigned latency_ms,
                    char **why)
{
    SwDisk *disk = g_new0(SwDisk, 1);

    disk->name = g_strdup(name);
    disk->dir = g_strdup(dir);
    disk->socket = disk_path(disk, "nbd");
    disk->log_path = disk_path(disk, "log");
    disk->error_path = disk_path(disk, "error");
    disk->local = disk_path(disk, "local");
    disk->log_line = g_string_new("");
    disk->held = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    if (!start_servers(disk, latency_ms, why)) {
        sw_disk_free(disk);
        return NULL;
    }
    disk->log = fopen(disk->log_path, "r");
    SW_CHECK(disk->log, "nbdkit made no log %s", disk->log_path);
    return disk;
}

void sw_disk_free(SwDisk *disk)
{
    if (!disk) {
        return;
    }
    if (disk->stuck) {
        sw_disk_release(disk);
    }
    sw_child_free(disk->fuse);
    sw_child_free(disk->front);
    sw_child_free(disk->back);
    if (disk->log) {
        fclose(disk->log);
    }
    g_string_free(disk->log_line, true);
    g_hash_table_destroy(disk->held);
    g_free(disk->local);
    g_free(disk->file);
    g_free(disk->error_path);
    g_free(disk->log_path);
    g_free(disk->socket);
    g_free(disk->dir);
    g_free(disk->name);
    g_free(disk);
}

const char *sw_disk_file(SwDisk *disk)
{
    return disk->file;
}

const char *sw_disk_local(SwDisk *disk)
{
    return disk->local;
}

static bool start_fuse(SwDisk *disk, const char *daemon, char **why)
{
    g_autofree char *pidfile = disk_path(disk, "fuse.pid");
    g_autofree char *blockdev = g_strdup_printf(
        "driver=nbd,node-name=n,server.type=unix,server.path=%s,discard=unmap",
        disk->socket);
    g_autofree char *export = g_strdup_printf(
        "type=fuse,id=f,node-name=n,mountpoint=%s,writable=on,allow-other=off",
        disk->file);
    const char *argv[] = {
        daemon, "--pidfile", pidfile, "--blockdev", blockdev,
        "--export", export, NULL
    };

    disk->fuse = sw_child_new(argv, pidfile, why);
    return disk->fuse != NULL;
}

bool sw_disk_as_file(SwDisk *disk, char **why)
{
    const char *daemon = sw_env_path("QTEST_QEMU_STORAGE_DAEMON_BINARY");

    if (!daemon) {
        *why = g_strdup("QTEST_QEMU_STORAGE_DAEMON_BINARY names no program");
        return false;
    }
    if (access("/dev/fuse", R_OK | W_OK) < 0) {
        *why = g_strdup("/dev/fuse cannot be used");
        return false;
    }
    disk->file = disk_path(disk, "file");
    g_assert(g_file_set_contents(disk->file, "", 0, NULL));
    return start_fuse(disk, daemon, why);
}

void sw_disk_stick(SwDisk *disk)
{
    sw_child_freeze(disk->back);
    disk->stuck = true;
}

void sw_disk_release(SwDisk *disk)
{
    sw_child_thaw(disk->back);
    disk->stuck = false;
}

void sw_disk_fail(SwDisk *disk)
{
    SW_CHECK(g_file_set_contents(disk->error_path, "", 0, NULL),
             "cannot create %s", disk->error_path);
}

void sw_disk_mend(SwDisk *disk)
{
    SW_CHECK(unlink(disk->error_path) == 0, "cannot remove %s",
             disk->error_path);
}

static SwKind kind_from_log(const char *word, const char *line)
{
    SwKind kind;

    /* A hole punched into a FUSE file arrives as zeroes that may be a hole */
    if (g_str_equal(word, "Zero")) {
        return strstr(line, " trim=1 ") ? SW_KIND_DISCARD : SW_KIND_WRITE;
    }
    for (kind = SW_KIND_READ; kind < SW_KIND__MAX; kind++) {
        if (g_str_equal(word, kinds[kind].nbdkit)) {
            return kind;
        }
    }
    return SW_KIND_ANY;
}

static uint64_t bytes_from_log(const char *line)
{
    const char *count = strstr(line, " count=");

    return count ? g_ascii_strtoull(count + strlen(" count="), NULL, 16) : 0;
}

static void account_line(SwDisk *disk, const char *line)
{
    g_auto(GStrv) words = g_strsplit(line, " ", 6);
    g_autofree char *request = NULL;
    const char *word;
    SwKind kind;

    if (g_strv_length(words) < 5 || !g_str_has_prefix(words[4], "id=")) {
        return;
    }
    word = words[3];
    request = g_strdup_printf("%s %s", words[2], words[4]);
    if (g_str_has_prefix(word, "...")) {
        g_hash_table_remove(disk->held, request);
        return;
    }
    kind = kind_from_log(word, line);
    if (kind != SW_KIND_ANY) {
        disk->seen[SW_KIND_ANY]++;
        disk->seen[kind]++;
        disk->bytes[SW_KIND_ANY] += bytes_from_log(line);
        disk->bytes[kind] += bytes_from_log(line);
        g_hash_table_insert(disk->held, g_steal_pointer(&request),
                            GINT_TO_POINTER(kind));
    }
}

static void read_log(SwDisk *disk)
{
    int c;

    clearerr(disk->log);
    while ((c = fgetc(disk->log)) != EOF) {
        if (c != '\n') {
            g_string_append_c(disk->log_line, c);
            continue;
        }
        account_line(disk, disk->log_line->str);
        g_string_truncate(disk->log_line, 0);
    }
}

unsigned sw_disk_held(SwDisk *disk, SwKind kind)
{
    GHashTableIter iter;
    gpointer value;
    unsigned n = 0;

    read_log(disk);
    g_hash_table_iter_init(&iter, disk->held);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        n += kind == SW_KIND_ANY || GPOINTER_TO_INT(value) == kind;
    }
    return n;
}

unsigned sw_disk_seen(SwDisk *disk, SwKind kind)
{
    read_log(disk);
    return disk->seen[kind];
}

uint64_t sw_disk_bytes(SwDisk *disk, SwKind kind)
{
    read_log(disk);
    return disk->bytes[kind];
}
