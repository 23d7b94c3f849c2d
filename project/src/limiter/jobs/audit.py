"""Every change of decision is written down, counted and said in the log; a decision that stays is only counted."""

from dataclasses import dataclass

from loguru import logger
from sqlalchemy.ext.asyncio import AsyncConnection

from limiter.db import decisions
from limiter.db.runs import Run
from limiter.domain.action import Decision, Reason
from limiter.domain.audit import Finding, standing_of
from limiter.domain.policy import Policy
from limiter.domain.survey import Holder, Survey
from limiter.telemetry import Telemetry


@dataclass(frozen=True)
class Audit:
    """An act is written in the transaction of the act; what is only held, once at the end of the run."""

    policy: Policy
    telemetry: Telemetry

    async def act(self, connection: AsyncConnection, *findings: Finding) -> None:
        await decisions.record(connection, findings, dry_run=self.policy.dry_run)

    def told(self, run: Run, finding: Finding) -> None:
        """Count, note and say an act that is committed."""
        run.notes.acted.append(finding)
        self.telemetry.decided(finding.decision, finding.reason)
        say(finding)

    def hold(self, run: Run, survey: Survey, holder: Holder, finding: Finding | Reason) -> None:
        """Count that nothing is done, and keep it for the end of the run if that is news."""
        found = survey.finding(holder, Decision.HOLD, finding) if isinstance(finding, Reason) else finding
        self.telemetry.decided(found.decision, found.reason)
        if survey.past.standing.get(holder) != standing_of(found.decision, found.reason):
            run.notes.held.append(found)

    async def write(self, run: Run) -> None:
        """What was only held, in one transaction."""
        if run.notes.held:
            async with run.write() as connection:
                await decisions.record(connection, run.notes.held, dry_run=self.policy.dry_run)
            for finding in run.notes.held:
                say(finding)


def say(finding: Finding) -> None:
    """One line: the decision, the model, and why."""
    bound = logger.bind(
        event="decided",
        decision=str(finding.decision),
        reason=str(finding.reason),
        model=finding.model_name,
        model_id=str(finding.model_id),
        user_id=str(finding.user_id) if finding.user_id else None,
    )
    level = "DEBUG" if finding.decision is Decision.HOLD else "INFO"
    bound.log(level, "{} {}: {}", finding.decision, finding.model_name, finding.why)
