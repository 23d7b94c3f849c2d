"""Any history of calls, outages, restarts, refusals, keeps and bookings: what must never happen, whatever happens.

A state machine plays the platform, which knows the truth, and the service over it, minute by minute. A second service
is restarted between any two steps, from what is persisted. STATE_EXAMPLES=20000 is the long form.
"""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from limiter.domain.audit import DecisionRecord
from limiter.domain.closing import Close, Tell
from limiter.domain.command import CommandKind, CommandState
from limiter.domain.decision import Decision, Reason
from limiter.domain.enforcement import Delete, Uninstall
from limiter.domain.fleet import Fleet, ServedModel
from limiter.domain.idle_spell import IdleSpell, SpellState, StepState
from limiter.domain.keep import Keep
from limiter.domain.policy import Policy
from limiter.domain.quiet_hours import NEVER_QUIET, QuietHours
from limiter.domain.reservations import Bookings, Reservation, Slot, UnbookingMode, User
from limiter.domain.snapshot import BookingKey, Snapshot
from limiter.domain.usage import FailedScrape, Scrape, ScrapedPage, ScrapeProblem
from limiter.recording.format import START, Start
from limiter.replay.enforcement import Found
from limiter.replay.simulation import Simulation
from tests.unit.domain.build import IDLE, PACING, SCALING, UNHURRIED, at, secs

EXAMPLES = int(os.environ.get("STATE_EXAMPLES", "70"))  # of 40, one run in a dozen has no cancelling
MINUTE, N, Y = 60, 600, 240
GUARD, TELL = 300, 120
TARGETS = ("a", "b")
MODELS = tuple(ServedModel(UUID(int=number), name, 1) for number, name in ((1, "m"), (2, "m"), (3, "n")))
NAMES = {model.id: model.name for model in MODELS}
USERS = tuple(User(UUID(int=100 + number), f"u{number}") for number in range(3))
NIGHT = QuietHours(time(0, 20), time(0, 35))
COUNTS: Counter[str] = Counter()  # how often each thing happened in the examples

ANSWERS = {  # to a DELETE, as the service hears them
    "yes": None,
    "not now": StepState.PLANNED,
    "never": StepState.FAILED,
    "yes, unheard": StepState.PLANNED,
    "gone already": StepState.ALREADY_GONE,
}

SlotKey = tuple[str, str]  # reservation and slot
SpellKey = tuple[BookingKey, datetime]  # whose spell, and when it was opened: the same in both services

minutes, models, users = st.integers(1, 8), st.sampled_from(MODELS), st.sampled_from(USERS)
targets, names, picks = st.sampled_from(TARGETS), st.sampled_from(("m", "n")), st.integers(0, 30)
answers = st.sampled_from(sorted(ANSWERS))
surprises = st.sampled_from(["keep", "call", "pause", "give back", "book"])


def keys_of(slots: tuple[Slot, ...]) -> set[SlotKey]:
    return {(slot.reservation_id, slot.id) for slot in slots}


