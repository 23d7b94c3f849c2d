/*
 * The idle spells of one user's booking of one model: warning, delivery, use, keep, pause, cancelling, uninstall, closing.
 *
 * The code is project/src/limiter/jobs/ (idle_warning, idle_enforce, event_dispatch), effects/ (enforcing, closing,
 * events) and domain/ (idle_spell, enforcement, closing); docs/flow.md says it in prose. Names are the code's.
 *
 * What is abstracted, and why nothing is lost by it:
 *
 * - A job has one runner, and a write of a run that lost its job does nothing: job_lock.pml shows that. So a job is one
 *   process here. It may be broken off between any two steps, and begin anew with what is recorded: a crash, a takeover
 *   and a stop are the same. A request that such a run had sent may still be carried out later, once.
 * - Time. No seconds, only an order of events: a warning is `delivered`, then `Y` passes since that, and only then since
 *   the moment that event_dispatch recorded, which is later. `not_before` may pass at any time.
 * - Facts are read in one step. Read one after the other some would only be younger, and none is older than the
 *   question whether the job is paused.
 * - To call the model, to have a keep, and an exemption excuse alike until the spell is closed; then a full N is needed.
 * - Each named slot is a reservation of its own: one DELETE a slot. Surges, dry runs and quiet hours only delay.
 *
 * -DWITHOUT_... takes one safeguard away. docs/locking.md has the table of what happens then.
 */

#ifndef SPELLS
#define SPELLS 1
#endif
#ifndef SLOTS
#define SLOTS 2
#endif

mtype:spell = { unopened, warning_pending, warned, enforcing, enforced, withdrawn };
mtype:step = { unnamed, named, planned, done, already_gone, failed, stopped };
mtype:message = { absent, waiting, taken, published, retracted };
mtype:command = { not_planned, intended, sent, completed, gave_up };
mtype:moment = { not_yet, reached, lead_over }; /* lead_over: Y after it was reached */

/* The arrows of domain/idle_spell.ARROWS; a test keeps them equal. */
#define MAY_BECOME_WARNED(s) (s == warning_pending)
#ifdef WITHOUT_DELIVERED_CHECK
#define MAY_BECOME_ENFORCING(s) (s == warned || s == warning_pending)
#else
#define MAY_BECOME_ENFORCING(s) (s == warned)
#endif
#define MAY_BECOME_ENFORCED(s) (s == enforcing)
#define MAY_BECOME_WITHDRAWN(s) (s == warning_pending || s == warned || s == enforcing)

/* The database. */
mtype:spell state[SPELLS] = unopened;
byte opened = 0;                             /* spells opened so far; the last one may be open */
mtype:step step[SPELLS * SLOTS] = unnamed;   /* the table cancellation */
bool tried[SPELLS * SLOTS];                  /* attempts > 0 */
bool stopped_for[SPELLS];
mtype:moment delivered_at[SPELLS] = not_yet;
bool not_before_passed[SPELLS];
mtype:message warning[SPELLS] = absent;      /* the outbox */
mtype:message closing[SPELLS] = absent;
mtype:command uninstall[SPELLS] = not_planned;
bool uninstall_late = false;                 /* UNINSTALL_TELL_SECONDS are over */
bool paused = false;                         /* idle_enforce is */

/* The platform. */
bool booked[SLOTS] = true;
bool used = false;        /* since idle time counts: called, kept or exempt */
bool model_gone = false;  /* from the registry's list */
bool other_user = false;  /* has booked the model too */
bool flying[SPELLS * SLOTS];                 /* a DELETE whose sender is gone, on its way */

/* What only the properties know. */
mtype:moment heard[SPELLS] = not_yet;          /* the warning, by the broker */
byte closing_events[SPELLS];
bool taken_by_us[SPELLS * SLOTS];
bool used_at_step, other_at_step;            /* as it was when the step began */
bool cancelled_early, deleted_after_use, closed_twice, closed_without_event, heard_closing_first;
bool withdrawn_though_taken, told_done_but_booked, uninstalled_after_refusal, uninstalled_from_another;
bool stepped_after_pause, deleted_after_closing, uninstalled_early;
#ifdef WITHOUT_OUTBOX
bool dies = false;
#endif

