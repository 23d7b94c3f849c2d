/*
 * One job on REPLICAS replicas: lock, due row, claim with epoch, heartbeat and trust window, fenced write, call, finish.
 *
 * The code is project/src/limiter/runner/ and effects/commands.py; docs/locking.md says it in prose. Names are the code's.
 *
 * What is abstracted, and why nothing is lost by it:
 *
 * - Time. No seconds, only an order of events: a guard whose heartbeats stop goes `stale` (LOCK_TRUST_SECONDS are over),
 *   and only a stale one is ended by Postgres (LOCK_IDLE_TIMEOUT_SECONDS). The settings refuse another order, and the
 *   clock of the trust window starts before the heartbeat is sent, Postgres' after. Everything else may take any time.
 *   A live, connected replica beats in time: one that does not is `frozen` here, for however short or long.
 * - The epoch is `whose` claim was the last. Epochs are compared for equality only, and a replica has one run of a job at
 *   a time (the lock, `max_instances=1`), so "the row's epoch is mine" is all that a number could say.
 * - A tick that finds nothing to do, or the lock taken, changes nothing: it is waited for, not counted.
 * - A statement that waits for a row gives up some time (the driver's command_timeout), and then its run has failed.
 * - JOB_ATTEMPTS bounds how often a run that dies is repeated; there are fewer faults here than attempts.
 * - A run makes one command: planned and marked as sent in one write, called, its answer recorded. Between `planned` and
 *   `sent` nothing goes out. saga_poll is one step: it settles by the registry a command that cannot be under way any
 *   more (`in_flight`), however early. It writes under the epoch of its own job.
 * - A connection that a replica gives up while it is cut off stays behind in Postgres (LEFT) until a timeout ends it. The
 *   host of a killed process closes its connections; a host without power is a replica frozen for ever.
 * - A replica without a guard has nothing to lose: one that is frozen, cut off or told to stop then is like one that ticks
 *   late, or is killed.
 * - Runs by hand skip only the question whether the job is due or paused. They are left out.
 *
 * -DWITHOUT_... takes one safeguard away. docs/locking.md has the table of what happens then.
 */

#ifndef REPLICAS
#define REPLICAS 2
#endif
#ifndef FAULTS
#define FAULTS 2
#endif
#ifndef DUE_SLOTS
#define DUE_SLOTS 2
#endif

#define NOBODY REPLICAS
#define LEFT (REPLICAS + 1) /* a session that no process serves any more */

#define NONE 0   /* no transaction */
#define PLAIN 1  /* one that locks no row */
#define SHARE 2  /* SELECT ... FOR SHARE: a write of a run */
#define UPDATE 3 /* FOR UPDATE, or an UPDATE: a claim, a finish */

#define IDLE 1   /* in a transaction: Postgres ends it by idle_in_transaction_session_timeout */
#define ACTIVE 2 /* between two messages of one statement: no timeout of Postgres ends it */

/* The database: committed. */
byte epoch = NOBODY;        /* whose claim raised it last */
bool due = true;            /* next_due_at <= now() */
byte due_slot = 0;          /* the present one of the grid */
bool running_epoch = false; /* not null: a run is under way, or was left unfinished */
bool paused = false;
byte command_of = NOBODY;   /* who marked the unfinished command as sent */

/* The database: sessions. */
byte lock_owner = NOBODY;   /* whose guard transaction has pg_try_advisory_xact_lock */
byte tx[REPLICAS] = NONE;
byte left_tx = NONE;        /* IDLE or ACTIVE: a session that was left has the job's row locked */

/* The replicas. */
bool dead[REPLICAS], frozen[REPLICAS], cut[REPLICAS], stopping[REPLICAS];
bool mid[REPLICAS];         /* frozen or cut off between two messages of one statement: Postgres calls that active, not idle */
bool guarding[REPLICAS];    /* has a Guard */
bool claimed[REPLICAS];     /* has a Run */
bool lost[REPLICAS];        /* Guard.lost */
bool stale[REPLICAS];       /* silent for longer than the trust window */
bool braked[REPLICAS];      /* the job was paused after this run began */
bool sending[REPLICAS];     /* between mark_sent and the call */
bool checked[REPLICAS];     /* between check() and the call */

