/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: the guest, as far as its serial line tells
 */

#include "qemu/osdep.h"
#include <sys/socket.h>
#include "switchover/guest.h"
#include "switchover/harness.h"

struct SwGuest {
    /* Set at creation */
    char *name;
    char *console;
    int fd;
    GThread *listener;

    /* The listener's alone */
    GString *line;

    /* Under the lock */
    GMutex lock;
    GCond changed;
    GArray *beats_us;       /* when each heartbeat arrived */
    int64_t last_beat;      /* its number */
    bool reboots;           /* until it is ready, numbers mean nothing */
    char *ready;            /* what followed SO READY */
    char *answer;           /* last "OK ..." or "FAIL ..." not yet taken */
    char *trouble;          /* first thing that must never be heard */
};

static void set_trouble(SwGuest *guest, char *text)
{
    if (guest->trouble) {
        g_free(text);
    } else {
        guest->trouble = text;
    }
}

static void hear_beat(SwGuest *guest, const char *number)
{
    int64_t now_us = sw_now_us();
    int64_t beat = g_ascii_strtoll(number, NULL, 10);

    if (guest->reboots) {
        return;
    }
    if (beat <= guest->last_beat) {
        set_trouble(guest, g_strdup_printf("heartbeat %" PRId64 " after %"
                                           PRId64, beat, guest->last_beat));
    }
    guest->last_beat = beat;
    g_array_append_val(guest->beats_us, now_us);
}

static void hear_line(SwGuest *guest, const char *line)
{
    const char *rest;

    g_mutex_lock(&guest->lock);
    if (g_str_has_prefix(line, "SO ")) {
        rest = line + strlen("SO ");
        if (g_str_has_prefix(rest, "HB ")) {
            hear_beat(guest, rest + strlen("HB "));
        } else if (g_str_has_prefix(rest, "OK ") ||
                   g_str_has_prefix(rest, "FAIL ")) {
            g_free(guest->answer);
            guest->answer = g_strdup(rest);
        } else if (g_str_has_prefix(rest, "READY ")) {
            guest->ready = g_strdup(rest + strlen("READY "));
            guest->reboots = false;
        } else if (g_str_has_prefix(rest, "PANIC")) {
            set_trouble(guest, g_strdup(rest));
        }
    }
    g_cond_broadcast(&guest->changed);
    g_mutex_unlock(&guest->lock);
}

static void hear(SwGuest *guest, const char *buf, ssize_t len)
{
    ssize_t i;

    for (i = 0; i < len; i++) {
        if (buf[i] == '\n') {
            hear_line(guest, g_strchomp(guest->line->str));
            g_string_truncate(guest->line, 0);
        } else {
            g_string_append_c(guest->line, buf[i]);
        }
    }
}

static void *listen_to_guest(void *opaque)
{
    SwGuest *guest = opaque;
    char buf[4096];
    ssize_t len;

    while ((len = RETRY_ON_EINTR(recv(guest->fd, buf, sizeof(buf), 0))) > 0) {
        hear(guest, buf, len);
    }
    return NULL;
}

SwGuest *sw_guest_new(int fd, const char *name, const char *console)
{
    SwGuest *guest = g_new0(SwGuest, 1);

    guest->name = g_strdup(name);
    guest->console = g_strdup(console);
    guest->fd = fd;
    guest->line = g_string_new("");
    guest->beats_us = g_array_new(false, false, sizeof(int64_t));
    g_mutex_init(&guest->lock);
    g_cond_init(&guest->changed);
    guest->last_beat = -1;
    guest->listener = g_thread_new("guest", listen_to_guest, guest);
    return guest;
}

void sw_guest_free(SwGuest *guest)
{
    shutdown(guest->fd, SHUT_RDWR);
    g_thread_join(guest->listener);
    close(guest->fd);
    g_string_free(guest->line, true);
    g_array_free(guest->beats_us, true);
    g_mutex_clear(&guest->lock);
    g_cond_clear(&guest->changed);
    g_free(guest->ready);
    g_free(guest->answer);
    g_free(guest->trouble);
    g_free(guest->console);
    g_free(guest->name);
    g_free(guest);
}

/* Ends the test, for which the guest did not do @what or has trouble */
static G_NORETURN void give_up(SwGuest *guest, const char *what)
{
    g_autofree char *said = NULL;

    if (g_file_get_contents(guest->console, &said, NULL, NULL) && said[0]) {
        g_test_message("%s: the guest's kernel says: %s", guest->name, said);
    }
    if (guest->trouble) {
        SW_FAIL("%s: the guest says: %s", guest->name, guest->trouble);
    }
    SW_FAIL("%s: waited %d ms for the guest: %s", guest->name, SW_WAIT_MS,
            what);
}

/*
 * Called with the lock held; returns with it held once @cond is true.
 * @what is what the test fails for want of.
 */
typedef bool GuestCondition(SwGuest *guest, const void *opaque);
static void wait_locked(SwGuest *guest, GuestCondition *cond,
                        const void *opaque, const char *what)
{
    int64_t end_us = sw_now_us() + SW_WAIT_MS * 1000LL;

    while (!guest->trouble && !cond(guest, opaque)) {
        if (!g_cond_wait_until(&guest->changed, &guest->lock, end_us)) {
            give_up(guest, what);
        }
    }
    if (guest->trouble) {
        give_up(guest, what);
    }
}

void sw_guest_expect_reboot(SwGuest *guest)
{
    g_mutex_lock(&guest->lock);
    g_clear_pointer(&guest->ready, g_free);
    guest->reboots = true;
    guest->last_beat = -1;
    g_mutex_unlock(&guest->lock);
}