#ifdef LIVENESS
byte misfortunes = 1; /* crashes, refusals, lost answers: any number of them, but here not for ever */
#define misfortune misfortunes > 0 -> misfortunes--
#else
#define misfortune true
#endif

#define at(s, i) ((s) * SLOTS + (i))
#define open_spell(s) (MAY_BECOME_WITHDRAWN(state[s]))
#if SLOTS == 1
#define ANY(s, p) (p(at(s, 0)))
#define BOOKED (booked[0])
#else
#define ANY(s, p) (p(at(s, 0)) || p(at(s, 1)))
#define BOOKED (booked[0] || booked[1])
#endif
#define is_planned(j) (step[j] == planned)
#define is_open(j) (step[j] == planned || step[j] == named)
#define is_failed(j) (step[j] == failed)
#define is_done(j) (step[j] == done)
#define is_unsettled(j) (step[j] == planned && tried[j])
#define gone_after_ours(j) (step[j] == already_gone && tried[j])
#define is_ours(j) (taken_by_us[j])
#define is_refused(j) (step[j] == planned || step[j] == failed)
#define lies(j) (step[j] == done && booked[(j) % SLOTS])
#define is_told(s) (ANY(s, is_done) || ANY(s, is_failed) || ANY(s, gone_after_ours) || uninstall[s] == completed)

inline each_step(s, to_end) { /* cancellations.stop */
    for (k : 0 .. SLOTS - 1) {
        if
        :: is_open(at(s, k)) -> step[at(s, k)] = to_end
        :: else
        fi
    }
    k = 0
}

inline put_closing(s) { /* outbox.put, in the transaction of the closing */
#ifdef WITHOUT_OUTBOX /* the process dies between the change and the event that tells of it */
    closing[s] = (dies -> absent : waiting);
#else
    closing[s] = waiting;
#endif
    closing_events[s]++;
    closed_twice = (closing_events[s] > 1); assert(!closed_twice)
}

#ifdef WITHOUT_ARROWS
#define IF_OPEN(s, arrow) true
#else
#define IF_OPEN(s, arrow) arrow(state[s])
#endif
#ifdef WITHOUT_JUDGED_STATE
#define AS_JUDGED(s, judged) true
#else
#define AS_JUDGED(s, judged) (state[s] == judged)
#endif
#ifdef WITHOUT_UNTOUCHED_CHECK
#define RETRACTABLE(s) (warning[s] == waiting || warning[s] == taken)
#else
#define RETRACTABLE(s) (warning[s] == waiting)
#endif

inline forget(s) { /* what nobody asks of a closed spell */
    used = true; /* closed_at excuses: a new spell needs a full N */
    each_step(s, stopped);
    delivered_at[s] = not_yet; not_before_passed[s] = true; stopped_for[s] = false; uninstall_late = false
}

inline withdraw(s) { /* SpellClosing._withdraw */
    state[s] = withdrawn;
    if
    :: RETRACTABLE(s) -> warning[s] = retracted
    :: else ->
           withdrawn_though_taken = ANY(s, is_ours); assert(!withdrawn_though_taken);
           put_closing(s)
    fi;
    forget(s)
}

inline finish(s) { /* SpellClosing.finish */
    told_done_but_booked = ANY(s, lies); assert(!told_done_but_booked);
    state[s] = enforced;
    put_closing(s);
    forget(s)
}

inline delete(s, i, known) { /* what BookingService does with a DELETE of ours */
    if
    :: booked[i] ->
           cancelled_early = (heard[s] != lead_over); assert(!cancelled_early);
           booked[i] = false; taken_by_us[at(s, i)] = known
    :: else
    fi
}

