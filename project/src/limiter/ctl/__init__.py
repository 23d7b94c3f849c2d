"""The command line that sends control messages: `python -m limiter.ctl run rps_check`.

It needs RABBITMQ_URL, and CONTROL_QUEUE unless that is the default. It prints the one reply; the exit code is 0 if the
command was carried out, 1 if it was not or no reply came, 2 if it was not understood.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import aio_pika
import click

from limiter.config.base import from_file
from limiter.config.settings import Settings
from limiter.ctl.asking import Duration, ask
from limiter.ctl.examining import examine
from limiter.domain.job import Job

DONE = ("completed", "paused", "resumed")
JOB = click.Choice([str(job) for job in Job])
Function = TypeVar("Function", bound=Callable[..., None])


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--url",
    envvar="RABBITMQ_URL",
    show_envvar=True,
    metavar="URL",
    help="RabbitMQ; or RABBITMQ_URL_FILE, a file with the URL.",
)
@click.option(
    "--queue",
    envvar="CONTROL_QUEUE",
    default=str(Settings.model_fields["control_queue"].default),
    show_default=True,
    show_envvar=True,
    help="Where replicas listen.",
)
@click.option("--timeout", default=60.0, show_default=True, help="Seconds to wait for the reply.")
@click.pass_context
def main(context: click.Context, url: str | None, queue: str, timeout: float) -> None:
    """Ask the running replicas of rps-limiter."""
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # says once more what our own error says
    context.obj = {"url": url, "queue": queue, "timeout": timeout}


@main.command()
def doctor() -> None:
    """Check, from the environment of a replica, that all it needs is there; it changes nothing, and asks no replica."""
    click.get_current_context().exit(examine())


def signed(command: Function) -> Function:
    """Options of a command that changes something: who sends it, and why."""
    command = click.option("--reason", metavar="TEXT", help="Why; stored and logged.")(command)
    return click.option("--by", envvar="USER", metavar="NAME", help="Who asks; by default $USER.")(command)


@main.command()
@click.argument("job", type=JOB)
@signed
@click.pass_obj
def run(options: dict[str, Any], /, job: str, **signature: str | None) -> None:
    """Run a job now, due or not, paused or not."""
    _send(options, {"command": "run_job", "job": job} | signature)


@main.command()
@click.argument("job", type=JOB)
@signed
@click.pass_obj
def pause(options: dict[str, Any], /, job: str, **signature: str | None) -> None:
    """Let no replica run a job until it is resumed; a run in progress takes no further step."""
    _send(options, {"command": "pause_job", "job": job} | signature)


@main.command()
@click.argument("job", type=JOB)
@signed
@click.pass_obj
def resume(options: dict[str, Any], /, job: str, **signature: str | None) -> None:
    """Let a paused job run again, at once."""
    _send(options, {"command": "resume_job", "job": job} | signature)


@main.command()
@click.pass_obj
def status(options: dict[str, Any], /) -> None:
    """Tell what stands now: who is next, jobs, commands, readings."""
    _send(options, {"command": "status"})


@main.command()
@click.argument("model")
@click.pass_obj
def explain(options: dict[str, Any], /, model: str) -> None:
    """Tell what stands for a model, by its name, and why."""
    _send(options, {"command": "explain", "model": model})


@main.command()
@click.argument("model")
@click.option("--until", metavar="ISO", help="Until then, with its zone: 2026-03-02T18:00Z.")
@click.option("--for", "lasting", type=Duration(), help="For so long from now: seconds, or such as 90m, 2h, 3d.")
@click.option("--user", type=click.UUID, help="Only this user's bookings; by default everybody's.")
@signed
@click.pass_obj
def keep(
    options: dict[str, Any],
    /,
    model: str,
    until: str | None,
    lasting: timedelta | None,
    user: UUID | None,
    **signature: str | None,
) -> None:
    """Warn and cancel nobody for a model until then; give --until or --for."""
    if (until is None) == (lasting is None):
        raise click.UsageError("give either --until or --for")
    end = until if lasting is None else (datetime.now(UTC) + lasting).isoformat()
    _send(options, {"command": "keep", "model": model, "until": end, "user_id": user} | signature)


@main.command()
@click.argument("model")
@click.option("--user", type=click.UUID, help="End this user's keep; by default the one for everybody.")
@signed
@click.pass_obj
def unkeep(options: dict[str, Any], /, model: str, user: UUID | None, **signature: str | None) -> None:
    """End a keep; idle time counts anew from now on."""
    _send(options, {"command": "unkeep", "model": model, "user_id": user} | signature)


@main.command()
@signed
@click.pass_obj
def allow_surge(options: dict[str, Any], /, **signature: str | None) -> None:
    """Say that so many unused models at once are no wrong reading: their users may be warned or cancelled."""
    _send(options, {"command": "allow_surge"} | signature)


@main.command()
@click.argument("model")
@click.argument("outcome", type=click.Choice(["completed", "failed"]))
@signed
@click.pass_obj
def settle(options: dict[str, Any], /, model: str, outcome: str, **signature: str | None) -> None:
    """End a model's unfinished command by hand, as you found that it went."""
    _send(options, {"command": "settle", "model": model, "outcome": outcome} | signature)


@main.command()
@click.argument("model")
@click.argument("user", type=click.UUID)
@signed
@click.pass_obj
def withdraw(options: dict[str, Any], /, model: str, user: UUID, **signature: str | None) -> None:
    """Close a user's open idle spell: the warning is withdrawn, and nothing more is cancelled."""
    _send(options, {"command": "withdraw", "model": model, "user_id": user} | signature)


def _send(options: dict[str, Any], fields: dict[str, Any]) -> None:
    """Send the message without the fields that are not given, print the reply, end with its exit code."""
    request = {name: str(value) for name, value in fields.items() if value is not None}
    queue, timeout = options["queue"], options["timeout"]
    url = options["url"] or _url_in_file()
    try:
        reply = asyncio.run(ask(url, queue, request, timeout))
    except TimeoutError:
        raise click.ClickException(
            f"no replica answered on {queue!r} within {timeout:g} s; the message may still wait"
        ) from None
    except aio_pika.exceptions.DeliveryError:
        raise click.ClickException(f"there is no queue {queue!r}: no replica has ever started here") from None
    except (OSError, ValueError, aio_pika.exceptions.AMQPError) as error:
        raise click.ClickException(f"RabbitMQ: {error}") from None
    is_text = request["command"] in ("explain", "status") and reply.get("outcome") == "completed"
    click.echo(reply["detail"] if is_text else json.dumps(reply, indent=2, ensure_ascii=False))
    click.get_current_context().exit(0 if reply.get("outcome") in DONE else 1)


def _url_in_file() -> str:
    try:
        url = from_file("RABBITMQ_URL")
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if url is None:
        raise click.UsageError("where is RabbitMQ? Give --url, or set RABBITMQ_URL or RABBITMQ_URL_FILE")
    return url
