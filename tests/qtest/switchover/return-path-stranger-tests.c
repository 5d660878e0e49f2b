/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: strangers at the addresses of a migration
 *
 * They come to both addresses, at every stage of it.  They are refused, and the
 * migration does not notice.
 *
 * What failing looks like: the migration fails, or gets one of their
 * connections instead of its own and stays where it is; or a stranger is
 * welcomed, or is never told to go.
 */

#include "qemu/osdep.h"
#include <poll.h>
#include <sys/socket.h>
#include "qemu/bswap.h"
#include "switchover/expect.h"
#include "switchover/harness.h"
#include "switchover/postcopy-hold.h"
#include "switchover/return-path-tests.h"
#include "switchover/transport.h"

#define HELLO_BYTES 32

/* Of a hello, see docs/devel/migration/return-path-channel.rst */
#define ROLE_MAIN 1
#define ROLE_LINK 2
#define FLAGS_POSTCOPY 3
#define FLAG_RESUME 4

typedef struct Stranger {
    const char *what;
    /* What it says, if that is no hello */
    const char *text;
    size_t size;
    /* A hello, of a version and so much of it */
    unsigned version;
    unsigned bytes;
    bool resumes;
    bool exchanged;
    /* It gives nobody a reason to wait for more */
    bool clear;
} Stranger;

static const Stranger strangers[] = {
    { .what = "silence" },
    { .what = "garbage", .text = "GET / HTTP/1.0\r\n\r\n", .size = 18,
      .clear = true },
    { .what = "an ordinary stream", .text = "QEVM\0\0\0\3", .size = 8,
      .clear = true },
    { .what = "half a hello", .version = 1, .bytes = 6 },
    { .what = "a hello", .version = 1, .bytes = HELLO_BYTES },
    { .what = "a hello that resumes", .version = 1, .bytes = HELLO_BYTES,
      .resumes = true },
    { .what = "the other's hello", .version = 1, .bytes = HELLO_BYTES,
      .exchanged = true, .clear = true },
    { .what = "a hello from the future", .version = 7, .bytes = HELLO_BYTES,
      .clear = true },
};

/* Those who are not refused at once; at both addresses */
typedef struct Crowd {
    int fd[2][ARRAY_SIZE(strangers)];
} Crowd;

/* It fits, but for the token, which is nobody else's */
static void make_hello(uint8_t buf[HELLO_BYTES], const Stranger *s,
                       bool to_link, bool postcopy)
{
    unsigned n;

    memset(buf, 0, HELLO_BYTES);
    memcpy(buf, "MRPH", 4);
    stw_be_p(buf + 4, s->version);
    stw_be_p(buf + 6, to_link != s->exchanged ? ROLE_LINK : ROLE_MAIN);
    stl_be_p(buf + 8, (postcopy ? FLAGS_POSTCOPY : 0) |
                      (s->resumes ? FLAG_RESUME : 0));
    for (n = 12; n < 28; n++) {
        buf[n] = g_test_rand_int();
    }
}

static int come(SwRig *rig, const Stranger *s, bool to_link)
{
    const char *uri = to_link ? rig->dst_link : rig->dst_uri;
    uint8_t hello[HELLO_BYTES];

    if (!s->version) {
        return sw_link_stranger(uri, s->text, s->size);
    }
    make_hello(hello, s, to_link, rig->c->postcopy);
    return sw_link_stranger(uri, hello, s->bytes);
}

/* The connection ends, whatever is said before that, if it is no welcome */
static void expect_gone(int fd, const char *what, const char *where)
{
    struct pollfd pfd = { .fd = fd, .events = POLLIN };
    uint8_t buf[4096];
    size_t len = 0;
    ssize_t n;

    do {
        SW_CHECK(RETRY_ON_EINTR(poll(&pfd, 1, SW_WAIT_MS)) == 1,
                 "who said %s on the channel '%s' is not refused", what, where);
        n = recv(fd, buf + len, sizeof(buf) - len, 0);
        len += MAX(n, 0);
    } while (n > 0);
    SW_CHECK(len < 8 || memcmp(buf, "MRPA", 4) || lduw_be_p(buf + 6),
             "who said %s on the channel '%s' is welcome", what, where);
}

static const char *name_of(bool to_link)
{
    return to_link ? "return-path" : "main";
}

/*
 * One after the other: among more than a handful of connections that say
 * nothing, nobody can tell a stranger from a source that is slow
 */