/* Withdraws what does not stand any more, and warns. */
proctype idle_warning() {
    byte k = 0, s = 0;
    mtype:spell judged = unopened;

end_start:
    if /* SnapshotReader.read */
    :: d_step { opened > 0 && open_spell(opened - 1) && state[opened - 1] != enforcing && (used || !BOOKED || model_gone) ->
           s = opened - 1; judged = state[s] }
    :: d_step { opened < SPELLS && (opened == 0 || !open_spell(opened - 1)) && !used && BOOKED && !model_gone ->
           s = opened; judged = unopened }
    fi;
    if
    :: d_step { judged == unopened -> /* idle_spells.begin, cancellations.name, outbox.put */
           if
           :: opened == s ->
                  state[s] = warning_pending; warning[s] = waiting; opened++;
                  for (k : 0 .. SLOTS - 1) { step[at(s, k)] = (booked[k] -> named : unnamed) }
                  k = 0
           :: else
           fi }
    :: d_step { judged != unopened ->
           if
           :: IF_OPEN(s, MAY_BECOME_WITHDRAWN) && AS_JUDGED(s, judged) -> withdraw(s)
           :: else
           fi }
    :: d_step { misfortune }
    fi;
    goto end_start
}

/* Hands the outbox to the broker; of one spell only the earliest unpublished event. */
#ifdef WITHOUT_OUTBOX_ORDER
#define closing_takable(s) (closing[s] == waiting)
#else
#define closing_takable(s) (closing[s] == waiting && (warning[s] == published || warning[s] == retracted))
#endif

#define TAKE(n) \
    :: d_step { warning[n] == waiting || warning[n] == taken -> \
           warning[n] = taken; s = n; is_warning = true; confirmed = false } \
    :: d_step { closing_takable(n) -> s = n; is_warning = false; confirmed = false }

proctype event_dispatch() {
    byte s = 0;
    bool is_warning = false, confirmed = false;

end_start:
    if /* outbox.take */
    TAKE(0)
#if SPELLS > 1
    TAKE(1)
#endif
    fi;
    if /* Notifier.publish */
    :: d_step { is_warning -> /* confirmed and routed */
           confirmed = true;
           heard[s] = (heard[s] == not_yet -> reached : heard[s]);
           closed_without_event = (state[s] == withdrawn && closing_events[s] == 0); assert(!closed_without_event) }
    :: d_step { !is_warning -> confirmed = true;
           heard_closing_first = (heard[s] == not_yet);
#ifndef IGNORE_ORDER
           assert(!heard_closing_first)
#endif
           }
    :: d_step { misfortune -> /* returned, or refused */
#ifdef WITHOUT_CONFIRMATION
           confirmed = true
#endif
           }
    :: d_step { misfortune }; goto end_start
    fi;
    if /* outbox.published, idle_spells.delivered; or outbox.postponed */
    :: d_step { confirmed && is_warning ->
           warning[s] = (warning[s] == retracted -> retracted : published);
           if
           :: MAY_BECOME_WARNED(state[s]) -> state[s] = warned; delivered_at[s] = reached
           :: else
           fi }
    :: d_step { confirmed && !is_warning -> closing[s] = published }
    :: !confirmed
    :: d_step { misfortune } /* the confirmation was never recorded: published again */
    fi;
    goto end_start
}

#ifdef WITHOUT_FRESH_LOOK
#define AS_IN_SWEEP(fact) fact
#define USED used_in_sweep
#define OTHER_USER other_in_sweep
#else
#define AS_IN_SWEEP(fact) false
#define USED used
#define OTHER_USER other_user
#endif
#if defined(WITHOUT_LEAD) || defined(WITHOUT_DELIVERED_CHECK)
#define DEADLINE_PASSED(s) not_before_passed[s]
#else
#define DEADLINE_PASSED(s) (not_before_passed[s] && delivered_at[s] == lead_over)
#endif
#ifdef WITHOUT_BRAKE_IN_DELETE
#define BRAKED_IN_DELETE false
#else
#define BRAKED_IN_DELETE paused
#endif
#ifdef WITHOUT_PLANNED_CHECK
#define STILL_PLANNED(j) true
#else
#define STILL_PLANNED(j) (step[j] == planned)
#endif

