"""The command line that sends control messages: `python -m limiter.ctl run rps_check`.

It needs RABBITMQ_URL, and CONTROL_QUEUE unless that is the default. It prints the one reply; the exit code is 0 if the
command was carried out, 1 if it was not or no reply came, 2 if it was not understood.
"""

import logging
from datetime import timedelta
from typing import Any
from uuid import UUID

import click

from limiter.config.settings import Settings
from limiter.ctl.options import JOB, AboveZero, Duration, end, signed
from limiter.ctl.sending import send


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
@click.option("--timeout", type=AboveZero(), default=60.0, show_default=True, help="Seconds to wait for the reply.")
@click.pass_context
def main(context: click.Context, url: str | None, queue: str, timeout: float) -> None:
    """Ask the running replicas of rps-limiter."""
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # says once more what our own error says
    context.obj = {"url": url, "queue": queue, "timeout": timeout}


@main.command()
def doctor() -> None:
    """Check, from the environment of a replica, that all it needs is there; it changes nothing, and asks no replica."""
    from limiter.ctl.examining import examine  # imports all of the service, for which no other command has to wait

    click.get_current_context().exit(examine())


@main.command()
@click.argument("job", type=JOB)
@signed
@click.pass_obj
def run(options: dict[str, Any], /, job: str, **signature: str | None) -> None:
    """Run a job now, due or not, paused or not."""
    send(options, {"command": "run_job", "job": job} | signature)


@main.command()
@click.argument("job", type=JOB)
@signed
@click.pass_obj
def pause(options: dict[str, Any], /, job: str, **signature: str | None) -> None:
    """Let no replica run a job until it is resumed; a run in progress takes no further step."""
    send(options, {"command": "pause_job", "job": job} | signature)


@main.command()
@click.argument("job", type=JOB)
@signed
@click.pass_obj
def resume(options: dict[str, Any], /, job: str, **signature: str | None) -> None:
    """Let a paused job run again, at once."""
    send(options, {"command": "resume_job", "job": job} | signature)


@main.command()
@click.pass_obj
def status(options: dict[str, Any], /) -> None:
    """Tell what stands now: who is next, jobs, commands, readings."""
    send(options, {"command": "status"})


@main.command()
@click.argument("model")
@click.pass_obj
def explain(options: dict[str, Any], /, model: str) -> None:
    """Tell what stands for a model, by its name, and why."""
    send(options, {"command": "explain", "model": model})


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
    send(options, {"command": "keep", "model": model, "until": end(until, lasting), "user_id": user} | signature)


@main.command()
@click.argument("model")
@click.option("--user", type=click.UUID, help="End this user's keep; by default the one for everybody.")
@signed
@click.pass_obj
def unkeep(options: dict[str, Any], /, model: str, user: UUID | None, **signature: str | None) -> None:
    """End a keep; idle time counts anew from now on."""
    send(options, {"command": "unkeep", "model": model, "user_id": user} | signature)


@main.command()
@signed
@click.pass_obj
def allow_surge(options: dict[str, Any], /, **signature: str | None) -> None:
    """Say that so many unused models at once are no wrong reading: their users may be warned or cancelled."""
    send(options, {"command": "allow_surge"} | signature)


@main.command()
@click.argument("model")
@click.argument("outcome", type=click.Choice(["completed", "failed"]))
@signed
@click.pass_obj
def settle(options: dict[str, Any], /, model: str, outcome: str, **signature: str | None) -> None:
    """End a model's unfinished command by hand, as you found that it went."""
    send(options, {"command": "settle", "model": model, "outcome": outcome} | signature)


@main.command()
@click.argument("model")
@click.argument("user", type=click.UUID)
@signed
@click.pass_obj
def withdraw(options: dict[str, Any], /, model: str, user: UUID, **signature: str | None) -> None:
    """Close a user's open idle spell: the warning is withdrawn, and nothing more is cancelled."""
    send(options, {"command": "withdraw", "model": model, "user_id": user} | signature)