static void half_comes(Crowd *crowd, SwRig *rig, bool to_link)
{
    unsigned n;

    for (n = 0; n < ARRAY_SIZE(strangers); n++) {
        int fd = come(rig, &strangers[n], to_link);

        if (strangers[n].clear) {
            expect_gone(fd, strangers[n].what, name_of(to_link));
            close(fd);
            fd = -1;
        }
        crowd->fd[to_link][n] = fd;
    }
}

static void half_goes(Crowd *crowd, bool to_link)
{
    unsigned n;

    for (n = 0; n < ARRAY_SIZE(strangers); n++) {
        int fd = crowd->fd[to_link][n];

        if (fd >= 0) {
            expect_gone(fd, strangers[n].what, name_of(to_link));
            close(fd);
        }
    }
}

static void crowd_comes(Crowd *crowd, SwRig *rig)
{
    half_comes(crowd, rig, false);
    half_comes(crowd, rig, true);
}

static void crowd_goes(Crowd *crowd)
{
    half_goes(crowd, false);
    half_goes(crowd, true);
}

static void end_before(SwRig *rig)
{
    Crowd crowd;

    crowd_comes(&crowd, rig);
    sw_rig_migrate(rig);
    sw_expect_completed(rig);
    crowd_goes(&crowd);
}

static bool has_hello(void *opaque)
{
    return sw_proxy_kept(opaque, SW_TO_DESTINATION) >= HELLO_BYTES;
}

/* The main channel waits for its link, and others come with theirs */
static void come_between(SwRig *rig, bool to_link)
{
    Crowd crowd;

    sw_proxy_withhold(rig->link_proxy, SW_TO_DESTINATION);
    sw_rig_prepare(rig);
    sw_rig_start(rig);
    sw_wait_until(has_hello, rig->link_proxy, SW_WAIT_MS, "the link's hello");
    half_comes(&crowd, rig, to_link);
    sw_proxy_let_go(rig->link_proxy);
    sw_expect_completed(rig);
    half_goes(&crowd, to_link);
}

static void end_between_main(SwRig *rig)
{
    come_between(rig, false);
}

static void end_between_link(SwRig *rig)
{
    come_between(rig, true);
}

static void end_precopy(SwRig *rig)
{
    Crowd crowd;

    sw_rig_migrate_slowly(rig);
    crowd_comes(&crowd, rig);
    sw_rig_hasten(rig);
    sw_expect_completed(rig);
    crowd_goes(&crowd);
}

static void end_postcopy(SwRig *rig)
{
    Crowd crowd;

    sw_link_enter_postcopy(rig);
    crowd_comes(&crowd, rig);
    sw_hold_unlimit(rig);
    sw_expect_completed(rig);
    crowd_goes(&crowd);
}

/* Where it is to go on; before the source does, and with it */
static void end_paused(SwRig *rig)
{
    Crowd crowd;

    sw_link_enter_postcopy(rig);
    sw_proxy_cut(rig->link_proxy);
    sw_link_expect_paused(rig);
    sw_rig_listen_again(rig);
    half_comes(&crowd, rig, false);
    sw_rig_resume(rig);
    half_comes(&crowd, rig, true);
    sw_hold_unlimit(rig);
    sw_expect_completed(rig);
    crowd_goes(&crowd);
}

static const SwCase cases[] = {
    {
        .path = "strangers/before/plain",
        PRECOPY,
        .end = end_before,
    }, {
        .path = "strangers/before/tls",
        PRECOPY,
        .setup = sw_tls_client,
        .at_destination = sw_tls_server,
        .end = end_before,
    }, {
        .path = "strangers/between/link",
        PRECOPY,
        .proxied = true,
        .end = end_between_link,
    }, {
        .path = "strangers/between/main",
        .full = true,
        PRECOPY,
        .proxied = true,
        .end = end_between_main,
    }, {
        .path = "strangers/pre-copy",
        .full = true,
        PRECOPY,
        .end = end_precopy,
    }, {
        .path = "strangers/post-copy",
        .full = true,
        POSTCOPY,
        .end = end_postcopy,
    }, {
        .path = "strangers/paused",
        .full = true,
        POSTCOPY,
        .proxied = true,
        .end = end_paused,
    },
};

void sw_add_return_path_stranger_tests(void)
{
    sw_link_add_cases(cases, ARRAY_SIZE(cases));
}