@dataclass
class Platform:
    """What is true, whatever the service knows of it."""

    now: int = 0
    counters: dict[str, dict[str, float]] = field(
        default_factory=lambda: {name: {"m": 1.0, "n": 1.0} for name in TARGETS}
    )
    born: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TARGETS, 0))
    out: dict[str, int] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    used: dict[str, int] = field(default_factory=dict)
    booked: dict[str, Reservation] = field(default_factory=dict)
    reservations: int = 0
    added: int = 0  # slots, each with an id of its own
    keeps: list[Keep] = field(default_factory=list)
    paused: bool = False
    answer: str = "yes"  # what the booking service says to a DELETE
    deletes: list[tuple[SpellKey, str, Delete]] = field(default_factory=list)  # with its answer
    refused: dict[SlotKey, int] = field(default_factory=dict)  # when each slot was last refused for now
    surprise: tuple[int, str, int] | None = None  # before which step what happens
    steps: int = 0

    def copy(self) -> "Platform":
        return replace(
            self,
            counters={target: dict(counters) for target, counters in self.counters.items()},
            used=dict(self.used),
            booked=dict(self.booked),
            keeps=list(self.keeps),
            deletes=list(self.deletes),
            refused=dict(self.refused),
        )

    # --- as it answers ----------------------------------------------------------------------------------------------

    def scrapes(self) -> list[Scrape]:
        return [
            (
                FailedScrape(target, ScrapeProblem.UNAVAILABLE, "out")
                if self.out.get(target, 0) > self.now
                else self.page(target)
            )
            for target in TARGETS
        ]

    def page(self, target: str) -> ScrapedPage:
        counters = {name: value for name, value in self.counters[target].items() if name not in self.broken}
        unreadable = {name: name for name in self.counters[target] if name in self.broken}
        began = at(self.born[target]).timestamp()
        return ScrapedPage(target, at(self.now), counters, {name: name for name in counters}, unreadable, began)

    def knows_use_of(self, name: str) -> bool:
        answers = all(self.out.get(target, 0) <= self.now for target in TARGETS)
        return answers and not any(name in counters and name in self.broken for counters in self.counters.values())

    def last_use(self, name: str) -> int | None:
        """When the name was last called, as far as no restart has wiped the call out before it could be read."""
        return self.used.get(name)

    def kept(self, key: BookingKey) -> bool:
        name = NAMES[key[0]]
        return any(
            keep.model_name == name and keep.user_id in (None, key[1]) and at(self.now) < keep.until
            for keep in self.keeps
        )

    def slots_of(self, model: UUID, user: UUID | None = None) -> list[Slot]:
        """The slots of a user and model; of no user: of everybody."""
        return [
            slot
            for booked in self.booked.values()
            if booked.model_id == model and user in (None, booked.user.id)
            for slot in booked.slots
        ]

    # --- what happens -----------------------------------------------------------------------------------------------

    def call(self, name: str, target: str = "a", calls: int = 1) -> None:
        counters = self.counters[target]
        counters[name] = counters.get(name, 0.0) + calls
        self.used[name] = self.now

    def keep(self, name: str, user: User | None, length: int) -> None:
        self.keeps.append(Keep(name, user.id if user else None, at(self.now), at(self.now + length * MINUTE)))

    def book(self, model: ServedModel, user: User, lead: int, lengths: list[int]) -> None:
        self.reservations += 1
        start, slots = self.now + lead * MINUTE, []
        for number, length in enumerate(lengths):
            slots.append(Slot(at(start), at(start + length * 4 * MINUTE), f"s{number}", f"r{self.reservations}"))
            start += (length * 4 + number % 2) * MINUTE
        booked = Reservation(f"r{self.reservations}", user, model.name, model.id, tuple(slots))
        self.booked[booked.id] = booked

    def add(self, pick: int) -> None:
        """A user adds a slot to a reservation of his."""
        if self.booked:
            booked = self.booked[sorted(self.booked)[pick % len(self.booked)]]
            start = max((slot.end for slot in booked.slots), default=at(self.now))
            self.added += 1
            added = Slot(start, start + timedelta(minutes=8), f"added {self.added}", booked.id)
            self.booked[booked.id] = replace(booked, slots=(*booked.slots, added))

    def give_back(self, pick: int, *, one: bool = True) -> None:
        """A user cancels a reservation of his, or one slot of it."""
        if self.booked:
            booked = self.booked[sorted(self.booked)[pick % len(self.booked)]]
            self.remove(booked.id, keys_of((booked.slots[pick % len(booked.slots)],)) if one else keys_of(booked.slots))

    def remove(self, id: str, going: set[SlotKey]) -> None:
        booked = self.booked[id]
        left = tuple(slot for slot in booked.slots if (id, slot.id) not in going)
        self.booked[id] = replace(booked, slots=left)
        if not left:
            del self.booked[id]

    def surprised(self) -> None:
        """What happens between two steps of a run."""
        if self.surprise is None or self.steps < self.surprise[0]:
            return
        _, what, pick = self.surprise
        self.surprise = None
        match what:
            case "keep":
                self.keep("mn"[pick % 2], None if pick % 3 else USERS[pick % 2], 1 + pick)
            case "call":
                self.call("mn"[pick % 2])
            case "pause":
                self.paused = True
            case "give back":
                self.give_back(pick)
            case "book":
                self.add(pick)
        COUNTS[f"between two steps: {what}"] += 1


