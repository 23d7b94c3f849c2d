"""ModelRegistry: which models have an instance, and how many replicas each has now."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from dev.fake_platform.wire import Json, number

DEFAULT_PAGE = 50
LARGEST_PAGE = 100


@dataclass(eq=False)
class ServedModel:
    """A machine-learning model with an instance; changed attributes show in the next answer."""

    id: UUID
    name: str
    replicas: int
    instance_id: int
    status: str = "RUNNING"
    owner_id: str | None = None
    type: str = "llm"
    deleted: bool = False
    tags: list[str] = field(default_factory=list)

    def as_json(self) -> Json:
        """The contract's ModelReadSchema."""
        return {
            "id": str(self.id),
            "name": self.name,
            "type": self.type,
            "status": self.status,
            "deleted": self.deleted,
            "hfRepoId": self.name,
            "configuration": None,
            "endpoints": [{"id": self.instance_id, "path": "/v1/chat/completions", "description": "Chat"}],
            "instance": self._instance(),
            "storage": self._storage(),
            "tags": [{"id": number, "tag": tag} for number, tag in enumerate(self.tags, 1)],
        }

    def _instance(self) -> Json:
        return {
            "id": self.instance_id,
            "replicas": self.replicas,
            "ownerId": self.owner_id,
            "address": f"http://serving-{self.instance_id}.example.org",
        }

    def _storage(self) -> Json:
        uri = f"s3://weights/{self.name}"
        return {"id": self.instance_id, "uri": uri, "type": "s3", "revision": "main", "artifactId": None}


class Registry:
    """Lists the models in the order in which they were added; each page is cut from the list at its request."""

    def __init__(self) -> None:
        """Start without models."""
        self.models: dict[UUID, ServedModel] = {}

    def mount(self) -> Mount:
        """Its one operation."""
        return Mount("/registry", routes=[Route("/v2/models/running/find-by", self.find_running)])

    def add(self, model: ServedModel) -> ServedModel:
        """Add the model, or replace the one with the same id."""
        self.models[model.id] = model
        return model

    async def find_running(self, request: Request) -> Response:
        """One page; `total` counts all models, whatever the page."""
        offset = number(request, "offset", 0, at_least=0)
        limit = number(request, "limit", DEFAULT_PAGE, at_least=1, at_most=LARGEST_PAGE)
        # The contract does not say what these two mean, and ignoring them would answer with a wrong list.
        if {"sort", "filters"} & request.query_params.keys():
            raise HTTPException(501, "the stand-in knows neither sort nor filters")
        page = list(self.models.values())[offset : offset + limit]
        answer = {"items": [model.as_json() for model in page], "total": len(self.models)}
        return JSONResponse(answer | {"limit": limit, "offset": offset})
