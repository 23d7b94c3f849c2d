"""idle_warning: begin and end idle spells. It warns; it never cancels."""

from dataclasses import dataclass, replace
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db import history, idle_spells, outbox
from limiter.db.runs import Run
from limiter.domain.action import Decision, Reason
from limiter.domain.audit import Finding
from limiter.domain.idleness import Spell, SpellState, Verdict, open_spell
from limiter.domain.survey import Holder, Survey
from limiter.jobs import events
from limiter.jobs.audit import Audit
from limiter.jobs.events import Outcome, Post
from limiter.jobs.reminder import Reminder
from limiter.jobs.survey import Surveyor
from limiter.recording import Recorder
from limiter.telemetry import Telemetry


@dataclass(frozen=True)
class Ending:
    """Ends spells that lead to nothing, for both idle jobs alike."""

    post: Post
    telemetry: Telemetry
    audit: Audit

    async def withdraw(self, run: Run, spell: Spell, finding: Finding) -> None:
        """The warning no longer holds; the user is told, if the warning may have reached him."""
        async with run.write() as connection:
            if not await idle_spells.move(connection, spell.id, SpellState.WITHDRAWN, finding.reason, run.now):
                return
            if not await outbox.retract_warning(connection, spell.id):
                await self.tell(connection, run, spell, events.WITHDRAWN, Outcome())
            await self.audit.act(connection, finding)
        self.audit.told(run, finding)

    async def expire(self, run: Run, spell: Spell, finding: Finding) -> None:
        """Nothing is left to cancel; there is nothing to tell."""
        async with run.write() as connection:
            if not await idle_spells.move(connection, spell.id, SpellState.EXPIRED, finding.reason, run.now):
                return
            await outbox.retract_warning(connection, spell.id)
            await self.audit.act(connection, finding)
        self.audit.told(run, finding)

    async def tell(self, connection: AsyncConnection, run: Run, spell: Spell, stage: str, outcome: Outcome) -> None:
        """A later event of a spell goes where its warning went."""
        email = await outbox.warned_address(connection, spell.id) or await self.post.address(connection, spell.user)
        if email is None:
            self.telemetry.critical("address_unknown", f"cannot tell {stage}", user_id=str(spell.user.id))
            return
        await self.post.no_use(connection, spell, stage, email, run.now, outcome)


@dataclass(frozen=True)
class IdleWarning:
    """Warns the users of models unused for N - Y, and withdraws what no longer holds."""

    surveyor: Surveyor
    post: Post
    ending: Ending
    reminder: Reminder
    telemetry: Telemetry
    audit: Audit

    recorder: Recorder

    async def __call__(self, run: Run) -> None:
        try:
            await self._sweep(run)
        finally:
            self.recorder.idle(run.claim.job, run.now, run.notes)

    async def _sweep(self, run: Run) -> None:
        survey = await self.surveyor.look(run, run.now)
        for holder in survey.holdings.keys() | survey.past.spells.keys():
            with run.isolated(model_id=holder[0], user_id=holder[1]):
                await self._one(run, survey, holder)
        await self.audit.write(run)
        await self.reminder.remind(run, survey)
        async with run.write() as connection:
            await history.forget(connection, run.now - self.surveyor.policy.retention)

    async def _one(self, run: Run, survey: Survey, holder: Holder) -> None:
        spell, verdict = survey.past.spells.get(holder), survey.verdict(holder)
        if verdict is None or (spell is not None and spell.state is SpellState.ENFORCING):
            return
        finding = survey.explained(holder, verdict)
        match verdict.decision:
            case Decision.WARN:
                await self._warn(run, survey, holder, verdict)
            case Decision.WITHDRAW if spell is not None:
                await self.ending.withdraw(run, spell, finding)
            case Decision.EXPIRE if spell is not None:
                await self.ending.expire(run, spell, finding)
            case Decision.HOLD:
                self.audit.hold(run, survey, holder, finding)

    async def _warn(self, run: Run, survey: Survey, holder: Holder, verdict: Verdict) -> None:
        hold, finding = survey.holdings[holder], survey.explained(holder, verdict)
        async with run.write() as connection:
            email = await self.post.address(connection, hold.user)
            if email is None:
                unaddressed = replace(finding, decision=Decision.HOLD, reason=Reason.ADDRESS_UNKNOWN)
                self.audit.hold(run, survey, holder, unaddressed)
                return self.telemetry.critical(
                    Reason.ADDRESS_UNKNOWN, f"{hold.user.name} cannot be warned about {hold.model.name}"
                )
            spell = open_spell(uuid4(), hold, verdict, run.now, delivered=False, dry_run=self.post.dry_run)
            if not await idle_spells.begin(connection, spell, verdict.reason):
                return None
            await self.post.no_use(connection, spell, events.WARNING, email, run.now, Outcome())
            await self.audit.act(connection, finding)
        self.audit.told(run, finding)
        return None
