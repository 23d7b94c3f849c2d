"""Any history of calls, outages, restarts and bookings: what the policy must never do, whatever happens.

A state machine plays the platform, which knows the truth, and the service over it, minute by minute. A second service
is restarted after every step, from what is persisted. STATE_EXAMPLES=10000 is the long form.
"""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from limiter.domain.audit import DecisionRecord
from limiter.domain.command import CommandState
from limiter.domain.decision import Decision, Reason
from limiter.domain.fleet import Fleet, ServedModel
from limiter.domain.policy import Policy
from limiter.domain.reservations import Bookings, Reservation, Slot, UnbookingMode, User
from limiter.domain.snapshot import BookingKey, Snapshot
from limiter.domain.usage import FailedScrape, Scrape, ScrapedPage, ScrapeProblem
from limiter.recording.format import START, Start
from limiter.replay.simulation import Simulation
from tests.unit.domain.build import IDLE, PACING, SCALING, UNHURRIED, at, secs

EXAMPLES = int(os.environ.get("STATE_EXAMPLES", "40"))
MINUTE, N, Y = 60, 600, 240
TARGETS = ("a", "b")
MODELS = tuple(ServedModel(UUID(int=number), name, 1) for number, name in ((1, "m"), (2, "m"), (3, "n")))
USERS = tuple(User(UUID(int=100 + number), f"u{number}") for number in range(3))
COUNTS: Counter[str] = Counter()  # how often each thing happened in the examples

minutes, models, users = st.integers(1, 8), st.sampled_from(MODELS), st.sampled_from(USERS)
targets, names = st.sampled_from(TARGETS), st.sampled_from(("m", "n"))


