/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: one QEMU with what listens to it
 */

#include "qemu/osdep.h"
#include <sys/wait.h>
#include "switchover/child.h"
#include "switchover/harness.h"
#include "switchover/vm.h"

/*
 * What the guest is told besides its disks: where its kernel may speak, and to
 * spend no time on what an emulated clock gets wrong.
 */
#define GUEST_APPEND \
    "console=ttyS1 quiet nokaslr mitigations=off no_timer_check tsc=reliable " \
    "cryptomgr.notests=1 " \
    "initcall_blacklist=init_kprobe_trace,load_system_certificate_list " \
    "so.hb=10"

static char *file_path(const char *dir, const char *vm, const char *what)
{
    return g_strdup_printf("%s/%s.%s", dir, vm, what);
}

static int socket_open(const char *dir, const char *vm, const char *what)
{
    g_autofree char *path = file_path(dir, vm, what);

    return sw_listen(path);
}

/*
 * An abort ends QEMU at once: libqtest's own handler asks it to end and waits,
 * which with a stuck disk it does not.  If it sits inside the kernel waiting
 * for a FUSE server, it ends only after that one.
 */
static void kill_on_abort(void *opaque)
{
    sw_children_kill();
    sw_vm_kill(opaque);
}

static void connect_vm(SwVM *vm, const char *dir, int mon_fd, int probe_fd,
                       int serial_fd)
{
    g_autofree char *probe_name = g_strdup_printf("%s (probe)", vm->name);
    g_autofree char *console = file_path(dir, vm->name, "console");

    vm->mon = sw_monitor_new(sw_accept(mon_fd, "monitor"), vm->name, true);
    vm->probe = sw_probe_new(sw_monitor_new(sw_accept(probe_fd, "probe"),
                                            probe_name, false));
    vm->guest = sw_guest_new(sw_accept(serial_fd, "serial"), vm->name, console);
}

SwVM *sw_vm_new(const char *dir, const char *name, const char *binary_env,
                const char *args)
{
    g_autofree char *base = g_strdup_printf("%s/%s", dir, name);
    g_autofree char *cmdline = g_strdup_printf(
        "-accel tcg,thread=multi -nodefaults -no-user-config -name %s "
        "-chardev socket,id=sw-mon,path=%s.mon "
        "-mon chardev=sw-mon,mode=control "
        "-chardev socket,id=sw-probe,path=%s.probe "
        "-mon chardev=sw-probe,mode=control "
        "-chardev socket,id=sw-serial,path=%s.serial "
        "-serial chardev:sw-serial -serial file:%s.console %s",
        name, base, base, base, base, args);
    int mon_fd = socket_open(dir, name, "mon");
    int probe_fd = socket_open(dir, name, "probe");
    int serial_fd = socket_open(dir, name, "serial");
    SwVM *vm = g_new0(SwVM, 1);

    vm->name = g_strdup(name);
    vm->qts = qtest_init_with_env(binary_env, cmdline, true);
    qtest_add_abrt_handler(kill_on_abort, vm);
    connect_vm(vm, dir, mon_fd, probe_fd, serial_fd);
    sw_vm_set_capability(vm, "events");
    return vm;
}

void sw_vm_free(SwVM *vm)
{
    if (!vm) {
        return;
    }
    sw_probe_free(vm->probe);
    sw_monitor_free(vm->mon);
    qtest_remove_abrt_handler(vm);
    qtest_quit(vm->qts);
    sw_guest_free(vm->guest);
    g_free(vm->name);
    g_free(vm);
}

/*
 * A child reaped behind libqtest's back counts there as one that ended well,
 * once it was asked to look.
 */
void sw_vm_kill(SwVM *vm)
{
    pid_t pid = qtest_pid(vm->qts);

    if (pid > 0) {
        kill(pid, SIGKILL);
        RETRY_ON_EINTR(waitpid(pid, NULL, 0));
        qtest_probe_child(vm->qts);
        vm->killed = true;
    }
}

void sw_vm_freeze(SwVM *vm)
{
    kill(qtest_pid(vm->qts), SIGSTOP);
}

void sw_vm_thaw(SwVM *vm)
{
    kill(qtest_pid(vm->qts), SIGCONT);
}

void sw_vm_wait_exit(SwVM *vm, int status)
{
    if (!vm->killed) {
        qtest_set_expected_status(vm->qts, status);
        qtest_wait_qemu(vm->qts);
    }
}

typedef struct Death {
    pid_t pid;
    int wstatus;
} Death;

static bool is_dead(void *opaque)
{
    Death *death = opaque;

    return waitpid(death->pid, &death->wstatus, WNOHANG) == death->pid;
}

int sw_vm_wait_signal(SwVM *vm)
{
    Death death = { .pid = qtest_pid(vm->qts) };

    sw_wait_until(is_dead, &death, SW_WAIT_MS, "QEMU to end");
    qtest_probe_child(vm->qts);
    vm->killed = true;
    SW_CHECK(WIFSIGNALED(death.wstatus), "%s: ended with wait status %d",
             vm->name, death.wstatus);
    return WTERMSIG(death.wstatus);
}

char *sw_binary_missing(const char *binary_env)
{
    if (!binary_env || sw_env_path(binary_env)) {
        return NULL;
    }
    return g_strdup_printf("%s names no QEMU", binary_env);
}

