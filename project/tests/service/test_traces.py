"""Traces, as a collector receives them: one for each run."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from uuid import uuid4

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from sqlalchemy import insert
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dev.fake_platform.platform import Platform
from dev.fake_platform.server import LoopbackServer
from dev.servers.processes import free_port
from dev.servers.services import Services
from limiter.db import tables
from limiter.domain.job import Job
from tests.bench import open_bench


@dataclass
class Collector:
    """An OTLP collector that keeps what it gets."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)

    async def take(self, request: Request) -> Response:
        found = ExportTraceServiceRequest.FromString(await request.body())
        self.spans += [span for one in found.resource_spans for scope in one.scope_spans for span in scope.spans]
        return Response()


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    found = Collector()
    server = LoopbackServer(Starlette(routes=[Route("/v1/traces", found.take, methods=["POST"])]), "127.0.0.1", 0)
    await server.start()
    found.url = f"{server.url}/v1/traces"
    yield found
    await server.stop()


async def test_a_run_is_one_trace_with_its_calls_statements_and_events(
    services: Services, schema: str, platform: Platform, collector: Collector
) -> None:
    platform.add_model("a")
    platform.call("a")
    async with open_bench(services, schema, platform, TRACES_URL=collector.url) as bench:
        async with bench.engine.begin() as connection:
            event = {"message_id": uuid4(), "stage": "started", "routing_key": "key", "body": {}}
            await connection.execute(insert(tables.outbox).values(event))
        await bench.run(Job.RPS_CHECK)
        await bench.attempt(Job.EVENT_DISPATCH)
    runs = {span.name: span for span in collector.spans if not span.parent_span_id}
    assert runs.keys() == {"rps_check", "event_dispatch"}
    of = {run: [span.name for span in collector.spans if span.trace_id == runs[run].trace_id] for run in runs}
    assert len(of["rps_check"]) + len(of["event_dispatch"]) == len(collector.spans)
    assert of["rps_check"].count("GET") == 3  # the models, and two pages
    assert any(name.startswith("INSERT") for name in of["rps_check"])
    assert any(name.startswith("SELECT") for name in of["event_dispatch"])
    assert any("publish" in name for name in of["event_dispatch"]), of["event_dispatch"]


async def test_without_a_collector_the_runs_go_on(services: Services, schema: str, platform: Platform) -> None:
    platform.add_model("a")
    platform.call("a")
    async with open_bench(services, schema, platform, TRACES_URL=f"http://127.0.0.1:{free_port()}/v1/traces") as bench:
        await bench.run(Job.RPS_CHECK)
