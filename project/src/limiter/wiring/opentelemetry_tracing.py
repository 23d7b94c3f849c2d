"""A trace for each run, by the libraries' own instrumentations; needs requirements-tracing.txt."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
from faststream.rabbit.opentelemetry import RabbitTelemetryMiddleware
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
from opentelemetry.metrics import NoOpMeter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import SpanKind
from opentelemetry.trace.span import TraceState
from opentelemetry.util.types import Attributes
from sqlalchemy.ext.asyncio import AsyncEngine

from limiter import VERSION
from limiter.domain.job import Job
from limiter.wiring.tracing import Tracing

EXPORT_TIMEOUT_SECONDS = 5.0
RUNS = frozenset(str(job) for job in Job)


class _RunsAlone(Sampler):
    """Begins a trace with a run: ticks ask the database every few seconds, which would drown everything else."""

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Any] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        return SamplingResult(Decision.RECORD_AND_SAMPLE if name in RUNS else Decision.DROP)

    def get_description(self) -> str:
        return "runs alone"


class OpenTelemetryTracing(Tracing):
    """Sends the traces to an OTLP collector over HTTP; what it does not take is dropped, and the runs go on."""

    def __init__(self, url: str) -> None:
        """`url` is the collector's for traces, such as http://collector:4318/v1/traces."""
        about = Resource.create({"service.name": "rps-limiter", "service.version": VERSION})
        self._provider = TracerProvider(sampler=ParentBased(_RunsAlone()), resource=about, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(url, timeout=EXPORT_TIMEOUT_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("rps-limiter")

    @contextmanager
    def run_span(self, job: str, epoch: int) -> Iterator[None]:
        """The span of a run; everything that it does is inside."""
        with self._tracer.start_as_current_span(job, attributes={"job.epoch": epoch}):
            yield

    def http(self, client: httpx.AsyncClient) -> None:
        HTTPXClientInstrumentor.instrument_client(client, tracer_provider=self._provider)

    def statements(self, engine: AsyncEngine) -> None:
        tracer, connections = self._provider.get_tracer("sqlalchemy"), NoOpMeter("").create_up_down_counter("all")
        EngineTracer(tracer, engine.sync_engine, connections)  # type: ignore[no-untyped-call]

    def middlewares(self) -> tuple[Any, ...]:
        return (RabbitTelemetryMiddleware(tracer_provider=self._provider),)

    async def flush(self) -> None:
        """Send what is left."""
        await asyncio.to_thread(self._provider.shutdown)
