"""The AsyncAPI document of every message that we read and write.

FastStream makes it of the service's own subscribers and of the types that its events have; the examples come from the
functions that write the events.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import yaml
from faststream.rabbit import RabbitBroker, RabbitExchange
from faststream.specification.asyncapi import AsyncAPI

from limiter import VERSION
from limiter.api.messages import Reply
from limiter.clients.event_wire import ReservationNoUse, ReservationStartedReminder
from limiter.config.loading import load_as
from limiter.config.settings import Settings
from limiter.domain.active_bookings import ActiveBooking
from limiter.domain.decision import Reason
from limiter.domain.fleet import ServedModel
from limiter.domain.idle_spell import IdleSpell, SpellState, Step, StepState, closing_reason
from limiter.domain.reservations import Reservation, Slot, User
from limiter.effects.events import CANCELLED, WARNING, WITHDRAWN, Outcome, no_use_body, started_body
from limiter.wiring import compose

Json = dict[str, Any]

ABOUT = """Every message that rps-limiter reads and writes, with the default names of exchange, queues and keys. How the
Notificator and the platform must treat them: contracts.md."""
NO_USE = """A booked model is not used. The AMQP property message_id stays the same however often an event is published:
deduplicate by it."""
STARTED = (
    """A booked model runs. Published by us only with DEPLOYED_REMINDER_ENABLED, and only where nobody else has."""
)
REPLY = "Exactly one answer to each control message that has a reply_to, with the correlation_id of the message."

START = datetime(2026, 3, 2, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
EMAIL = "ann@example.org"
ANN = User(UUID("3f0f7c0e-5d0b-4f0a-9a55-0f2f6f1a7d11"), "ann")
MODEL = ServedModel(UUID("8a3c1f52-6f0e-4c7e-8a4c-6d5b2a9e4f10"), "Google/Medgemma-27b-it", 1)
NOW, *AT_RISK = (Slot(START + n * HOUR, START + (n + 1) * HOUR, f"slot-{n + 1}", "reservation-7") for n in range(4))
SPELL = IdleSpell(
    id=UUID("5b8f3f6e-93a1-4d9e-b1f0-2c1c7f7a9d02"),
    model_id=MODEL.id,
    model_name=MODEL.name,
    user=ANN,
    state=SpellState.WARNED,
    idle_since=START,
    opened_at=START + 0.75 * HOUR,
    not_before=START + HOUR,
    slot=NOW,
    steps=tuple(Step(slot, StepState.NAMED) for slot in AT_RISK),
)
WHO = {"model": MODEL.name, "user_id": str(ANN.id), "by": "operator", "reason": "looking at it"}
MODEL_ONLY = {"model": MODEL.name}


def no_use_examples() -> dict[str, ReservationNoUse]:
    """Each stage of a spell, as the service writes it."""
    used = Outcome(closing_reason=closing_reason(Reason.USED_AGAIN))
    done, gone, refused = AT_RISK
    whole, part = Outcome(AT_RISK, uninstalled=True), Outcome([done], [gone], [refused])
    return {
        "warning": no_use_body(SPELL, WARNING, EMAIL, START + 0.75 * HOUR, Outcome()),
        "withdrawn": no_use_body(SPELL, WITHDRAWN, EMAIL, START + 0.8 * HOUR, used),
        "cancelled": no_use_body(SPELL, CANCELLED, EMAIL, START + HOUR, whole),
        "cancelled in part": no_use_body(SPELL, CANCELLED, EMAIL, START + HOUR, part),
    }


def started_examples() -> dict[str, ReservationStartedReminder]:
    """The reminder, as the service writes it; the platform's own has at least what is read of it."""
    booking = ActiveBooking(MODEL, ANN, (NOW,), (NOW,), NOW)
    reservation = Reservation(NOW.reservation_id, ANN, MODEL.name, MODEL.id, (NOW,))
    return {"started": started_body(booking, reservation, EMAIL, START)}


def control_examples() -> dict[str, Json]:
    """Each command once."""
    job = {"job": "idle_enforce", "request_id": "any text", "by": "operator", "reason": "looking at a surge"}
    ask = {"by": "operator", "reason": "the readings are right"}
    fields: dict[str, Mapping[str, Any]] = {
        "run_job": job,
        "pause_job": job,
        "resume_job": job,
        "status": {},
        "explain": MODEL_ONLY,
        "keep": WHO | {"until": "2026-03-02T18:00:00+00:00"},
        "unkeep": WHO,
        "allow_surge": ask,
        "settle": MODEL_ONLY | ask | {"outcome": "failed"},
        "withdraw": WHO,
    }
    return {command: {"command": command, **more} for command, more in fields.items()}


