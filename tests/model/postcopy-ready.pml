/*
 * Post-copy that waits for a word before the destination runs: a model
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The protocol is described in migration/postcopy-ready.h, and what is
 * modelled in docs/devel/migration/postcopy-ready.rst.  scripts/check-model
 * checks what is claimed at the end of this file.
 *
 * A process is a thread, called like the function that it runs.  But
 * management() is the main threads of both sides, with whoever gives them
 * commands, and events() is all that need not happen.  What is "atomic" is done
 * under the lock that protects it (at the source the BQL, at the destination
 * the lock of postcopy-ready-incoming.c), or concerns one thread only.  The
 * comment beside it has the function that does it.
 *
 * It begins with the package ready to be sent: the guest is stopped.
 */

#ifndef BREAKS
#define BREAKS 2            /* how many connections or streams break, at most */
#endif

/*
 * What has to be found to be wrong:
 *
 *   1  the source commits without waiting for POSTCOPY_ACCEPT
 *   2  a destination that has accepted ends when the connection breaks
 *   3  the destination runs on POSTCOPY_PREPARE
 *   4  after the commit, an error makes the source run again
 *   5  POSTCOPY_RUN is not repeated after a recovery
 *   6  migrate_cancel drops the BQL between the question and the answer
 *   7  the listen thread fails while devices are loaded, and nobody takes note
 *   8  the commit does not look whether the migration was backed out of
 */
#ifndef BROKEN
#define BROKEN 0
#endif

mtype:message = {
    /*
     * To the destination.  The package ends with POSTCOPY_HOLD.  REST is the
     * rest of RAM and the end of the stream.
     */
    PACKAGE, PREPARE, RUN, RESUME, REST,
    /* To the source.  An OFFER is a POSTCOPY_ACCEPT that was not asked for. */
    READY, ACCEPT, OFFER, RESUME_ACK, SHUT
};

mtype:status = {
    DEVICE, POSTCOPY_READY, POSTCOPY_ACTIVE, POSTCOPY_PAUSED, POSTCOPY_RECOVER,
    COMPLETED, FAILED, CANCELLING, CANCELLED
};

/*
 * The connection
 *
 * When a direction was cut nothing is added to it.  From then on its reader may
 * see the end whenever it looks, or still take a message that was under way: so
 * any number of the last ones is lost.
 */

chan to_dst = [4] of { mtype:message };
chan to_src = [4] of { mtype:message };
bool to_dst_cut, to_src_cut;

inline send_to_dst(what)
{
    if
    :: to_dst_cut
    :: else -> assert(nfull(to_dst)); to_dst!what
    fi
}

inline send_to_src(what)
{
    if
    :: to_src_cut
    :: else -> assert(nfull(to_src)); to_src!what
    fi
}

/* A side shuts its socket down, or is gone */
inline hang_up()
{
    to_dst_cut = true;
    to_src_cut = true
}

inline connect()
{
    do
    :: to_dst?_
    :: to_src?_
    :: empty(to_dst) && empty(to_src) -> break
    od;
    to_dst_cut = false;
    to_src_cut = false
}

/*
 * The source
 */

typedef PostcopyReady {     /* as in postcopy-ready.c, or a global there */
    bool committed, prepare_sent, holding, ready, accepted, asked, rp_ended,
         backed_out
};

PostcopyReady pr;
mtype:status s_status = DEVICE;
bool s_error;               /* of a channel, found by nobody else */
bool s_shut;                /* the return path ended as it should */
bool s_runs;                /* the guest; or "cont" would run it */
bool s_done;                /* the migration has ended */
bool s_dead;                /* the host */
bool bql;                   /* is with the main thread for more than one step */

#define CALLED_OFF  (pr.backed_out || pr.rp_ended)

