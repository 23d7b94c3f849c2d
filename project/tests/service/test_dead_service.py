"""A service that does not answer costs a run no timeouts once its circuit is open, and other jobs nothing at all."""

import asyncio
from time import perf_counter

import pytest

from dev.fake_platform.platform import Fault, Platform, Service
from limiter.domain.job import Job
from tests.bench import Bench
from tests.conftest import MakeBench

TIMEOUT, REST = 0.5, 2.5  # seconds
CIRCUIT = {"HTTP_TIMEOUT_SECONDS": TIMEOUT, "HTTP_ATTEMPTS": 2, "HTTP_CIRCUIT_FAILURES": 4}

# Who dies and how, by which address it is known, a job that needs it, and jobs that do not.
WITHOUT_READING = (Job.SAGA_POLL, Job.EVENT_DISPATCH)
WITHOUT_BOOKING = (Job.RPS_CHECK, *WITHOUT_READING)
DEAD: dict[str, tuple[Service, str, Job, tuple[Job, ...]]] = {
    "booking hangs": ("booking", "BOOKING_SERVICE_URL", Job.IDLE_WARNING, WITHOUT_BOOKING),
    "booking refuses": ("booking", "BOOKING_SERVICE_URL", Job.IDLE_WARNING, WITHOUT_BOOKING),
    "registry hangs": ("registry", "MODEL_REGISTRY_URL", Job.RPS_CHECK, WITHOUT_READING),
    "entrypoint hangs": ("entrypoint", "ENTRYPOINT_METRICS_URLS", Job.RPS_CHECK, WITHOUT_READING),
}


async def timed(bench: Bench, job: Job) -> tuple[float, bool]:
    """One run: the seconds it took, and whether nothing was wrong with it."""
    before, started = bench.criticals(), perf_counter()
    report = await bench.attempt(job)
    return perf_counter() - started, report.state == "completed" and bench.criticals() == before


async def seconds_of_each(bench: Bench, jobs: tuple[Job, ...]) -> list[float]:
    """Run these jobs, which must complete; the seconds each took."""
    seconds = []
    for job in jobs:
        started = perf_counter()
        await bench.run(job)
        seconds.append(perf_counter() - started)
    return seconds


def asked(bench: Bench, service: Service) -> float:
    """How many calls really went out to the service."""
    return sum(bench.count("http_requests_total", peer=service, outcome=how) for how in ("no_answer", "unreachable"))


async def until_left_alone(bench: Bench, service: Service, job: Job) -> list[float]:
    """Run the job until the circuit is open; the seconds of the runs that opened it."""
    seconds: list[float] = []
    while True:
        run, good = await timed(bench, job)
        assert not good
        if bench.count("http_requests_total", peer=service, outcome="circuit_open"):
            return seconds
        seconds.append(run)


async def until_good(bench: Bench, job: Job) -> None:
    while True:
        if (await timed(bench, job))[1]:
            return
        await asyncio.sleep(0.05)


def shown(seconds: list[float]) -> str:
    return " ".join(f"{1000 * run:.0f}" for run in seconds) + " ms"


@pytest.mark.parametrize("case", DEAD)
async def test_a_dead_service_costs_no_timeout_once_its_circuit_is_open(make_bench: MakeBench, case: str) -> None:
    service, address, job, others = DEAD[case]
    hangs = case.endswith("hangs")
    async with Platform() as dying, asyncio.timeout(60):
        here = {address: dying.environment()[address]}
        bench = await make_bench(**CIRCUIT, **here, HTTP_CIRCUIT_REST_SECONDS=REST)
        await until_good(bench, job)
        alive = await seconds_of_each(bench, (job,) * 3)
        dying.fault(service, Fault.hang()) if hangs else await dying.stop()
        opening, meanwhile = await asyncio.gather(until_left_alone(bench, service, job), seconds_of_each(bench, others))
        before = asked(bench, service)
        left_alone = [(await timed(bench, job))[0] for _ in range(3)]
        assert asked(bench, service) == before
        beside = await seconds_of_each(bench, others)
        dying.clear_faults() if hangs else await dying.start()
        await until_good(bench, job)
        assert all([(await timed(bench, job))[1] for _ in range(3)])
    print(f"alive {shown(alive)}, opening {shown(opening)}, left alone {shown(left_alone)}")
    print(f"the other jobs meanwhile {shown(meanwhile)}, then {shown(beside)}")
    if hangs:
        assert min(opening) >= 2 * TIMEOUT  # both attempts
        assert max(meanwhile + beside) < min(opening)
    assert min(left_alone) < TIMEOUT  # milliseconds, more on a busy machine; one call that hangs takes all of it
