"""The command line that sends control messages: `python -m limiter.ctl run rps_check`.

It needs RABBITMQ_URL, and CONTROL_QUEUE unless that is the default. It prints the one reply; the exit code is 0 if the
command was carried out, 1 if it was not or no reply came, 2 if it was not understood.
"""

import asyncio
import json
import logging
from typing import Any
from uuid import uuid4

import aio_pika
import click

from limiter.clients.rabbitmq import connect
from limiter.config.settings import Settings
from limiter.domain.job import Job

DONE = ("completed", "paused", "resumed")
JOB = click.Choice([str(job) for job in Job])


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--url", envvar="RABBITMQ_URL", show_envvar=True, required=True, metavar="URL", help="RabbitMQ.")
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
def main(context: click.Context, url: str, queue: str, timeout: float) -> None:
    """Ask the running replicas of rps-limiter."""
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # says once more what our own error says
    context.obj = {"url": url, "queue": queue, "timeout": timeout}


@main.command()
@click.argument("job", type=JOB)
@click.pass_obj
def run(options: dict[str, Any], job: str) -> None:
    """Run a job now, due or not, paused or not."""
    _send(options, {"command": "run_job", "job": job})


@main.command()
@click.argument("job", type=JOB)
@click.pass_obj
def pause(options: dict[str, Any], job: str) -> None:
    """Let no replica run a job until it is resumed."""
    _send(options, {"command": "pause_job", "job": job})


@main.command()
@click.argument("job", type=JOB)
@click.pass_obj
def resume(options: dict[str, Any], job: str) -> None:
    """Let a paused job run again, at once."""
    _send(options, {"command": "resume_job", "job": job})


@main.command()
@click.argument("model")
@click.pass_obj
def explain(options: dict[str, Any], model: str) -> None:
    """Tell what stands for a model, by its name, and why."""
    _send(options, {"command": "explain", "model": model})


def _send(options: dict[str, Any], request: dict[str, str]) -> None:
    """Send the message, print the reply, end with its exit code."""
    queue, timeout = options["queue"], options["timeout"]
    try:
        reply = asyncio.run(ask(options["url"], queue, request, timeout))
    except TimeoutError:
        raise click.ClickException(
            f"no replica answered on {queue!r} within {timeout:g} s; the message may still wait"
        ) from None
    except aio_pika.exceptions.DeliveryError:
        raise click.ClickException(f"there is no queue {queue!r}: no replica has ever started here") from None
    except (OSError, ValueError, aio_pika.exceptions.AMQPError) as error:
        raise click.ClickException(f"RabbitMQ: {error}") from None
    is_explanation = request["command"] == "explain" and reply.get("outcome") == "completed"
    click.echo(reply["detail"] if is_explanation else json.dumps(reply, indent=2, ensure_ascii=False))
    click.get_current_context().exit(0 if reply.get("outcome") in DONE else 1)


async def ask(url: str, queue: str, request: dict[str, str], timeout: float) -> dict[str, Any]:
    """Send a control message and return its reply.

    Raises TimeoutError after `timeout` seconds without a reply, aio_pika's DeliveryError if there is no such queue.
    """
    identity = uuid4().hex
    async with asyncio.timeout(timeout), await connect(url) as connection:
        channel = await connection.channel(on_return_raises=True)
        answers = await channel.declare_queue(exclusive=True)
        raw = json.dumps(request | {"request_id": identity}).encode()
        message = aio_pika.Message(raw, reply_to=answers.name, correlation_id=identity)
        await channel.default_exchange.publish(message, queue)
        async with answers.iterator() as arrived:
            async for answer in arrived:
                await answer.ack()
                return dict(json.loads(answer.body))
    raise ConnectionError("the connection was lost before the reply came")


if __name__ == "__main__":
    main()
