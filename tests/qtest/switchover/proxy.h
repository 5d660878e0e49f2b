/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: a network between source and destination that breaks
 *
 * A thread takes connections on one unix socket and passes on what it reads to
 * another one and back, in order and unchanged.  It knows nothing of what it
 * carries.  To lose a certain message, withhold its direction before it can be
 * sent, wait until it is there, and cut.
 */
#ifndef SWITCHOVER_PROXY_H
#define SWITCHOVER_PROXY_H

typedef struct SwProxy SwProxy;

typedef enum SwDirection {
    SW_TO_DESTINATION,
    SW_TO_SOURCE,
    SW_DIRECTION__MAX,
} SwDirection;

/* Listens at @path; @target need not be there before somebody connects */
SwProxy *sw_proxy_new(const char *path, const char *target);
void sw_proxy_free(SwProxy *proxy);

/*
 * From now on what comes in this direction is taken and kept, however much it
 * is: the sender never waits.
 */
void sw_proxy_withhold(SwProxy *proxy, SwDirection direction);

/* What was kept is passed on, and so is what comes */
void sw_proxy_let_go(SwProxy *proxy);

/* Bytes that are kept, of all connections */
size_t sw_proxy_kept(SwProxy *proxy, SwDirection direction);

/*
 * All connections break, for both sides, and what was on its way is lost.  New
 * ones are taken as before, and nothing is withheld any more.
 */
void sw_proxy_cut(SwProxy *proxy);

/* What comes from now on takes this long, in each direction */
void sw_proxy_delay(SwProxy *proxy, unsigned ms);

#endif /* SWITCHOVER_PROXY_H */