const char *sw_guest_missing(void)
{
    static const char *const files[] = { "vmlinuz", "initramfs.gz" };
    const char *dir = sw_env_path("SWITCHOVER_GUEST");
    int i;

    if (!dir) {
        return "SWITCHOVER_GUEST names no directory";
    }
    for (i = 0; i < ARRAY_SIZE(files); i++) {
        g_autofree char *path = g_build_filename(dir, files[i], NULL);

        if (!g_file_test(path, G_FILE_TEST_EXISTS)) {
            return "SWITCHOVER_GUEST lacks vmlinuz or initramfs.gz";
        }
    }
    return NULL;
}

static char *guest_args(const char *disks, unsigned depth, unsigned cpus,
                        const char *more)
{
    const char *dir = sw_env_path("SWITCHOVER_GUEST");

    /*
     * qboot looks at no disk; SeaBIOS before 1.16.3 does, and waits 32 s for
     * each one on AHCI.
     */
    return g_strdup_printf("-smp %u -m 256 -bios qboot.rom "
                           "-kernel %s/vmlinuz -initrd %s/initramfs.gz "
                           "-append '" GUEST_APPEND " so.disks=%s so.depth=%u "
                           "%s'", cpus, dir, dir, disks, depth, more);
}

char *sw_guest_args(const char *disks, unsigned depth, unsigned cpus)
{
    return guest_args(disks, depth, cpus, "");
}

char *sw_guest_args_nics(const char *disks, unsigned nics, unsigned depth,
                         unsigned cpus)
{
    g_autofree char *more = g_strdup_printf("so.nics=%u", nics);

    return guest_args(disks, depth, cpus, more);
}

char *sw_guest_args_dirty(const char *disks, unsigned mib_per_s, unsigned mib,
                          unsigned depth, unsigned cpus)
{
    g_autofree char *more = g_strdup_printf("so.dirty=%u so.dirtybuf=%u",
                                            mib_per_s, mib);

    return guest_args(disks, depth, cpus, mib_per_s ? more : "");
}

char *sw_vm_run_state(SwVM *vm)
{
    QDict *ret = sw_qmp(vm->mon, "{ 'execute': 'query-status' }");
    char *state = g_strdup(qdict_get_str(ret, "status"));

    qobject_unref(ret);
    return state;
}

bool sw_vm_in_state(SwVM *vm, const char *run_state)
{
    g_autofree char *state = sw_vm_run_state(vm);

    return g_str_equal(state, run_state);
}

typedef struct SwStateWait {
    SwVM *vm;
    const char *run_state;
} SwStateWait;

static bool is_in_state(void *opaque)
{
    SwStateWait *wait = opaque;

    return sw_vm_in_state(wait->vm, wait->run_state);
}

void sw_vm_wait_state(SwVM *vm, const char *run_state)
{
    SwStateWait wait = { .vm = vm, .run_state = run_state };
    g_autofree char *what = g_strdup_printf("%s to be '%s'", vm->name,
                                            run_state);

    sw_wait_until(is_in_state, &wait, SW_WAIT_MS, what);
}

unsigned sw_vm_count(SwVM *vm, const char *what)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/%s",
                                            (int)qtest_pid(vm->qts), what);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    unsigned n = 0;

    SW_CHECK(dir, "cannot look at %s", path);
    while (g_dir_read_name(dir)) {
        n++;
    }
    return n;
}

static bool is_in_call(const char *task, long number)
{
    g_autofree char *path = g_strdup_printf("%s/syscall", task);
    g_autofree char *text = NULL;

    /* It may have ended; one that runs says so in a word */
    return g_file_get_contents(path, &text, NULL, NULL) &&
           g_ascii_isdigit(*text) && atol(text) == number;
}

unsigned sw_vm_count_in_call(SwVM *vm, long number)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task",
                                            (int)qtest_pid(vm->qts));
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;
    unsigned n = 0;

    SW_CHECK(dir, "cannot look at %s", path);
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *task = g_build_filename(path, name, NULL);

        n += is_in_call(task, number);
    }
    return n;
}

/* Field 4, after a name that may contain anything */
static int parent_of(const char *pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/stat", pid);
    g_autofree char *stat = NULL;
    const char *end;
    int parent = 0;

    if (g_file_get_contents(path, &stat, NULL, NULL)) {
        end = strrchr(stat, ')');
        sscanf(end ?: "", ") %*c %d", &parent);
    }
    return parent;
}

unsigned sw_vm_children(SwVM *vm)
{
    g_autoptr(GDir) dir = g_dir_open("/proc", 0, NULL);
    const char *name;
    unsigned n = 0;

    while ((name = g_dir_read_name(dir))) {
        n += g_ascii_isdigit(*name) && parent_of(name) == qtest_pid(vm->qts);
    }
    return n;
}

QDict *sw_vm_migration(SwVM *vm, const char *member)
{
    QDict *info = sw_qmp(vm->mon, "{ 'execute': 'query-migrate' }");
    QDict *dict = qdict_get_qdict(info, member);

    SW_CHECK(dict, "query-migrate has no '%s'", member);
    qobject_ref(dict);
    qobject_unref(info);
    return dict;
}

void sw_vm_set_capability(SwVM *vm, const char *capability)
{
    sw_qmp_ok(vm->mon, "{ 'execute': 'migrate-set-capabilities', 'arguments':"
              " { 'capabilities': [ { 'capability': %s, 'state': true } ] } }",
              capability);
}

void sw_vm_set_parameter(SwVM *vm, const char *name, int64_t value)
{
    sw_qmp_ok(vm->mon, "{ 'execute': 'migrate-set-parameters',"
              " 'arguments': { %s: %" PRId64 " } }", name, value);
}
