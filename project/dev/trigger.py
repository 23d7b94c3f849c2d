"""`make trigger JOB=...`: sends one control message, waits for its one reply, and prints it."""

import asyncio
import json
import logging
import os
import sys
from uuid import uuid4

import aio_pika

from limiter.domain.action import Job
from limiter.settings import Settings

PATIENCE = 60.0  # seconds to wait for the reply, unless TRIGGER_TIMEOUT_SECONDS says otherwise
GOOD = ("completed", "paused", "resumed")
COMMANDS = ("run_job", "pause_job", "resume_job")
EXPLAIN = "explain"


async def ask(url: str, queue: str, command: str, about: str, patience: float) -> dict[str, object]:
    """Send the message; raises TimeoutError after `patience` seconds without a reply, DeliveryError without a queue."""
    request = {"command": command, "model" if command == EXPLAIN else "job": about, "request_id": uuid4().hex}
    async with asyncio.timeout(patience), await aio_pika.connect(url) as connection:
        channel = await connection.channel(on_return_raises=True)
        answers = await channel.declare_queue(exclusive=True)
        raw = json.dumps(request).encode()
        message = aio_pika.Message(raw, reply_to=answers.name, correlation_id=request["request_id"])
        await channel.default_exchange.publish(message, queue)
        async with answers.iterator() as arrived:
            async for answer in arrived:
                await answer.ack()
                return dict(json.loads(answer.body))
    raise ConnectionError("the connection was lost before the reply came")


def main(arguments: list[str]) -> int:
    """Read the environment, ask, print; returns the exit code."""
    command, about = (*arguments, "", "")[:2]
    if not (command in COMMANDS and about in set(Job)) and not (command == EXPLAIN and about):
        usage = f"usage: make trigger JOB={'|'.join(Job)} [COMMAND={'|'.join(COMMANDS)}], or make explain MODEL=name"
        print(usage, file=sys.stderr)
        return 2
    url = os.environ.get("RABBITMQ_URL")
    if not url:
        print("RABBITMQ_URL is not set: it is required (in the environment, or in .env)", file=sys.stderr)
        return 2
    queue = os.environ.get("CONTROL_QUEUE") or str(Settings.model_fields["control_queue"].default)
    try:
        patience = float(os.environ.get("TRIGGER_TIMEOUT_SECONDS") or PATIENCE)
    except ValueError:
        print(f"TRIGGER_TIMEOUT_SECONDS={os.environ['TRIGGER_TIMEOUT_SECONDS']!r}: must be seconds", file=sys.stderr)
        return 2
    return _ask_and_print(url, queue, command, about, patience)


def _ask_and_print(url: str, queue: str, command: str, about: str, patience: float) -> int:
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # says once more what the error below says
    try:
        reply = asyncio.run(ask(url, queue, command, about, patience))
    except TimeoutError:
        print(f"no replica answered on {queue!r} within {patience:g} s; the message may still wait", file=sys.stderr)
        return 1
    except aio_pika.exceptions.DeliveryError:
        print(f"there is no queue {queue!r}: no replica has ever started here", file=sys.stderr)
        return 1
    except (OSError, ValueError, aio_pika.exceptions.AMQPError) as error:
        print(f"RabbitMQ: {error}", file=sys.stderr)
        return 1
    explained = command == EXPLAIN and reply.get("outcome") == "completed"
    print(reply["detail"] if explained else json.dumps(reply, indent=2, ensure_ascii=False))
    return 0 if reply.get("outcome") in GOOD else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
