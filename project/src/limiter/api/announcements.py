"""The platform's announcements that booked models run, from which users' addresses are learned."""

import asyncio
from uuid import UUID

from faststream.rabbit import RabbitMessage
from loguru import logger
from pydantic import BaseModel, Field, ValidationError
from sqlalchemy.ext.asyncio import AsyncEngine

from limiter.clients.http import Storable, describe_validation
from limiter.db import contacts
from limiter.db.engine import DATABASE_ERRORS, describe
from limiter.telemetry import Telemetry


class Deployed(BaseModel):
    """An announcement, as the platform publishes it."""

    user_id: UUID
    user_name: Storable
    user_email: str = Field(pattern=r"^[^@\s\x00]+@[^@\s\x00]+$")
    model_ids: list[UUID] = Field(default_factory=list)
    reservation_ids: list[Storable] = Field(default_factory=list)


class Announcements:
    """Learns addresses; a message is acknowledged once its address is committed, however long that takes."""

    def __init__(self, engine: AsyncEngine, telemetry: Telemetry, retry: float) -> None:
        """`retry` is the seconds between two attempts while the database is away."""
        self._engine = engine
        self._telemetry = telemetry
        self._retry = retry
        self._in_order = asyncio.Lock()  # messages are handed over side by side: of two addresses the later must stay

    async def handle(self, body: bytes, message: RabbitMessage) -> None:
        """Learn one address, or reject the message, which then goes to the dead-letter queue."""
        try:
            announcement = Deployed.model_validate_json(body)
        except ValidationError as error:
            self._telemetry.critical("announcement_rejected", describe_validation(error))
            await message.reject(requeue=False)
            return
        async with self._in_order:
            await self._learn(announcement)
        await message.ack()
        learned = logger.bind(event="address_learned", user_id=str(announcement.user_id))
        learned.info("address of {} learned", announcement.user_name)

    async def _learn(self, announcement: Deployed) -> None:
        reservations, models = announcement.reservation_ids, announcement.model_ids
        started = [(reservation, model) for reservation in reservations for model in models]
        user = (announcement.user_id, announcement.user_name, announcement.user_email)
        while True:
            try:
                return await contacts.learn(self._engine, *user, started)
            except DATABASE_ERRORS as error:
                self._telemetry.critical("database_unavailable", f"{describe(error)}: address not yet learned")
                await asyncio.sleep(self._retry)
