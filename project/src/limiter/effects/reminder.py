"""ReservationStartedReminder: published by us when a booked model runs and the platform has not announced it."""

from dataclasses import dataclass
from datetime import timedelta

from loguru import logger

from limiter.db import contacts
from limiter.domain.active_bookings import ActiveBooking
from limiter.domain.snapshot import Snapshot
from limiter.effects.events import EventWriter
from limiter.runner.run import Run


@dataclass(frozen=True)
class Reminder:
    """Publishes once per reservation and model, after leaving the platform `grace` to do it."""

    writer: EventWriter
    enabled: bool
    grace: timedelta

    async def remind(self, run: Run, snapshot: Snapshot) -> None:
        if not self.enabled:
            return
        due = {
            (booking.current.reservation_id, booking.model.id): booking
            for booking in snapshot.active_bookings.values()
            if booking.current is not None and self._is_ripe(run, snapshot, booking)
        }
        async with run.read() as connection:
            reminded = await contacts.reminded(connection, due.keys()) if due else set()
        for key, booking in due.items():
            if key not in reminded:
                with run.isolated(model_id=booking.model.id, user_id=booking.user.id):
                    await self._tell(run, snapshot, key[0], booking)

    def _is_ripe(self, run: Run, snapshot: Snapshot, booking: ActiveBooking) -> bool:
        state = snapshot.prior.scaling_states.get(booking.model.id)
        return state is not None and run.now >= max(state.first_seen_at, booking.row[0].start) + self.grace

    async def _tell(self, run: Run, snapshot: Snapshot, reservation_id: str, booking: ActiveBooking) -> None:
        async with run.write() as connection:
            email = await self.writer.address(connection, booking.user)
            if email is None:
                return  # not critical: nobody loses anything by a missing reminder
            await contacts.note_reminders(connection, [(reservation_id, booking.model.id)])
            reservation = snapshot.bookings.by_id[reservation_id]
            await self.writer.started(connection, booking, reservation, email, run.now)
        logger.bind(event="reminded", reservation=reservation_id).info(
            "{} runs for {}", booking.model.name, booking.user.name
        )
