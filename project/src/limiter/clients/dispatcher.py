"""ModelDispatcher: commands, and the sagas that carry them out."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from pydantic import BaseModel, TypeAdapter

from limiter.clients.decoding import Key, decode
from limiter.clients.errors import ContractBroken, NotFound, Rejected, ServiceError
from limiter.clients.http import Check, ServiceClient
from limiter.domain.command import Command, CommandKind


class SagaEnd(StrEnum):
    """How a saga stands, for us: compensating is not an end, and neither is a status we do not know."""

    UNFINISHED = "unfinished"
    COMPLETED = "completed"
    FAILED = "failed"
    UNKNOWN = "unknown"


_ENDS = {
    "created": SagaEnd.UNFINISHED,
    "in_progress": SagaEnd.UNFINISHED,
    "compensating": SagaEnd.UNFINISHED,
    "completed": SagaEnd.COMPLETED,
    "failed": SagaEnd.FAILED,
    "compensated": SagaEnd.FAILED,
}


@dataclass(frozen=True, slots=True)
class Saga:
    """One saga of the dispatcher; `status` is the dispatcher's word."""

    id: UUID
    status: str

    @property
    def end(self) -> SagaEnd:
        return _ENDS.get(self.status, SagaEnd.UNKNOWN)


class _Saga(BaseModel):
    id: UUID
    status: Key


_SAGA = TypeAdapter(_Saga)
_SCALE = "/v1/command/scale"


class Dispatcher:
    """Sends commands, once each: unless the dispatcher cannot be reached at all, a POST is never repeated."""

    def __init__(self, service: ServiceClient) -> None:
        self._service = service

    async def send(self, command: Command, check: Check = lambda: None) -> Saga:
        """Send one command; raises ServiceError, which is `undone` if it says that nothing was done.

        `check` raises if it may not be sent any more.
        """
        if command.kind is CommandKind.UNINSTALL:
            raw = await self._service.post("/v1/command/uninstall", {"modelId": str(command.model_id)}, check)
        elif command.replicas is None or command.replicas < 1:
            raise Rejected(f"{self._service.name}: {command.replicas} replicas: must be at least 1", self._service.name)
        else:
            body = {"modelId": str(command.model_id), "replicas": command.replicas}
            raw = await self._service.post(_SCALE, body, check)
        return self._saga(raw)

    async def saga(self, id: UUID) -> Saga:
        """One saga as it stands; raises ServiceError, ContractBroken if the answer is about another."""
        # Nothing else is asked of the dispatcher for hours: one that it cannot show must not keep it from all commands.
        found = self._saga(await self._service.get(f"/v1/saga/{id}", alone=True))
        if found.id != id:
            raise ContractBroken(f"{self._service.name}: asked for saga {id}, got {found.id}", self._service.name)
        return found

    async def takes_commands(self) -> bool:
        """Whether its path of commands seems to be there: to a GET it refuses the method, in whatever words."""
        try:
            await self._service.get(_SCALE)
        except NotFound:
            return False
        except ServiceError:
            pass
        return True

    def _saga(self, raw: bytes) -> Saga:
        answer = decode(_SAGA, raw, self._service.name, "saga")
        return Saga(answer.id, answer.status)
