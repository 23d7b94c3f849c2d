"""`make trigger JOB=...`: sends one control message, waits for its one reply, and prints it."""

import asyncio
import json
import os
import sys
from uuid import uuid4

import aio_pika

from limiter.domain.action import Job
from limiter.settings import Settings

COMMANDS = ("run_job", "pause_job", "resume_job")


async def ask(url: str, queue: str, command: str, job: str, patience: float) -> dict[str, object]:
    """Send the message; raises TimeoutError if no reply comes within `patience` seconds."""
    request = {"command": command, "job": job, "request_id": uuid4().hex}
    async with asyncio.timeout(patience), await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        answers = await channel.declare_queue(exclusive=True)
        raw = json.dumps(request).encode()
        message = aio_pika.Message(raw, reply_to=answers.name, correlation_id=request["request_id"])
        await channel.default_exchange.publish(message, queue)
        async with answers.iterator() as arrived:
            async for answer in arrived:
                await answer.ack()
                return dict(json.loads(answer.body))
    raise AssertionError("unreachable: the iterator ends only by the timeout")


def main(arguments: list[str]) -> int:
    """Read the environment, ask, print; returns the exit code."""
    command, job = (*arguments, "", "")[:2]
    if command not in COMMANDS or job not in set(Job):
        print(f"usage: make trigger JOB={'|'.join(Job)} [COMMAND={'|'.join(COMMANDS)}]", file=sys.stderr)
        return 2
    url = os.environ.get("RABBITMQ_URL")
    if not url:
        print("RABBITMQ_URL is not set: it is required (in the environment, or in .env)", file=sys.stderr)
        return 2
    queue = os.environ.get("CONTROL_QUEUE") or str(Settings.model_fields["control_queue"].default)
    patience = float(os.environ.get("TRIGGER_TIMEOUT_SECONDS", "60"))
    try:
        reply = asyncio.run(ask(url, queue, command, job, patience))
    except TimeoutError:
        print(f"no replica answered on {queue!r} within {patience:g} s", file=sys.stderr)
        return 1
    except (OSError, aio_pika.exceptions.AMQPError) as error:
        print(f"RabbitMQ: {error}", file=sys.stderr)
        return 1
    print(json.dumps(reply, indent=2))
    return 0 if reply["outcome"] in ("completed", "paused", "resumed") else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