def reply_examples() -> dict[str, Json]:
    """An answer to a command that was carried out, and to one that was not understood."""
    done = Reply(
        request_id="any text", command="run_job", job="idle_enforce", outcome="completed", run_id=str(SPELL.id)
    )
    why = "run_job.job: Field required"
    refused = Reply(request_id=None, command="run_job", job=None, outcome="rejected", detail=why)
    return {"completed": done.model_dump(mode="json"), "rejected": refused.model_dump(mode="json")}


EXAMPLES: dict[str, Callable[[], Mapping[str, object]]] = {
    "Control": control_examples,
    "Reply": reply_examples,
    "Deployed": started_examples,
    "NoUse": no_use_examples,
    "Started": started_examples,
}
# FastStream takes the first definition that it meets for the payload of a TypedDict that refers to others.
PAYLOADS = {"NoUse": ReservationNoUse.__name__, "Started": ReservationStartedReminder.__name__}


async def described() -> Json:
    """The document as FastStream makes it of a replica with the default names; nothing is connected."""
    somewhere = "http://platform"
    settings = load_as(
        Settings,
        database_url="postgresql+asyncpg://postgres/rps_limiter",
        rabbitmq_url="amqp://rabbitmq/",
        model_registry_url=somewhere,
        model_dispatcher_url=somewhere,
        booking_service_url=somewhere,
        entrypoint_metrics_urls=somewhere,
    )
    async with compose(settings) as replica:
        consumer = replica.consumer
        consumer.subscribe()
        _publishers(consumer.broker, consumer.queues.exchange, settings)
        document = AsyncAPI(consumer.broker, title="rps-limiter", version=VERSION, description=_line(ABOUT))
        made: Json = json.loads(_named(document.to_specification().to_json()))
    return made


def _publishers(broker: RabbitBroker, exchange: RabbitExchange, settings: Settings) -> None:
    """What is sent, as `Notifier` and `Control` send it."""
    event: Json = {"exchange": exchange, "persist": True, "mandatory": True}
    for title, key, schema, text in (
        ("NoUse", settings.notifier_no_use_routing_key, ReservationNoUse, NO_USE),
        ("Started", settings.notifier_deployed_routing_key, ReservationStartedReminder, STARTED),
    ):
        broker.publisher(routing_key=key, title=title, schema=schema, description=_line(text), **event)
    broker.publisher(title="Reply", schema=Reply, description=REPLY)


def _line(text: str) -> str:
    return " ".join(text.split())


def _named(text: str) -> str:
    """Names without colons, which AsyncAPI does not allow in components."""
    for long, short in ((":SubscribeMessage", ""), (":Message:Payload", "Message"), (":Message", "")):
        text = text.replace(long, short)
    return text


def asyncapi() -> str:
    """The whole document."""
    document = asyncio.run(described())
    messages, schemas = document["components"]["messages"], document["components"]["schemas"]
    for name, schema in PAYLOADS.items():
        messages[name]["payload"] = {"$ref": f"#/components/schemas/{schema}"}
    for name, examples in EXAMPLES.items():
        messages[name]["examples"] = [{"name": key, "payload": body} for key, body in examples().items()]
    _without_titles(schemas.values())
    answer = document["operations"].pop("Reply")
    address = {"location": "$message.header#/reply_to", "description": "the AMQP property reply_to"}
    document["operations"]["Control"]["reply"] = {name: answer[name] for name in ("channel", "messages")}
    document["operations"]["Control"]["reply"]["address"] = address
    # FastStream's order is that of a set.
    for place in (document["channels"], document["operations"], *document["components"].values()):
        _sort(place)
    ordered = {"asyncapi": document.pop("asyncapi")} | document
    return yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True, width=120)


def _sort(place: Json) -> None:
    for name in sorted(place):
        place[name] = place.pop(name)


def _without_titles(schemas: Iterable[Json]) -> None:
    """Without the titles that only repeat the names of the fields."""
    for schema in schemas:
        for field in schema.get("properties", {}).values():
            field.pop("title", None)
