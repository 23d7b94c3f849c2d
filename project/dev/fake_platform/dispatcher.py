"""ModelDispatcher: accepts commands and executes each in a saga, which takes a while and may fail.

created --> in_progress --> completed          the only end that changes the registry
                 |--------> failed
                 |--------> compensating --> compensated
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID, uuid4

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from dev.fake_platform.registry import Registry, ServedModel
from dev.fake_platform.wire import Invalid, Json, iso, uuid

Kind = Literal["scale", "uninstall"]
Status = Literal["created", "in_progress", "completed", "failed", "compensating", "compensated"]
Outcome = Literal["completed", "failed", "compensated", "stuck", "stuck_compensating"]

FINAL: frozenset[Status] = frozenset({"completed", "failed", "compensated"})
CREATED_SHARE = 0.1  # of a saga's time, in which its status is created
COMPENSATING_SHARE = 0.5  # of a saga's time, after which one that is to be compensated is compensating
STEPS: dict[Kind, tuple[str, ...]] = {
    "scale": ("reserve_gpus", "change_replicas", "check_health"),
    "uninstall": ("drain_traffic", "stop_replicas", "release_gpus"),
}


@dataclass(frozen=True)
class Command:
    """An accepted command, at which Unix second; `replicas` is None for an uninstall."""

    at: float
    kind: Kind
    model_id: UUID
    model_name: str
    replicas: int | None
    saga_id: UUID


@dataclass(eq=False)
class Saga:
    """The execution of one command, in `seconds`; a stuck one ends when it is given another `outcome`."""

    id: UUID
    command: Command
    type: str
    seconds: float
    outcome: Outcome
    applied: bool = False

    @property
    def ends_at(self) -> float:
        return self.command.at + self.seconds

    def status(self, now: float) -> Status:
        """Its status at `now`, in Unix seconds."""
        age = now - self.command.at
        if age < self.seconds * CREATED_SHARE:
            return "created"
        if self.outcome in ("completed", "failed"):
            return self.outcome if age >= self.seconds else "in_progress"
        if self.outcome == "stuck" or age < self.seconds * COMPENSATING_SHARE:
            return "in_progress"
        return "compensated" if self.outcome == "compensated" and age >= self.seconds else "compensating"

    def as_json(self, now: float, status: Status) -> Json:
        """The contract's SagaSchema."""
        created, updated = iso(self.command.at), iso(min(now, self.ends_at))
        current = 0 if status == "created" else len(STEPS[self.command.kind]) - 1
        return {
            "id": str(self.id),
            "modelId": str(self.command.model_id),
            "type": self.type,
            "status": status,
            "current_step": current,
            "steps": [
                {"id": place, "name": name, "createdAt": created, "updatedAt": updated}
                | {"status": _step_status(place - current, status)}
                for place, name in enumerate(STEPS[self.command.kind])
            ],
            "createdAt": created,
            "updatedAt": updated,
        }


def _step_status(place: int, saga: Status) -> str:
    """A step's status, by its place relative to the current one."""
    if saga == "created" or place > 0:
        return "pending"
    return "completed" if place < 0 and saga in ("in_progress", "failed") else saga


