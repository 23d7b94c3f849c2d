"""The command line, `python -m limiter.ctl`, against a replica that listens: its output and its exit codes."""

import asyncio
import json
import logging
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import pytest
from click.testing import CliRunner

from dev.chaos.tcp_proxy import TcpProxy
from dev.servers.processes import free_port
from dev.servers.services import Services
from limiter import VERSION
from limiter.ctl import main
from limiter.db import surges, tables
from limiter.domain.job import Job
from limiter.domain.surge import SurgeKind
from tests.bench import Bench
from tests.conftest import ROOT, MakeBench

ANN = UUID(int=1)


async def ctl(*arguments: str, **variables: str) -> tuple[int, str, str]:
    """Run the command line in a thread, which costs no start of Python; returns exit code, output and errors."""
    environment: dict[str, str | None] = {"USER": None, "LOGNAME": None} | variables
    level = (library := logging.getLogger("aiormq")).level
    try:
        result = await asyncio.to_thread(CliRunner().invoke, main, arguments, env=environment)
    finally:
        library.setLevel(level)
    return result.exit_code, result.stdout, result.stderr


async def ctl_process(*arguments: str, **variables: str) -> tuple[int, str, str]:
    """Run it as an operator does."""
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
    code, out, err = await ctl_process("run", "saga_poll", **reaching(bench))
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


async def test_status_prints_what_stands_as_text(make_bench: MakeBench) -> None:
    bench = await make_bench()
    bench.platform.add_model("m")
    await bench.run(Job.RPS_CHECK)
    code, out, _ = await ctl("status", **reaching(bench))
    assert code == 0
    assert out.startswith(f"rps-limiter {VERSION}\nwho is next (0):\njobs:\n")
    assert "fleet: 1 model, 1 replica\n" in out


async def test_explain_exits_1_for_a_model_about_which_nothing_was_decided(make_bench: MakeBench) -> None:
    code, out, _ = await ctl("explain", "GigaChad", **reaching(await make_bench()))
    assert (code, json.loads(out)["outcome"]) == (1, "failed")
    assert "'GigaChad'" in json.loads(out)["detail"]


async def test_a_reply_shows_words_as_they_are_and_no_sign_that_moves_the_cursor(make_bench: MakeBench) -> None:
    name = "модель \x9b2J\x1b[2J\u202e\U000e0001\n"
    code, out, _ = await ctl("keep", name, "--for", "1h", **reaching(await make_bench()))
    assert (code, json.loads(out)["detail"].startswith(f"{name} is kept")) == (0, True)
    assert r"модель \u009b2J\u001b[2J\u202e\udb40\udc01\n is kept" in out


async def test_who_and_why_go_along_and_who_is_by_default_the_user_of_the_shell(make_bench: MakeBench) -> None:
    bench = await make_bench()
    for arguments in (("rps_check",), ("idle_warning", "--by", "zoe", "--reason", "a demo")):
        code, _, _ = await ctl("pause", *arguments, **reaching(bench), USER="ann")
        assert code == 0
    paused = {row.name: (row.paused_by, row.paused_reason) for row in await bench.rows(tables.job) if row.paused}
    assert paused == {"rps_check": ("ann", None), "idle_warning": ("zoe", "a demo")}


async def test_keep_until_a_moment_and_unkeep_of_that_user(make_bench: MakeBench) -> None:
    bench = await make_bench()
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=5)
    for command, option in (("keep", ("--until", until.isoformat())), ("unkeep", ())):
        code, out, _ = await ctl(command, "m", *option, "--user", str(ANN), **reaching(bench))
        assert (code, json.loads(out)["outcome"]) == (0, "completed")
        if command == "keep":
            (row,) = await bench.rows(tables.keep)
            assert (row.model_name, row.user_id, row.until, row.by) == ("m", ANN, until, None)
    code, out, _ = await ctl("unkeep", "m", "--user", str(ANN), **reaching(bench))
    assert (code, json.loads(out)["outcome"]) == (1, "failed")


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("45m", 2700), ("1.5h", 5400), ("3d", 259_200)])
async def test_keep_for_a_duration_counts_from_now(make_bench: MakeBench, text: str, seconds: int) -> None:
    bench = await make_bench()
    began = datetime.now(UTC)
    code, _, _ = await ctl("keep", "m", "--for", text, **reaching(bench))
    (row,) = await bench.rows(tables.keep)
    assert (code, row.user_id) == (0, None)
    assert began <= row.until - timedelta(seconds=seconds) <= datetime.now(UTC)


