"""A neighbour that does not answer costs a run no timeouts once its circuit is open, and other jobs nothing at all."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from time import perf_counter
from uuid import UUID

import pytest

from dev.platform import Fault, Peer, Platform
from limiter.domain.action import Job
from tests.bench import Bench
from tests.conftest import MakeBench

TIMEOUT, ATTEMPTS, FAILURES, REST = 1.0, 2, 4, 3.0
CIRCUIT = {"HTTP_CIRCUIT_FAILURES": FAILURES, "HTTP_CIRCUIT_REST_SECONDS": REST}
OPEN_RUN = 0.1  # seconds: what a run may cost while the circuit is open; the quickest of a few, as the machine is busy

# Who is dead, a job that needs it, and those that go on without it.
DEAD: dict[str, tuple[Peer, Job, tuple[Job, ...]]] = {
    "booking": ("booking", Job.IDLE_WARNING, (Job.RPS_CHECK, Job.SAGA_POLL, Job.EVENT_DISPATCH)),
    "registry": ("registry", Job.RPS_CHECK, (Job.SAGA_POLL, Job.EVENT_DISPATCH)),
}