class AnyHistory(RuleBasedStateMachine):
    """The platform's truth, and two services that must agree."""

    @initialize(
        keys=st.lists(st.tuples(models, users), min_size=1, max_size=4),
        mode=st.sampled_from(UnbookingMode),
        current=st.booleans(),
        uninstall=st.booleans(),
        per_run=st.integers(1, 3),
    )
    def begin(
        self, keys: list[tuple[ServedModel, User]], mode: UnbookingMode, current: bool, uninstall: bool, per_run: int
    ) -> None:
        idle = replace(
            IDLE, limit=secs(N), lead=secs(Y), mode=mode, cancel_current=current, uninstall=uninstall,
            uninstall_guard=secs(300), row_gap=secs(120),
        )  # fmt: skip
        scaling = replace(SCALING, min_replicas=1, max_replicas=4, down_window=secs(120), down_stabilization=secs(120))
        self.policy = Policy(
            scaling, idle, {}, PACING, enforce_per_run=per_run, saga_timeout=secs(900), retention=secs(86_400)
        )
        self.one, self.other = Simulation(self.policy), Simulation(self.policy)
        self.now = 0
        self.counters = {target: {"m": 1.0, "n": 1.0} for target in TARGETS}
        self.born = dict.fromkeys(TARGETS, 0)
        self.out: dict[str, int] = {}
        self.broken: set[str] = set()
        self.silent_registry = self.silent_bookings = False
        self.delivers = True
        self.replicas = {model.id: 1 for model in MODELS}
        self.running = {model.id for model in MODELS}
        self.booked: dict[str, Reservation] = {}
        self.booking = 0
        self.used: dict[str, int] = {}
        self.delivered: dict[BookingKey, int] = {}
        self.blind = True
        COUNTS["examples"] += 1
        for model, user in keys:
            self.book(model, user, 0, [8, 4, 2, 4])

    # --- what happens -----------------------------------------------------------------------------------------------

    @rule(count=st.integers(N // MINUTE - 3, N // MINUTE + 3))
    def a_long_time_passes(self, count: int) -> None:
        for _ in range(count):
            self.minute()

    @rule(name=names, entrypoint=targets, calls=st.integers(1, 5000))
    def call(self, name: str, entrypoint: str, calls: int) -> None:
        counters = self.counters[entrypoint]
        counters[name] = counters.get(name, 0.0) + calls
        self.used[name] = self.now

    @rule(entrypoint=targets)
    def entrypoint_restarts(self, entrypoint: str) -> None:
        self.counters[entrypoint] = {}
        self.born[entrypoint] = self.now

    @rule(entrypoint=targets, count=minutes)
    def entrypoint_is_out(self, entrypoint: str, count: int) -> None:
        self.out[entrypoint] = self.now + count * MINUTE

    @rule(name=names)
    def a_series_breaks_or_heals(self, name: str) -> None:
        self.broken ^= {name}

    @rule()
    def the_registry_is_silent_or_back(self) -> None:
        self.silent_registry = not self.silent_registry

    @rule()
    def the_bookings_are_unreadable_or_back(self) -> None:
        self.silent_bookings = not self.silent_bookings

    @rule()
    def the_broker_is_away_or_back(self) -> None:
        self.delivers = not self.delivers

    @rule(model=models, replicas=st.integers(1, 6))
    def somebody_scales(self, model: ServedModel, replicas: int) -> None:
        self.replicas[model.id] = replicas

    @rule(model=models, user=users, lead=st.integers(-10, 20), lengths=st.lists(minutes, min_size=1, max_size=4))
    def book(self, model: ServedModel, user: User, lead: int, lengths: list[int]) -> None:
        self.booking += 1
        start, slots = self.now + lead * MINUTE, []
        for number, length in enumerate(lengths):
            slots.append(Slot(at(start), at(start + length * 4 * MINUTE), f"s{number}", f"r{self.booking}"))
            start += (length * 4 + number % 2) * MINUTE
        booked = Reservation(f"r{self.booking}", user, model.name, model.id, tuple(slots))
        self.booked[booked.id] = booked

    @rule(pick=st.integers(0, 30))
    def a_user_cancels(self, pick: int) -> None:
        if self.booked:
            del self.booked[sorted(self.booked)[pick % len(self.booked)]]

    # --- the platform, as it answers --------------------------------------------------------------------------------

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
        return ScrapedPage(
            target, at(self.now), counters, {name: name for name in counters}, unreadable, self.born[target]
        )

    def fleet(self) -> Fleet:
        return Fleet(
            tuple(replace(model, replicas=self.replicas[model.id]) for model in MODELS if model.id in self.running)
        )

    # --- the service ------------------------------------------------------------------------------------------------

    def minute(self) -> None:
        """All jobs once, in both services, as far as the external services answer."""
        self.now += MINUTE
        scrapes, fleet = self.scrapes(), self.fleet()
        self.blind = any(isinstance(scrape, FailedScrape) for scrape in scrapes)
        self.both(lambda simulation: simulation.tick(at(self.now), scrapes, None if self.silent_registry else fleet))
        if not self.silent_registry and not self.silent_bookings:
            bookings = Bookings(tuple(self.booked.values()))

            def snapshot(simulation: Simulation) -> Snapshot:
                return simulation.snapshot(at(self.now), scrapes, fleet, bookings)

            self.both(lambda simulation: simulation.warn(snapshot(simulation), delivers=False))
            self.deliver()
            self.both(
                lambda simulation: simulation.enforce(
                    snapshot(simulation), lambda _: snapshot(simulation), at(self.now)
                )
            )
            self.take_away()
        self.sagas_end()
        self.restart_the_other()

    def both(self, job: Callable[[Simulation], list[DecisionRecord]]) -> None:
        records, twins = (sorted(job(simulation), key=str) for simulation in (self.one, self.other))
        assert records == twins, "the restarted service decides differently"
        for record in records:
            self.check(record)
            COUNTS[f"{record.decision}:{record.reason}"] += 1

    def deliver(self) -> None:
        for key, spell in list(self.one.spells.items()):
            if self.delivers and spell.delivered_at is None:
                self.one.delivered(key, at(self.now))
                self.other.delivered(key, at(self.now))
                self.delivered[key] = self.now

    def take_away(self) -> None:
        """What was cancelled is gone from the bookings, once it is checked that it may go."""
        assert [cut.slot for cut in self.one.cuts] == [cut.slot for cut in self.other.cuts]
        for cut in self.one.cuts:
            booked = self.booked[cut.slot.reservation_id]
            assert booked.user.id == cut.key[1], "another user's slot"
            assert booked.model_id == cut.key[0], "another model's slot"
            assert self.policy.idle_rule.cancel_current or cut.slot.start > at(self.now), "a slot that has begun"
            assert self.delivered[cut.key] + Y <= self.now, "no warning was delivered Y before"
            left = tuple(slot for slot in booked.slots if slot.id != cut.slot.id)
            self.booked[booked.id] = replace(booked, slots=left)
            if not left:
                del self.booked[booked.id]
            COUNTS["slots cancelled"] += 1
        self.one.cuts.clear()
        self.other.cuts.clear()

    def sagas_end(self) -> None:
        for simulation in (self.one, self.other):
            for id, command in list(simulation.commands.items()):
                if command.unfinished:
                    simulation.commands[id] = replace(command, state=CommandState.COMPLETED, finished_at=at(self.now))
                    self.take_effect(id, command.replicas)

    def take_effect(self, id: UUID, replicas: int | None) -> None:
        if replicas is None:
            self.running.discard(id)
        else:
            self.replicas[id] = replicas

    def restart_the_other(self) -> None:
        """Everything that is not in Postgres is lost: what is persisted is written and read back."""
        simulation = self.other
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
        self.other = Simulation(
            self.policy,
            back.memory,
            {state.model_id: state for state in back.scaling_states},
            {command.model_id: command for command in back.commands},
            {spell.key: spell for spell in back.spells},
            {(model, user): moment for model, user, moment in back.closed},
            {(model, user): stands for model, user, stands in back.standing},
            left=dict(simulation.left),
        )

    # --- what must hold ---------------------------------------------------------------------------------------------

    def check(self, record: DecisionRecord) -> None:
        if record.decision in (Decision.SCALE_UP, Decision.SCALE_DOWN):
            wanted = record.numbers["wanted"]
            assert isinstance(wanted, int | float)
            assert self.policy.scaling_rule.min_replicas <= wanted <= self.policy.scaling_rule.max_replicas
        if record.decision in (Decision.SCALE_DOWN, Decision.WARN, Decision.UNINSTALL) or (
            record.decision is Decision.CANCEL and record.reason is Reason.DEADLINE_PASSED
        ):
            assert not self.blind, f"{record.decision} although a target did not answer"
            unreadable = {name for counters in self.counters.values() for name in counters if name in self.broken}
            assert record.model_name not in unreadable, f"{record.decision} although the series is unreadable"
        if record.decision in (Decision.WARN, Decision.CANCEL) and "idle_since_at" in record.numbers:
            since = datetime.fromtimestamp(float(record.numbers["idle_since_at"]), at(0).tzinfo)
            used = self.visible_use(record.model_name)
            assert used is None or since >= at(used), "use came after the idle time is said to have begun"
            due = N - Y if record.decision is Decision.WARN else N
            assert record.at - since >= secs(due), "too early"

    def visible_use(self, name: str) -> int | None:
        """When the name was last called, as far as no restart has wiped the call out before it could be read."""
        used = self.used.get(name)
        return used if used is not None and all(self.born[target] <= used for target in TARGETS) else None

    @invariant()
    def time_goes_on_and_both_have_the_same_spells(self) -> None:
        self.minute()
        assert self.one.spells.keys() == self.other.spells.keys()


def test_any_history() -> None:
    limits = settings(
        UNHURRIED,
        max_examples=EXAMPLES,
        stateful_step_count=25,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(AnyHistory, settings=limits)
    print(f"{COUNTS.pop('examples')} examples: " + ", ".join(f"{many} {what}" for what, many in COUNTS.most_common()))
    assert COUNTS["warn:unused"] > 0, "no example ever came to a warning"
    assert COUNTS["slots cancelled"] > 0, "no example ever came to a cancellation"
