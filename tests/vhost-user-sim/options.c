/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: the command line
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "device-spec.h"
#include "options.h"

static const char summary[] =
    "Simulates vhost-user backends that are slow or wrong on demand, for one\n"
    "or many devices.  Prints \"ready\" when all of them can be connected to.";

static const char details[] =
    "A device is NAME[,KEY=VALUE]...:\n"
    "  count=N             this many devices (1); each # in NAME and in paths\n"
    "                      becomes 0 to N-1\n"
    "  listen=PATH         be a server at this socket; or\n"
    "  connect=PATH        be a client of it, again and again\n"
    "  latency=KIND:US,... microseconds that messages take; KIND is\n"
    "                      GET_VRING_BASE and the like, or ANY (none)\n"
    "  latency-mode=MODE   serial: one message after another takes its time;\n"
    "                      wakeup: the backend looks at its connection so\n"
    "                      long after a message arrived, and then handles all\n"
    "                      that there is at once (serial)\n"
    "  mq, log, reply-ack, backend-req, postcopy, config, inflight,\n"
    "  mem-slots=on|off    off: hide this protocol feature (on, but mem-slots\n"
    "                      of --net and --blk: then QEMU uses SET_MEM_TABLE)\n"
    "for --net:\n"
    "  queue-pairs=N       1 to 128 (1)\n"
    "  frames=reflect|drop what to do with frames from the guest (reflect)\n"
    "for --blk:\n"
    "  queues=N            1 to 256 (1)\n"
    "  size=SIZE           of the disk, such as 64M (64M)\n"
    "  file=PATH           where its contents are; made if need be (memory)\n"
    "for --proxy:\n"
    "  listen= is for the frontend, connect= for the backend; needs both\n"
    "\n"
    "Commands for --control, one per line; each gets a line that begins with\n"
    "OK or ERR.  DEVICES is a name, or several with * and ?:\n"
    "  list\n"
    "  stats DEVICES       counts as JSON: an object; an array with * or ?\n"
    "  reset DEVICES       counts to zero\n"
    "  latency DEVICES MODE KIND:US[,...] | latency DEVICES off\n"
    "  fault DEVICES TYPE KIND [n=N] [times=N] [queue=N] [PARAMETER=N]...\n"
    "      TYPE: hold, close, swallow, short [size=], kind to=KIND,\n"
    "      value [value=|index=|num=], swap, twice, nack [value=];\n"
    "      happens to the n-th such message from now, and times-1 more\n"
    "  clear DEVICES       forget the faults that have not happened\n"
    "  resume DEVICES      go on with what \"hold\" has stopped\n"
    "  drop DEVICES        close the connection\n"
    "  quit";

static bool add_devices(SimDeviceType type, const char *option,
                        const char *value, SimOptions *options,
                        GError **gerr)
{
    Error *err = NULL;

    if (sim_device_spec_parse(type, value, options->devices, &err)) {
        return true;
    }
    g_set_error(gerr, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "%s %s: %s",
                option, value, error_get_pretty(err));
    error_free(err);
    return false;
}

static gboolean on_net(const char *option, const char *value, void *opaque,
                       GError **gerr)
{
    return add_devices(SIM_DEVICE_NET, option, value, opaque, gerr);
}

static gboolean on_blk(const char *option, const char *value, void *opaque,
                       GError **gerr)
{
    return add_devices(SIM_DEVICE_BLK, option, value, opaque, gerr);
}

static gboolean on_proxy(const char *option, const char *value, void *opaque,
                         GError **gerr)
{
    return add_devices(SIM_DEVICE_PROXY, option, value, opaque, gerr);
}

static bool have_same_name(const SimOptions *options, const char **name)
{
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
    unsigned i;

    for (i = 0; i < options->devices->len; i++) {
        SimDeviceConfig *config = g_ptr_array_index(options->devices, i);

        *name = config->name;
        if (!g_hash_table_add(names, config->name)) {
            return true;
        }
    }
    return false;
}

static bool check(const SimOptions *options, int argc, char **argv,
                  Error **errp)
{
    const char *name;

    if (argc > 1) {
        error_setg(errp, "'%s' is no option; see --help", argv[1]);
    } else if (!options->devices->len) {
        error_setg(errp, "no device: --net, --blk or --proxy; see --help");
    } else if (have_same_name(options, &name)) {
        error_setg(errp, "two devices are called '%s'", name);
    } else {
        return true;
    }
    return false;
}

SimOptions *sim_options_parse(int *argc, char ***argv, Error **errp)
{
    SimOptions *options = g_new0(SimOptions, 1);
    const GOptionEntry entries[] = {
        { "net", 0, 0, G_OPTION_ARG_CALLBACK, on_net,
          "Add network cards", "DEVICE" },
        { "blk", 0, 0, G_OPTION_ARG_CALLBACK, on_blk,
          "Add disks", "DEVICE" },
        { "proxy", 0, 0, G_OPTION_ARG_CALLBACK, on_proxy,
          "Add wires to other programs' backends", "DEVICE" },
        { "control", 0, 0, G_OPTION_ARG_FILENAME, &options->control,
          "Listen for commands at this socket", "PATH" },
        { "log", 0, 0, G_OPTION_ARG_FILENAME, &options->log,
          "Log all messages to this file", "PATH" },
        { "one-thread", 0, 0, G_OPTION_ARG_NONE, &options->one_thread,
          "Serve all devices from one thread, as if they were one program's",
          NULL },
        { "ignore-stdin", 0, 0, G_OPTION_ARG_NONE, &options->ignore_stdin,
          "Do not end when standard input does", NULL },
        { "outlive-parent", 0, 0, G_OPTION_ARG_NONE, &options->outlive_parent,
          "Do not end when the parent does", NULL },
        { NULL }
    };
    GOptionContext *context = g_option_context_new(NULL);
    GOptionGroup *group = g_option_group_new(NULL, NULL, NULL, options, NULL);
    GError *gerr = NULL;
    bool good;

    options->devices = g_ptr_array_new_with_free_func(
        (GDestroyNotify)sim_device_config_free);
    g_option_group_add_entries(group, entries);
    g_option_context_set_main_group(context, group);
    g_option_context_set_summary(context, summary);
    g_option_context_set_description(context, details);
    good = g_option_context_parse(context, argc, argv, &gerr);
    g_option_context_free(context);
    if (!good) {
        error_setg(errp, "%s", gerr->message);
        g_error_free(gerr);
    }
    if (!good || !check(options, *argc, *argv, errp)) {
        g_clear_pointer(&options, sim_options_free);
    }
    return options;
}

void sim_options_free(SimOptions *options)
{
    g_ptr_array_unref(options->devices);
    g_free(options->control);
    g_free(options->log);
    g_free(options);
}