class Dispatcher:
    """Accepts every well-formed command and records as a violation what the limiter must never send."""

    def __init__(
        self, registry: Registry, clock: Callable[[], float], seconds: float, remove: Callable[[UUID, float], None]
    ) -> None:
        """Sagas take `seconds`; `remove(model id, Unix seconds)` removes a model from the platform."""
        self.sagas: dict[UUID, Saga] = {}
        self.commands: list[Command] = []
        self.violations: list[str] = []
        self.saga_seconds = seconds
        self._registry = registry
        self._clock = clock
        self._remove = remove
        self._coming: defaultdict[UUID | None, deque[Outcome]] = defaultdict(deque)

    def mount(self) -> Mount:
        """Its three operations."""
        return Mount(
            "/dispatcher",
            routes=[
                Route("/v1/command/scale", self.scale, methods=["POST"]),
                Route("/v1/command/uninstall", self.uninstall, methods=["POST"]),
                Route("/v1/saga/{saga_id}", self.saga),
            ],
        )

    def next_saga(self, outcome: Outcome, model_id: UUID | None) -> None:
        """Set how the next saga without a set outcome ends: the model's, or with None any model's."""
        self._coming[model_id].append(outcome)

    def settle(self) -> None:
        """Apply the effects of completed sagas, in the order in which they ended."""
        now = self._clock()
        for saga in sorted(self.sagas.values(), key=lambda saga: saga.ends_at):
            if not saga.applied and saga.status(now) == "completed":
                saga.applied = True
                self._apply(saga)

    def running(self) -> list[Saga]:
        """The sagas that have not ended."""
        now = self._clock()
        return [saga for saga in self.sagas.values() if saga.status(now) not in FINAL]

    def release(self, saga: Saga) -> None:
        """Let a saga complete now."""
        saga.seconds, saga.outcome = self._clock() - saga.command.at, "completed"
        self.settle()

    def forget(self, saga: Saga, *, carried_out: bool) -> None:
        """Know nothing of a saga any more, after its effect or without it."""
        if carried_out:
            self.release(saga)
        self.sagas.pop(saga.id)

    async def scale(self, request: Request) -> Response:
        """Scale the model to an absolute number of replicas, above zero."""
        body = await self._body(request)
        model_id, replicas = self._field(body, "modelId"), body.get("replicas")
        if type(replicas) is not int or replicas < 1:
            raise self._malformed("replicas", f"{replicas!r} is not a whole number above 0")
        model = self._model(model_id)
        return self._start("scale", model, "upscale" if replicas >= model.replicas else "downscale", replicas)

    async def uninstall(self, request: Request) -> Response:
        """Uninstall the model."""
        model = self._model(self._field(await self._body(request), "modelId"))
        return self._start("uninstall", model, "uninstall", None)

    async def saga(self, request: Request) -> Response:
        """One saga with its status."""
        saga = self.sagas.get(uuid(request.path_params["saga_id"], "path", "saga_id"))
        if saga is None:
            raise HTTPException(404, "Saga not found")
        now = self._clock()
        return JSONResponse(saga.as_json(now, saga.status(now)))

    def _start(self, kind: Kind, model: ServedModel, type: str, replicas: int | None) -> Response:
        now = self._clock()
        self._check_unfinished(f"{kind} of {model.name}", model.id, now)
        command = Command(now, kind, model.id, model.name, replicas, uuid4())
        saga = Saga(command.saga_id, command, type, self.saga_seconds, self._outcome(model.id))
        self.commands.append(command)
        self.sagas[saga.id] = saga
        return JSONResponse(saga.as_json(now, "created"), 201)

    def _check_unfinished(self, what: str, model_id: UUID, now: float) -> None:
        for saga in self.sagas.values():
            status = saga.status(now)
            if saga.command.model_id == model_id and status not in FINAL:
                self.violations.append(f"{what} at {iso(now)} while saga {saga.id} was {status}")

    def _outcome(self, model_id: UUID) -> Outcome:
        coming = self._coming[model_id] or self._coming[None]
        return coming.popleft() if coming else "completed"

    def _apply(self, saga: Saga) -> None:
        command = saga.command
        if command.replicas is None:
            self._remove(command.model_id, saga.ends_at)
        elif command.model_id in self._registry.models:
            self._registry.models[command.model_id].replicas = command.replicas

    def _model(self, model_id: UUID) -> ServedModel:
        if model_id not in self._registry.models:
            raise HTTPException(404, "Model not found")
        return self._registry.models[model_id]

    async def _body(self, request: Request) -> dict[str, Any]:
        try:
            body = await request.json()
        except ValueError:
            raise self._malformed("body", "not JSON") from None
        if not isinstance(body, dict):
            raise self._malformed("body", "not an object")
        return body

    def _field(self, body: dict[str, Any], name: str) -> UUID:
        try:
            return uuid(body.get(name), "body", name)
        except Invalid as error:
            self.violations.append(f"malformed command: {error}")
            raise

    def _malformed(self, name: str, message: str) -> Invalid:
        error = Invalid("body", name, message)
        self.violations.append(f"malformed command: {error}")
        return error