active proctype migration_thread()
{
    bool rest_sent;

    {
    atomic {
        pr.holding = true;          /* postcopy_ready_hold_begin() */
        send_to_dst(PACKAGE)        /* qemu_savevm_send_packaged() */
    };

hold:                               /* postcopy_ready_wait() */
    if
    :: atomic { CALLED_OFF || to_dst_cut || s_error ->
                goto back_out }     /* postcopy_ready_is_over() */
    :: atomic { !CALLED_OFF && pr.ready && s_status == DEVICE ->
                s_status = POSTCOPY_READY;      /* postcopy_ready_announce() */
                goto hold }
    :: atomic { !CALLED_OFF && pr.ready && s_status != DEVICE && pr.asked &&
                !pr.accepted && !pr.prepare_sent ->
                pr.prepare_sent = true;
                send_to_dst(PREPARE);
                                /* qemu_savevm_send_postcopy_prepare() */
                goto hold }
    :: atomic { !CALLED_OFF && pr.ready && s_status != DEVICE && pr.asked &&
                (pr.accepted || BROKEN == 1) ->
                skip }              /* postcopy_ready_look() */
    fi;

    atomic { !bql ->                /* postcopy_ready_commit() */
        if
        :: s_status == POSTCOPY_READY && (!pr.backed_out || BROKEN == 8) ->
            s_status = POSTCOPY_ACTIVE;         /* postcopy_ready_commit() */
            pr.committed = true;
            pr.holding = false
        :: else ->
            goto hold
        fi
    };
    atomic { send_to_dst(RUN) };    /* qemu_savevm_send_postcopy_run() */

postcopy:                           /* migration_iteration_run() */
    if
    :: atomic { s_status == CANCELLING ->
                goto finish }       /* migration_detect_error() */
    :: atomic { s_status != CANCELLING && !rest_sent &&
                (to_dst_cut || s_error) ->
                goto pause }        /* migration_detect_error() */
    :: atomic { s_status != CANCELLING && !rest_sent ->
                rest_sent = true;   /* migration_completion_postcopy() */
                send_to_dst(REST);
                goto postcopy }
    :: atomic { rest_sent && pr.rp_ended ->
                if                  /* migration_completion() */
                :: s_shut ->
                    s_status = COMPLETED;       /* migration_completion_end() */
                    goto finish
                :: !s_shut && BROKEN == 4 ->
                    s_status = FAILED;
                    goto finish
                :: !s_shut && BROKEN != 4
                fi }
    fi;

pause:
    atomic {
        hang_up();                  /* postcopy_pause() */
        s_error = false
    };
    atomic { pr.rp_ended ->         /* close_return_path_on_source() */
             s_status = POSTCOPY_PAUSED;        /* postcopy_pause() */
             rest_sent = false };
end_paused:
    atomic { s_status == POSTCOPY_RECOVER ->
             send_to_dst(RESUME) }; /* postcopy_resume_handshake() */
    if
    :: atomic { s_status == POSTCOPY_ACTIVE ->
                if
                :: BROKEN == 5
                :: BROKEN != 5 ->
                    send_to_dst(RUN)    /* postcopy_ready_recovered() */
                fi;
                goto postcopy }
    :: atomic { s_status == POSTCOPY_RECOVER && pr.rp_ended ->
                goto pause }        /* postcopy_do_resume() */
    fi;

back_out:
    atomic { !bql ->
        pr.holding = false;         /* postcopy_ready_hold_end() */
        if
        :: s_status == CANCELLING
        :: else -> s_status = FAILED            /* postcopy_start() */
        fi
    };

finish:
    atomic { !bql ->                /* migration_iteration_finish() */
        if
        :: s_status == COMPLETED
        :: s_status != COMPLETED && pr.committed && BROKEN != 4
        :: else -> s_runs = true    /* migration_iteration_finish() */
        fi
    };
    atomic { !bql ->
        hang_up();                  /* migration_cleanup() */
        if
        :: s_status == CANCELLING -> s_status = CANCELLED
        :: else
        fi;
        s_done = true
    }
    } unless { s_dead }
}

active proctype source_return_path_thread()
{
    {
end_read:
    do
    :: atomic { to_src?READY ->
                pr.ready = true }       /* postcopy_ready_on_ready() */
    :: atomic { to_src?ACCEPT ->
                pr.accepted = true }    /* postcopy_ready_on_accept() */
    :: atomic { to_src?OFFER ->
                pr.accepted = true;     /* postcopy_ready_on_accept() */
                pr.asked = true }
    :: atomic { to_src?RESUME_ACK ->
                if                      /* migrate_handle_rp_resume_ack() */
                :: s_status == POSTCOPY_RECOVER -> s_status = POSTCOPY_ACTIVE
                :: else
                fi }
    :: atomic { to_src?SHUT ->
                s_shut = true;
                pr.rp_ended = true;     /* postcopy_ready_on_end() */
                break }
    :: atomic { to_src_cut ->
                pr.rp_ended = true;     /* postcopy_ready_on_end() */
                break }
    od;
end_ended:
    atomic { !pr.rp_ended ->            /* open_return_path_on_source() */
             goto end_read }
    } unless { s_dead }
}

/*
 * The destination
 */

typedef PostcopyReadyIncoming {     /* as in postcopy-ready-incoming.c */
    bool held, accepted, committed, backed_out
};

