/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: what goes wrong, and with which message
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/cutils.h"
#include "fault.h"
#include "kinds.h"

static const char *const type_names[SIM_FAULT__MAX] = {
    [SIM_FAULT_HOLD] = "hold",
    [SIM_FAULT_CLOSE] = "close",
    [SIM_FAULT_SWALLOW] = "swallow",
    [SIM_FAULT_SHORT] = "short",
    [SIM_FAULT_KIND] = "kind",
    [SIM_FAULT_VALUE] = "value",
    [SIM_FAULT_SWAP] = "swap",
    [SIM_FAULT_TWICE] = "twice",
    [SIM_FAULT_NACK] = "nack",
};

const char *sim_fault_name(SimFaultType type)
{
    return type < SIM_FAULT__MAX ? type_names[type] : "none";
}

static bool parse_type(const char *name, SimFaultType *type, Error **errp)
{
    for (*type = 0; *type < SIM_FAULT__MAX; (*type)++) {
        if (g_str_equal(name, type_names[*type])) {
            return true;
        }
    }
    error_setg(errp, "fault '%s': hold, close, swallow, short, kind, value, "
               "swap, twice or nack", name);
    return false;
}

static bool parse_number(const char *key, const char *text, uint64_t min,
                         uint64_t max, uint64_t *number, Error **errp)
{
    if (parse_uint_full(text, 0, number) || *number < min || *number > max) {
        error_setg(errp, "%s=%s: a number from %" PRIu64 " to %" PRIu64, key,
                   text, min, max);
        return false;
    }
    return true;
}

static bool parse_setting(SimFault *fault, const char *key, const char *text,
                          Error **errp)
{
    uint64_t number;

    if (g_str_equal(key, "n") || g_str_equal(key, "times")) {
        if (!parse_number(key, text, 1, 1000000, &number, errp)) {
            return false;
        }
        *(key[0] == 'n' ? &fault->n : &fault->times) = number;
        return true;
    }
    if (g_str_equal(key, "queue")) {
        if (!parse_number(key, text, 0, 255, &number, errp)) {
            return false;
        }
        fault->queue = number;
        return true;
    }
    if (g_str_equal(key, "size") && fault->type == SIM_FAULT_SHORT) {
        return parse_number(key, text, 0, SIM_PAYLOAD_MAX, &fault->size, errp);
    }
    if (g_str_equal(key, "to") && fault->type == SIM_FAULT_KIND) {
        return sim_kind_parse(text, &fault->to, errp);
    }
    if (g_str_equal(key, "value") &&
        (fault->type == SIM_FAULT_VALUE || fault->type == SIM_FAULT_NACK)) {
        fault->has_value = true;
        return parse_number(key, text, 0, UINT64_MAX, &fault->value, errp);
    }
    if (g_str_equal(key, "index") && fault->type == SIM_FAULT_VALUE) {
        fault->has_index = true;
        return parse_number(key, text, 0, UINT32_MAX, &fault->index, errp);
    }
    if (g_str_equal(key, "num") && fault->type == SIM_FAULT_VALUE) {
        fault->has_num = true;
        return parse_number(key, text, 0, UINT32_MAX, &fault->num, errp);
    }
    error_setg(errp, "fault '%s' has no parameter '%s'",
               type_names[fault->type], key);
    return false;
}

/* What has no sensible default, or makes no sense at all */
static bool is_complete(SimFault *fault, Error **errp)
{
    if (fault->type == SIM_FAULT_VALUE && !fault->has_value &&
        !fault->has_index && !fault->has_num) {
        error_setg(errp, "fault 'value' needs value=, index= or num=");
        return false;
    }
    if (fault->type == SIM_FAULT_KIND && fault->to == SIM_KIND_ANY) {
        error_setg(errp, "fault 'kind' needs to=KIND");
        return false;
    }
    if (fault->type == SIM_FAULT_NACK && fault->kind != SIM_KIND_ANY &&
        sim_kind_is_answered(fault->kind)) {
        error_setg(errp, "%s has a reply of its own: no acknowledgment that "
                   "could be negative", sim_kind_name(fault->kind));
        return false;
    }
    if (fault->type == SIM_FAULT_NACK && !fault->value) {
        error_setg(errp, "value=0 is a positive acknowledgment");
        return false;
    }
    return true;
}

bool sim_fault_parse(SimFault *fault, char **words, Error **errp)
{
    int i;

    *fault = (SimFault) {
        .queue = -1, .n = 1, .times = 1, .size = 4, .to = SIM_KIND_ANY,
    };
    if (!words[0] || !words[1]) {
        error_setg(errp, "a fault has a type and a kind of message");
        return false;
    }
    if (!parse_type(words[0], &fault->type, errp) ||
        !sim_kind_parse(words[1], &fault->kind, errp)) {
        return false;
    }
    if (fault->type == SIM_FAULT_NACK) {
        fault->value = 1;
    }
    for (i = 2; words[i]; i++) {
        g_auto(GStrv) parts = g_strsplit(words[i], "=", 2);

        if (!parts[0] || !parts[1]) {
            error_setg(errp, "'%s': PARAMETER=VALUE expected", words[i]);
            return false;
        }
        if (!parse_setting(fault, parts[0], parts[1], errp)) {
            return false;
        }
    }
    return is_complete(fault, errp);
}

static bool concerns(const SimFault *fault, const SimMessage *msg,
                     bool is_answered)
{
    if (fault->kind != SIM_KIND_ANY && fault->kind != msg->hdr.kind) {
        return false;
    }
    if (fault->queue >= 0 && fault->queue != sim_message_queue(msg)) {
        return false;
    }
    if (fault->type == SIM_FAULT_NACK) {
        return is_answered && !sim_kind_is_answered(msg->hdr.kind);
    }
    return is_answered || fault->type == SIM_FAULT_HOLD ||
           fault->type == SIM_FAULT_CLOSE;
}

bool sim_fault_strikes(SimFault *fault, const SimMessage *msg, bool is_answered)
{
    if (!fault->times || !concerns(fault, msg, is_answered)) {
        return false;
    }
    if (fault->n > 1) {
        fault->n--;
        return false;
    }
    fault->times--;
    return true;
}

void sim_fault_alter(const SimFault *fault, SimMessage *reply)
{
    if (fault->type == SIM_FAULT_SHORT) {
        reply->hdr.size = MIN(reply->hdr.size, fault->size);
    } else if (fault->type == SIM_FAULT_KIND) {
        reply->hdr.kind = fault->to;
    } else if (fault->type == SIM_FAULT_NACK || fault->has_value) {
        sim_message_put_u64(reply, fault->value);
    } else {
        if (fault->has_index) {
            sim_message_put_u32(reply, 0, fault->index);
        }
        if (fault->has_num) {
            sim_message_put_u32(reply, 4, fault->num);
        }
    }
}