async def test_a_keep_that_the_service_rejects_exits_1(make_bench: MakeBench) -> None:
    code, out, _ = await ctl("keep", "m", "--for", "8d", **reaching(await make_bench()))
    assert (code, json.loads(out)["outcome"]) == (1, "rejected")
    assert "KEEP_LONGEST_SECONDS" in json.loads(out)["detail"]


WRONG = {
    "keep without an end": (("keep", "m"), "give either --until or --for"),
    "keep with two ends": (("keep", "m", "--until", "2026-03-02T10:00Z", "--for", "2h"), "give either"),
    "no duration": (("keep", "m", "--for", "2 weeks"), "'2 weeks' is neither seconds nor such as 90m, 2h, 3d"),
    "user no id": (("unkeep", "m", "--user", "ann"), "'ann' is not a valid UUID"),
    "no time to wait": (("--timeout", "0", "status"), "0.0 is not in the range x>0"),
    "a time that is no number": (("--timeout", "nan", "status"), "'nan' is not a number above 0"),
    "not RabbitMQ": (("--url", "http://x", "status"), "the URL of RabbitMQ: must start with amqp:// or amqps://"),
    "no port": (("--url", "amqp://u:s3/cret@h/", "status"), "/ ? # in a password are written as %2F %3F %23"),
    "no port, by another sign": (("--url", "amqp://u:s3#cret@h/", "status"), "# in a password are written as"),
    "no model": (("explain", ""), "explain.model: String should have at least 1 character"),
    "a reason too long": (("unkeep", "m", "--reason", "a" * 501), "unkeep.reason: String should have at most 500"),
    "no moment": (("keep", "m", "--until", "tomorrow"), "'tomorrow' is neither an ISO date and time nor Unix seconds"),
    "a moment that is over": (
        ("keep", "m", "--until", "2026-03-02T10:00Z"),
        "2026-03-02T10:00Z is not in the future: it",
    ),
    "no time at all": (("keep", "m", "--for", "0"), "is not in the future: it is 20"),
    "no zone": (("keep", "m", "--until", "2026-03-02T10:00"), "'2026-03-02T10:00:00' must tell its zone"),
    "no outcome": (("settle", "m"), "Choose from:"),
    "another outcome": (("settle", "m", "stuck"), "'stuck' is not one of 'completed', 'failed'"),
    "withdraw for nobody": (("withdraw", "m"), "USER"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_a_command_that_is_not_understood_exits_2_and_says_why(case: str) -> None:
    arguments, why = WRONG[case]
    code, out, err = await ctl(*arguments, RABBITMQ_URL="amqp://nowhere")
    assert (code, out) == (2, "")
    assert why in err
    assert "cret" not in err


async def test_commands_that_find_nothing_exit_1_and_say_so(make_bench: MakeBench) -> None:
    bench = await make_bench()
    for arguments in (("allow-surge",), ("settle", "m", "failed"), ("withdraw", "m", str(ANN))):
        code, out, _ = await ctl(*arguments, **reaching(bench))
        assert (code, json.loads(out)["outcome"]) == (1, "failed")
        assert json.loads(out)["command"] == arguments[0].replace("-", "_")


async def test_allow_surge_exits_0_and_names_what_is_allowed(make_bench: MakeBench) -> None:
    bench = await make_bench()
    async with bench.engine.begin() as connection:
        await surges.begin(connection, SurgeKind.WARNING, datetime.now(UTC))
    code, out, _ = await ctl("allow-surge", "--by", "zoe", **reaching(bench))
    assert (code, json.loads(out)["detail"]) == (0, "allowed: warning")


async def test_an_unknown_job_is_not_understood_and_the_known_ones_are_named() -> None:
    for command in ("run", "pause", "resume"):
        code, out, err = await ctl(command, "make_coffee", RABBITMQ_URL="amqp://nowhere")
        assert (code, out) == (2, "")
        assert "make_coffee" in err
        assert all(job in err for job in Job)


async def test_a_missing_url_is_named() -> None:
    code, out, err = await ctl_process("run", "saga_poll")
    assert (code, out) == (2, "")
    assert "RABBITMQ_URL" in err


async def test_the_url_may_stand_in_a_file(make_bench: MakeBench, services: Services, tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(services.rabbitmq_url + "\n")
    bench = await make_bench()
    reaching_by_file = reaching(bench) | {"RABBITMQ_URL": "", "RABBITMQ_URL_FILE": str(file)}
    code, out, _ = await ctl("status", **reaching_by_file)
    assert (code, out.splitlines()[0]) == (0, f"rps-limiter {VERSION}")
    code, out, err = await ctl("status", RABBITMQ_URL="", RABBITMQ_URL_FILE=str(tmp_path / "missing"))
    assert (code, out) == (2, "")
    assert "No such file or directory" in err


async def test_without_a_queue_it_says_that_no_replica_ever_started(services: Services) -> None:
    queue = f"nobody.{uuid4().hex[:8]}"
    code, out, err = await ctl("run", "saga_poll", RABBITMQ_URL=services.rabbitmq_url, CONTROL_QUEUE=queue)
    assert (code, out) == (1, "")
    assert f"there is no queue '{queue}': no replica has ever started here" in err


async def test_a_queue_that_is_full_is_not_called_missing(make_bench: MakeBench) -> None:
    bench = await make_bench()
    limits: dict[str, Any] = {"x-max-length": 1, "x-overflow": "reject-publish"}
    full = await bench.channel.declare_queue(f"full.{uuid4().hex[:8]}", arguments=limits, auto_delete=True)
    await bench.channel.default_exchange.publish(aio_pika.Message(b"first"), full.name)
    url = reaching(bench)["RABBITMQ_URL"]
    code, out, err = await ctl("--queue", full.name, "status", RABBITMQ_URL=url)
    assert (code, out) == (1, "")
    assert f"RabbitMQ refused the message: '{full.name}' is full" in err


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


async def test_a_rabbitmq_that_freezes_before_the_reply_holds_nobody_up(
    make_bench: MakeBench, services: Services
) -> None:
    bench = await make_bench()
    silent = await bench.channel.declare_queue(f"silent.{uuid4().hex[:8]}", auto_delete=True)
    url = reaching(bench)["RABBITMQ_URL"]
    asked = asyncio.create_task(ctl("--timeout", "2", "--queue", silent.name, "run", "saga_poll", RABBITMQ_URL=url))
    async with asyncio.timeout(10), silent.iterator(no_ack=True) as arrived:
        await anext(arrived)
    services.rabbitmq.freeze()
    try:
        async with asyncio.timeout(10):
            code, out, err = await asked
    finally:
        services.rabbitmq.thaw()
    assert (code, out) == (1, "")
    assert f"no replica answered on '{silent.name}' within 2 s; the message may still wait" in err


async def test_a_connection_that_is_lost_before_the_reply_is_told_at_once(
    make_bench: MakeBench, services: Services
) -> None:
    bench = await make_bench()
    silent = await bench.channel.declare_queue(f"silent.{uuid4().hex[:8]}", auto_delete=True)
    port = services.rabbitmq.port
    async with TcpProxy(port) as proxy:
        url = reaching(bench)["RABBITMQ_URL"].replace(str(port), str(proxy.port))
        asked = asyncio.create_task(ctl("--timeout", "9", "--queue", silent.name, "run", "saga_poll", RABBITMQ_URL=url))
        async with asyncio.timeout(10), silent.iterator(no_ack=True) as arrived:
            await anext(arrived)
    code, out, err = await asked
    assert (code, out) == (1, "")
    assert err.startswith("Error: RabbitMQ: ")


async def test_a_rabbitmq_that_is_silent_is_named_and_no_message_waits() -> None:
    async def only_listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(only_listen, "127.0.0.1", 0) as silent:
        url = f"amqp://a:b@127.0.0.1:{silent.sockets[0].getsockname()[1]}/"
        code, out, err = await ctl("--timeout", "0.3", "pause", "idle_enforce", RABBITMQ_URL=url)
    assert (code, out) == (1, "")
    assert "RabbitMQ: no answer within 0.3 s; nothing was sent" in err


async def test_a_rabbitmq_that_cannot_be_reached_is_an_error_without_a_traceback() -> None:
    code, out, err = await ctl_process("run", "saga_poll", RABBITMQ_URL=f"amqp://guest:guest@127.0.0.1:{free_port()}/")
    assert (code, out) == (1, "")
    assert "RabbitMQ: " in err
    assert "Traceback" not in err
    assert "guest:guest" not in err