PostcopyReadyIncoming incoming;
mtype:status d_status = DEVICE;
bool d_listens;             /* the listen thread was started */
bool d_error;               /* it finds what it cannot load */
bool d_run_bh;              /* the guest is about to run */
bool d_runs;                /* the guest; or "cont" would run it */
bool d_ended;               /* the process, by itself */
bool d_dead;                /* the host; or management has ended it */

#define ACCEPTS (incoming.held && !incoming.accepted && !incoming.backed_out)

active proctype process_incoming_migration_co()
{
    {
    if
    :: atomic { to_dst?PACKAGE ->   /* loadvm_handle_cmd_packaged() */
                d_listens = true }  /* loadvm_postcopy_handle_listen() */
    :: atomic { to_dst_cut ->
                goto ended }        /* loadvm_handle_cmd_packaged() */
    fi;
    if
    :: atomic { incoming.backed_out ->
                goto ended }        /* postcopy_ready_handle_hold() */
    :: atomic { !incoming.backed_out ->
                incoming.held = true;   /* postcopy_ready_handle_hold() */
                d_status = POSTCOPY_READY;
                if
                :: to_src_cut -> goto ended
                :: send_to_src(READY)   /* migrate_send_rp_postcopy_ready() */
                fi }
    :: atomic { true -> goto ended }    /* qemu_loadvm_section_start_full() */
    fi;
end_main:
    atomic { d_run_bh ->
             d_run_bh = false;
             d_runs = true;         /* loadvm_postcopy_handle_run_bh() */
             goto end_main };
ended:
    atomic { hang_up();             /* migration_incoming_state_destroy() */
             d_ended = true }       /* process_incoming_migration_co() */
    } unless { d_dead || d_ended }
}

active proctype postcopy_ram_listen_thread()
{
end_start:
    {
    d_listens;
end_read:                           /* qemu_loadvm_state_main() */
    if
    :: atomic { to_dst?PREPARE ->   /* postcopy_ready_handle_prepare() */
                d_run_bh = d_run_bh || BROKEN == 3;
                if
                :: !ACCEPTS ->
                    goto end_read
                :: ACCEPTS ->
                    incoming.accepted = true;   /* postcopy_ready_accept() */
                    if          /* migrate_send_rp_postcopy_accept() */
                    :: to_src_cut
                    :: send_to_src(ACCEPT);
                       goto end_read
                    fi
                fi }
    :: atomic { to_dst?RUN ->       /* loadvm_postcopy_handle_run() */
                if
                :: incoming.committed   /* postcopy_ready_is_repeated() */
                :: else ->              /* postcopy_ready_handle_run() */
                    incoming.committed = true;
                    d_run_bh = true;
                    d_status = POSTCOPY_ACTIVE
                fi;
                goto end_read }
    :: atomic { to_dst?RESUME ->
                                /* loadvm_postcopy_handle_resume() */
                d_status = POSTCOPY_ACTIVE;
                send_to_src(RESUME_ACK);    /* migrate_send_rp_resume_ack() */
                goto end_read }
    :: atomic { to_dst?REST ->
                d_status = COMPLETED;   /* postcopy_ram_listen_thread() */
                send_to_src(SHUT);      /* migrate_send_rp_shut() */
                hang_up();          /* migration_incoming_state_destroy() */
                goto done }
    :: atomic { to_dst_cut || d_error ->
                d_error = false }   /* qemu_file_get_error_obj_any() */
    fi;
    atomic {                        /* postcopy_ready_pauses() */
        if
        :: incoming.committed || (incoming.accepted && BROKEN != 2) ->
            hang_up();
            d_status = POSTCOPY_PAUSED          /* postcopy_pause_incoming() */
        :: else ->
            incoming.backed_out = incoming.held || BROKEN != 7;
            goto ended              /* postcopy_ready_pauses() */
        fi
    };
end_paused:
    atomic { d_status == POSTCOPY_RECOVER ->
             goto end_read };       /* postcopy_pause_incoming() */
ended:
    atomic { hang_up();             /* postcopy_ready_backed_out() */
             d_ended = true };      /* postcopy_ready_end_bh() */
done:
    skip
    } unless { d_dead || d_ended }
}

/*
 * Somebody asks for the commit, at one side or at both, and recovers what broke
 */