/* What only the safety properties know. */
#ifdef LIVENESS
#define NOTED false
#else
#define NOTED true
#endif
byte unsettled_calls = 0;       /* calls since the last command was settled */
bool completed[DUE_SLOTS];
bool late[REPLICAS];            /* the trust window ended between check() and the call: what no check can help */
bool restarted = false;         /* Postgres gave all locks away at once */
bool wrote_after_takeover, called_after_takeover, called_unrecorded, called_twice, ran_slot_twice;
bool stepped_after_pause, took_from_its_runner;

#if REPLICAS == 2
#define ANY(p) (p(0) || p(1))
#define EACH(p) p(0) p(1)
#else
#define ANY(p) (p(0) || p(1) || p(2))
#define EACH(p) p(0) p(1) p(2)
#endif

#define row_locked(r) (tx[r] == SHARE || tx[r] == UPDATE)
#define row_claimed(r) (tx[r] == UPDATE)
#define lives(r) (!dead[r] && !frozen[r] && !cut[r] && !stopping[r])

#define awake (!frozen[me] && !dead[me])
#define online (awake && !cut[me])

#ifdef WITHOUT_TRUST_WINDOW
#define trusted (!lost[me])
#define heartbeat_unanswered false
#else
#define trusted (!lost[me] && !stale[me])
#define heartbeat_unanswered (cut[me] && stale[me])
#endif

#if defined(WITHOUT_FENCE) || defined(WITHOUT_FOR_SHARE)
#define FENCE_LOCK PLAIN
#else
#define FENCE_LOCK SHARE
#endif

#ifdef WITHOUT_ORPHANS
#define waiting (due && !paused)
#else
#define waiting ((due || running_epoch) && !paused)
#endif

/* The ways in which a step may not come to be: the replica is killed, told to stop, or hears that the lock is gone. */
#define or_ends \
    :: dead[me] -> goto gone \
    :: d_step { awake && stopping[me] -> interrupts = true; completes = false; drop_transaction() }; goto finish \
    :: awake && (lost[me] || heartbeat_unanswered) -> goto lost_run

inline drop_transaction() { /* ROLLBACK, or the connection is closed; one that is cut off stays behind */
    if
    :: cut[me] && tx[me] >= SHARE -> left_tx = (mid[me] -> ACTIVE : IDLE)
    :: else
    fi;
    tx[me] = NONE; mid[me] = false
}

#define end_if_silent(r) if :: (frozen[r] || cut[r]) -> tx[r] = NONE; mid[r] = false :: else fi;

inline end_silent() { /* Mark.end_silent */
#ifndef WITHOUT_MARK
    EACH(end_if_silent)
    left_tx = NONE
#else
    skip
#endif
}

inline let_go() {
    drop_transaction();
    lock_owner = (lock_owner != me -> lock_owner : (cut[me] -> LEFT : NOBODY));
    guarding[me] = false; claimed[me] = false; lost[me] = false; stale[me] = false; braked[me] = false;
    sending[me] = false; checked[me] = false; late[me] = false;
    recording = false; completes = false; slot = 0
}

inline call() { /* what the dispatcher gets */
    if
    :: !late[me] ->
#if !defined(WITHOUT_INTENT) && !defined(WITHOUT_UNIQUE_COMMAND)
           called_unrecorded = (command_of != me); assert(!called_unrecorded);
#endif
           called_after_takeover = (epoch != me && !restarted); assert(!called_after_takeover);
           called_twice = (unsettled_calls > 0); assert(!called_twice);
           unsettled_calls = (NOTED -> 1 : 0)
    :: else ->
#ifdef EVEN_IF_LATE
           called_unrecorded = (command_of != me); assert(!called_unrecorded)
#else
           skip
#endif
    fi;
    sending[me] = false; checked[me] = false; late[me] = false
}