class Watched(Simulation):
    """A service whose uninstalls are looked at before they are planned."""

    watch: Callable[[IdleSpell], None]

    def _uninstall(self, found: Found, snapshot: Snapshot, spell: IdleSpell, step: Uninstall, at: datetime) -> bool:
        self.watch(spell)
        return super()._uninstall(found, snapshot, spell, step, at)


class AnyHistory(RuleBasedStateMachine):
    """The platform's truth, and two services that must agree."""

    @initialize(
        keys=st.lists(st.tuples(models, users), min_size=1, max_size=4),
        mode=st.sampled_from(UnbookingMode),
        current=st.booleans(),
        uninstall=st.booleans(),
        per_run=st.integers(1, 3),
        quiet=st.sampled_from([NEVER_QUIET, NEVER_QUIET, NIGHT]),
        surprise=st.none() | st.tuples(st.integers(1, 3), surprises, picks),
    )
    def begin(
        self,
        keys: list[tuple[ServedModel, User]],
        mode: UnbookingMode,
        current: bool,
        uninstall: bool,
        per_run: int,
        quiet: QuietHours,
        surprise: tuple[int, str, int] | None,
    ) -> None:
        idle = replace(
            IDLE, limit=secs(N), lead=secs(Y), mode=mode, cancel_current=current, uninstall=uninstall,
            uninstall_guard=secs(GUARD), uninstall_tell=secs(TELL), row_gap=secs(120), quiet=quiet,
        )  # fmt: skip
        scaling = replace(SCALING, min_replicas=1, max_replicas=4, down_window=secs(120), down_stabilization=secs(120))
        self.policy = Policy(
            scaling, idle, {}, PACING, enforce_per_run=per_run, saga_timeout=secs(900), retention=secs(86_400)
        )
        self.truth = Platform(surprise=surprise)
        self.one, self.other = Watched(self.policy), Watched(self.policy)
        self.now_of: BookingKey | None = None  # whose cancelling goes on
        self.begun: dict[BookingKey, Platform] = {}  # what was true when it was read for the first time in a run
        for simulation in (self.one, self.other):
            self.attach(simulation)
        self.silent_registry = self.silent_bookings = False
        self.delivers = True
        self.sagas = "end"
        self.replicas = {model.id: 1 for model in MODELS}
        self.running = {model.id for model in MODELS}
        self.warned: dict[SpellKey, IdleSpell] = {}  # each spell as its warning was delivered
        self.closed: dict[SpellKey, Tell | Close] = {}
        self.freed: set[SpellKey] = set()  # for which an uninstall has completed
        COUNTS["examples"] += 1
        for model, user in keys:
            self.truth.book(model, user, 0, [8, 4, 2, 4])

    def attach(self, simulation: Watched) -> None:
        simulation.refuses = lambda delete: self.answered(simulation, delete)
        simulation.braked = self.step_begins
        simulation.watch = self.check_uninstall

    def step_begins(self) -> bool:
        """Asked before each spell and each step: whether there is a pause."""
        self.truth.surprised()
        return self.truth.paused

    # --- what happens -----------------------------------------------------------------------------------------------

    @rule(count=st.integers(N // MINUTE - 3, N // MINUTE + 3))
    def a_long_time_passes(self, count: int) -> None:
        for _ in range(count):
            self.minute()

    @rule(name=names, entrypoint=targets, calls=st.integers(1, 5000))
    def call(self, name: str, entrypoint: str, calls: int) -> None:
        self.truth.call(name, entrypoint, calls)

    @rule(entrypoint=targets)
    def entrypoint_restarts(self, entrypoint: str) -> None:
        self.truth.counters[entrypoint] = {}
        self.truth.born[entrypoint] = self.truth.now
        self.truth.used = {}  # also a call of this very minute, which no page showed

    @rule(entrypoint=targets, count=minutes)
    def entrypoint_is_out(self, entrypoint: str, count: int) -> None:
        self.truth.out[entrypoint] = self.truth.now + count * MINUTE

    @rule(name=names)
    def a_series_breaks_or_heals(self, name: str) -> None:
        self.truth.broken = self.truth.broken ^ {name}

    @rule(what=st.sampled_from(["registry", "bookings", "broker"]))
    def a_service_is_away_or_back(self, what: str) -> None:
        match what:
            case "registry":
                self.silent_registry = not self.silent_registry
            case "bookings":
                self.silent_bookings = not self.silent_bookings
            case "broker":
                self.delivers = not self.delivers

    @rule(answer=answers)
    def the_booking_service_answers(self, answer: str) -> None:
        self.truth.answer = answer

    @rule(how=st.sampled_from(["end", "hang", "fail"]))
    def sagas_will(self, how: str) -> None:
        self.sagas = how

    @rule(model=models, replicas=st.integers(1, 6))
    def somebody_scales_or_deploys(self, model: ServedModel, replicas: int) -> None:
        self.replicas[model.id] = replicas
        self.running.add(model.id)

    @rule(model=models, user=users, lead=st.integers(-10, 20), lengths=st.lists(minutes, min_size=1, max_size=4))
    def book(self, model: ServedModel, user: User, lead: int, lengths: list[int]) -> None:
        self.truth.book(model, user, lead, lengths)

    @rule(pick=picks)
    def a_user_adds_a_slot(self, pick: int) -> None:
        self.truth.add(pick)

    @rule(pick=picks, one=st.booleans())
    def a_user_cancels(self, pick: int, one: bool) -> None:
        self.truth.give_back(pick, one=one)

    @rule(name=names, user=st.none() | users, length=st.integers(0, 20))
    def somebody_keeps(self, name: str, user: User | None, length: int) -> None:
        self.truth.keep(name, user, length)

    @rule()
    def somebody_pauses_or_resumes(self) -> None:
        self.truth.paused = not self.truth.paused
        if not self.truth.paused:
            self.one.resumed_at = self.other.resumed_at = at(self.truth.now)

    @rule(name=names, what=st.sampled_from(["exempt", "dry run"]))
    def the_operator_changes_the_settings(self, name: str, what: str) -> None:
        policy = self.policy
        if what == "dry run":
            self.policy = replace(policy, dry_run=not policy.dry_run)
        else:
            own = dict(policy.own_rules)
            if own.pop(name, None) is None:
                own[name] = (policy.scaling_rule, replace(policy.idle_rule, exempt=True))
            self.policy = replace(policy, own_rules=own)
        self.one.policy = self.other.policy = self.policy

    @rule(after=st.integers(1, 4), what=surprises, pick=picks)
    def something_will_happen_between_two_steps(self, after: int, what: str, pick: int) -> None:
        self.truth.surprise = (after, what, pick)

    # --- the service ------------------------------------------------------------------------------------------------

    def fleet(self) -> Fleet:
        return Fleet(
            tuple(replace(model, replicas=self.replicas[model.id]) for model in MODELS if model.id in self.running)
        )

    def minute(self) -> None:
        """All jobs once, in both services, as far as the external services answer."""
        self.truth.now += MINUTE
        now, scrapes, fleet = at(self.truth.now), self.truth.scrapes(), self.fleet()
        self.both(lambda simulation: simulation.tick(now, scrapes, None if self.silent_registry else fleet))
        if not self.silent_registry and not self.silent_bookings:
            self.both(lambda simulation: simulation.warn(self.snapshot(simulation), delivers=False))
            self.close()
            self.deliver()
            self.both(self.enforced)
            self.close()
            self.check_what_waits()
        self.sagas_go_on()
        self.restart(self.other)

    def snapshot(self, simulation: Simulation) -> Snapshot:
        truth = self.truth
        simulation.keeps = truth.keeps
        bookings = Bookings(tuple(truth.booked.values()))
        return simulation.snapshot(at(truth.now), truth.scrapes(), self.fleet(), bookings)

    def enforced(self, simulation: Simulation) -> list[DecisionRecord]:
        self.truth.steps = 0
        self.begun = {}

        def read_again(key: BookingKey) -> Snapshot:
            self.now_of = key
            self.truth.steps += 1
            if key not in self.begun:
                self.begun[key] = self.truth.copy()
            if simulation is self.other:
                self.restart(simulation)
            return self.snapshot(simulation)

        return simulation.enforce(self.snapshot(simulation), read_again, at(self.truth.now))

    def both(self, job: Callable[[Simulation], list[DecisionRecord]]) -> None:
        """A job in both services; what happens in the middle of it happens to both."""
        before = self.truth.copy()
        records = job(self.one)
        after, self.truth = self.truth, before
        twins = job(self.other)
        assert self.truth == after, "the restarted service does otherwise"
        assert sorted(records, key=str) == sorted(twins, key=str), "the restarted service decides otherwise"
        for record in records:
            self.check(record)
            COUNTS[f"{record.decision}:{record.reason}"] += 1

    def deliver(self) -> None:
        for key, spell in list(self.one.spells.items()):
            if self.delivers and spell.delivered_at is None:
                self.one.delivered(key, at(self.truth.now))
                self.other.delivered(key, at(self.truth.now))
                self.warned[key, spell.opened_at] = self.one.spells[key]
                COUNTS["warnings delivered"] += 1

    def sagas_go_on(self) -> None:
        for simulation in (self.one, self.other):
            for id, command in list(simulation.commands.items()):
                if not command.unfinished or self.sagas == "hang":
                    continue
                state = CommandState.COMPLETED if self.sagas == "end" else CommandState.FAILED
                failures = command.failures + 1 if state is CommandState.FAILED else 0
                simulation.commands[id] = replace(
                    command, state=state, finished_at=at(self.truth.now), failures=failures
                )
                if state is CommandState.COMPLETED:
                    self.take_effect(id, command.kind, command.replicas)
                    self.freed |= {
                        (key, spell.opened_at)
                        for key, spell in self.one.spells.items()
                        if simulation is self.one and spell.id == command.spell_id
                    }

    def take_effect(self, id: UUID, kind: CommandKind, replicas: int | None) -> None:
        if kind is CommandKind.UNINSTALL:
            self.running.discard(id)
        else:
            assert replicas is not None
            self.replicas[id] = replicas

    def restart(self, simulation: Simulation) -> None:
        """Everything that is not in Postgres is lost: what is persisted is written and read back."""
        closed = [(*key, moment) for key, moment in simulation.closed.items()]
        standing = [(*key, stands) for key, stands in simulation.standing.items()]
        persisted = Start(
            simulation.memory,
            list(simulation.scaling_states.values()),
            list(simulation.commands.values()),
            list(simulation.spells.values()),
            closed,
            standing,
        )
        back = START.validate_json(START.dump_json(persisted))
        assert back == persisted
        simulation.memory = back.memory
        simulation.scaling_states = {state.model_id: state for state in back.scaling_states}
        simulation.commands = {command.model_id: command for command in back.commands}
        simulation.spells = {spell.key: spell for spell in back.spells}
        simulation.closed = {(model, user): moment for model, user, moment in back.closed}
        simulation.standing = {(model, user): stands for model, user, stands in back.standing}

    # --- what must hold of a DELETE ---------------------------------------------------------------------------------

    def answered(self, simulation: Simulation, delete: Delete) -> StepState | None:
        """The booking service answers a DELETE, once it is checked that it may be sent."""
        truth, key = self.truth, self.now_of
        assert key is not None
        spell = simulation.spells[key]
        whose = (key, spell.opened_at)
        self.check_delete(whose, delete)
        answer = truth.answer
        truth.deletes.append((whose, answer, delete))
        if answer not in ("not now", "never"):
            truth.remove(delete.reservation_id, keys_of(delete.slots))
        if answer in ("not now", "yes, unheard"):
            truth.refused |= dict.fromkeys(keys_of(delete.slots), truth.now)
        truth.surprised()
        return ANSWERS[answer]

    def check_delete(self, whose: SpellKey, delete: Delete) -> None:
        (model, user), truth = whose[0], self.truth
        booked, going = truth.booked[delete.reservation_id], keys_of(delete.slots)
        assert booked.user.id == user, "another user's slot"
        assert booked.model_id == model, "another model's slot"
        assert going <= keys_of(booked.slots), "what is not booked"
        assert not delete.whole or going == keys_of(booked.slots), "something else goes with it"
        assert delete.whole or len(going) == 1
        assert all(slot.end > at(truth.now) for slot in delete.slots), "a slot that is over"
        warning = self.warned[whose]
        assert going <= keys_of(warning.named), "what no warning named"
        assert self.policy.idle_rule.cancel_current or not going & keys_of((warning.slot,)), "the slot of the warning"
        assert warning.delivered_at is not None
        assert self.open_time(warning.delivered_at) >= Y, "no warning was delivered Y before"
        assert warning.not_before <= at(truth.now), "before the moment that the warning says"
        for slot in going:
            assert truth.now >= truth.refused.get(slot, -MINUTE) + MINUTE, "refused a moment ago"
        self.check_harm(whose[0], warning.idle_since)

    def check_harm(self, key: BookingKey, idle_since: datetime) -> None:
        """What must hold of everything that takes something away."""
        truth, name = self.truth, NAMES[key[0]]
        assert not truth.paused, "after a pause"
        assert not truth.kept(key), "though it is kept"
        assert name not in self.policy.own_rules, "though it is exempt"
        assert not self.policy.dry_run, "in a dry run"
        assert self.is_open(truth.now), "in the quiet hours"
        assert truth.knows_use_of(name), "though its use is not known"
        used = truth.last_use(name)
        assert used is None or at(used) <= idle_since, "though it was used"

    def is_open(self, now: int) -> bool:
        return self.policy.idle_rule.quiet is NEVER_QUIET or not 20 * MINUTE <= now % 86_400 < 35 * MINUTE

    def open_time(self, since: datetime) -> int:
        """The seconds since then outside the quiet hours."""
        began = int((since - at(0)).total_seconds())
        return sum(MINUTE for moment in range(began, self.truth.now, MINUTE) if self.is_open(moment))

    # --- what must hold of a decision -------------------------------------------------------------------------------

    def check(self, record: DecisionRecord) -> None:
        truth = self.truth
        if record.decision in (Decision.SCALE_UP, Decision.SCALE_DOWN):
            wanted = record.numbers["wanted"]
            assert isinstance(wanted, int | float)
            assert self.policy.scaling_rule.min_replicas <= wanted <= self.policy.scaling_rule.max_replicas
        assert record.why
        if record.decision is Decision.SCALE_DOWN:
            assert truth.knows_use_of(record.model_name), "a scale down although its use is not known"
        if record.user_id is None:
            return
        key = (record.model_id, record.user_id)
        if record.decision is Decision.WARN:
            assert truth.knows_use_of(record.model_name), "a warning although its use is not known"
            assert not truth.kept(key)
            assert record.model_name not in self.policy.own_rules
            assert self.is_open(truth.now)
            self.check_idle(truth, key, record, N - Y)
        if record.decision is Decision.CANCEL and record.reason is Reason.DEADLINE_PASSED:
            self.check_idle(self.begun[key], key, record, N)

    def check_idle(self, truth: Platform, key: BookingKey, record: DecisionRecord, due: int) -> None:
        """No visible use since the idle time began, and as much of it as is said, minute by minute within own slots."""
        since = datetime.fromtimestamp(float(record.numbers["idle_since_at"]), at(0).tzinfo)
        used = truth.last_use(record.model_name)
        assert used is None or since >= at(used), "use came after the idle time is said to have begun"
        own = truth.slots_of(*key)
        began = int((since - at(0)).total_seconds())
        booked = sum(
            min(MINUTE, truth.now - moment)
            for moment in range(began, truth.now, MINUTE)
            if any(slot.covers(at(moment)) for slot in own)
        )
        assert due <= float(record.numbers["idle_seconds"]) <= booked, "too early"

    def check_uninstall(self, spell: IdleSpell) -> None:
        if spell.dry_run:
            return
        truth, now, key = self.truth, at(self.truth.now), spell.key
        (model, user), whose = key, (key, spell.opened_at)
        left = keys_of(self.warned[whose].named) & keys_of(tuple(s for s in truth.slots_of(*key) if s.end > now))
        assert not left, "something that the warning named is booked still"
        assert "never" not in {answer for of, answer, _ in truth.deletes if of == whose}, "after a refusal"
        soon, own = at(truth.now + GUARD), set(truth.slots_of(model, user))
        for slot in truth.slots_of(model):
            assert not now < slot.start <= soon, "somebody holds it soon"
            assert slot in own or not slot.covers(now), "somebody else holds it"
        self.check_harm(key, self.warned[whose].idle_since)

    # --- what must hold of a closing --------------------------------------------------------------------------------

    def close(self) -> None:
        """Every closing is the spell's only one, and says what is true."""
        ones, others = self.one.closings, self.other.closings
        assert [(spell.key, spell.opened_at, step) for spell, step in ones] == [
            (spell.key, spell.opened_at, step) for spell, step in others
        ]
        for spell, step in ones:
            if spell.dry_run:
                COUNTS["closed in a dry run"] += 1
                continue
            whose = (spell.key, spell.opened_at)
            assert whose not in self.closed, "closed twice"
            self.closed[whose] = step
            if whose in self.warned:
                self.check_closing(whose, step)
            else:
                assert isinstance(step, Close), "something was taken without a delivered warning"
        ones.clear()
        others.clear()
        for whose in self.warned:
            is_open = whose[0] in self.one.spells and self.one.spells[whose[0]].opened_at == whose[1]
            assert is_open is (whose not in self.closed), "a delivered warning is closed exactly once"

    def check_closing(self, whose: SpellKey, step: Tell | Close) -> None:
        went: dict[str, set[SlotKey]] = {}
        for of, answer, delete in self.truth.deletes:
            if of == whose:
                went.setdefault(answer, set()).update(keys_of(delete.slots))
        heard, unheard = went.get("yes", set()), went.get("yes, unheard", set())
        COUNTS["told of a cancelling" if isinstance(step, Tell) else "told of a withdrawal"] += 1
        if isinstance(step, Close):
            assert not heard, "it is withdrawn though something was taken"
            assert not unheard, "it is withdrawn though something may have been taken"
            assert not went.get("never"), "it is withdrawn though something was refused"
            assert whose not in self.freed, "it is withdrawn though the model was uninstalled"
            return
        assert keys_of(step.cancelled) == heard, "not exactly what was cancelled is told as cancelled"
        assert unheard <= keys_of(step.already_gone), "what may have been taken is not told"
        assert went.get("never", set()) <= keys_of(step.failed), "what was refused is not told"
        over = [slot for slot in step.failed if (slot.reservation_id, slot.id) not in went.get("never", set())]
        assert all(slot.end <= at(self.truth.now) for slot in over), "what was not refused is told as refused"
        assert step.uninstalled is (whose in self.freed)
        COUNTS["slots cancelled"] += len(step.cancelled)
        COUNTS["slots refused"] += len(step.failed)
        COUNTS["slots gone already"] += len(step.already_gone)
        COUNTS["models uninstalled"] += step.uninstalled

    def check_what_waits(self) -> None:
        """Whoever has nothing left to lose is told, however long an uninstall takes."""
        for spell in self.one.spells.values():
            if spell.state is SpellState.ENFORCING and not spell.slots(StepState.PLANNED) and not self.truth.paused:
                since = spell.settled_at or spell.enforcing_at
                assert since is not None
                assert at(self.truth.now) - since < secs(TELL), "its user is kept waiting"

    @invariant()
    def time_goes_on_and_both_have_the_same_spells(self) -> None:
        self.minute()
        ones, others = (
            {key: replace(spell, id=UUID(int=0), uninstall=None) for key, spell in simulation.spells.items()}
            for simulation in (self.one, self.other)
        )
        assert ones == others


def test_any_history() -> None:
    limits = settings(
        UNHURRIED,
        max_examples=EXAMPLES,
        stateful_step_count=25,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(AnyHistory, settings=limits)
    print(f"{COUNTS.pop('examples')} examples: " + ", ".join(f"{many} {what}" for what, many in COUNTS.most_common()))
    assert COUNTS["warnings delivered"] > 0, "no example ever came to a warning"
    assert COUNTS["slots cancelled"] > 0, "no example ever came to a cancellation"
    assert COUNTS["told of a withdrawal"] > 0, "no example ever came to a withdrawal"