#ifdef WITHOUT_ALL_STEPS_GONE
#define UNCLEAN stopped_for[s]
#else
#define UNCLEAN (stopped_for[s] || ANY(s, is_failed))
#endif
#ifdef WITHOUT_UNINSTALL_BLOCKER
#define BLOCKED false
#else
#define BLOCKED OTHER_USER
#endif
#define NEXT (is_planned(at(s, 0)) -> 0 : SLOTS - 1)
#ifdef WITHOUT_SPELL_ID /* the open spell of the booking, whichever that is */
#define GOING open_spell(s)
#else
#define GOING (state[s] == enforcing)
#endif
#define FREEABLE (GOING && !ANY(s, is_planned) && !UNCLEAN)
#define MAY_GO_ON (FREEABLE && uninstall[s] != completed && !uninstall_late)
#define UNDER_WAY (uninstall[s] == intended || uninstall[s] == sent)

/* Cancels what a warning named, step by step. */
proctype idle_enforce() {
    byte k = 0, s = 0, i = 0;
    bool used_in_sweep = false, other_in_sweep = false, gone_in_sweep = false;
    mtype:step result = unnamed;
    mtype:spell judged = unopened;
    bool ripe = false;

end_start:
    if /* idle_spells.open_spells, SnapshotReader.read */
    :: d_step {
        opened > 0 && !paused && (state[opened - 1] == enforcing || MAY_BECOME_ENFORCING(state[opened - 1])) ->
        s = opened - 1; i = 0; result = unnamed; gone_in_sweep = model_gone;
        judged = state[s]; ripe = DEADLINE_PASSED(s);
        used_in_sweep = AS_IN_SWEEP(used); other_in_sweep = AS_IN_SWEEP(other_user) }
    fi;
    if /* SnapshotReader.refresh, IdleEnforce._one: neither the fleet nor the spell is read anew */
    :: judged == enforcing -> goto next_step
    :: judged != enforcing && (USED || !BOOKED || gone_in_sweep) -> goto withdraws
    :: judged != enforcing && !USED && BOOKED && !gone_in_sweep && ripe
    :: judged != enforcing && !USED && BOOKED && !gone_in_sweep && !ripe -> goto end_start
    fi;
    if /* _begin: idle_spells.move, cancellations.plan */
    :: d_step { IF_OPEN(s, MAY_BECOME_ENFORCING) ->
           state[s] = enforcing;
           for (k : 0 .. SLOTS - 1) {
               if
               :: step[at(s, k)] == named -> step[at(s, k)] = (booked[k] -> planned : already_gone)
               :: else
               fi
           }
           k = 0 }
#ifdef WITHOUT_SPELL_ID
    :: !(IF_OPEN(s, MAY_BECOME_ENFORCING))
#else
    :: !(IF_OPEN(s, MAY_BECOME_ENFORCING)) -> goto end_start /* somebody has closed it */
#endif
    :: d_step { misfortune }; goto end_start
    fi;

next_step: /* Enforcing.go_on: braked? */
    if
    :: d_step { paused -> i = 0; result = unnamed }; goto end_start
    :: d_step { !paused -> used_at_step = used; other_at_step = other_user; i = 0; result = unnamed;
#ifdef WITHOUT_SPELL_ID
           s = opened - 1
#endif
           }
    fi;
    if /* refresh, or read_fresh; domain.enforcement.next_step */
    :: !GOING -> goto end_start /* somebody has closed it */
    :: d_step { GOING && ANY(s, is_planned) && !booked[NEXT] -> i = NEXT; result = already_gone }; goto settles
    :: d_step { GOING && ANY(s, is_planned) && booked[NEXT] && USED -> i = NEXT }; goto stops
    :: d_step { GOING && ANY(s, is_planned) && booked[NEXT] && !USED -> i = NEXT }; goto deletes
    :: GOING && !ANY(s, is_planned) && UNCLEAN -> goto ends
    :: FREEABLE && (uninstall[s] == completed || uninstall_late) -> goto ends
    :: MAY_GO_ON && UNDER_WAY -> goto end_start /* Wait */
    :: MAY_GO_ON && !UNDER_WAY && (USED || model_gone || BLOCKED) -> goto ends
    :: MAY_GO_ON && !UNDER_WAY && !USED && !model_gone && !BLOCKED -> goto uninstalls
    :: MAY_GO_ON && uninstall[s] == gave_up -> goto end_start /* it is left alone for a while */
    :: d_step { misfortune }; goto end_start
    fi;

deletes: /* Enforcing._delete: cancellations.tried */
    if
    :: BRAKED_IN_DELETE -> goto end_start
    :: d_step { !BRAKED_IN_DELETE && STILL_PLANNED(at(s, i)) ->
           stepped_after_pause = paused; assert(!stepped_after_pause);
           deleted_after_closing = (state[s] != enforcing); assert(!deleted_after_closing);
#ifndef WITHOUT_INTENT
           tried[at(s, i)] = tried[at(s, i)] || is_planned(at(s, i))
#endif
           }
    :: !BRAKED_IN_DELETE && !STILL_PLANNED(at(s, i)) -> goto next_step
    :: d_step { misfortune }; goto end_start
    fi;
    if /* DELETE */
    :: d_step { true ->
           deleted_after_use = used_at_step; assert(!deleted_after_use);
           result = (booked[i] -> done : already_gone);
           delete(s, i, true) }
    :: d_step { misfortune -> result = failed }                /* 409, 422 */
    :: d_step { misfortune -> result = planned }               /* 401, 503, ...: not now */
    :: d_step { misfortune -> result = planned; delete(s, i, true) } /* carried out, but not answered */
    :: d_step { misfortune -> flying[at(s, i)] = true }; goto end_start
    :: d_step { misfortune }; goto end_start
    fi;
#ifdef WITHOUT_REFUSALS_KEPT
    result = (result == planned || result == failed -> done : result);
#endif

settles: /* cancellations.settle, or refused */
    if
    :: d_step { result != planned ->
           if
           :: is_planned(at(s, i)) -> step[at(s, i)] = result
           :: else
           fi }; goto next_step
    :: result == planned -> goto end_start /* nothing more is asked of it in this run */
    :: d_step { misfortune }; goto end_start
    fi;

stops: /* cancellations.stop, idle_spells.stopped */
    if
    :: d_step { state[s] == enforcing -> each_step(s, stopped); stopped_for[s] = true }; goto next_step
    :: state[s] != enforcing -> goto end_start
    :: d_step { misfortune }; goto end_start
    fi;

uninstalls: /* ledger.plan */
    if
    :: d_step { true -> uninstall[s] = intended }
    :: d_step { misfortune }; goto end_start
    fi;
    if /* Commands._mark_sent: braked within the write */
    :: paused || uninstall[s] != intended -> goto end_start
    :: d_step { !paused && uninstall[s] == intended -> uninstall[s] = sent }
    :: d_step { misfortune }; goto end_start
    fi;
    if /* POST /v1/command/uninstall; saga_poll settles it */
    :: d_step { true ->
           uninstalled_after_refusal = ANY(s, is_refused); assert(!uninstalled_after_refusal);
           uninstalled_from_another = other_at_step; assert(!uninstalled_from_another);
           uninstalled_early = (heard[s] != lead_over); assert(!uninstalled_early);
           uninstall[s] = completed }; goto next_step
    :: d_step { misfortune }; goto end_start
    fi;

ends: /* Enforcing._close: Tell or Close */
    if
    :: d_step { IF_OPEN(s, MAY_BECOME_ENFORCED) && is_told(s) -> finish(s) }; goto end_start
    :: d_step { IF_OPEN(s, MAY_BECOME_ENFORCED) && !is_told(s) -> withdraw(s) }; goto end_start
    :: !(IF_OPEN(s, MAY_BECOME_ENFORCED)) -> goto end_start
    :: d_step { misfortune }; goto end_start
    fi;

withdraws: /* SpellClosing.withdraw of a spell judged as warned */
    if
    :: d_step { IF_OPEN(s, MAY_BECOME_WITHDRAWN) && AS_JUDGED(s, warned) -> withdraw(s) }; goto end_start
    :: !(IF_OPEN(s, MAY_BECOME_WITHDRAWN) && AS_JUDGED(s, warned)) -> goto end_start
    :: d_step { misfortune }; goto end_start
    fi
}