proctype replica(byte me) {
    bool recording = false; /* which write of the run: mark_sent, or the answer's */
    bool completes = false;
    bool interrupts = false;
    byte slot = 0;

tick: /* JobTable.due: asked without a lock */
    if
#ifdef WITHOUT_DUE_ROW
    :: online && !stopping[me] && !paused
#else
    :: online && !stopping[me] && waiting
#endif
    :: dead[me] || (awake && stopping[me]) -> goto gone
    fi;

acquire: /* JobLock.acquire: BEGIN, pg_try_advisory_xact_lock, SET LOCAL idle_in_transaction_session_timeout */
    if
#ifdef WITHOUT_LOCK
    :: d_step { online -> lock_owner = (lock_owner == NOBODY -> me : lock_owner); guarding[me] = true }
#else
    :: d_step { online && lock_owner == NOBODY -> lock_owner = me; guarding[me] = true }
    :: online && lock_owner != NOBODY -> goto tick
#endif
    :: dead[me] || (awake && stopping[me]) -> goto gone
    fi;

claim: /* JobTable.claim: SELECT ... FOR UPDATE SKIP LOCKED, with the mark */
    if
    :: d_step { online && left_tx == NONE && !ANY(row_locked) -> tx[me] = UPDATE }
#ifdef WITHOUT_SKIP_LOCKED /* it waits, until its statement is given up */
    :: online && (left_tx != NONE || ANY(row_locked)) -> goto release
#else
    :: d_step { online && (left_tx != NONE || ANY(row_locked)) -> end_silent() }; goto release
#endif
    or_ends
    fi;

#ifndef WITHOUT_CHECK_IN_CLAIM
    if /* with the row locked: nobody else can claim until we have, or have lost the transaction */
    :: awake && trusted
    :: awake && !trusted -> goto lost_run
    or_ends
    fi;
#endif

    if /* due still? epoch + 1, next_due_at, a row in job_run; COMMIT */
    :: online && tx[me] != UPDATE -> goto release
#if !defined(WITHOUT_DUE_ROW) && !defined(WITHOUT_DUE_IN_CLAIM)
    :: d_step { online && tx[me] == UPDATE && !(due || running_epoch) -> tx[me] = NONE }; goto release
#define CLAIMABLE (due || running_epoch)
#else
#define CLAIMABLE true
#endif
#ifndef WITHOUT_PAUSED_IN_CLAIM
    :: d_step { online && tx[me] == UPDATE && paused -> tx[me] = NONE; running_epoch = false }; goto release
#define STARTABLE (!paused)
#else
#define STARTABLE true
#endif
    :: d_step { online && tx[me] == UPDATE && CLAIMABLE && STARTABLE ->
           took_from_its_runner = (lock_owner < NOBODY && lock_owner != me && claimed[lock_owner] && epoch == lock_owner
               && !restarted);
#ifndef IGNORE_TAKING
           assert(!took_from_its_runner);
#endif
           stepped_after_pause = paused; /* only where the claim does not look */
           assert(!stepped_after_pause);
           epoch = me; running_epoch = true; due = false; slot = due_slot; claimed[me] = true; braked[me] = false;
           tx[me] = NONE }
    or_ends
    fi;

write: /* Run.write: check() ... */
#ifdef WITHOUT_CHECK_IN_WRITE
    skip;
#else
    if
    :: awake && trusted
    :: awake && !trusted -> goto lost_run
    or_ends
    fi;
#endif
#ifdef WITHOUT_BRAKE_IN_WRITE
    if /* Run.braked, asked before the write */
    :: online && !braked[me]
    :: online && braked[me] -> goto finish
    or_ends
    fi;
#endif
    if /* ... SELECT epoch FROM job WHERE epoch = :epoch FOR SHARE: waits for a claim under way, but not for ever ... */
#ifdef WITHOUT_FENCE
    :: d_step { online -> tx[me] = FENCE_LOCK }
#else
    :: d_step { online && !ANY(row_claimed) && epoch == me -> tx[me] = FENCE_LOCK }
    :: online && !ANY(row_claimed) && epoch != me -> goto lost_run
    :: online && ANY(row_claimed) -> goto finish /* failed */
#endif
    or_ends
    fi;
    if /* ... what is written; COMMIT */
    :: online && tx[me] == NONE -> goto finish /* failed */
#if !defined(WITHOUT_BRAKE) && !defined(WITHOUT_BRAKE_IN_WRITE)
    :: d_step { online && tx[me] != NONE && !recording && braked[me] -> tx[me] = NONE }; goto finish
#define STEPPABLE (!braked[me])
#else
#define STEPPABLE true
#endif
#ifdef WITHOUT_UNIQUE_COMMAND
#define PLANNABLE true
#else
    /* uq_command_unfinished: it is saga_poll's to settle */
    :: d_step { online && tx[me] != NONE && !recording && STEPPABLE && command_of != NOBODY ->
           tx[me] = NONE; completes = true }; goto finish
#define PLANNABLE (command_of == NOBODY)
#endif
    :: d_step { online && tx[me] != NONE && !recording && STEPPABLE && PLANNABLE ->
           wrote_after_takeover = (epoch != me); assert(!wrote_after_takeover);
           stepped_after_pause = braked[me]; assert(!stepped_after_pause);
#ifndef WITHOUT_INTENT
           command_of = me;
#endif
           sending[me] = true;
           tx[me] = NONE }
    :: d_step { online && tx[me] != NONE && recording ->
           wrote_after_takeover = (epoch != me); assert(!wrote_after_takeover);
           if
           :: command_of == me -> command_of = NOBODY; unsettled_calls = 0
           :: else
           fi;
           tx[me] = NONE; completes = true }; goto finish
    or_ends
    fi;

    if /* check(): right before every effect outside */
    :: d_step { awake && trusted -> checked[me] = true }
    :: awake && !trusted -> goto lost_run
    or_ends
    fi;
    if /* POST /v1/command/scale; its answer may be lost */
    :: d_step { awake -> call(); recording = true }; goto write
    :: d_step { awake -> call(); completes = true }; goto finish
    or_ends
    fi;

finish: /* JobTable.finish: lock the row, with the mark ... */
    if
    :: d_step { online && left_tx == NONE && !ANY(row_locked) -> tx[me] = UPDATE }
    :: online && (left_tx != NONE || ANY(row_locked)) -> goto release
    :: awake && (lost[me] || heartbeat_unanswered) -> goto lost_run
    :: dead[me] -> goto gone
    fi;
    if /* ... if the epoch is ours: the run's end, and running_epoch; COMMIT */
    :: d_step { online ->
           if
           :: tx[me] == UPDATE && epoch == me ->
                  running_epoch = interrupts;
                  if
                  :: completes -> ran_slot_twice = completed[slot]; assert(!ran_slot_twice); completed[slot] = NOTED
                  :: else
                  fi
           :: else
           fi;
           tx[me] = NONE }
    :: awake && heartbeat_unanswered -> goto lost_run
    :: dead[me] -> goto gone
    fi;
    goto release;

lost_run: /* a run that lost its lock records nothing */
    skip;

release: /* the guard's connection is closed, or given back after a ROLLBACK */
    if
    :: d_step { awake && !stopping[me] -> let_go() }; goto tick
    :: d_step { awake && stopping[me] -> let_go() }; goto gone
    :: dead[me] -> goto gone
    fi;

gone:
    atomic { recording = false; completes = false; interrupts = false; slot = 0 }
}

