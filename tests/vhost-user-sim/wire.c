/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: the wire between a frontend and a backend
 */

#include "qemu/osdep.h"
#include <poll.h>
#include "qapi/error.h"
#include "libvhost-user.h"
#include "backend.h"
#include "wire.h"

typedef enum WireState {
    WIRE_IDLE,
    WIRE_ASLEEP,
    WIRE_TURN,
    WIRE_HELD,
    WIRE_DELAYED,
    WIRE_ASKED,
} WireState;

/* This thread's alone */
typedef struct Wire {
    SimDevice *dev;
    int frontend;
    int backend;

    GQueue arrived;         /* of SimMessage, not yet taken up */
    SimMessage *active;     /* the one that is taken up, from TURN on */
    SimFault fault;         /* what happens to it */
    WireState state;
    int64_t due_us;         /* ASLEEP and DELAYED: until then */
    bool is_awake;          /* latency mode wakeup: handles all there is */
    SimMessage *kept;       /* a reply to be sent after the next one */
    bool in_postcopy;
    bool is_over;
} Wire;

static void log_event(Wire *wire, const char *event, const SimMessage *msg)
{
    sim_journal_write(wire->dev->journal, wire->dev->config->name, event, msg,
                      0);
}

static void give_up(Wire *wire, Error *err)
{
    if (err) {
        error_reportf_err(err, "%s: ", wire->dev->config->name);
    }
    wire->is_over = true;
}

static bool is_mem_table(const SimMessage *msg)
{
    return msg->hdr.kind == VHOST_USER_SET_MEM_TABLE ||
           msg->hdr.kind == VHOST_USER_ADD_MEM_REG;
}

/*
 * In post-copy, the addresses of regions come back; the frontend then says that
 * it is ready by a message of the same kind with 8 bytes, without a reply.
 */
static bool is_answered(Wire *wire, const SimMessage *msg)
{
    return sim_kind_is_answered(msg->hdr.kind) ||
           msg->hdr.flags & SIM_FLAG_NEED_REPLY ||
           (wire->in_postcopy && is_mem_table(msg) &&
            msg->hdr.size > sizeof(uint64_t));
}

static void follow_postcopy(Wire *wire, const SimMessage *msg)
{
    if (msg->hdr.kind == VHOST_USER_POSTCOPY_LISTEN) {
        wire->in_postcopy = true;
    } else if (msg->hdr.kind == VHOST_USER_POSTCOPY_END) {
        wire->in_postcopy = false;
    }
}

/* ---- latency and faults of the device, which the main thread may change -- */

static SimLatencyMode latency_mode(SimDevice *dev)
{
    QEMU_LOCK_GUARD(&dev->lock);
    return dev->latency.mode;
}

static int64_t latency_us(SimDevice *dev, const SimMessage *msg)
{
    QEMU_LOCK_GUARD(&dev->lock);
    return sim_latency_us(&dev->latency, msg->hdr.kind);
}

/* All that are waiting count the message; the first to strike is taken */
static SimFault find_fault(Wire *wire, const SimMessage *msg)
{
    SimDevice *dev = wire->dev;
    SimFault found = { .type = SIM_FAULT_NONE };
    unsigned i = 0;

    QEMU_LOCK_GUARD(&dev->lock);
    while (i < dev->faults->len) {
        SimFault *fault = &g_array_index(dev->faults, SimFault, i);

        if (found.type == SIM_FAULT_NONE &&
            sim_fault_strikes(fault, msg, is_answered(wire, msg))) {
            found = *fault;
            dev->stats.faults++;
        }
        if (!fault->times) {
            g_array_remove_index(dev->faults, i);
        } else {
            i++;
        }
    }
    return found;
}

static void set_held(SimDevice *dev, bool held)
{
    QEMU_LOCK_GUARD(&dev->lock);
    dev->is_held = held;
    dev->resume = false;
}

static bool is_resumed(SimDevice *dev)
{
    QEMU_LOCK_GUARD(&dev->lock);
    return dev->resume;
}

/* ---- to the frontend ----------------------------------------------------- */

static void reply(Wire *wire, const SimMessage *msg, const char *event)
{
    Error *err = NULL;

    /* Before, so that who has the reply finds it in the log */
    log_event(wire, event, msg);
    if (!sim_message_send(wire->frontend, msg, &err)) {
        give_up(wire, err);
    }
}