/* Y after the delivery, and after its record; the deadline that the warning said. */
#define passing(s) \
    :: d_step { heard[s] == reached -> heard[s] = lead_over } \
    :: d_step { delivered_at[s] == reached && heard[s] != reached -> delivered_at[s] = lead_over } \
    :: d_step { state[s] != unopened && !not_before_passed[s] -> not_before_passed[s] = true } \
    :: d_step { state[s] == enforcing && !ANY(s, is_planned) && !uninstall_late -> uninstall_late = true }

proctype time() {
end:
    do
    passing(0)
#if SPELLS > 1
    passing(1)
    :: d_step { used && opened == 1 && !open_spell(0) -> used = false } /* a new N - Y without use */
#endif
    od
}

/* An uninstall that was never sent, or whose answer is lost, is dropped. */
#define settling(s) :: d_step { uninstall[s] == intended || uninstall[s] == sent -> uninstall[s] = gave_up }

proctype saga_poll() {
end:
    do
    settling(0)
#if SPELLS > 1
    settling(1)
#endif
    od
}

#ifdef EVEN_IF_LATE
#define LATE_IS_KNOWN true
#else
#define LATE_IS_KNOWN false /* that a request of a dead run arrives after it was looked for: what no check can help */
#endif
#define arrives(s, i) :: d_step { flying[at(s, i)] -> flying[at(s, i)] = false; delete(s, i, LATE_IS_KNOWN) }

