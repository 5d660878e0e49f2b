/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user simulator: the log of what happened
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/thread.h"
#include "journal.h"
#include "kinds.h"

struct SimJournal {
    /* Set at creation */
    FILE *file;

    /* Held while a line is written */
    QemuMutex lock;
};

SimJournal *sim_journal_new(const char *path, Error **errp)
{
    SimJournal *journal;
    FILE *file = path ? fopen(path, "we") : NULL;

    if (path && !file) {
        error_setg_errno(errp, errno, "cannot write the log '%s'", path);
        return NULL;
    }
    journal = g_new0(SimJournal, 1);
    journal->file = file;
    qemu_mutex_init(&journal->lock);
    return journal;
}

void sim_journal_free(SimJournal *journal)
{
    if (journal->file) {
        fclose(journal->file);
    }
    qemu_mutex_destroy(&journal->lock);
    g_free(journal);
}

void sim_journal_write(SimJournal *journal, const char *device,
                       const char *event, const SimMessage *msg, int64_t at_us)
{
    int queue = msg ? sim_message_queue(msg) : -1;

    if (!journal->file) {
        return;
    }
    qemu_mutex_lock(&journal->lock);
    fprintf(journal->file, "%" PRId64 " %s %s %s ",
            at_us ?: g_get_monotonic_time(), device, event,
            msg ? sim_kind_name(msg->hdr.kind) : "-");
    if (queue >= 0) {
        fprintf(journal->file, "%d ", queue);
    } else {
        fprintf(journal->file, "- ");
    }
    if (msg && msg->hdr.size) {
        fprintf(journal->file, "0x%" PRIx64 "\n", sim_message_value(msg));
    } else {
        fprintf(journal->file, "-\n");
    }
    fflush(journal->file);
    qemu_mutex_unlock(&journal->lock);
}
