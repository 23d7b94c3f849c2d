"""idle_enforce: cancel what a warning named, once its deadline has passed. The only job that takes something away.

It carries out what `domain.enforcement.next_step` says, one spell after the other, each step recorded before the next
is asked for, so that any replica goes on where another stopped.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

from limiter.computing import computed
from limiter.db import cancellations, idle_spells, surges
from limiter.domain.decision import Decision, Reason
from limiter.domain.idle_spell import IdleSpell, SpellState, as_booked, booked_elsewhere
from limiter.domain.snapshot import BookingKey, Snapshot
from limiter.domain.surge import SurgeKind, bookings_since, is_surge
from limiter.domain.verdict import Verdict
from limiter.effects.audit import Audit
from limiter.effects.closing import SpellClosing
from limiter.effects.enforcing import Enforcing, Refusals
from limiter.effects.snapshot import SnapshotReader
from limiter.recording.recorder import Recorder
from limiter.recording.trace import RunTrace
from limiter.runner.run import Run
from limiter.telemetry import Telemetry

SURGE = SurgeKind.CANCELLING


@dataclass
class _Begun:
    """Whose cancellings have begun within the window of a surge, how many in this run, and among how many bookings."""

    before: set[BookingKey]
    here: int = 0
    among: int = 0
    allowed: bool = False
    refusals: Refusals = field(default_factory=Refusals)


@dataclass(frozen=True)
class IdleEnforce:
    """Cancels for users warned at least Y ago whose model stayed unused for N; at most so many in one run."""

    reader: SnapshotReader
    enforcing: Enforcing
    closing: SpellClosing
    telemetry: Telemetry
    audit: Audit
    recorder: Recorder

    async def __call__(self, run: Run) -> None:
        parts: list[RunTrace] = []
        try:
            async for part in self._enforce(run):
                parts.append(self.recorder.kept(part))
            await self.audit.write_waits(run, RunTrace.joined(parts).held)
        finally:
            self.recorder.idle(run.claim.job, run.now, RunTrace.joined(parts))

    async def _enforce(self, run: Run) -> AsyncIterator[RunTrace]:
        async with run.read() as connection:
            opened = (await idle_spells.open_spells(connection)).values()
            spells = [spell for spell in opened if spell.state is not SpellState.WARNING_PENDING]
            window = run.now - self.reader.policy.surge_window
            known = (await surges.load(connection)).get(SURGE)
            begun = _Begun(await idle_spells.begun_since(connection, window), allowed=bool(known and known.allowed))
        if not spells:
            if known is not None and not begun.before:  # nobody waits, and whose cancelling it was is long past
                await self._forget_surge(run)
            return
        snapshot = await self.reader.read(run, run.now)
        begun.among = len(await computed(bookings_since, snapshot, window) | begun.before)
        yield RunTrace(snapshots=((None, snapshot),))
        # Who is half through comes first, so that nobody stays so because others begin.
        for spell in sorted(spells, key=lambda spell: spell.state is not SpellState.ENFORCING):
            if await run.braked():
                return
            with run.isolated(spell=spell.id, model=spell.model_name):
                async for part in self._one(run, snapshot, spell, begun):
                    yield part
        await self._end_surge(run, begun)

    async def _one(self, run: Run, sweep: Snapshot, spell: IdleSpell, begun: _Begun) -> AsyncIterator[RunTrace]:
        """The sweep only narrows; use and the reservation are read afresh before anything is cancelled."""
        if spell.state is SpellState.ENFORCING:
            async for part in self.enforcing.go_on(run, spell, sweep, begun.refusals):
                yield part
            return
        verdict = sweep.verdict_on(spell)
        if verdict.decision is Decision.CANCEL and (limit := await self._limit(run, begun)):
            verdict = replace(verdict, decision=Decision.HOLD, reason=limit)
        if verdict.decision is not Decision.CANCEL:
            yield await self._end_or_wait(run, sweep, spell, verdict)
            return
        fresh = await self.reader.refresh(run, spell.key, sweep, None)
        yield RunTrace(snapshots=((spell.key, fresh),))
        verdict = fresh.verdict_on(spell)
        if verdict.decision is not Decision.CANCEL:
            yield await self._end_or_wait(run, fresh, spell, verdict)
            return
        began = await self._begin(run, fresh, spell, verdict)
        yield began
        if not began.acted:
            return  # somebody paused the job, or closed the spell
        begun.here += 1
        enforced = replace(spell, state=SpellState.ENFORCING)
        async for part in self.enforcing.go_on(run, enforced, fresh, begun.refusals):
            yield part

    async def _limit(self, run: Run, begun: _Begun) -> Reason | None:
        """Why no further cancelling may begin in this run; None: it may."""
        policy, many = self.reader.policy, len(begun.before) + begun.here + 1
        if begun.here >= policy.enforce_per_run:
            return Reason.RUN_LIMIT
        if begun.allowed or not is_surge(many, begun.among, policy.surge_min, policy.surge_share):
            return None
        async with run.write() as connection:
            new = await surges.begin(connection, SURGE, run.now)
        if new:
            self.telemetry.critical(Reason.SURGE, f"{many} cancellations at once among {begun.among} bookings: no more")
        return Reason.SURGE

    async def _end_surge(self, run: Run, begun: _Begun) -> None:
        policy, many = self.reader.policy, len(begun.before) + begun.here
        if not is_surge(many + 1, begun.among, policy.surge_min, policy.surge_share):
            await self._forget_surge(run)

    async def _forget_surge(self, run: Run) -> None:
        async with run.write() as connection:
            await surges.end(connection, SURGE)

    async def _end_or_wait(self, run: Run, snapshot: Snapshot, spell: IdleSpell, verdict: Verdict) -> RunTrace:
        record = snapshot.verdict_record(spell.key, verdict)
        if verdict.decision is Decision.WITHDRAW:
            return await self.closing.withdraw(run, spell, record)
        return self.audit.waits(snapshot, spell.key, record)

    async def _begin(self, run: Run, snapshot: Snapshot, spell: IdleSpell, verdict: Verdict) -> RunTrace:
        """Record that the spell is enforced, with every cancellation planned."""
        record = snapshot.verdict_record(spell.key, verdict)
        async with run.write() as connection:
            if await run.braked(connection):
                return RunTrace()
            if not await idle_spells.move(connection, spell.id, SpellState.ENFORCING, verdict.reason, run.now):
                return RunTrace()
            await cancellations.rebook(connection, spell, as_booked(spell, snapshot.bookings))
            elsewhere = booked_elsewhere(spell, snapshot.bookings)
            await cancellations.plan(connection, spell.id, verdict.slots, elsewhere, snapshot.at)
            await self.audit.write_acts(connection, record)
        return self.audit.committed(record)
