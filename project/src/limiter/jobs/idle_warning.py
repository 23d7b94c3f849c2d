"""idle_warning: opens and closes idle spells. It warns; it never cancels."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from uuid import uuid4

from limiter.computing import computed
from limiter.db import idle_spells, surges
from limiter.domain.audit import DecisionRecord
from limiter.domain.decision import Decision, Reason
from limiter.domain.idle_spell import SpellState
from limiter.domain.snapshot import BookingKey, Snapshot
from limiter.domain.surge import SurgeKind, held_by_surge, is_surge, turned_idle
from limiter.domain.verdict import Verdict, open_spell
from limiter.effects import events
from limiter.effects.audit import Audit
from limiter.effects.closing import SpellClosing
from limiter.effects.events import EventWriter, Outcome
from limiter.effects.reminder import Reminder
from limiter.effects.snapshot import SnapshotReader
from limiter.effects.verdicts import Verdicts
from limiter.recording.recorder import Recorder
from limiter.recording.trace import RunTrace
from limiter.runner.run import Run
from limiter.telemetry import Telemetry

SURGE = SurgeKind.WARNING
AT_A_TIME = 200  # verdicts between two turns of the event loop: 5 ms


@dataclass(frozen=True)
class IdleWarning:
    """Warns the users of models unused for N - Y, and withdraws warnings that do not stand any more."""

    reader: SnapshotReader
    verdicts: Verdicts
    writer: EventWriter
    closing: SpellClosing
    reminder: Reminder
    telemetry: Telemetry
    audit: Audit
    recorder: Recorder

    async def __call__(self, run: Run) -> None:
        parts: list[RunTrace] = []
        try:
            async for part in self._sweep(run):
                parts.append(self.recorder.kept(part))
        finally:
            self.recorder.idle(run.claim.job, run.now, RunTrace.joined(parts))

    async def _sweep(self, run: Run) -> AsyncIterator[RunTrace]:
        snapshot = await self.reader.read(run, run.now)
        yield RunTrace(snapshots=((None, snapshot),))
        held: list[DecisionRecord] = []
        verdicts = await computed(self.verdicts.on, snapshot)
        surge = await self._is_surge(run, snapshot, turned_idle(verdicts, snapshot.prior.standing))
        changed = await computed(self.audit.changed, snapshot, verdicts)
        for number, (key, verdict) in enumerate(changed.items()):
            if number % AT_A_TIME == 0:
                await asyncio.sleep(0)  # of a fleet met for the first time there is a verdict to note of each booking
            if verdict.decision is not Decision.HOLD and await run.braked():
                break
            verdict = self.verdicts.renewed(snapshot, key, verdict)
            if surge and verdict.decision is Decision.WARN:
                reason = held_by_surge(snapshot.prior.standing.get(key))
                verdict = replace(verdict, decision=Decision.HOLD, reason=reason)
            part = RunTrace()
            with run.isolated(model_id=key[0], user_id=key[1]):
                part = await self._one(run, snapshot, key, verdict)
            held.extend(part.held)
            yield part
        await self.audit.write_waits(run, held)
        await self.reminder.remind(run, snapshot)

    async def _is_surge(self, run: Run, snapshot: Snapshot, new: int) -> bool:
        """Whether so many bookings that turn idle at once are not to be believed, and no person has allowed it."""
        policy = self.reader.policy
        all = len(snapshot.active_bookings) if new else 0
        async with run.read() as connection:
            known = await surges.load(connection)
        if not is_surge(new, all, policy.surge_min, policy.surge_share):
            if SURGE in known:
                async with run.write() as connection:
                    await surges.end(connection, SURGE)
            return False
        async with run.write() as connection:
            if await surges.begin(connection, SURGE, run.now):
                self.telemetry.critical(Reason.SURGE, f"{new} of {all} bookings turn idle at once: nobody is warned")
        return SURGE not in known or not known[SURGE].allowed

    async def _one(self, run: Run, snapshot: Snapshot, key: BookingKey, verdict: Verdict) -> RunTrace:
        spell = snapshot.prior.spells.get(key)
        if spell is not None and spell.state is SpellState.ENFORCING:
            return RunTrace()
        record = snapshot.verdict_record(key, verdict)
        match verdict.decision:
            case Decision.WARN:
                return await self._warn(run, snapshot, key, verdict)
            case Decision.WITHDRAW if spell is not None:
                return await self.closing.withdraw(run, spell, record)
            case Decision.HOLD:
                return self.audit.waits(snapshot, key, record)
        return RunTrace()

    async def _warn(self, run: Run, snapshot: Snapshot, key: BookingKey, verdict: Verdict) -> RunTrace:
        booking, record = snapshot.active_bookings[key], snapshot.verdict_record(key, verdict)
        async with run.write() as connection:
            email = await self.writer.address(connection, booking.user)
            if email is None:
                self.telemetry.critical(
                    Reason.ADDRESS_UNKNOWN, f"{booking.user.name} cannot be warned about {booking.model.name}"
                )
                unaddressed = replace(record, decision=Decision.HOLD, reason=Reason.ADDRESS_UNKNOWN)
                return self.audit.waits(snapshot, key, unaddressed)
            spell = open_spell(uuid4(), booking, verdict, run.now, delivered=False, dry_run=self.writer.dry_run)
            if not await idle_spells.begin(connection, spell, verdict.reason):
                return RunTrace()
            await self.writer.no_use(connection, spell, events.WARNING, email, run.now, Outcome())
            await self.audit.write_acts(connection, record)
        return self.audit.committed(record)