/* withdraw by hand: nothing may be read from BookingService here */
#ifdef WITHOUT_UNSETTLED_CHECK
#define WITHDRAWABLE(s) open_spell(s)
#else
#define WITHDRAWABLE(s) (open_spell(s) && !ANY(s, is_unsettled))
#endif

proctype people() {
    byte k = 0;
end:
    do
#ifdef WITHOUT_OUTBOX
    :: d_step { !dies -> dies = true }
    :: d_step { dies -> dies = false }
#endif
    :: d_step { !used -> used = true }
#if SPELLS == 1 /* these do not depend on what was before */
    :: d_step { !other_user -> other_user = true }
    :: d_step { !model_gone -> model_gone = true }
    :: d_step { booked[0] -> booked[0] = false } /* the user cancels it himself */
#endif
#if SPELLS == 1 && !defined(LIVENESS)
    :: d_step { !paused -> paused = true }
    :: d_step { paused -> paused = false }
#endif
    :: d_step { opened > 0 && WITHDRAWABLE(opened - 1) ->
           if
           :: state[opened - 1] == enforcing && is_told(opened - 1) -> finish(opened - 1)
           :: else -> withdraw(opened - 1)
           fi }
    arrives(0, 0)
#if SLOTS > 1
    arrives(0, 1)
#endif
#if SPELLS > 1
    arrives(1, 0)
#if SLOTS > 1
    arrives(1, 1)
#endif
#endif
#ifdef LIVENESS
    :: break
#endif
    od
}

init {
    atomic { run idle_warning(); run event_dispatch(); run idle_enforce(); run saga_poll(); run time(); run people() }
}

#define warning_heard (heard[0] != not_yet)
#define closing_heard (closing[0] == published)

ltl closed_at_last { [] (warning_heard -> <> closing_heard) }