/* What passes in Postgres and in the guards while time goes by. */
#ifdef WITHOUT_HEARTBEAT
#define silent(r) true
#else
#define silent(r) (frozen[r] || cut[r])
#endif
#ifdef WITHOUT_IDLE_TIMEOUT
#define IDLE_TIMEOUT false
#else
#define IDLE_TIMEOUT true
#endif
#ifdef TRUST_LONGER_THAN_IDLE_TIMEOUT
#define idle_enough(r) silent(r)
#else
#define idle_enough(r) stale[r]
#endif

#define passing(r) \
    :: d_step { guarding[r] && !stale[r] && silent(r) -> stale[r] = true; late[r] = late[r] || (checked[r] && NOTED) } \
    :: d_step { guarding[r] && stale[r] && !silent(r) && lock_owner == r -> stale[r] = false /* Guard.beat */ } \
    :: d_step { guarding[r] && lock_owner != r && !lost[r] && !frozen[r] && !cut[r] -> lost[r] = true } \
    :: d_step { IDLE_TIMEOUT && lock_owner == r && idle_enough(r) -> lock_owner = NOBODY } \
    :: d_step { IDLE_TIMEOUT && tx[r] != NONE && stale[r] && !mid[r] && (frozen[r] || cut[r]) -> tx[r] = NONE }

