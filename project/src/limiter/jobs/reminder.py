"""ReservationStartedReminder: told by us when a booked model runs and the platform has not told it."""

from dataclasses import dataclass
from datetime import timedelta

from loguru import logger

from limiter.db import contacts
from limiter.db.runs import Run
from limiter.domain.reservations import Holding
from limiter.domain.survey import Survey
from limiter.jobs.events import Post


@dataclass(frozen=True)
class Reminder:
    """Publishes once per reservation and model, after leaving the platform `grace` to do it."""

    post: Post
    enabled: bool
    grace: timedelta

    async def remind(self, run: Run, survey: Survey) -> None:
        if not self.enabled:
            return
        due = {
            (hold.current.reservation_id, hold.model.id): hold
            for hold in survey.holdings.values()
            if hold.current is not None and self._ripe(run, survey, hold)
        }
        async with run.read() as connection:
            told = await contacts.reminded(connection, due.keys()) if due else set()
        for key, hold in due.items():
            if key not in told:
                with run.isolated(model_id=hold.model.id, user_id=hold.user.id):
                    await self._tell(run, survey, key[0], hold)

    def _ripe(self, run: Run, survey: Survey, hold: Holding) -> bool:
        seen = survey.past.sightings.get(hold.model.id)
        return seen is not None and run.now >= max(seen.first_seen_at, hold.row_started_at) + self.grace

    async def _tell(self, run: Run, survey: Survey, reservation_id: str, hold: Holding) -> None:
        async with run.write() as connection:
            email = await self.post.address(connection, hold.user)
            if email is None:
                return  # not critical: nobody loses anything by a missing reminder
            await contacts.note_reminders(connection, [(reservation_id, hold.model.id)])
            await self.post.started(connection, hold, survey.bookings.by_id[reservation_id], email, run.now)
        logger.bind(event="reminded", reservation=reservation_id).info(
            "{} runs for {}", hold.model.name, hold.user.name
        )
