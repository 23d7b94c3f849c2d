"""The object graph: the only place that knows every concrete class, and the only one that knows dishka."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

from dishka import AsyncContainer, Provider, Scope, make_async_container

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
    async with _graph()({Settings: settings}, scope=Scope.APP) as container:
        yield container


@cache  # to check and compile it takes as long as to make all the objects of a replica
def _graph() -> AsyncContainer:
    """How the objects are made of settings; it holds none itself."""
    given = Provider(scope=Scope.APP)
    given.from_context(provides=Settings)
    return make_async_container(
        given, Stores(), Clients(), Jobs(), Schedule(), Messages(), Api(), start_scope=Scope.RUNTIME
    )
