"""A stand-in for the platform around the limiter: its four external services, over real HTTP on one port.

    async with Platform() as platform:
        platform.add_model("Sber/GigaChat-Max-V2", replicas=2)
        platform.set_rate("Sber/GigaChat-Max-V2", rps=30)
        platform.fault("booking", Fault.status(503), times=2)

It runs in the caller's event loop. `python -m dev.fake_platform` serves the sample fleet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import count
from typing import Literal
from uuid import UUID, uuid4

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from dev.fake_platform.booking import TOKEN, Booking, Deletion, Reservation, Slot, User
from dev.fake_platform.dispatcher import Command, Dispatcher, Outcome, Saga
from dev.fake_platform.entrypoint import Entrypoints
from dev.fake_platform.faults import Fault
from dev.fake_platform.faulty_wire import ArmedFault, Exchange, FaultyWire
from dev.fake_platform.registry import Registry, ServedModel
from dev.fake_platform.server import LoopbackServer
from dev.fake_platform.wire import Invalid, Moment, answer_invalid, answer_refusal, unix_seconds

__all__ = [
    "Command",
    "Deletion",
    "Exchange",
    "Fault",
    "Outcome",
    "Platform",
    "Reservation",
    "Saga",
    "ServedModel",
    "Service",
    "User",
]

Service = Literal["registry", "dispatcher", "booking", "entrypoint"]


class Platform:
    """The services' state, the ways to change and to break them, and every request that they got."""

    def __init__(
        self,
        *,
        entrypoints: int = 2,
        clock: Callable[[], float] = time.time,
        saga_seconds: float = 2.0,
        token: str = TOKEN,
        process_start_time: bool = True,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """`clock` gives Unix seconds; `process_start_time` puts that family on the pages; port 0 means any free one."""
        self.token = token
        self._clock = clock
        self._instances = count(1)
        self._registry = Registry()
        self._dispatcher = Dispatcher(self._registry, clock, saga_seconds, self._remove)
        self._booking = Booking(token, clock)
        self._entrypoints = Entrypoints(entrypoints, clock, process_start_time)
        self._services = Starlette(
            routes=[part.mount() for part in (self._registry, self._dispatcher, self._booking, self._entrypoints)],
            exception_handlers={Invalid: answer_invalid, HTTPException: answer_refusal},
        )
        self._wire = FaultyWire(self._answer, clock)
        self._server = LoopbackServer(self._wire, host, port)

    # --- start and stop ---

    async def __aenter__(self) -> Platform:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Serve; returns when requests are answered. After a stop it takes the same port again."""
        self._wire.connections = await self._server.start()

    async def stop(self) -> None:
        """Clear the faults, let hanging calls finish and close the port; state and history stay."""
        self.clear_faults()
        await self._server.stop()

    # --- the fleet and its traffic ---

    def add_model(
        self,
        name: str,
        replicas: int = 1,
        id: UUID | str | None = None,
        status: str = "RUNNING",
        owner_id: str | None = None,
    ) -> ServedModel:
        """Add a model with an instance; attributes of the returned model may be changed."""
        model_id = uuid4() if id is None else UUID(str(id))
        return self._registry.add(ServedModel(model_id, name, replicas, next(self._instances), status, owner_id))

    def remove_model(self, model: ServedModel | UUID) -> None:
        """Remove the model at once, and the traffic of its name with the last one; counters stay on the pages."""
        self.settle()
        self._remove(model if isinstance(model, UUID) else model.id, self._clock())

    def call(self, model_name: str, times: int = 1, entrypoint: int = 0) -> None:
        """Count calls of the model now, through one Entrypoint process."""
        self._entrypoints.call(model_name, times, entrypoint)

    def set_rate(self, model_name: str, rps: float) -> None:
        """Call the model `rps` times per second from now on, spread over all Entrypoint processes."""
        self.settle()
        self._entrypoints.set_rate(model_name, rps)

    def restart_entrypoint(self, entrypoint: int) -> None:
        """Restart one Entrypoint process, which loses its counters."""
        self.settle()
        self._entrypoints.restart(entrypoint)

    def set_in_flight(self, model_name: str, requests: float, entrypoint: int = 0) -> None:
        """Show so many requests of the model in flight, in the gauge of one Entrypoint process."""
        self._entrypoints.set_in_flight(model_name, requests, entrypoint)

    def freeze_entrypoint(self, entrypoint: int) -> None:
        """Repeat the last page of one Entrypoint process to the byte, whatever it counts."""
        self._entrypoints.freeze(entrypoint)

    def thaw_entrypoint(self, entrypoint: int) -> None:
        """Let the page of one Entrypoint process move again, with all that it counted meanwhile."""
        self._entrypoints.thaw(entrypoint)

    def set_page_age(self, entrypoint: int, seconds: float | None) -> None:
        """Put an `Age` on the answers of one Entrypoint process, as a cache does; None takes it off."""
        self._entrypoints.set_age(entrypoint, seconds)

    def balance_entrypoint(self, entrypoint: int, *others: int) -> None:
        """Answer one process' address with its page and those of the others in turn; without others this ends."""
        self._entrypoints.balance(entrypoint, others)

    @property
    def models(self) -> list[ServedModel]:
        """The models as they are now."""
        self.settle()
        return list(self._registry.models.values())

    # --- bookings ---

    def add_reservation(
        self,
        user_id: UUID | str,
        user_name: str,
        model_name: str,
        slots: Iterable[tuple[Moment, Moment]],
        model_id: UUID | str | None = None,
    ) -> Reservation:
        """Book a model for a user, with new slot ids; attributes of the returned reservation may be changed."""
        made = [Slot(unix_seconds(start), unix_seconds(end)) for start, end in slots]
        model = None if model_id is None else str(model_id)
        reservation = Reservation(User(str(user_id), user_name), model_name, made, model)
        self._booking.reservations.append(reservation)
        return reservation

    @property
    def reservations(self) -> list[Reservation]:
        """The reservations that still have slots."""
        return [reservation for reservation in self._booking.reservations if reservation.slots]

    @property
    def deletions(self) -> list[Deletion]:
        """Every deletion carried out, in order."""
        return self._booking.deletions

    # --- commands ---

    def next_saga(self, outcome: Outcome, model: ServedModel | UUID | None = None) -> None:
        """Set how the model's next saga ends (without a model: the next of any); several calls queue up."""
        self._dispatcher.next_saga(outcome, model.id if isinstance(model, ServedModel) else model)

    def settle(self) -> None:
        """Bring the sagas up to the clock; every request does so first."""
        self._dispatcher.settle()

    @property
    def commands(self) -> list[Command]:
        """Every accepted command, in order; those refused or lost are in the history only."""
        return self._dispatcher.commands

    @property
    def sagas(self) -> dict[UUID, Saga]:
        """All sagas by id; one that is removed is unknown to the dispatcher."""
        return self._dispatcher.sagas

    def running_sagas(self) -> list[Saga]:
        """The sagas that have not ended."""
        return self._dispatcher.running()

    def prolong(self, saga: Saga) -> None:
        """Let a saga go on until it is released."""
        saga.outcome = "stuck"

    def release(self, saga: Saga) -> None:
        """Let a prolonged saga complete now."""
        self._dispatcher.release(saga)

    def forget(self, saga: Saga, *, carried_out: bool) -> None:
        """Lose a saga, after its effect or without it; the dispatcher does not know it any more."""
        self._dispatcher.forget(saga, carried_out=carried_out)

    @property
    def violations(self) -> list[str]:
        """What the limiter did and must never do: malformed commands, two unfinished ones for one model."""
        return self._dispatcher.violations

    # --- the wire ---

    def fault(
        self, service: Service, fault: Fault, path: str = "", times: int | None = None, method: str | None = None
    ) -> ArmedFault:
        """Break calls to the service whose path contains `path`, the next `times` or all; faults queue up."""
        return self._wire.arm(ArmedFault(service, fault, path, method, times))

    def end_fault(self, armed: ArmedFault) -> None:
        """End one fault; its hanging calls are answered."""
        self._wire.disarm(armed)

    def clear_faults(self, service: Service | None = None) -> None:
        """End the faults of one service or of all; hanging calls are answered."""
        self._wire.clear(service)

    @property
    def history(self) -> list[Exchange]:
        """Every request, in the order in which they ended."""
        return self._wire.history

    @property
    def url(self) -> str:
        """The base URL of all services; raises RuntimeError before the first start."""
        return self._server.url

    @property
    def registry_url(self) -> str:
        return f"{self.url}/registry"

    @property
    def dispatcher_url(self) -> str:
        return f"{self.url}/dispatcher"

    @property
    def booking_url(self) -> str:
        return f"{self.url}/booking"

    @property
    def metrics_urls(self) -> list[str]:
        return [f"{self.url}/entrypoint/{place}/metrics" for place in range(len(self._entrypoints.processes))]

    def environment(self) -> dict[str, str]:
        """The environment variables with which a replica uses this platform."""
        return {
            "MODEL_REGISTRY_URL": self.registry_url,
            "MODEL_DISPATCHER_URL": self.dispatcher_url,
            "BOOKING_SERVICE_URL": self.booking_url,
            "BOOKING_SERVICE_TOKEN": self.token,
            "ENTRYPOINT_METRICS_URLS": ",".join(self.metrics_urls),
        }

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.settle()
        await self._services(scope, receive, send)

    def _remove(self, model_id: UUID, at: float) -> None:
        self._entrypoints.accrue(at)
        model = self._registry.models.pop(model_id, None)
        if model and all(other.name != model.name for other in self._registry.models.values()):
            self._entrypoints.end_traffic(model.name)