proctype time() {
end:
    do
    EACH(passing)
    :: d_step { IDLE_TIMEOUT && lock_owner == LEFT -> lock_owner = NOBODY }
    :: d_step { IDLE_TIMEOUT && left_tx == IDLE -> left_tx = NONE }
    od
}

/* Whether a command may still be under way: its sender is about to call, and is not known to be beyond the trust window. */
#define between(r) (command_of == r && sending[r] && !(frozen[r] && stale[r] && lock_owner != r))

#define forget(r) \
    guarding[r] = false; claimed[r] = false; lost[r] = false; stale[r] = false; mid[r] = false; tx[r] = NONE; braked[r] = false; \
    sending[r] = false; checked[r] = false; late[r] = false; frozen[r] = false;

#define brake(r) braked[r] = claimed[r];
#define dropped(r) tx[r] = NONE; mid[r] = false;

#define acts(r) (lives(r) && guarding[r])

#define breaking(r) \
    :: d_step { faults > 0 && lives(r) -> faults--; dead[r] = true; \
           lock_owner = (lock_owner == r -> NOBODY : lock_owner); forget(r) } \
    :: d_step { faults > 0 && acts(r) -> faults--; stopping[r] = true } \
    :: d_step { faults > 0 && acts(r) -> faults--; frozen[r] = true } \
    :: d_step { faults > 0 && lives(r) && tx[r] != NONE -> faults--; frozen[r] = true; mid[r] = true } \
    :: d_step { frozen[r] -> frozen[r] = false; mid[r] = false } \
    :: d_step { faults > 0 && acts(r) -> faults--; cut[r] = true } \
    :: d_step { faults > 0 && lives(r) && tx[r] != NONE -> faults--; cut[r] = true; mid[r] = true } \
    :: d_step { cut[r] -> cut[r] = false; mid[r] = false }

proctype environment() {
    byte faults = FAULTS;
end:
    do
    EACH(breaking)
    :: d_step { faults > 0 -> faults--; lock_owner = NOBODY; EACH(dropped) left_tx = NONE;
           restarted = NOTED }
    :: d_step { due_slot + 1 < DUE_SLOTS -> due_slot++; due = true }
#ifdef PAUSES /* JobTable.pause waits for whoever has the row; then it is answered */
    :: d_step { !paused && left_tx == NONE && !ANY(row_locked) -> paused = true; EACH(brake) }
#endif
    /* saga_poll: the registry shows the effect, or its absence */
    :: d_step { command_of != NOBODY && !ANY(between) -> command_of = NOBODY; unsettled_calls = 0 }
#ifdef LIVENESS
    :: break /* what is frozen or cut off stays so */
#endif
    od
}

init {
    atomic {
        run time(); run environment();
        run replica(0); run replica(1);
#if REPLICAS == 3
        run replica(2)
#endif
    }
}

#define nothing_waits (!((due || running_epoch) && !paused))
#define somebody_lives ANY(lives)

ltl run_by_somebody { (<>[] somebody_lives) -> ([]<> nothing_waits) }