static bool is_ready(SwGuest *guest, const void *opaque)
{
    return guest->ready;
}

void sw_guest_wait_ready(SwGuest *guest, unsigned disks)
{
    g_mutex_lock(&guest->lock);
    wait_locked(guest, is_ready, NULL, "SO READY");
    SW_CHECK(g_ascii_strtoull(guest->ready, NULL, 10) == disks,
             "%s: the guest opened %s disks instead of %u",
             guest->name, guest->ready, disks);
    g_mutex_unlock(&guest->lock);
}

static bool has_answered(SwGuest *guest, const void *opaque)
{
    return guest->answer;
}

char *sw_guest_cmd(SwGuest *guest, const char *cmd)
{
    g_autofree char *line = g_strdup_printf("%s\n", cmd);
    g_auto(GStrv) words = g_strsplit(cmd, " ", 2);
    g_autofree char *ok = g_strdup_printf("OK %s", words[0]);
    g_autofree char *answer = NULL;
    size_t len = strlen(line);

    SW_CHECK(RETRY_ON_EINTR(send(guest->fd, line, len, MSG_NOSIGNAL)) == len,
             "%s: cannot say '%s' to the guest", guest->name, cmd);
    g_mutex_lock(&guest->lock);
    wait_locked(guest, has_answered, NULL, cmd);
    answer = g_steal_pointer(&guest->answer);
    g_mutex_unlock(&guest->lock);

    SW_CHECK(g_str_has_prefix(answer, ok), "%s: the guest answers '%s': %s",
             guest->name, cmd, answer);
    return g_strdup(g_strchug(answer + strlen(ok)));
}

static int64_t guest_ops(SwGuest *guest, const char *cmd)
{
    g_autofree char *stats = sw_guest_cmd(guest, cmd);
    long long ops, errors;

    SW_CHECK(sscanf(stats, "%lld %lld", &ops, &errors) == 2,
             "%s: the guest's stats: %s", guest->name, stats);
    SW_CHECK(errors == 0, "%s: %lld failed operations in the guest",
             guest->name, errors);
    return ops;
}

int64_t sw_guest_ops(SwGuest *guest)
{
    return guest_ops(guest, "stats");
}

int64_t sw_guest_disk_ops(SwGuest *guest, const char *name)
{
    g_autofree char *cmd = g_strdup_printf("stats %s", name);

    return guest_ops(guest, cmd);
}

int64_t sw_guest_frames(SwGuest *guest, unsigned card, unsigned cpu)
{
    g_autofree char *cmd = g_strdup_printf("netstats %u %u", card, cpu);
    g_autofree char *frames = sw_guest_cmd(guest, cmd);

    return g_ascii_strtoll(frames, NULL, 10);
}

typedef struct DiskPresence {
    SwGuest *guest;
    const char *name;
    bool wanted;
} DiskPresence;

static bool disk_is_as_wanted(void *opaque)
{
    DiskPresence *disk = opaque;
    g_autofree char *cmd = g_strdup_printf("present %s", disk->name);
    g_autofree char *answer = sw_guest_cmd(disk->guest, cmd);

    return g_str_equal(answer, disk->wanted ? "yes" : "no");
}

void sw_guest_wait_disk(SwGuest *guest, const char *name, bool present)
{
    DiskPresence disk = { .guest = guest, .name = name, .wanted = present };

    sw_wait_until(disk_is_as_wanted, &disk, SW_WAIT_MS,
                  "the guest to see that a disk comes or goes");
}

static bool has_beaten(SwGuest *guest, const void *opaque)
{
    const unsigned *goal = opaque;

    return guest->beats_us->len >= *goal;
}

void sw_guest_wait_beats(SwGuest *guest, unsigned n)
{
    unsigned goal;

    g_mutex_lock(&guest->lock);
    goal = guest->beats_us->len + n;
    wait_locked(guest, has_beaten, &goal, "its heartbeat");
    g_mutex_unlock(&guest->lock);
}

typedef struct Silence {
    SwGuest *guest;
    int ms;
} Silence;

static bool is_silent(void *opaque)
{
    Silence *silence = opaque;
    int64_t now_us = sw_now_us();

    return sw_guest_worst_gap_ms(silence->guest, now_us - silence->ms * 1000LL,
                                 now_us) >= silence->ms;
}

void sw_guest_wait_silence(SwGuest *guest, int ms)
{
    Silence silence = { .guest = guest, .ms = ms };

    sw_wait_until(is_silent, &silence, SW_WAIT_MS, "the guest to be silent");
}

unsigned sw_guest_beats(SwGuest *guest)
{
    unsigned n;

    g_mutex_lock(&guest->lock);
    n = guest->beats_us->len;
    g_mutex_unlock(&guest->lock);
    return n;
}

int64_t sw_guest_worst_gap_ms(SwGuest *guest, int64_t from_us, int64_t to_us)
{
    int64_t last_us = from_us, worst_us = 0;
    unsigned i;

    g_mutex_lock(&guest->lock);
    for (i = 0; i < guest->beats_us->len; i++) {
        int64_t beat_us = g_array_index(guest->beats_us, int64_t, i);

        if (beat_us > from_us && beat_us <= to_us) {
            worst_us = MAX(worst_us, beat_us - last_us);
            last_us = beat_us;
        }
    }
    g_mutex_unlock(&guest->lock);
    return MAX(worst_us, to_us - last_us) / 1000;
}
