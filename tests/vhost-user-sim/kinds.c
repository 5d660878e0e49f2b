/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: the kinds of messages
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/cutils.h"
#include "kinds.h"

/* Not known to libvhost-user, so numbers instead of its constants for all */
static const char *const names[SIM_KIND_MAX] = {
    [1] = "GET_FEATURES",
    [2] = "SET_FEATURES",
    [3] = "SET_OWNER",
    [4] = "RESET_OWNER",
    [5] = "SET_MEM_TABLE",
    [6] = "SET_LOG_BASE",
    [7] = "SET_LOG_FD",
    [8] = "SET_VRING_NUM",
    [9] = "SET_VRING_ADDR",
    [10] = "SET_VRING_BASE",
    [11] = "GET_VRING_BASE",
    [12] = "SET_VRING_KICK",
    [13] = "SET_VRING_CALL",
    [14] = "SET_VRING_ERR",
    [15] = "GET_PROTOCOL_FEATURES",
    [16] = "SET_PROTOCOL_FEATURES",
    [17] = "GET_QUEUE_NUM",
    [18] = "SET_VRING_ENABLE",
    [19] = "SEND_RARP",
    [20] = "NET_SET_MTU",
    [21] = "SET_BACKEND_REQ_FD",
    [22] = "IOTLB_MSG",
    [23] = "SET_VRING_ENDIAN",
    [24] = "GET_CONFIG",
    [25] = "SET_CONFIG",
    [26] = "CREATE_CRYPTO_SESSION",
    [27] = "CLOSE_CRYPTO_SESSION",
    [28] = "POSTCOPY_ADVISE",
    [29] = "POSTCOPY_LISTEN",
    [30] = "POSTCOPY_END",
    [31] = "GET_INFLIGHT_FD",
    [32] = "SET_INFLIGHT_FD",
    [33] = "GPU_SET_SOCKET",
    [34] = "RESET_DEVICE",
    [35] = "VRING_KICK",
    [36] = "GET_MAX_MEM_SLOTS",
    [37] = "ADD_MEM_REG",
    [38] = "REM_MEM_REG",
    [39] = "SET_STATUS",
    [40] = "GET_STATUS",
    [41] = "GET_SHARED_OBJECT",
    [42] = "SET_DEVICE_STATE_FD",
    [43] = "CHECK_DEVICE_STATE",
};

static const char *const numbered[SIM_KIND_MAX] = {
#define N(n) [n] = "KIND_" #n
    N(0), N(44), N(45), N(46), N(47), N(48), N(49), N(50), N(51), N(52), N(53),
    N(54), N(55), N(56), N(57), N(58), N(59), N(60), N(61), N(62), N(63),
#undef N
};

const char *sim_kind_name(unsigned kind)
{
    if (kind > SIM_KIND_MAX) {
        return "KIND_OUT_OF_RANGE";
    }
    if (kind == SIM_KIND_ANY) {
        return "ANY";
    }
    return names[kind] ?: numbered[kind];
}

bool sim_kind_parse(const char *name, unsigned *kind, Error **errp)
{
    for (*kind = 0; *kind <= SIM_KIND_MAX; (*kind)++) {
        if (g_str_equal(name, sim_kind_name(*kind))) {
            return true;
        }
    }
    error_setg(errp, "'%s' is no kind of message: a name of the vhost-user "
               "specification without VHOST_USER_, such as GET_VRING_BASE, "
               "or ANY", name);
    return false;
}

static bool is_one_of(unsigned kind, const uint8_t *set)
{
    for (; *set; set++) {
        if (*set == kind) {
            return true;
        }
    }
    return false;
}

bool sim_kind_is_answered(unsigned kind)
{
    /*
     * SET_LOG_BASE: every backend with LOG_SHMFD answers, and without that
     * feature QEMU does not migrate.
     */
    static const uint8_t answered[] = {
        1, 6, 11, 15, 17, 24, 26, 28, 29, 30, 31, 36, 40, 41, 42, 43, 0
    };

    return is_one_of(kind, answered);
}

bool sim_kind_has_vring_state(unsigned kind)
{
    static const uint8_t with_state[] = { 8, 9, 10, 11, 18, 23, 35, 0 };

    return is_one_of(kind, with_state);
}

bool sim_kind_has_vring_file(unsigned kind)
{
    static const uint8_t with_file[] = { 12, 13, 14, 0 };

    return is_one_of(kind, with_file);
}
