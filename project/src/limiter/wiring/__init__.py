"""The object graph: the only place that knows every concrete class, and the only one that knows dishka."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dishka import AsyncContainer, make_async_container

from limiter.api.doctor import Doctor
from limiter.config.settings import Settings
from limiter.wiring.api import Api
from limiter.wiring.clients import Clients
from limiter.wiring.jobs import Jobs
from limiter.wiring.messages import Messages
from limiter.wiring.replica import Replica
from limiter.wiring.schedule import Schedule
from limiter.wiring.stores import Stores

__all__ = ["Replica", "compose", "compose_doctor"]


@asynccontextmanager
async def compose(settings: Settings) -> AsyncIterator[Replica]:
    """One replica, every object of it made once; the graph is checked when it is made."""
    async with _container(settings) as container:
        yield await container.get(Replica)


@asynccontextmanager
async def compose_doctor(settings: Settings) -> AsyncIterator[Doctor]:
    """What looks whether a replica would have all that it needs."""
    async with _container(settings) as container:
        yield await container.get(Doctor)


@asynccontextmanager
async def _container(settings: Settings) -> AsyncIterator[AsyncContainer]:
    container = make_async_container(
        Stores(), Clients(), Jobs(), Schedule(), Messages(), Api(), context={Settings: settings}
    )
    try:
        yield container
    finally:
        await container.close()