static void reply_kept(Wire *wire)
{
    SimMessage *kept = g_steal_pointer(&wire->kept);

    if (kept) {
        reply(wire, kept, "reply");
        sim_message_free(kept);
    }
}

/* A backend need not have all the features that it has */
static void hide_features(Wire *wire, SimMessage *msg)
{
    if (msg->hdr.kind == VHOST_USER_GET_PROTOCOL_FEATURES) {
        sim_message_put_u64(msg, sim_message_u64(msg) &
                                 ~wire->dev->config->without);
    }
}

/* Takes @msg, the backend's honest reply */
static void answer(Wire *wire, SimMessage *msg)
{
    SimDevice *dev = wire->dev;
    SimFaultType type = wire->fault.type;

    hide_features(wire, msg);
    if (dev->backend && wire->in_postcopy && is_mem_table(msg)) {
        sim_backend_fill_in(dev->backend, msg);
    }
    sim_fault_alter(&wire->fault, msg);

    /* Before the frontend can know: who has the reply can trust the counts */
    WITH_QEMU_LOCK_GUARD(&dev->lock) {
        sim_stats_obeyed(&dev->stats, wire->active);
        sim_stats_done(&dev->stats, wire->active);
        if (type != SIM_FAULT_SWALLOW) {
            sim_stats_answered(&dev->stats, wire->active->hdr.kind);
        }
    }
    if (type == SIM_FAULT_SWAP && !wire->kept) {
        wire->kept = msg;
        return;
    }
    if (type != SIM_FAULT_SWALLOW) {
        reply(wire, msg, "reply");
    }
    if (type == SIM_FAULT_TWICE && !wire->is_over) {
        reply(wire, msg, "reply");
    }
    sim_message_free(msg);
    if (!wire->is_over) {
        reply_kept(wire);
    }
}

/* ---- one message after the other ----------------------------------------- */

static void finish(Wire *wire)
{
    sim_turn_leave(wire->dev->turn, &wire->dev->wake);
    g_clear_pointer(&wire->active, sim_message_free);
    wire->state = WIRE_IDLE;
}

static void forward(Wire *wire)
{
    SimDevice *dev = wire->dev;
    SimMessage *msg = wire->active;
    bool answered;
    Error *err = NULL;

    follow_postcopy(wire, msg);
    answered = is_answered(wire, msg);
    log_event(wire, "forward", msg);
    /* Before the backend can do anything that somebody notices */
    if (!answered) {
        WITH_QEMU_LOCK_GUARD(&dev->lock) {
            sim_stats_obeyed(&dev->stats, msg);
            sim_stats_done(&dev->stats, msg);
        }
    }
    if (!sim_message_send(wire->backend, msg, &err)) {
        give_up(wire, err);
    } else if (answered) {
        wire->state = WIRE_ASKED;
    } else {
        finish(wire);
    }
}

static void take_up(Wire *wire)
{
    wire->active = g_queue_pop_head(&wire->arrived);
    wire->fault = find_fault(wire, wire->active);
    wire->state = WIRE_TURN;
}

static void start_delay(Wire *wire)
{
    wire->due_us = g_get_monotonic_time();
    if (latency_mode(wire->dev) == SIM_LATENCY_SERIAL) {
        wire->due_us += latency_us(wire->dev, wire->active);
    }
    wire->state = WIRE_DELAYED;
}

static void start(Wire *wire)
{
    if (wire->fault.type != SIM_FAULT_NONE) {
        g_autofree char *event =
            g_strdup_printf("fault:%s", sim_fault_name(wire->fault.type));

        log_event(wire, event, wire->active);
    }
    if (wire->fault.type == SIM_FAULT_CLOSE) {
        wire->is_over = true;
    } else if (wire->fault.type == SIM_FAULT_HOLD) {
        set_held(wire->dev, true);
        wire->state = WIRE_HELD;
    } else {
        start_delay(wire);
    }
}

