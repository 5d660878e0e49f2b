/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: everything that the two channels can go over
 *
 * What failing looks like: migrate or migrate-incoming refuses an address, or
 * the migration fails or waits, or the guest's data are not what it wrote.
 * Without the feature each is refused, and without wake-ups for pipes those
 * with one-way main channels do not end.
 */

#include "qemu/osdep.h"
#include "switchover/expect.h"
#include "switchover/harness.h"
#include "switchover/postcopy-hold.h"
#include "switchover/return-path-tests.h"
#include "switchover/transport.h"

static const struct {
    const char *name;
    bool socket;
} mains[] = {
    { "tcp", true }, { "unix", true }, { "fd", true },
    { "pipe" }, { "exec" }, { "fifo" },
};

static const char *const links[] = { "tcp", "unix", "fd", "vsock" };

static void end_precopy(SwRig *rig)
{
    sw_rig_migrate(rig);
    sw_expect_completed(rig);
}

static void end_postcopy(SwRig *rig)
{
    sw_link_enter_postcopy(rig);
    sw_hold_unlimit(rig);
    sw_expect_completed(rig);
}

static const SwCase precopy = {
    .full = true,
    PRECOPY,
    .capabilities = { "return-path", "switchover-ack" },
    .end = end_precopy,
};

static const SwCase postcopy = {
    .full = true,
    POSTCOPY,
    .end = end_postcopy,
};

/* It stays */
static void add_pairing(const SwCase *model, const char *what, unsigned main,
                        const char *link, bool tls)
{
    SwCase *c = g_memdup2(model, sizeof(*model));

    c->path = g_strdup_printf("pairing/%s/%s/%s/%s", mains[main].name, link,
                              what, tls ? "tls" : "plain");
    c->main_by = mains[main].name;
    c->link_by = link;
    if (tls) {
        c->setup = sw_tls_client;
        c->at_destination = sw_tls_server;
    }
    sw_link_add_cases(c, 1);
}

void sw_add_return_path_pairing_tests(void)
{
    unsigned main, link;
    int tls;

    for (main = 0; main < ARRAY_SIZE(mains); main++) {
        for (link = 0; link < ARRAY_SIZE(links); link++) {
            for (tls = 0; tls <= mains[main].socket; tls++) {
                add_pairing(&precopy, "pre-copy", main, links[link], tls);
                add_pairing(&postcopy, "post-copy", main, links[link], tls);
            }
        }
    }
}
