"""Records, counts and logs each changed decision; an unchanged one is only counted."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from loguru import logger
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.computing import computed
from limiter.db import decisions
from limiter.domain.audit import DecisionRecord, counted, in_words, standing_of
from limiter.domain.closing import Tell, hours_freed
from limiter.domain.decision import Decision, Reason
from limiter.domain.idle_spell import IdleSpell
from limiter.domain.policy import Policy
from limiter.domain.snapshot import BookingKey, Snapshot
from limiter.domain.verdict import Verdict
from limiter.recording.trace import RunTrace
from limiter.runner.run import Run
from limiter.telemetry import Telemetry


@dataclass(frozen=True)
class Audit:
    """What is done is written in the transaction that does it; what only waits, once at the end of the run."""

    policy: Policy
    telemetry: Telemetry

    async def write_acts(
        self, connection: AsyncConnection, *records: DecisionRecord, closed: IdleSpell | None = None
    ) -> None:
        """Write decisions that this transaction carries out; a spell is `closed` for real, or not, as it began."""
        await decisions.record(connection, records, dry_run=self._is_dry(closed))

    def committed(self, record: DecisionRecord, closed: IdleSpell | None = None) -> RunTrace:
        """Count and log a decision whose transaction is committed."""
        self.telemetry.decided(record.decision, record.reason)
        log_decision(record, dry_run=self._is_dry(closed))
        return RunTrace(acted=(record,))

    def _is_dry(self, closed: IdleSpell | None) -> bool:
        return self.policy.dry_run if closed is None else closed.dry_run

    def changed(self, snapshot: Snapshot, verdicts: Mapping[BookingKey, Verdict]) -> dict[BookingKey, Verdict]:
        """The verdicts without those that wait as before, most of a large fleet's; these are counted."""
        left, counts = dict[BookingKey, Verdict](), Counter[Reason]()
        for key, verdict in verdicts.items():
            if key not in snapshot.prior.spells and self._stands(snapshot, key, verdict):
                counts[verdict.reason] += 1
                continue
            left[key] = verdict
        for reason, times in counts.items():
            self.telemetry.decided(Decision.HOLD, reason, times)
        return left

    def _stands(self, snapshot: Snapshot, key: BookingKey, verdict: Verdict) -> bool:
        unchanged = snapshot.prior.standing.get(key) == standing_of(verdict.decision, verdict.reason)
        return unchanged and verdict.decision is Decision.HOLD

    def waits(self, snapshot: Snapshot, key: BookingKey, waiting: DecisionRecord | Reason) -> RunTrace:
        """Count that nothing is done; the trace has the decision if it changed, for `write_waits`."""
        record = snapshot.record(key, Decision.HOLD, waiting) if isinstance(waiting, Reason) else waiting
        self.telemetry.decided(record.decision, record.reason)
        unchanged = snapshot.prior.standing.get(key) == standing_of(record.decision, record.reason)
        return RunTrace() if unchanged else RunTrace(held=(record,))

    async def write_waits(self, run: Run, records: Sequence[DecisionRecord]) -> None:
        """Write the changed decisions to wait, in one transaction."""
        if records:
            async with run.write() as connection:
                await decisions.record(connection, records, dry_run=self.policy.dry_run)
            await computed(log_decisions, records, dry_run=self.policy.dry_run)

    def enforced(self, spell: IdleSpell, tell: Tell) -> None:
        """Count and log the end of a cancelling: how many slots went, and whether the model did."""
        if tell.cancelled and not spell.dry_run:
            self.telemetry.cancelled(len(tell.cancelled), *hours_freed(spell, tell))
        ended = logger.bind(
            event="enforced", reason=str(tell.reason), user_id=str(spell.user.id), dry_run=spell.dry_run
        )
        slots, freed = counted(len(tell.cancelled), "slot"), "uninstalled" if tell.uninstalled else "not uninstalled"
        done = "would be cancelled: a dry run" if spell.dry_run else f"cancelled, model {freed}"
        ended.info("{} of {} {}", slots, spell.model_name, done)


def log_decisions(records: Iterable[DecisionRecord], *, dry_run: bool) -> None:
    """A line for each; of a fleet met for the first time there are so many that it is work for a thread."""
    for record in records:
        log_decision(record, dry_run=dry_run)


def log_decision(record: DecisionRecord, *, dry_run: bool) -> None:
    """One line: the decision, the model, and why; in a dry run, what would be done."""
    bound = logger.bind(
        event="decided",
        decision=str(record.decision),
        reason=str(record.reason),
        model=record.model_name,
        model_id=str(record.model_id),
        user_id=str(record.user_id) if record.user_id else None,
        dry_run=dry_run,
    )
    level = "DEBUG" if record.decision is Decision.HOLD else "INFO"
    words = partial(in_words, record.decision, dry_run=dry_run)
    bound.opt(lazy=True).log(level, "{} {}: {}", words, lambda: record.model_name, lambda: record.why)
