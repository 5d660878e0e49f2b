/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: what serves vhost-user devices
 */

#include "qemu/osdep.h"
#include "switchover/harness.h"
#include "switchover/parallel-host.h"

unsigned par_disks(const ParCase *c)
{
    return c->disks ?: 2;
}

unsigned par_queues(const ParCase *c)
{
    return c->queues ?: 2;
}

const char *par_disk(unsigned n)
{
    static const char *const names[PAR_DISKS_MAX] = {
        "disk0", "disk1", "disk2", "disk3",
    };

    return names[n % PAR_DISKS_MAX];
}

const char *par_nic(unsigned n)
{
    static const char *const names[PAR_NICS_MAX] = {
        "nic0", "nic1", "nic2", "nic3",
    };

    return names[n % PAR_NICS_MAX];
}

unsigned par_devices(const ParCase *c)
{
    return par_disks(c) + c->nics;
}

const char *par_device(const ParCase *c, unsigned n)
{
    unsigned disks = par_disks(c);

    return n < disks ? par_disk(n) : par_nic(n - disks);
}

unsigned par_rings(const ParCase *c, unsigned n)
{
    return n < par_disks(c) ? par_queues(c) : 2 * par_queues(c);
}

const char *par_victim(ParRig *rig)
{
    return rig->c->victim ?: "disk0";
}

bool par_is_nic(const char *device)
{
    return g_str_has_prefix(device, "nic");
}

unsigned par_number(const char *device)
{
    return g_ascii_strtoull(device + strcspn(device, "0123456789"), NULL, 10);
}

SwSim *par_host_sim(ParHost *host, const char *device)
{
    return host->lone && g_str_equal(device, "disk0") ? host->lone : host->sim;
}

SwSim *par_sim(ParRig *rig, const char *device)
{
    return par_host_sim(&rig->host[rig->here], device);
}

SwSim *par_dst_sim(ParRig *rig, const char *device)
{
    return par_host_sim(&rig->host[!rig->here], device);
}

/*
 * Real backends
 */

static SwChild **process_of(ParRig *rig, unsigned host, const char *device)
{
    unsigned n = rig->c->shared ? 0 : par_number(device);
    ParHost *h = &rig->host[host];

    return par_is_nic(device) ? &h->nic[n] : &h->disk[n];
}

/* Starts the process that serves @device, and with it others if it is shared */
static void start_real(ParRig *rig, unsigned host, const char *device)
{
    bool shared = rig->c->shared;
    unsigned first = shared ? 0 : par_number(device);
    SwChild **process = process_of(rig, host, device);

    if (par_is_nic(device)) {
        *process = sw_testpmd_new(rig->dir, host, first,
                                  shared ? rig->c->nics : 1,
                                  par_queues(rig->c));
    } else {
        *process = sw_storage_daemon_new(rig->dir, host, first,
                                         shared ? par_disks(rig->c) : 1,
                                         par_queues(rig->c));
    }
}

static void start_real_host(ParRig *rig, unsigned host)
{
    unsigned n;

    for (n = 0; n < par_devices(rig->c); n++) {
        const char *device = par_device(rig->c, n);

        if (!*process_of(rig, host, device)) {
            start_real(rig, host, device);
        }
    }
}

void par_freeze(ParRig *rig, const char *device)
{
    if (rig->c->real) {
        sw_child_freeze(*process_of(rig, rig->here, device));
    } else {
        sw_sim_freeze(par_sim(rig, device));
    }
}

void par_thaw(ParRig *rig, const char *device)
{
    if (rig->c->real) {
        sw_child_thaw(*process_of(rig, rig->here, device));
    } else {
        sw_sim_thaw(par_sim(rig, device));
    }
}

void par_kill(ParRig *rig, const char *device)
{
    sw_child_kill(*process_of(rig, rig->here, device));
}

void par_revive(ParRig *rig, const char *device)
{
    sw_child_free(*process_of(rig, rig->here, device));
    start_real(rig, rig->here, device);
}

bool par_share_fate(ParRig *rig, const char *device, const char *other)
{
    return g_str_equal(device, other) ||
           (rig->c->real &&
            process_of(rig, 0, device) == process_of(rig, 0, other));
}

/*
 * Simulators, and either
 */

static void add_disk_words(ParRig *rig, unsigned host, unsigned n,
                           GPtrArray *words)
{
    g_ptr_array_add(words, g_strdup("--blk"));
    g_ptr_array_add(words, g_strdup_printf(
        "disk%u,queues=%u,size=64M,file=%s/disk%u.img,listen=%s/disk%u.%u",
        n, par_queues(rig->c), rig->dir, n, rig->dir, n, host));
}

static SwSim *start_sim(ParRig *rig, const char *what, unsigned host,
                        GPtrArray *words)
{
    g_autofree char *name = g_strdup_printf("%s%u", what, host);
    SwSim *sim;

    g_ptr_array_add(words, NULL);
    sim = sw_sim_new(rig->dir, name, (const char *const *)words->pdata);
    g_ptr_array_set_size(words, 0);
    return sim;
}

static void start_sim_host(ParRig *rig, unsigned host)
{
    g_autoptr(GPtrArray) words = g_ptr_array_new_with_free_func(g_free);
    unsigned n;

    for (n = 0; n < par_disks(rig->c); n++) {
        add_disk_words(rig, host, n, words);
        if (n == 0 && rig->c->lone) {
            rig->host[host].lone = start_sim(rig, "lone", host, words);
        }
    }
    for (n = 0; n < rig->c->nics; n++) {
        g_ptr_array_add(words, g_strdup("--net"));
        g_ptr_array_add(words, g_strdup_printf(
            "nic%u,queue-pairs=%u,listen=%s/nic%u.%u", n,
            par_queues(rig->c), rig->dir, n, host));
    }
    rig->host[host].sim = start_sim(rig, "sim", host, words);
}

void par_start_host(ParRig *rig, unsigned host)
{
    if (rig->c->real) {
        start_real_host(rig, host);
    } else {
        start_sim_host(rig, host);
    }
}

void par_free_host(ParHost *host)
{
    unsigned i;

    sw_sim_free(host->sim);
    sw_sim_free(host->lone);
    for (i = 0; i < ARRAY_SIZE(host->disk); i++) {
        sw_child_free(host->disk[i]);
    }
    for (i = 0; i < ARRAY_SIZE(host->nic); i++) {
        sw_child_free(host->nic[i]);
    }
}

char *par_backend_missing(const ParCase *c)
{
    if (!c->real) {
        return g_strdup(sw_sim_missing());
    }
    return sw_storage_daemon_missing() ?:
           (c->nics ? sw_testpmd_missing() : NULL);
}
