/*
 * A return path with a socket of its own: what is said first
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See return-path-internal.h for the bytes.
 */

#include "qemu/osdep.h"
#include "crypto/tls-session-use.h"
#include "io/channel-tls.h"
#include "io/channel-wake.h"
#include "migration/return-path-internal.h"
#include "migration/options.h"
#include "migration/outgoing-channel.h"
#include "qapi/error.h"
#include "qemu/bswap.h"

#define VERSION 1

uint32_t return_path_flags(void)
{
    uint32_t flags = 0;

    if (migrate_postcopy_ram()) {
        flags |= RETURN_PATH_FLAG_POSTCOPY;
        flags |= migrate_postcopy_preempt() ? RETURN_PATH_FLAG_PREEMPT :
                                              RETURN_PATH_FLAG_URGENT;
    }
    if (migrate_multifd()) {
        flags |= RETURN_PATH_FLAG_MULTIFD;
    }
    return flags;
}

static const struct {
    uint32_t flag;
    const char *capability;
} compared[] = {
    { RETURN_PATH_FLAG_POSTCOPY, "postcopy-ram" },
    { RETURN_PATH_FLAG_PREEMPT, "postcopy-preempt" },
    { RETURN_PATH_FLAG_MULTIFD, "multifd" },
};

char *return_path_compare_flags(uint32_t theirs)
{
    uint32_t ours = return_path_flags();
    unsigned n;

    for (n = 0; n < ARRAY_SIZE(compared); n++) {
        uint32_t flag = compared[n].flag;

        if ((theirs ^ ours) & flag) {
            return g_strdup_printf("Capability '%s' is %s at the source and %s "
                                   "at the destination; set it on both sides "
                                   "or on none", compared[n].capability,
                                   theirs & flag ? "on" : "off",
                                   ours & flag ? "on" : "off");
        }
    }
    return NULL;
}

void return_path_encode_hello(const ReturnPathHello *hello,
                              uint8_t buf[RETURN_PATH_HELLO_SIZE])
{
    memset(buf, 0, RETURN_PATH_HELLO_SIZE);
    stl_be_p(buf, RETURN_PATH_HELLO_MAGIC);
    stw_be_p(buf + 4, VERSION);
    stw_be_p(buf + 6, hello->role);
    stl_be_p(buf + 8, hello->flags);
    memcpy(buf + 12, hello->token, sizeof(hello->token));
}

bool return_path_decode_hello(ReturnPathHello *hello,
                              const uint8_t buf[RETURN_PATH_HELLO_SIZE],
                              Error **errp)
{
    if (ldl_be_p(buf) != RETURN_PATH_HELLO_MAGIC) {
        error_setg(errp, "it does not begin as one of a migration with a "
                   "channel 'return-path'");
        return false;
    }
    if (lduw_be_p(buf + 4) != VERSION) {
        error_setg(errp, "it speaks version %u of the return path's protocol, "
                   "and only %u is known", lduw_be_p(buf + 4), VERSION);
        return false;
    }
    hello->role = lduw_be_p(buf + 6);
    hello->flags = ldl_be_p(buf + 8);
    memcpy(hello->token, buf + 12, sizeof(hello->token));
    if (hello->role < RETURN_PATH_ROLE_MAIN ||
        hello->role > RETURN_PATH_ROLE_FURTHER ||
        hello->flags & ~RETURN_PATH_FLAGS || ldl_be_p(buf + 28)) {
        error_setg(errp, "it says what is not known here (role %u, flags 0x%x)",
                   hello->role, hello->flags);
        return false;
    }
    return true;
}

size_t return_path_encode_answer(const char *text,
                                 uint8_t buf[RETURN_PATH_ANSWER_SIZE +
                                             RETURN_PATH_TEXT_MAX])
{
    size_t length = text ? MIN(strlen(text), RETURN_PATH_TEXT_MAX) : 0;

    stl_be_p(buf, RETURN_PATH_ANSWER_MAGIC);
    stw_be_p(buf + 4, VERSION);
    stw_be_p(buf + 6, text ? 1 : 0);
    stl_be_p(buf + 8, length);
    if (length) {
        memcpy(buf + RETURN_PATH_ANSWER_SIZE, text, length);
    }
    return RETURN_PATH_ANSWER_SIZE + length;
}

bool return_path_decode_answer(const uint8_t buf[RETURN_PATH_ANSWER_SIZE],
                               bool *refused, size_t *length, Error **errp)
{
    if (ldl_be_p(buf) != RETURN_PATH_ANSWER_MAGIC ||
        lduw_be_p(buf + 4) != VERSION ||
        ldl_be_p(buf + 8) > RETURN_PATH_TEXT_MAX) {
        error_setg(errp, "Who answers on the channel 'return-path' is not the "
                   "destination of a migration, or one of another version");
        return false;
    }
    *refused = lduw_be_p(buf + 6);
    *length = ldl_be_p(buf + 8);
    return true;
}

bool return_path_is_one_way(QIOChannel *ioc)
{
    return !qio_channel_has_feature(migration_channel_below_tls(ioc),
                                    QIO_CHANNEL_FEATURE_SHUTDOWN);
}

QIOChannel *return_path_make_wakeable(QIOChannel *ioc, Error **errp)
{
    if (!return_path_is_one_way(ioc)) {
        object_ref(OBJECT(ioc));
        return ioc;
    }
    return (QIOChannel *)qio_channel_wake_new(ioc, errp);
}

void return_path_make_exclusive(QIOChannel *ioc)
{
    QIOChannelTLS *tls =
        (QIOChannelTLS *)object_dynamic_cast(OBJECT(ioc), TYPE_QIO_CHANNEL_TLS);

    if (tls) {
        qcrypto_tls_session_set_exclusive(tls->session);
    }
}
