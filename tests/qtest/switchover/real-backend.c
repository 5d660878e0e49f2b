/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: vhost-user backends that others wrote
 */

#include "qemu/osdep.h"
#include <glob.h>
#include <sched.h>
#include "switchover/harness.h"
#include "switchover/real-backend.h"

#define TESTPMD "dpdk-testpmd"

#define IMAGE_BYTES (64 * 1024 * 1024)

char *sw_storage_daemon_missing(void)
{
    return sw_env_path("QTEST_QEMU_STORAGE_DAEMON_BINARY") ? NULL :
           g_strdup("QTEST_QEMU_STORAGE_DAEMON_BINARY names no program");
}

/* Drivers are plug-ins; in Debian, each is a package of its own */
static bool has_vhost_driver(void)
{
    glob_t paths;
    bool found = glob("/usr/{,local/}lib{,64,/?*-linux-gnu}/"
                      "librte_net_vhost.so.*", GLOB_BRACE, NULL, &paths) == 0;

    globfree(&paths);
    return found;
}

char *sw_testpmd_missing(void)
{
    g_autofree char *program = g_find_program_in_path(TESTPMD);

    if (!program) {
        return g_strdup(TESTPMD " is not installed (Debian: dpdk-dev)");
    }
    if (!has_vhost_driver()) {
        return g_strdup("DPDK's driver net_vhost is not installed (Debian: "
                        "librte-net-vhost*)");
    }
    return NULL;
}

static void add_word(GPtrArray *words, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);

static void add_word(GPtrArray *words, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_ptr_array_add(words, g_strdup_vprintf(fmt, ap));
    va_end(ap);
}

/* Starts the program, and returns once it has made @ready */
static SwChild *start(GPtrArray *words, const char *ready)
{
    SwChild *child;
    char *why = NULL;

    g_ptr_array_add(words, NULL);
    child = sw_child_new((const char *const *)words->pdata, ready, &why);
    SW_CHECK(child, "%s", why);
    return child;
}

/* Its content stays, if it is there: both hosts have the same disk */
static void make_image(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT, 0600);

    g_assert_cmpint(ftruncate(fd, IMAGE_BYTES), ==, 0);
    close(fd);
}

static void add_export(GPtrArray *words, const char *dir, unsigned host,
                       unsigned disk, unsigned queues)
{
    g_autofree char *image = g_strdup_printf("%s/disk%u.img", dir, disk);

    make_image(image);
    add_word(words, "--blockdev");
    add_word(words, "driver=file,node-name=disk%u,filename=%s,locking=off",
             disk, image);
    add_word(words, "--export");
    add_word(words, "type=vhost-user-blk,id=disk%u,node-name=disk%u,"
             "addr.type=unix,addr.path=%s/disk%u.%u,writable=on,num-queues=%u",
             disk, disk, dir, disk, host, queues);
}

SwChild *sw_storage_daemon_new(const char *dir, unsigned host, unsigned first,
                               unsigned n, unsigned queues)
{
    g_autoptr(GPtrArray) words = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *pidfile = g_strdup_printf("%s/disk%u.%u.pid", dir, first,
                                               host);
    unsigned disk;

    add_word(words, "%s", sw_env_path("QTEST_QEMU_STORAGE_DAEMON_BINARY"));
    add_word(words, "--pidfile");
    add_word(words, "%s", pidfile);
    for (disk = first; disk < first + n; disk++) {
        add_export(words, dir, host, disk, queues);
    }
    unlink(pidfile);
    return start(words, pidfile);
}

/*
 * Its first thread sleeps.  The other one polls without rest: the CPU that it
 * is bound to is the same one for all such processes.
 */
static void add_cpus(GPtrArray *words)
{
    int cpu, first = -1, last = -1;
    cpu_set_t cpus;

    g_assert_cmpint(sched_getaffinity(0, sizeof(cpus), &cpus), ==, 0);
    for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &cpus)) {
            first = first < 0 ? cpu : first;
            last = cpu;
        }
    }
    add_word(words, "--lcores=0@%d,1@%d", first, last);
}

/*
 * Ordinary memory, and no files below /run.  Without a terminal, it ends at
 * once, unless it has statistics to print.
 */
static GPtrArray *testpmd_words(const char *dir, unsigned host, unsigned first,
                                unsigned n, unsigned queues)
{
    GPtrArray *words = g_ptr_array_new_with_free_func(g_free);
    unsigned nic;

    add_word(words, TESTPMD);
    add_cpus(words);
    add_word(words, "--no-huge");
    add_word(words, "--no-shconf");
    add_word(words, "--no-telemetry");
    add_word(words, "--no-pci");
    add_word(words, "--log-level=error");
    add_word(words, "-m");
    add_word(words, "256");
    for (nic = first; nic < first + n; nic++) {
        add_word(words, "--vdev=net_vhost%u,iface=%s/nic%u.%u,queues=%u",
                 nic, dir, nic, host, queues);
    }
    add_word(words, "--");
    add_word(words, "--no-mlockall");
    add_word(words, "--no-numa");
    add_word(words, "--total-num-mbufs=%u", 4096 * n);
    add_word(words, "--rxq=%u", queues);
    add_word(words, "--txq=%u", queues);
    add_word(words, "--nb-cores=1");
    add_word(words, "--forward-mode=macswap");
    add_word(words, "--port-topology=loop");
    add_word(words, "--auto-start");
    add_word(words, "--stats-period=60");
    return words;
}

SwChild *sw_testpmd_new(const char *dir, unsigned host, unsigned first,
                        unsigned n, unsigned queues)
{
    g_autoptr(GPtrArray) words = testpmd_words(dir, host, first, n, queues);
    g_autofree char *socket = NULL;
    unsigned nic;

    for (nic = first; nic < first + n; nic++) {
        g_free(socket);
        socket = g_strdup_printf("%s/nic%u.%u", dir, nic, host);
        unlink(socket);
    }
    /* It makes them in this order */
    return start(words, socket);
}
