"""Plays a story, written in a few words, to the composed service; acts are what shows at the wire.

Minutes count from 10:00, slots are `from-to` in minutes. An unknown word is an error.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from freezegun.api import FrozenDateTimeFactory

from dev.fake_platform.booking import Reservation, Slot, User
from dev.fake_platform.call import Call
from dev.fake_platform.faults import plain
from dev.fake_platform.platform import Fault, Service
from limiter.db import contacts
from limiter.domain.job import Job
from tests.bench import Bench
from tests.conftest import START, MakeBench
from tests.service.backups import Backup, back_up, put_back
from tests.service.test_control import ask

USERS = {name: UUID(int=number) for number, name in enumerate(("ann", "ben", "cleo", "dan"), 1)}
SWEEP = (Job.SAGA_POLL, Job.RPS_CHECK, Job.IDLE_WARNING, Job.EVENT_DISPATCH, Job.IDLE_ENFORCE, Job.EVENT_DISPATCH)
IDLE_JOBS = (Job.IDLE_WARNING, Job.IDLE_ENFORCE)


@dataclass(frozen=True)
class Story:
    """One row of the table: what happens at which minute, and every act that follows, with its minute."""

    title: str
    happens: str
    acts: str
    step: int = 15  # minutes between two runs of all jobs
    until: int = 90
    runs: tuple[int, ...] = ()  # the minutes at which all jobs run, in place of a step
    settings: Mapping[str, object] = field(default_factory=dict)


def lines(text: str) -> list[tuple[int, str]]:
    """Each line's minute and words."""
    pairs = (line.strip().split(" ", 1) for line in text.strip().splitlines())
    return [(int(minute), words.strip()) for minute, words in pairs]


def text(acts: list[tuple[int, str]]) -> str:
    """The acts one a line, so that a difference reads line by line; the order within a minute does not count."""
    return "\n".join(f"{minute} {words}" for minute, words in sorted(acts))


def clock(moment: datetime | float) -> int:
    """Minutes after 10:00."""
    at = moment if isinstance(moment, datetime) else datetime.fromtimestamp(moment, UTC)
    return round((at - START) / timedelta(minutes=1))


