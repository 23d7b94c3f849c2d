"""The command line, `python -m limiter.ctl`, against a replica that listens: its output and its exit codes."""

import asyncio
import json
import sys
from uuid import uuid4

from dev.servers.processes import free_port
from dev.servers.services import Services
from limiter.db import tables
from limiter.domain.job import Job
from tests.bench import Bench
from tests.conftest import ROOT, MakeBench


async def ctl(*arguments: str, **variables: str) -> tuple[int, str, str]:
    """Run the command line as an operator does; returns exit code, output and errors."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "limiter.ctl", *arguments),
        cwd=ROOT,
        env={"PYTHONPATH": "project/src"} | variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def reaching(bench: Bench) -> dict[str, str]:
    """The environment that leads to this replica."""
    return {
        "RABBITMQ_URL": bench.settings.rabbitmq_url.get_secret_value(),
        "CONTROL_QUEUE": bench.settings.control_queue,
    }


async def test_run_prints_the_reply_and_exits_0_when_the_job_completed(make_bench: MakeBench) -> None:
    bench = await make_bench()
    code, out, err = await ctl("run", "saga_poll", **reaching(bench))
    reply = json.loads(out)
    assert (code, reply["outcome"], err) == (0, "completed", "")
    assert (reply["command"], reply["job"]) == ("run_job", "saga_poll")
    assert [(run.job, run.cause) for run in await bench.rows(tables.job_run)] == [("saga_poll", "manual")]


async def test_run_exits_1_when_the_job_failed_and_the_reply_says_why(make_bench: MakeBench) -> None:
    bench = await make_bench(MODEL_REGISTRY_URL="http://127.0.0.1:9")
    code, out, _ = await ctl("run", "idle_warning", **reaching(bench))
    assert (code, json.loads(out)["outcome"]) == (1, "failed")
    assert "registry" in json.loads(out)["detail"]


async def test_pause_keeps_the_job_from_running_until_resume(make_bench: MakeBench) -> None:
    bench = await make_bench()
    code, out, _ = await ctl("pause", "rps_check", **reaching(bench))
    assert (code, json.loads(out)["outcome"]) == (0, "paused")
    assert [row.name for row in await bench.rows(tables.job) if row.paused] == ["rps_check"]
    await bench.scheduler.tick(Job.RPS_CHECK)
    assert await bench.rows(tables.job_run) == []
    code, out, _ = await ctl("resume", "rps_check", **reaching(bench))
    assert (code, json.loads(out)["outcome"]) == (0, "resumed")
    await bench.scheduler.tick(Job.RPS_CHECK)
    assert [run.cause for run in await bench.rows(tables.job_run)] == ["schedule"]


async def test_explain_prints_the_decisions_as_text_and_not_as_json(make_bench: MakeBench) -> None:
    bench = await make_bench()
    model = bench.platform.add_model("Sber/GigaChat-Max-V2")
    bench.platform.call(model.name)
    await bench.run(Job.RPS_CHECK)
    code, out, _ = await ctl("explain", model.name, **reaching(bench))
    assert code == 0
    assert f"model {model.id}: hold (within_target): 0.0 RPS per replica on 1" in out
    assert "{" not in out


async def test_explain_exits_1_for_a_model_about_which_nothing_was_decided(make_bench: MakeBench) -> None:
    code, out, _ = await ctl("explain", "GigaChad", **reaching(await make_bench()))
    assert (code, json.loads(out)["outcome"]) == (1, "failed")
    assert "'GigaChad'" in json.loads(out)["detail"]


async def test_an_unknown_job_is_not_understood_and_the_known_ones_are_named() -> None:
    for command in ("run", "pause", "resume"):
        code, out, err = await ctl(command, "make_coffee", RABBITMQ_URL="amqp://nowhere")
        assert (code, out) == (2, "")
        assert "make_coffee" in err
        assert all(job in err for job in Job)


async def test_a_missing_url_is_named() -> None:
    code, out, err = await ctl("run", "saga_poll")
    assert (code, out) == (2, "")
    assert "RABBITMQ_URL" in err


async def test_without_a_queue_it_says_that_no_replica_ever_started(services: Services) -> None:
    queue = f"nobody.{uuid4().hex[:8]}"
    code, out, err = await ctl("run", "saga_poll", RABBITMQ_URL=services.rabbitmq_url, CONTROL_QUEUE=queue)
    assert (code, out) == (1, "")
    assert f"there is no queue '{queue}': no replica has ever started here" in err


async def test_no_reply_within_the_timeout_is_an_error_and_the_message_waits(make_bench: MakeBench) -> None:
    bench = await make_bench()
    silent = await bench.channel.declare_queue(f"silent.{uuid4().hex[:8]}", auto_delete=True)
    code, out, err = await ctl(
        "--timeout", "0.3", "--queue", silent.name, "run", "saga_poll", RABBITMQ_URL=reaching(bench)["RABBITMQ_URL"]
    )
    assert (code, out) == (1, "")
    assert f"no replica answered on '{silent.name}' within 0.3 s; the message may still wait" in err
    waiting = await silent.get()
    await waiting.ack()
    assert json.loads(waiting.body) | {"request_id": None} == {
        "command": "run_job",
        "job": "saga_poll",
        "request_id": None,
    }


async def test_a_rabbitmq_that_cannot_be_reached_is_an_error_without_a_traceback() -> None:
    code, out, err = await ctl("run", "saga_poll", RABBITMQ_URL=f"amqp://guest:guest@127.0.0.1:{free_port()}/")
    assert (code, out) == (1, "")
    assert "RabbitMQ: " in err
    assert "Traceback" not in err
    assert "guest:guest" not in err
