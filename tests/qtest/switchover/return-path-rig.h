/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switchover tests: a return path with a socket of its own
 */
#ifndef SWITCHOVER_RETURN_PATH_RIG_H
#define SWITCHOVER_RETURN_PATH_RIG_H

#include "switchover/rig.h"

/* Both sides give up well within this; the longer one has 12 s */
#define SW_LINK_BOUND_MS 16000

/* Nothing came of it: the guest works on the source, which says why */
void sw_link_expect_refused(SwRig *rig, const char *says);

/* The destination, which is still there, said @says */
void sw_link_expect_said(SwRig *rig, const char *says);

/*
 * The same destination is still there, and takes the guest.  What was wrong is
 * undone by the caller.
 */
void sw_link_expect_usable(SwRig *rig);

/* Post-copy has begun, and a lot of memory is still to be sent */
void sw_link_enter_postcopy(SwRig *rig);

/* Both sides wait to be recovered, and nobody else can have the guest */
void sw_link_expect_paused(SwRig *rig);

/* They are recovered, and it completes */
void sw_link_recover(SwRig *rig);

/*
 * Nothing more comes from the source, by what @count says of @proxy, and
 * something did
 */
void sw_link_wait_still(SwProxy *proxy,
                        size_t (*count)(SwProxy *, SwDirection),
                        const char *what);

/* A connection to @uri (unix:PATH), of somebody who says @text */
int sw_link_stranger(const char *uri, const void *text, size_t size);

/* A socket listening at @uri, where nobody ever accepts */
int sw_link_deaf(const char *uri);

#endif /* SWITCHOVER_RETURN_PATH_RIG_H */
