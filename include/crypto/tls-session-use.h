/*
 * A TLS session is used by one thread at a time
 *
 * gnutls lets one thread read and another one write a session as long as
 * neither has to do the other's work, as an alert, a renegotiation or an update
 * of keys makes it. Such an accident is rare and looks like a broken peer. So
 * who sees to it that it cannot happen says so, with
 * qcrypto_tls_session_set_exclusive(), before a second thread knows of the
 * session. From then on a thread that comes while another one is inside ends
 * QEMU with a message.
 *
 * One thread after the other is fine. One that waits for data inside of the
 * session is inside of it.
 *
 * Other sessions are not looked at: migration has always used that of its main
 * channel in two threads, and is not to die of it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QCRYPTO_TLS_SESSION_USE_H
#define QCRYPTO_TLS_SESSION_USE_H

#include "crypto/tlssession.h"
#include "qemu/atomic.h"
#include "qemu/error-report.h"
#include "qemu/thread.h"

#ifdef CONFIG_GNUTLS
/* For good. After the handshake, before other threads know of @session. */
void qcrypto_tls_session_set_exclusive(QCryptoTLSSession *session);
#else
static inline void
qcrypto_tls_session_set_exclusive(QCryptoTLSSession *session G_GNUC_UNUSED)
{
}
#endif

/* The rest is for crypto/tlssession.c */
typedef struct QCryptoTLSSessionUse {
    bool exclusive;     /* set before it is shared between threads */
    int thread;         /* atomic: who is inside, 0 for nobody */
} QCryptoTLSSessionUse;

static inline QCryptoTLSSessionUse *
qcrypto_tls_session_use_enter(QCryptoTLSSessionUse *use)
{
    int me, other;

    if (!use->exclusive) {
        return NULL;
    }
    me = qemu_get_thread_id();
    other = qatomic_cmpxchg(&use->thread, 0, me);
    if (other) {
        error_report("TLS session is used by threads %d and %d at the same"
                     " time", other, me);
        abort();
    }
    return use;
}

static inline void qcrypto_tls_session_use_leave(QCryptoTLSSessionUse *use)
{
    qatomic_store_release(&use->thread, 0);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(QCryptoTLSSessionUse,
                              qcrypto_tls_session_use_leave)

/* The rest of the block is a use of the session */
#define QCRYPTO_TLS_SESSION_USE(session)                            \
    g_autoptr(QCryptoTLSSessionUse) tls_session_use G_GNUC_UNUSED = \
        qcrypto_tls_session_use_enter(&(session)->use)

#endif