class Stage:
    """The limiter and the platform, on which `m` runs, a model that was called once, and `other`, which always is."""

    def __init__(self, bench: Bench, time: FrozenDateTimeFactory, make: MakeBench | None = None) -> None:
        """`make` composes the replica that takes over when the service restarts."""
        self.bench, self.platform, self.time, self.make = bench, bench.platform, time, make
        self.acts: list[tuple[int, str]] = []
        self.up = True
        self.paused: frozenset[Job] = frozenset()
        self.broken: set[str] = set()
        self._deleted = self._commanded = 0
        self._backup: Backup = {}
        self._restored = False
        self._messages: set[str] = set()
        self.platform.add_model("m")
        self.platform.add_model("other")
        self.platform.set_rate("other", 1.0)

    async def play(self, story: Story) -> list[tuple[int, str]]:
        """Let everything happen in its minute, run the jobs step by step, and return the acts."""
        happens = lines(story.happens)
        runs = story.runs or tuple(range(0, story.until + 1, story.step))
        unreached = [line for line in happens if not 0 <= line[0] <= runs[-1]]
        assert not unreached, f"never reached: {unreached}"
        self.settings = story.settings
        for minute in sorted({*runs, *(line[0] for line in happens)}):
            self.time.move_to(START + timedelta(minutes=minute))
            for _, words in (one for one in happens if one[0] == minute):
                await self.happen(words)
            if self.up and minute in runs:
                await self._sweep()
                await self._watch(minute)
        return self.acts

    async def _sweep(self) -> None:
        """Run all jobs but paused ones; unless a service is broken each must complete, or silence proves nothing."""
        for job in SWEEP:
            if await self._wanted(job):
                report = await self.bench.attempt(job)
                assert report.state == "completed" or self.broken, (job, report)

    async def _wanted(self, job: Job) -> bool:
        """No paused job, as the scheduler has it, and none that has nothing to do."""
        return job not in self.paused and await self.bench.has_work(job)

    async def happen(self, words: str) -> None:
        for pattern, act in VERBS.items():
            if found := re.fullmatch(pattern, words):
                happening = act(self, *found.groups(default=""))
                if happening is not None:
                    await happening  # type: ignore[misc]
                return
        raise ValueError(f"{words!r} fits none of {', '.join(VERBS)}")

    async def _watch(self, minute: int) -> None:
        """What the services did and the users heard since the last step."""
        for gone in self.platform.deletions[self._deleted :]:
            slots = " ".join(f"{clock(slot.start)}-{clock(slot.end)}" for slot in gone.slots)
            whole = " as a whole" if gone.slot_id is None else ""
            self.acts.append((minute, f"{_name(gone.user.id)} loses {slots}{whole}"))
        self._deleted = len(self.platform.deletions)
        for command in self.platform.commands[self._commanded :]:
            what = "is uninstalled" if command.replicas is None else f"scales to {command.replicas}"
            self.acts.append((minute, f"{command.model_name} {what}"))
        self._commanded = len(self.platform.commands)
        for event in await self._received():
            self.acts.append((minute, _heard(event["user"]["id"], event["reservation"])))

    async def _received(self) -> list[dict[str, Any]]:
        """What reaches the users: since a database was put back, the notifier drops what it has had before."""
        events = await self.bench.events()
        new = [event for event in events if not self._restored or event["message_id"] not in self._messages]
        self._messages |= {event["message_id"] for event in events}
        return new

    async def back_up(self) -> None:
        self._backup = await back_up(self.bench.engine)

    async def put_back(self) -> None:
        await put_back(self.bench.engine, self._backup)
        self._restored = True

    def book(self, user: str, slots: str, model: str) -> None:
        pairs = [tuple(map(int, slot.split("-"))) for slot in slots.split()]
        times = [(START + timedelta(minutes=start), START + timedelta(minutes=end)) for start, end in pairs]
        self.platform.add_reservation(str(USERS[user]), user, model or "m", slots=times)

    def give_back(self, user: str, slot: str) -> None:
        """The user cancels one slot himself."""
        start = int(slot.split("-")[0])
        for reservation in self._of(user):
            reservation.slots = [one for one in reservation.slots if clock(one.start) != start]

    def _of(self, user: str) -> list[Reservation]:
        return [one for one in self.platform.reservations if str(one.user.id) == str(USERS[user])]

    async def learn(self, user: str) -> None:
        await contacts.learn(self.bench.engine, USERS[user], user, f"{user}@example.org", [])

    async def pause(self, what: str) -> None:
        for job in IDLE_JOBS:
            await self.command(command="pause_job" if what == "pauses" else "resume_job", job=job)
        # Manual runs ignore a pause, so the paused jobs are left out here; the other jobs go on.
        self.paused = frozenset(IDLE_JOBS if what == "pauses" else ())

    async def route(self, what: str) -> None:
        key, exchange = self.bench.settings.notifier_no_use_routing_key, self.bench.settings.notifier_exchange
        await (self.bench.inbox.unbind if what == "forgets" else self.bench.inbox.bind)(exchange, key)

    def health(self, service: Service, what: str) -> None:
        if what == "breaks":
            self.broken.add(service)
            self.platform.fault(service, Fault.status(500))
        else:
            self.broken.remove(service)
            self.platform.clear_faults(service)

    def refuse(self, how_many: str, status: str) -> None:
        """Answer DELETEs so: one, or all until they are allowed."""
        self.broken |= {"deletes"}  # an alarm is right, yet each run completes
        times = None if how_many == "all cancellations are" else 1
        self.platform.fault("booking", Fault.status(int(status)), method="DELETE", times=times)

    def refuse_uninstall(self) -> None:
        self.platform.fault("dispatcher", Fault.status(409), path="uninstall", times=1)

    def after_cancelling(self, which: str, words: str) -> None:
        """What happens between two cancellations of one run: after the first, or the second, DELETE from now on."""

        async def behave(call: Call, cleared: asyncio.Event) -> None:
            answer = await call.handle()
            await self.happen(words)
            await call.answer(answer)

        if which == "second":
            self.platform.fault("booking", Fault("plain", plain), method="DELETE", times=1)
        self.platform.fault("booking", Fault("happens after", behave), method="DELETE", times=1)

    def before_reading(self, words: str) -> None:
        """What happens between the sweep and the DELETE: right before the next reservation is read by itself."""

        async def behave(call: Call, cleared: asyncio.Event) -> None:
            await self.happen(words)
            await plain(call, cleared)

        self.platform.fault("booking", Fault("happens before", behave), path="/reservations/", method="GET", times=1)

    def add_slot(self, user: str, added: str, to: str) -> None:
        """The user adds a slot to the reservation that has the slot `to`."""
        start, end = (START + timedelta(minutes=int(minute)) for minute in added.split("-"))
        slot = Slot(int(start.timestamp()), int(end.timestamp()))
        reservation = next(one for one in self._of(user) if clock(one.slots[0].start) == int(to.split("-")[0]))
        reservation.slots.append(slot)

    def move(self, user: str, slot: str, to: str) -> None:
        """The user has a slot at other times: its ids stay."""
        (moved,) = [
            one for booked in self._of(user) for one in booked.slots if clock(one.start) == int(slot.split("-")[0])
        ]
        moved.start, moved.end = (int((START + timedelta(minutes=int(at))).timestamp()) for at in to.split("-"))

    def take_over(self, user: str, slot: str, of: str) -> None:
        """The reservation of one user that has this slot becomes another's."""
        reservation = next(one for one in self._of(of) if clock(one.slots[0].start) == int(slot.split("-")[0]))
        reservation.user = User(str(USERS[user]), user)

    def remove(self, name: str) -> None:
        for model in [one for one in self.platform.models if one.name == name]:
            self.platform.remove_model(model)

    def rename(self, old: str, new: str) -> None:
        """The model of this name has another one from now on, and so have the bookings of it, by its id."""
        (model,) = [one for one in self.platform.models if one.name == old]
        model.name = new
        for booked in (one for one in self.platform.reservations if one.model_name == old):
            booked.model_name, booked.model_id = new, str(model.id)

    async def command(self, **words: object) -> None:
        """Send a control message; it must be carried out."""
        answer = await ask(self.bench, words)
        assert answer["outcome"] in ("completed", "paused", "resumed"), answer

    async def keep(self, model: str, user: str, until: str) -> None:
        whose = {"user_id": str(USERS[user])} if user else {}
        end = START + timedelta(minutes=int(until))
        await self.command(command="keep", model=model, until=end.isoformat(), **whose)

    async def unkeep(self, model: str) -> None:
        await self.command(command="unkeep", model=model)

    async def withdraw(self, user: str) -> None:
        await self.command(command="withdraw", model="m", user_id=str(USERS[user]))

    async def restart(self, changes: str) -> None:
        """Another replica, with other settings, takes over."""
        assert self.make is not None
        settings = dict(self.settings) | dict(change.split("=", 1) for change in changes.split())
        self.bench = await self.make(**settings)

    def misbook(self, model: str) -> None:
        """A reservation whose user is no id: it cannot be understood."""
        hour = (START, START + timedelta(hours=1))
        self.platform.add_reservation("nobody", "nobody", model, slots=[hour])

    def is_up(self, what: str) -> None:
        self.up = what == "up"