static bool step_idle(Wire *wire)
{
    SimMessage *next = g_queue_peek_head(&wire->arrived);

    if (!next) {
        wire->is_awake = false;
        return false;
    }
    if (!wire->is_awake && latency_mode(wire->dev) == SIM_LATENCY_WAKEUP) {
        wire->due_us = next->at_us + latency_us(wire->dev, next);
        wire->state = WIRE_ASLEEP;
    } else {
        take_up(wire);
    }
    return true;
}

static bool is_due(Wire *wire)
{
    return g_get_monotonic_time() >= wire->due_us;
}

/* Goes one state further; false if something must happen before it can */
static bool step(Wire *wire)
{
    switch (wire->state) {
    case WIRE_IDLE:
        return step_idle(wire);
    case WIRE_ASLEEP:
        if (!is_due(wire)) {
            return false;
        }
        wire->is_awake = true;
        wire->state = WIRE_IDLE;
        return true;
    case WIRE_TURN:
        if (!sim_turn_take(wire->dev->turn, &wire->dev->wake)) {
            return false;
        }
        start(wire);
        return true;
    case WIRE_HELD:
        if (!is_resumed(wire->dev)) {
            return false;
        }
        set_held(wire->dev, false);
        log_event(wire, "resume", wire->active);
        start_delay(wire);
        return true;
    case WIRE_DELAYED:
        if (!is_due(wire)) {
            return false;
        }
        forward(wire);
        return true;
    case WIRE_ASKED:
        return false;
    }
    g_assert_not_reached();
}

/* ---- input --------------------------------------------------------------- */

static void read_frontend(Wire *wire)
{
    SimDevice *dev = wire->dev;
    Error *err = NULL;
    SimMessage *msg = sim_message_receive(wire->frontend, &err);

    if (!msg) {
        give_up(wire, err);
        return;
    }
    WITH_QEMU_LOCK_GUARD(&dev->lock) {
        sim_stats_received(&dev->stats, msg);
    }
    sim_journal_write(dev->journal, dev->config->name, "arrive", msg,
                      msg->at_us);
    g_queue_push_tail(&wire->arrived, msg);
}

static void read_backend(Wire *wire)
{
    Error *err = NULL;
    SimMessage *msg = sim_message_receive(wire->backend, &err);

    if (!msg) {
        give_up(wire, err);
    } else if (wire->state == WIRE_ASKED) {
        answer(wire, msg);
        finish(wire);
    } else {
        reply(wire, msg, "stray");
        sim_message_free(msg);
    }
}

static struct timespec *timeout(Wire *wire, struct timespec *ts)
{
    int64_t us;

    if (wire->state != WIRE_ASLEEP && wire->state != WIRE_DELAYED) {
        return NULL;
    }
    us = MAX(0, wire->due_us - g_get_monotonic_time());
    ts->tv_sec = us / G_USEC_PER_SEC;
    ts->tv_nsec = us % G_USEC_PER_SEC * 1000;
    return ts;
}

static void wait_for_input(Wire *wire)
{
    struct pollfd fds[] = {
        { .fd = event_notifier_get_fd(&wire->dev->wake), .events = POLLIN },
        { .fd = wire->frontend, .events = POLLIN },
        { .fd = wire->backend, .events = POLLIN },
    };
    struct timespec ts;

    if (ppoll(fds, ARRAY_SIZE(fds), timeout(wire, &ts), NULL) <= 0) {
        return;
    }
    if (fds[0].revents) {
        event_notifier_test_and_clear(&wire->dev->wake);
    }
    if (fds[1].revents) {
        read_frontend(wire);
    }
    if (fds[2].revents && !wire->is_over) {
        read_backend(wire);
    }
}

void sim_wire_run(SimDevice *dev, int frontend, int backend)
{
    Wire wire = {
        .dev = dev, .frontend = frontend, .backend = backend,
        .arrived = G_QUEUE_INIT, .fault.type = SIM_FAULT_NONE,
    };

    while (!wire.is_over) {
        wait_for_input(&wire);
        while (!wire.is_over && step(&wire)) {
            continue;
        }
    }
    sim_turn_leave(dev->turn, &dev->wake);
    g_clear_pointer(&wire.active, sim_message_free);
    g_clear_pointer(&wire.kept, sim_message_free);
    g_queue_clear_full(&wire.arrived, (GDestroyNotify)sim_message_free);
}
