/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: with which byte a guest is given away
 *
 * Somebody stops reading a migration at a certain byte, and it is cancelled.
 * What was taken until then is given to a destination: either that has the
 * guest then, and the source has not, or it is the other way round.
 *
 * No guest is needed: the machines are never started, and the status says who
 * has it.
 *
 * What failing looks like: if migrate_cancel is obeyed after that byte
 * (migration_outgoing_is_committed() returning false): "both have the guest".
 * Unpatched QEMU: no answer to migrate_cancel.
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qobject/qdict.h"
#include "switchover/harness.h"
#include "switchover/iterations-tests.h"
#include "switchover/monitor.h"
#include "switchover/reader.h"
#include "switchover/vm.h"

#define MACHINE "-machine q35 -m 16 -S"
#define PIPE_BYTES 4096

/* What ends a stream: QEMU_VM_EOF, QEMU_VM_VMDESCRIPTION, its length */
#define STREAM_EOF 0
#define STREAM_VMDESC 6
#define TAIL_BYTES (1 + 1 + 4)

typedef struct Stream {
    char *dir;
    SwVM *src;
    SwReader *reader;
} Stream;

static void stream_begin(Stream *s, uint64_t bytes)
{
    int fds[2];

    s->dir = sw_tmpdir_new();
    s->src = sw_vm_new(s->dir, "src", NULL, MACHINE);
    g_assert(!pipe2(fds, O_CLOEXEC));
    g_assert_cmpint(fcntl(fds[1], F_SETPIPE_SZ, PIPE_BYTES), ==, PIPE_BYTES);
    s->reader = sw_reader_new(fds[0]);
    sw_reader_go(s->reader, bytes);
    sw_monitor_give_fd(s->src->mon, "stream", fds[1]);
    close(fds[1]);
    sw_qmp_ok(s->src->mon, "{ 'execute': 'migrate',"
              " 'arguments': { 'uri': 'fd:stream' } }");
}

static void stream_end(Stream *s)
{
    sw_reader_free(s->reader);
    sw_vm_free(s->src);
    sw_tmpdir_free(s->dir);
}

/* Offset of the byte that gives the guest away, from the end */
static size_t find_eof(const GByteArray *data)
{
    for (size_t i = TAIL_BYTES; i < data->len; i++) {
        const uint8_t *p = data->data + data->len - i;

        if (p[0] == STREAM_EOF && p[1] == STREAM_VMDESC &&
            ldl_be_p(p + 2) == i - TAIL_BYTES) {
            return i;
        }
    }
    g_assert_not_reached();
}

/* Does a destination have the guest, given this? */
static bool has_guest(const GByteArray *data)
{
    char *dir = sw_tmpdir_new();
    g_autofree char *path = g_strdup_printf("%s/stream", dir);
    g_autofree char *args = g_strdup_printf(MACHINE " -incoming defer"
                                            " 2>%s/dst.log", dir);
    g_autofree char *uri = g_strdup_printf("exec:cat %s", path);
    SwVM *dst;
    bool has;

    g_assert(g_file_set_contents(path, (char *)data->data, data->len, NULL));
    dst = sw_vm_new(dir, "dst", NULL, args);
    sw_qmp_ok(dst->mon, "{ 'execute': 'migrate-incoming', 'arguments': {"
              " 'uri': %s, 'exit-on-error': false } }", uri);
    while (!sw_status_seen(dst->mon, "completed") &&
           !sw_status_seen(dst->mon, "failed")) {
        g_usleep(10000);
    }
    has = sw_status_seen(dst->mon, "completed");
    sw_vm_free(dst);
    sw_tmpdir_free(dir);
    return has;
}

static bool has_ended(void *opaque)
{
    SwVM *vm = opaque;

    return sw_status_seen(vm->mon, "cancelled") ||
           sw_status_seen(vm->mon, "completed");
}

/*
 * Somebody read all but @left bytes of a stream of @total, with @given of them
 * after the guest was given away, and then it is cancelled.
 */
static void cancel_at(size_t total, size_t left, size_t given)
{
    Stream s;
    const GByteArray *data;
    bool cancelled, taken, has;

    stream_begin(&s, total - left);
    sw_reader_wait(s.reader, total - left);
    sw_status_wait(s.src->mon, "device");
    sw_qmp_ok(s.src->mon, "{ 'execute': 'migrate_cancel' }");
    if (left > given + PIPE_BYTES) {
        /* It cannot have been given away */
        sw_wait_until(has_ended, s.src, SW_WAIT_MS, "the migration to end");
    }
    /* What is in the pipe was taken */
    sw_reader_go(s.reader, UINT64_MAX);
    data = sw_reader_wait_end(s.reader);
    sw_wait_until(has_ended, s.src, SW_WAIT_MS, "the migration to end");
    cancelled = sw_status_seen(s.src->mon, "cancelled");
    taken = data->len >= total - given + 1;
    has = has_guest(data);
    g_test_message("%zu of %zu bytes wanted, %u taken, given away with %zu: "
                   "%s, destination %s it", total - left, total, data->len,
                   total - given + 1, cancelled ? "cancelled" : "completed",
                   has ? "has" : "does not have");
    SW_CHECK(has == taken, "the destination needs another byte");
    SW_CHECK(cancelled || has, "nobody has the guest");
    SW_CHECK(!cancelled || !has, "both have the guest");
    stream_end(&s);
}

static void test_every_byte(void)
{
    Stream s;
    size_t total, eof;
    /* Before the byte is in the pipe, when it is, and when it was read */
    static const int around[] = {
        -3 * PIPE_BYTES, -PIPE_BYTES - 1, -PIPE_BYTES, -PIPE_BYTES + 1, -1, 0,
        1, 2, 1000,
    };

    sw_watchdog_start();
    stream_begin(&s, UINT64_MAX);
    total = sw_reader_wait_end(s.reader)->len;
    eof = find_eof(sw_reader_wait_end(s.reader));
    sw_status_wait(s.src->mon, "completed");
    stream_end(&s);
    g_assert_cmpuint(eof, >, PIPE_BYTES);
    for (unsigned i = 0; i < ARRAY_SIZE(around); i++) {
        sw_watchdog_start();
        cancel_at(total, eof - around[i], eof);
    }
    sw_watchdog_stop();
}

void sw_add_commit_tests(void)
{
    g_test_add_func("/" SW_ITERATIONS_SUITE "/commit/every-byte",
                    test_every_byte);
}