def _name(user: object) -> str:
    return next(name for name, id in USERS.items() if str(id) == str(user))


def _heard(user: str, event: dict[str, object]) -> str:
    def slots(name: str) -> str:
        found = event[name]
        assert isinstance(found, list)
        return " ".join(
            f"{clock(datetime.fromisoformat(one['start']))}-{clock(datetime.fromisoformat(one['end']))}"
            + (" (already gone)" if one.get("already_gone") else "")
            for one in found
        )

    words = [f"{_name(user)} hears {event['stage']}"]
    if event["stage"] == "warning":
        deadline = clock(datetime.fromisoformat(str(event["cancel_not_before"])))
        words.append(f"of {slots('slots_at_risk') or 'the model'} from {deadline}")
    if event["closing_reason"]:
        words[0] += f": {event['closing_reason']}"
    words.append(slots("cancelled_slots"))
    if event["failed_slots"]:
        words.append(f"failed {slots('failed_slots')}")
    if event["uninstalled"]:
        words.append("uninstalled")
    return " ".join(word for word in words if word)


VERBS: dict[str, Callable[..., object]] = {
    r"(\w+) books ([\d\- ]+?)(?: of (\w+))?": Stage.book,
    r"(\w+) gives back (\S+)": Stage.give_back,
    r"(\w+) is called": lambda stage, model: stage.platform.call(model),
    r"(\w+) is called (\S+) times a second": lambda stage, model, rps: stage.platform.set_rate(model, float(rps)),
    r"another (\w+) runs": lambda stage, model: stage.platform.add_model(model) and None,
    r"entrypoint (\d) restarts": lambda stage, number: stage.platform.restart_entrypoint(int(number)),
    r"(entrypoint|booking|registry) (breaks|heals)": Stage.health,
    r"(a cancellation is|all cancellations are) answered with (\d+)": Stage.refuse,
    r"cancellations are allowed": lambda stage: stage.platform.clear_faults("booking"),
    r"after the (first|second) cancellation: (.+)": Stage.after_cancelling,
    r"before a reservation is read afresh: (.+)": Stage.before_reading,
    r"(\w+) adds (\S+) to (\S+)": Stage.add_slot,
    r"(\w+) moves (\S+) to (\S+)": Stage.move,
    r"(\w+) takes over (\S+) of (\w+)": Stage.take_over,
    r"(\w+) disappears": Stage.remove,
    r"(\w+) is renamed (\w+)": Stage.rename,
    r"the operator keeps (\w+)(?: for (\w+))? until (\d+)": Stage.keep,
    r"the operator ends the keep of (\w+)": Stage.unkeep,
    r"the operator withdraws (\w+)'s warning": Stage.withdraw,
    r"the service restarts(?: with (.+))?": Stage.restart,
    r"the database is backed up": Stage.back_up,
    r"the database is put back": Stage.put_back,
    r"a booking of (\w+) is garbled": Stage.misbook,
    r"the next saga fails": lambda stage: stage.platform.next_saga("failed"),
    r"the next saga never ends": lambda stage: stage.platform.next_saga("stuck"),
    r"the next uninstall is refused": Stage.refuse_uninstall,
    r"the service is (down|up)": Stage.is_up,
    r"the operator (pauses|resumes) the idle jobs": Stage.pause,
    r"the broker (forgets|knows) the notifier": Stage.route,
    r"the platform announces (\w+)'s address": Stage.learn,
}