active proctype management()
{
    bool at_src, at_dst;

    if
    :: at_src = true
    :: at_dst = true
    :: at_src = true; at_dst = true
    fi;
end:
    do
    :: atomic { at_src && s_status == POSTCOPY_READY && !pr.asked && !bql &&
                !s_dead ->
                pr.asked = true }   /* postcopy_ready_continue() */
    :: atomic { at_dst && ACCEPTS && !d_ended && !d_dead ->
                incoming.accepted = true;
                send_to_src(OFFER) }            /* postcopy_ready_cont() */
    :: atomic { s_status == POSTCOPY_PAUSED && !s_dead &&
                d_status == POSTCOPY_PAUSED && !d_dead ->
                connect();
                d_status = POSTCOPY_RECOVER;    /* postcopy_try_recover() */
                pr.rp_ended = false;
                s_status = POSTCOPY_RECOVER }   /* migration_connect() */
    od
}

/*
 * All this may happen, or not
 */
active proctype events()
{
    byte breaks;
    bool cancelled, expired, crashed;

    do
    :: break
    :: atomic { breaks < BREAKS && !(to_dst_cut && to_src_cut) ->
                breaks++;
                if
                :: to_dst_cut = true
                :: to_src_cut = true
                :: hang_up()
                fi }
    :: atomic { breaks < BREAKS && d_listens && !to_dst_cut ->
                breaks++;           /* what it reads, or the urgent channel */
                d_error = true }
    :: atomic { breaks < BREAKS && !s_error && !s_done ->
                breaks++;           /* the urgent channel */
                s_error = true }
    :: atomic { !cancelled && pr.holding && !s_dead ->
                cancelled = true;
                bql = BROKEN != 6 };            /* qmp_migrate_cancel() */
       atomic {
           if
           :: s_status != COMPLETED && s_status != FAILED &&
              s_status != CANCELLED ->
               s_status = CANCELLING;           /* migration_cancel() */
               if                               /* postcopy_ready_on_cancel() */
               :: pr.holding -> pr.backed_out = true
               :: else
               fi;
               hang_up()
           :: else
           fi;
           bql = false
       }
    :: atomic { !expired && pr.holding && !pr.backed_out && !s_dead ->
                expired = true;
                pr.backed_out = true;           /* postcopy_ready_expired() */
                hang_up() }         /* postcopy_ready_break() */
    :: atomic { !crashed ->
                crashed = true;
                hang_up();
                if
                :: s_dead = true; s_runs = false
                :: d_dead = true; d_run_bh = false; d_runs = false
                fi }
    :: atomic { s_runs && d_status == POSTCOPY_PAUSED && !d_dead ->
                d_dead = true }     /* "quit" */
    od
}

/*
 * What always holds
 */

#define run_there       (d_runs || d_run_bh)
#define run_anywhere    (s_runs || d_runs)
#define host_lost       (s_dead || (d_dead && pr.committed))

/* These are checked at once */
#define one_owner_p     !(s_runs && run_there)
#define commit_is_final_p       !(s_runs && pr.committed)
#define run_needs_commit_p      !(run_there && !pr.committed)
#define end_excludes_commit_p   !(d_ended && pr.committed)

ltl invariants {
    [] (one_owner_p && commit_is_final_p && run_needs_commit_p &&
        end_excludes_commit_p)
}
ltl one_owner { [] one_owner_p }
ltl commit_is_final { [] commit_is_final_p }
ltl run_needs_commit { [] run_needs_commit_p }
ltl end_excludes_commit { [] end_excludes_commit_p }

/* There are no assumptions about fairness: nothing here goes on for ever */
ltl some_owner { <> [] (run_anywhere || host_lost) }
ltl back_out_is_kept { [] (pr.backed_out -> <> (s_runs || s_dead)) }

/*
 * What can happen: that it never does is wrong
 */

#define in_doubt        (d_status == POSTCOPY_PAUSED && !incoming.committed)
#define recovered       (d_status == POSTCOPY_ACTIVE && !incoming.committed)

ltl can_commit_by_continue { [] !(d_runs && pr.prepare_sent) }
ltl can_commit_by_cont { [] !(d_runs && !pr.prepare_sent) }
ltl can_complete { [] !(s_status == COMPLETED && s_done && d_runs) }
ltl can_cancel { [] !(s_status == CANCELLED && s_runs) }
ltl can_expire { [] !(s_status == FAILED && pr.backed_out && s_runs) }
ltl can_be_in_doubt { [] !(s_runs && in_doubt && !d_dead) }
ltl can_run_by_recovery { ! <> (recovered && <> d_runs) }
ltl can_recover_twice { ! <> (recovered && <> (in_doubt && <> d_runs)) }
ltl can_outlive_destination {
    [] !(d_dead && d_status == POSTCOPY_READY && s_runs)
}
ltl can_end_without_source { [] !(s_dead && d_ended && incoming.held) }
