/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: what must be true of devices that change at once
 */

#include "qemu/osdep.h"
#include "switchover/harness.h"
#include "switchover/parallel-expect.h"

/* All messages of a connection were outstanding at once */
void par_expect_depth(ParRig *rig)
{
    unsigned n;

    for (n = 0; n < par_devices(rig->c); n++) {
        const char *device = par_device(rig->c, n);
        int64_t most = sw_sim_count(par_sim(rig, device), device,
                                    "GET_VRING_BASE", "most-pending");

        SW_CHECK(most == par_rings(rig->c, n),
                 "%s: %d of %u questions were outstanding at once", device,
                 (int)most, par_rings(rig->c, n));
    }
}

/* No device was done before all of them had been asked */
void par_expect_together(ParRig *rig, const char *kind, int64_t since_us)
{
    int64_t asked_us = 0, done_us = INT64_MAX;
    unsigned n;

    for (n = 0; n < par_devices(rig->c); n++) {
        const char *device = par_device(rig->c, n);
        SwSim *sim = par_sim(rig, device);

        asked_us = MAX(asked_us, sw_sim_when(sim, device, "arrive", kind,
                                             since_us, false));
        done_us = MIN(done_us, sw_sim_when(sim, device, "reply", kind,
                                           since_us, true));
    }
    SW_CHECK(asked_us > 0, "nobody was asked");
    SW_CHECK(asked_us < done_us, "a device was asked %d us after another one "
             "was done", (int)(asked_us - done_us));
}

void par_expect_stopped(ParRig *rig)
{
    unsigned n;

    for (n = 0; n < par_devices(rig->c); n++) {
        const char *device = par_device(rig->c, n);

        SW_CHECK(sw_sim_running(par_sim(rig, device), device) == 0,
                 "%s: a queue still runs", device);
    }
}

void par_expect_all_started(ParRig *rig)
{
    unsigned n;

    for (n = 0; n < par_devices(rig->c); n++) {
        const char *device = par_device(rig->c, n);

        SW_CHECK(sw_sim_running(par_sim(rig, device), device) ==
                 par_rings(rig->c, n), "%s: a queue does not run", device);
    }
}

void par_expect_counted(SwVM *vm, ParRig *rig, bool taking_part)
{
    unsigned n;

    for (n = 0; n < par_devices(rig->c); n++) {
        const char *device = par_device(rig->c, n);
        QDict *dev = par_query_device(vm, device);

        SW_CHECK((dev != NULL) == taking_part, "%s: query-migrate %s %s",
                 vm->name, dev ? "lists" : "does not list", device);
        if (dev) {
            SW_CHECK(qdict_get_int(dev, "messages") > 0,
                     "%s: no messages to %s", vm->name, device);
            SW_CHECK(qdict_get_int(dev, "handler-us") > 0,
                     "%s: no time for %s", vm->name, device);
            g_assert_false(qdict_get_bool(dev, "late"));
            g_assert_false(qdict_haskey(dev, "reason"));
        }
        qobject_unref(dev);
    }
}

/* "vmstate_change_commit disk0 running 0: 4 messages, 123 us" */
static unsigned count_commits(const char *text, const char *device,
                              bool running)
{
    g_autofree char *begin = g_strdup_printf("vmstate_change_commit %s "
                                             "running %d: ", device, running);
    unsigned n = 0;

    while ((text = strstr(text, begin))) {
        text += strlen(begin);
        n += g_ascii_strtoull(text, NULL, 10) > 0;
    }
    return n;
}

void par_expect_took_part(ParRig *rig, SwVM *vm, unsigned times)
{
    g_autofree char *text = par_stderr(rig, vm);
    unsigned i, running;

    for (i = 0; i < par_devices(rig->c); i++) {
        const char *device = par_device(rig->c, i);

        for (running = 0; running <= 1; running++) {
            unsigned n = count_commits(text, device, running);

            SW_CHECK(n >= times, "%s took part in %u of at least %u %s",
                     device, n, times, running ? "starts" : "stops");
        }
    }
}
