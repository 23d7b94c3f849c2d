"""idle_warning: begin and end idle spells. It warns; it never cancels."""

from dataclasses import dataclass
from uuid import uuid4

from loguru import logger
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db import history, idle_spells, outbox
from limiter.db.runs import Run
from limiter.domain.action import Decision, Reason
from limiter.domain.idleness import Spell, SpellState, Verdict
from limiter.domain.reservations import Holding
from limiter.jobs import events
from limiter.jobs.events import Outcome, Post
from limiter.jobs.reminder import Reminder
from limiter.jobs.survey import Survey, Surveyor
from limiter.telemetry import Telemetry


@dataclass(frozen=True)
class Ending:
    """Ends spells that lead to nothing, for both idle jobs alike."""

    post: Post
    telemetry: Telemetry

    async def withdraw(self, run: Run, spell: Spell, reason: Reason) -> None:
        """The warning no longer holds; the user is told, if the warning may have reached him."""
        async with run.write() as connection:
            if not await idle_spells.move(connection, spell.id, SpellState.WITHDRAWN, reason, run.now):
                return
            if not await outbox.retract_warning(connection, spell.id):
                await self.tell(connection, run, spell, events.WITHDRAWN, Outcome())
        self._log(spell, Decision.WITHDRAW, reason)

    async def expire(self, run: Run, spell: Spell, reason: Reason) -> None:
        """Nothing is left to cancel; there is nothing to tell."""
        async with run.write() as connection:
            if await idle_spells.move(connection, spell.id, SpellState.EXPIRED, reason, run.now):
                await outbox.retract_warning(connection, spell.id)
                self._log(spell, Decision.EXPIRE, reason)

    async def tell(self, connection: AsyncConnection, run: Run, spell: Spell, stage: str, outcome: Outcome) -> None:
        """A later event of a spell goes where its warning went."""
        email = await outbox.warned_address(connection, spell.id) or await self.post.address(connection, spell.user)
        if email is None:
            self.telemetry.critical("address_unknown", f"cannot tell {stage}", user_id=str(spell.user.id))
            return
        await self.post.no_use(connection, spell, stage, email, run.now, outcome)

    def _log(self, spell: Spell, decision: Decision, reason: Reason) -> None:
        self.telemetry.decided(decision, reason)
        logger.bind(event="decided", spell=str(spell.id), reason=reason).info("{} of {}", decision, spell.model_name)


@dataclass(frozen=True)
class IdleWarning:
    """Warns the users of models unused for N - Y, and withdraws what no longer holds."""

    surveyor: Surveyor
    post: Post
    ending: Ending
    reminder: Reminder
    telemetry: Telemetry

    async def __call__(self, run: Run) -> None:
        survey = await self.surveyor.look(run, run.now)
        for holder in survey.holdings.keys() | survey.spells.keys():
            hold, spell = survey.holdings.get(holder), survey.spells.get(holder)
            with run.isolated(model_id=holder[0], user_id=holder[1]):
                if hold is None and spell is not None:
                    await self._without_holding(run, survey, spell)
                elif hold is not None and (spell is None or spell.state is not SpellState.ENFORCING):
                    await self._one(run, survey, hold, spell)
        await self.reminder.remind(run, survey)
        async with run.write() as connection:
            await history.forget(connection, run.now - self.surveyor.policy.retention)

    async def _without_holding(self, run: Run, survey: Survey, spell: Spell) -> None:
        reason = survey.ending(spell)
        if reason is not None and spell.state is not SpellState.ENFORCING:
            await self.ending.expire(run, spell, reason)

    async def _one(self, run: Run, survey: Survey, hold: Holding, spell: Spell | None) -> None:
        if spell is not None and spell.dry_run != self.post.dry_run:
            return await self.ending.expire(run, spell, Reason.MODE_CHANGED)
        verdict = self.surveyor.judge(survey, hold, spell)
        match verdict.decision:
            case Decision.WARN:
                await self._warn(run, hold, verdict)
            case Decision.WITHDRAW if spell is not None:
                await self.ending.withdraw(run, spell, verdict.reason)
            case Decision.EXPIRE if spell is not None:
                await self.ending.expire(run, spell, verdict.reason)
            case _:
                self.telemetry.decided(Decision.HOLD, verdict.reason)
        return None

    async def _warn(self, run: Run, hold: Holding, verdict: Verdict) -> None:
        spell = self._spell(run, hold, verdict)
        async with run.write() as connection:
            email = await self.post.address(connection, hold.user)
            if email is None:
                self.telemetry.decided(Decision.HOLD, Reason.ADDRESS_UNKNOWN)
                return self.telemetry.critical(
                    Reason.ADDRESS_UNKNOWN, f"{hold.user.name} cannot be warned about {hold.model.name}"
                )
            if await idle_spells.begin(connection, spell, verdict.reason):
                await self.post.no_use(connection, spell, events.WARNING, email, run.now, Outcome())
        self.telemetry.decided(Decision.WARN, verdict.reason)
        bound = logger.bind(event="decided", spell=str(spell.id), model=hold.model.name, reason=verdict.reason)
        since, not_before = (moment.isoformat(timespec="seconds") for moment in (spell.idle_since, spell.not_before))
        bound.info("warn: unused since {}, cancelling not before {}", since, not_before)
        return None

    def _spell(self, run: Run, hold: Holding, verdict: Verdict) -> Spell:
        assert hold.current is not None
        assert verdict.idle_since is not None
        assert verdict.not_before is not None
        dry = self.post.dry_run
        return Spell(
            id=uuid4(),
            model_id=hold.model.id,
            model_name=hold.model.name,
            user=hold.user,
            # In a dry run nothing is delivered, yet the timeline goes on to show what would be done.
            state=SpellState.WARNED if dry else SpellState.WARNING_PENDING,
            idle_since=verdict.idle_since,
            opened_at=run.now,
            not_before=verdict.not_before,
            slot=hold.current,
            delivered_at=run.now if dry else None,
            dry_run=dry,
        )
