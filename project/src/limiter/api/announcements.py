"""The platform's announcements that booked models run, from which users' addresses are learned."""

import asyncio
from itertools import islice, product
from typing import Annotated
from uuid import UUID

from faststream.rabbit import RabbitMessage
from loguru import logger
from pydantic import BaseModel, Field, ValidationError
from sqlalchemy.ext.asyncio import AsyncEngine

from limiter.clients.decoding import Storable, describe_validation
from limiter.clients.event_wire import reminder_id
from limiter.db import contacts
from limiter.db.engine import DATABASE_ERRORS, describe
from limiter.telemetry import Telemetry

MAX_TEXT = 500  # characters of a name, an address or an id
MAX_IDS = 1000  # ids of a kind
MAX_STARTS = 10_000  # pairs of a reservation and a model, all written in one statement

Text = Annotated[Storable, Field(max_length=MAX_TEXT)]


class Deployed(BaseModel):
    """An announcement, as the platform publishes it; its model ids are text, mostly but not always UUIDs."""

    user_id: UUID
    user_name: Text
    user_email: str = Field(pattern=r"^[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+$", max_length=MAX_TEXT)
    model_ids: list[Text] = Field(default_factory=list, max_length=MAX_IDS)
    reservation_ids: list[Text] = Field(default_factory=list, max_length=MAX_IDS)

    @property
    def started(self) -> list[tuple[str, UUID]]:
        """The (reservation, model) starts it announces; an id that is no UUID is none of a model we could know."""
        models = [model for model in map(_uuid, self.model_ids) if model is not None]
        return list(islice(product(self.reservation_ids, models), MAX_STARTS))

    def is_ours(self, message_id: str | None) -> bool:
        """Whether it is a reminder of ours: its address teaches nothing, and may be older than what is known by now."""
        return message_id in {str(reminder_id(model_id, id)) for id, model_id in self.started[:1]}


class Announcements:
    """Learns addresses; a message is acknowledged once its address is committed, however long that takes."""

    def __init__(self, engine: AsyncEngine, telemetry: Telemetry, retry: float) -> None:
        """`retry` is the seconds between two attempts while the database is away."""
        self._engine = engine
        self._telemetry = telemetry
        self._retry = retry

    async def handle(self, body: bytes, message: RabbitMessage) -> None:
        """Learn one address, or reject the message, which then goes to the dead-letter queue."""
        try:
            announcement = Deployed.model_validate_json(body)
        except ValidationError as error:
            self._telemetry.critical("announcement_rejected", describe_validation(error))
            await message.reject(requeue=False)
            return
        if announcement.is_ours(message.raw_message.message_id):
            await message.ack()
            return
        await self._learn(announcement)
        await message.ack()
        learned = logger.bind(event="address_learned", user_id=str(announcement.user_id))
        learned.info("address of {} learned", announcement.user_name)

    async def _learn(self, announcement: Deployed) -> None:
        user = (announcement.user_id, announcement.user_name, announcement.user_email)
        while True:
            try:
                return await contacts.learn(self._engine, *user, announcement.started)
            except DATABASE_ERRORS as error:
                self._telemetry.goes_on("database_unavailable", f"{describe(error)}: address not yet learned")
                await asyncio.sleep(self._retry)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
