/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: a network between source and destination that breaks
 *
 * A thread takes connections at one address and passes on what it reads to
 * another one and back, in order and unchanged.  It knows nothing of what it
 * carries.  To lose a certain message, withhold its direction before it can be
 * sent, wait until it is there, and cut.
 *
 * A migration with several channels that are to break one by one has a proxy
 * for each; connections to the same address are told apart by their order.
 *
 * An address is the path of a unix socket, or "tcp:HOST:PORT" with HOST in
 * digits; a PORT of 0 to listen at is any.
 */
#ifndef SWITCHOVER_PROXY_H
#define SWITCHOVER_PROXY_H

typedef struct SwProxy SwProxy;

typedef enum SwDirection {
    SW_TO_DESTINATION,
    SW_TO_SOURCE,
    SW_DIRECTION__MAX,
} SwDirection;

/* Listens at @address; @target need not be there before somebody connects */
SwProxy *sw_proxy_new(const char *address, const char *target);
void sw_proxy_free(SwProxy *proxy);

/* Where it listens, as a migration URI */
const char *sw_proxy_uri(SwProxy *proxy);

/* Connections since the beginning: the next one has this number */
unsigned sw_proxy_connections(SwProxy *proxy);

/* Bytes that were passed on since the beginning, of all connections */
uint64_t sw_proxy_passed(SwProxy *proxy, SwDirection direction);

/*
 * From now on what comes in this direction is taken and kept, however much it
 * is: the sender never waits.
 */
void sw_proxy_withhold(SwProxy *proxy, SwDirection direction);

/* The same, once this many bytes more were passed on, and not one above that */
void sw_proxy_withhold_after(SwProxy *proxy, SwDirection direction,
                             uint64_t bytes);

/*
 * From now on nothing is taken in this direction, as if the receiver had
 * stopped: the sender waits as soon as its buffers are full.
 */
void sw_proxy_stall(SwProxy *proxy, SwDirection direction);

/* What was kept is passed on, and so is what comes; nothing is stalled */
void sw_proxy_let_go(SwProxy *proxy);

/* Bytes that are kept, of all connections */
size_t sw_proxy_kept(SwProxy *proxy, SwDirection direction);

/* Bytes that the other side has not read yet, wherever they are */
size_t sw_proxy_unread(SwProxy *proxy, SwDirection direction);

/* Bytes that the sender has got rid of, and that were not taken: see stall */
size_t sw_proxy_untaken(SwProxy *proxy, SwDirection direction);

/*
 * All connections break, for both sides, and what was on its way is lost.  New
 * ones are taken as before, and nothing is withheld or stalled any more.
 */
void sw_proxy_cut(SwProxy *proxy);

/* The same for the one with this number, if it is there; all else stays */
void sw_proxy_cut_one(SwProxy *proxy, unsigned number);

/* What comes from now on takes this long, in each direction */
void sw_proxy_delay(SwProxy *proxy, unsigned ms);

#endif /* SWITCHOVER_PROXY_H */
