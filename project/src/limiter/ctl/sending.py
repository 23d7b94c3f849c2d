"""Sends what a command line asks for, and prints the reply."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import aio_pika
import click
from pydantic import ValidationError

from limiter.api.messages import CONTROL_MESSAGE, KeepRequest
from limiter.clients.decoding import describe_validation
from limiter.config.base import from_file
from limiter.config.broker import check_amqp
from limiter.ctl.asking import ask

DONE = ("completed", "paused", "resumed")


def send(options: dict[str, Any], fields: dict[str, Any]) -> None:
    """Send the message without the fields that are not given, print the reply, end with its exit code."""
    request = _understood({name: str(value) for name, value in fields.items() if value is not None})
    queue, timeout = options["queue"], options["timeout"]
    url = _checked(options["url"] or _url_in_file())
    try:
        reply = asyncio.run(ask(url, queue, request, timeout))
    except TimeoutError:
        raise click.ClickException(
            f"no replica answered on {queue!r} within {timeout:g} s; the message may still wait"
        ) from None
    except aio_pika.exceptions.PublishError:
        raise click.ClickException(f"there is no queue {queue!r}: no replica has ever started here") from None
    except aio_pika.exceptions.DeliveryError:
        raise click.ClickException(f"RabbitMQ refused the message: {queue!r} is full") from None
    except (OSError, ValueError, aio_pika.exceptions.AMQPError) as error:
        raise click.ClickException(f"RabbitMQ: {error}") from None
    is_text = request["command"] in ("explain", "status") and reply.get("outcome") == "completed"
    click.echo(reply["detail"] if is_text else _shown(reply))
    click.get_current_context().exit(0 if reply.get("outcome") in DONE else 1)


def _understood(request: dict[str, str]) -> dict[str, str]:
    """What replicas reject would lie among the dead letters, and raise an alarm: so it is not sent."""
    try:
        understood = CONTROL_MESSAGE.validate_json(json.dumps(request))
    except ValidationError as error:
        raise click.UsageError(describe_validation(error)) from None
    if isinstance(understood, KeepRequest) and understood.until <= (now := datetime.now(UTC)):
        raise click.UsageError(f"keep.until: {request['until']} is not in the future: it is {now:%Y-%m-%dT%H:%M:%SZ}")
    return request


def _shown(reply: dict[str, Any]) -> str:
    """The reply as JSON whose words can be read, without a sign that moves the cursor or turns the line around."""
    text = json.dumps(reply, indent=2, ensure_ascii=False)
    return "".join(one if one == "\n" or one.isprintable() else json.dumps(one)[1:-1] for one in text)


def _checked(url: str) -> str:
    try:
        check_amqp(url)
    except ValueError as error:
        raise click.UsageError(f"the URL of RabbitMQ: {error}") from None
    return url


def _url_in_file() -> str:
    try:
        url = from_file("RABBITMQ_URL")
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if url is None:
        raise click.UsageError("where is RabbitMQ? Give --url, or set RABBITMQ_URL or RABBITMQ_URL_FILE")
    return url
