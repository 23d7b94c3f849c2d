"""`make trigger`, against a replica that listens."""

import asyncio
import json
import sys

from tests.bench import Bench
from tests.conftest import ROOT, MakeBench


async def trigger(bench: Bench | None, *arguments: str) -> tuple[int, str, str]:
    """Run the trigger as make does; returns exit code, output and errors."""
    variables = {"PYTHONPATH": "project/src:project", "TRIGGER_TIMEOUT_SECONDS": "20"}
    if bench is not None:
        url = bench.settings.rabbitmq_url.get_secret_value()
        variables |= {"RABBITMQ_URL": url, "CONTROL_QUEUE": bench.settings.control_queue}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dev.trigger", *arguments),
        cwd=ROOT,
        env=variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_prints_the_reply_and_exits_0_when_the_job_completed(make_bench: MakeBench) -> None:
    code, out, _ = await trigger(await make_bench(), "run_job", "saga_poll")
    assert (code, json.loads(out)["outcome"]) == (0, "completed")


async def test_exits_1_when_the_job_failed_and_the_reply_says_why(make_bench: MakeBench) -> None:
    code, out, _ = await trigger(await make_bench(MODEL_REGISTRY_URL="http://127.0.0.1:9"), "run_job", "idle_warning")
    assert (code, json.loads(out)["outcome"]) == (1, "failed")
    assert "registry" in json.loads(out)["detail"]


async def test_names_the_jobs_there_are_and_the_variable_that_is_missing() -> None:
    code, _, err = await trigger(None, "run_job", "")
    assert (code, "idle_enforce" in err) == (2, True)
    code, _, err = await trigger(None, "run_job", "saga_poll")
    assert (code, "RABBITMQ_URL is not set" in err) == (2, True)
