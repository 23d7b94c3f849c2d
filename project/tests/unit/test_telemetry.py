"""What is exposed before anything has happened."""

import re
import tomllib
from functools import partial
from math import isnan
from pathlib import Path

import pytest
from loguru import logger
from prometheus_client import generate_latest

from limiter import VERSION
from limiter.clients import errors
from limiter.domain.decision import Decision, Reason
from limiter.domain.fleet_numbers import FleetNumbers, ModelNumbers
from limiter.domain.job import Job
from limiter.domain.usage import ScrapeProblem
from limiter.runner.claim import RunState
from limiter.telemetry import Telemetry, labels
from tests.conftest import ROOT

PAGE = generate_latest(Telemetry().registry).decode()
SOURCE = ROOT / "project/src/limiter"


def series(name: str) -> set[str]:
    return set(re.findall(rf"^rps_limiter_{name}(?:\{{(.*)\}})? 0\.0$", PAGE, re.MULTILINE))


def test_every_label_set_of_a_closed_list_is_there_with_0() -> None:
    for job in Job:
        assert f'job="{job}"' in series("job_missed_total")
        for state in set(RunState) - {RunState.RUNNING}:
            assert f'job="{job}",outcome="{state}"' in series("job_runs_total")
    for reason in Reason:
        assert f'decision="hold",reason="{reason}"' in series("decisions_total")
    for reason in (Reason.DEADLINE_PASSED, Reason.REFUSED, Reason.USED_AGAIN, Reason.KEPT, Reason.BY_OPERATOR):
        assert f'decision="cancel",reason="{reason}"' in series("decisions_total")
    assert f'decision="withdraw",reason="{Reason.USED_AGAIN}"' in series("decisions_total")
    assert {f'outcome="confirmed",stage="{stage}"' for stage in ("warning", "withdrawn", "cancelled")} <= series(
        "events_total"
    )
    assert {f'peer="{name}"' for name in ("registry", "dispatcher", "booking", "entrypoint")} == series("circuit_open")
    assert "" in series("models_cancelled_total")


def test_every_reason_of_a_critical_error_in_the_code_is_there_with_0() -> None:
    text = "\n".join(Path(file).read_text() for file in SOURCE.rglob("*.py"))
    written = set(re.findall(r"(?:critical|goes_on)\(\s*\"([a-z_]+)\"", text))
    assert len(written) > 10
    assert {f'reason="{reason}"' for reason in written} <= series("critical_errors_total")
    kinds = {
        error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, errors.Unavailable)
    }
    for kind in (*kinds, errors.Rejected, errors.ContractBroken):
        assert f'reason="{kind("", "booking").reason}"' in series("critical_errors_total")


def test_what_goes_on_is_told_once_a_minute_and_at_once_if_it_changes_or_comes_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[str] = []
    handle = logger.add(lambda message: lines.append(message.record["message"]))
    telemetry = Telemetry()
    for second in range(120):
        monkeypatch.setattr("limiter.telemetry.perf_counter", partial(float, second))
        telemetry.goes_on("rabbitmq_unavailable", "refused")
    telemetry.goes_on("rabbitmq_unavailable", "no such host")
    telemetry.is_over("rabbitmq_unavailable")
    telemetry.goes_on("rabbitmq_unavailable", "no such host")
    logger.remove(handle)
    assert lines == [f"rabbitmq_unavailable: {what}" for what in ("refused", "refused", "no such host", "no such host")]
    assert 'critical_errors_total{reason="rabbitmq_unavailable"} 4.0' in generate_latest(telemetry.registry).decode()


@pytest.mark.parametrize("problem", ScrapeProblem)
def test_whatever_is_wrong_with_a_reading_is_an_alarm_but_a_fleet_that_falls_silent(problem: ScrapeProblem) -> None:
    telemetry = Telemetry()
    telemetry.reading_problems([(problem, "as it was read")])
    alarms = telemetry.registry.get_sample_value("rps_limiter_critical_errors_total", {"reason": problem})
    assert alarms == (0 if problem is ScrapeProblem.FLEET_SILENT else 1)


def test_while_postgres_cannot_be_read_no_number_about_the_fleet_is_shown() -> None:
    telemetry = Telemetry()
    telemetry.watch_targets(["page"])
    found = FleetNumbers(
        models=1,
        replicas=2,
        without_enough=3,
        in_progress={"scale_up": 1},
        commands={"stuck": 1},
        spells={"warned": 1},
        next_deadline=5.0,
        pending=1,
        oldest_event=1.0,
        paused={"rps_check": True},
        reading_ages={"page": 1.0},
        flapping=1,
        by_model={"m": ModelNumbers(1.0, 1, 1.0)},
    )

    def numbers() -> dict[str, float]:
        page = generate_latest(telemetry.registry).decode()
        lines = [line for line in page.splitlines() if line.startswith("rps_limiter_")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    before = numbers()
    assert isnan(before["rps_limiter_fleet_read_timestamp_seconds"])
    telemetry.fleet.show(found, at=9.0)
    shown = {name for name, value in numbers().items() if before.get(name) != value}
    assert len({name.partition("{")[0] for name in shown}) == 16
    telemetry.fleet.hide()
    left = {name: value for name, value in numbers().items() if name in shown and not isnan(value)}
    assert left == {"rps_limiter_fleet_read_timestamp_seconds": 9.0}


def test_each_act_has_at_least_one_reason() -> None:
    assert {decision for decision, _ in labels.OF_ACTS} | {Decision.WITHDRAW, Decision.HOLD} == set(Decision)


def test_no_created_series_and_the_process_itself_is_shown() -> None:
    assert "_created" not in PAGE
    assert "process_resident_memory_bytes" in PAGE
    assert "process_start_time_seconds" in PAGE  # by which the alerts know a young process


def test_the_version_is_that_of_the_project() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION
