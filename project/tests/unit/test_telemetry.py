"""What is exposed before anything has happened."""

import re
import tomllib
from pathlib import Path

from prometheus_client import generate_latest

from limiter import VERSION
from limiter.clients import errors
from limiter.domain.decision import Decision, Reason
from limiter.domain.job import Job
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
    assert f'decision="cancel",reason="{Reason.DEADLINE_PASSED}"' in series("decisions_total")
    assert f'decision="withdraw",reason="{Reason.USED_AGAIN}"' in series("decisions_total")
    assert {f'outcome="confirmed",stage="{stage}"' for stage in ("warning", "withdrawn", "cancelled")} <= series(
        "events_total"
    )
    assert {f'peer="{name}"' for name in ("registry", "dispatcher", "booking", "entrypoint")} == series("circuit_open")
    assert "" in series("models_cancelled_total")


def test_every_reason_of_a_critical_error_in_the_code_is_there_with_0() -> None:
    text = "\n".join(Path(file).read_text() for file in SOURCE.rglob("*.py"))
    written = set(re.findall(r"critical\(\s*\"([a-z_]+)\"", text))
    assert len(written) > 10
    assert {f'reason="{reason}"' for reason in written} <= series("critical_errors_total")
    kinds = {
        error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, errors.Unavailable)
    }
    for kind in (*kinds, errors.Rejected, errors.ContractBroken):
        assert f'reason="{kind("", "booking").reason}"' in series("critical_errors_total")


def test_each_act_has_at_least_one_reason() -> None:
    assert {decision for decision, _ in labels.OF_ACTS} | {Decision.WITHDRAW, Decision.HOLD} == set(Decision)


def test_no_created_series_and_the_process_itself_is_shown() -> None:
    assert "_created" not in PAGE
    assert "process_resident_memory_bytes" in PAGE
    assert "process_start_time_seconds" in PAGE  # by which the alerts know a young process


def test_the_version_is_that_of_the_project() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION
