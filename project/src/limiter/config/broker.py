"""The settings of RabbitMQ: its queues, what is published there and what is asked there."""

from typing import Annotated, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, SecretStr, model_validator

from limiter.config import kinds as kind
from limiter.config.base import FromEnvironment
from limiter.config.urls import check_host, check_port

AMQP_BYTES = 255  # of a name, in UTF-8, by the protocol
# Options behind the ? of a URL that the driver takes for a part of the URL. It has that part already, and fails.
PARTS = frozenset(
    ("url", "host", "port", "login", "password", "virtualhost", "ssl", "ssl_options", "client_properties")
)
DEAD = ".dead"  # added to a queue's name, it is the name of its dead-letter queue


def check_amqp(url: str) -> None:
    """Raise ValueError if RabbitMQ cannot be reached by the URL; the message shows no part of it.

    Without a host, as AMQP's URLs may be, it is that of this machine.
    """
    if not url.startswith(("amqp://", "amqps://")):
        raise ValueError("must start with amqp:// or amqps://")
    check_port(url)
    check_host(urlsplit(url).hostname)
    options = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    if parts := PARTS & options.keys():
        raise ValueError(
            f"must have no {', '.join(sorted(parts))} behind its ?: what says where and who stands before it, "
            "and amqps:// asks for TLS"
        )
    if url.startswith("amqps://"):
        _check_files(options)


def _check_files(options: dict[str, str]) -> None:
    """Raise ValueError if a file of the options behind the ? is none: the driver says so without its name."""
    try:
        kind.ca_file(options.get("cafile", ""))
    except ValueError as error:
        raise ValueError(f"its cafile {error}") from None
    if "certfile" in options:
        try:
            kind.trusting("", options["certfile"], options.get("keyfile"))
        except OSError as error:
            raise ValueError(f"its certfile and keyfile must be in PEM: {error.strerror or error}") from None


def _amqp_url(value: SecretStr) -> SecretStr:
    check_amqp(value.get_secret_value())
    return value


def _name(value: str) -> str:
    if len(value.encode()) > AMQP_BYTES:
        raise ValueError(f"must have at most {AMQP_BYTES} bytes: RabbitMQ takes no more")
    return value


def _queue(value: str) -> str:
    most = AMQP_BYTES - len(DEAD)
    if len(value.encode()) > most:
        raise ValueError(f"must have at most {most} bytes: {DEAD} is added to it, and RabbitMQ takes {AMQP_BYTES}")
    return value


def is_routed(binding: list[str], key: list[str]) -> bool:
    """Whether a topic exchange routes a key to a queue bound by `binding`, both split at their dots."""
    taken = {0}  # how many words of the key the binding's words so far may stand for
    for word in binding:
        if word == "#":
            taken = set(range(min(taken, default=len(key) + 1), len(key) + 1))
        else:
            taken = {words + 1 for words in taken if words < len(key) and word in ("*", key[words])}
    return len(key) in taken


Name = Annotated[kind.Name, AfterValidator(kind.bare), AfterValidator(_name)]
QueueName = Annotated[kind.Name, AfterValidator(kind.bare), AfterValidator(_queue)]
AmqpUrl = Annotated[SecretStr, AfterValidator(_amqp_url)]


class BrokerSettings(FromEnvironment):
    """How events, announcements and control messages go through RabbitMQ."""

    rabbitmq_url: AmqpUrl
    rabbitmq_timeout_seconds: kind.Seconds = 5
    rabbitmq_reconnect_seconds: kind.Seconds = 1
    rabbitmq_declare_seconds: kind.Seconds = 10
    notifier_exchange: Name = "notifications"
    notifier_deployed_routing_key: Name = "models.deployed.successfully"
    notifier_no_use_routing_key: Name = "reservation.no_use"
    deployed_queue: QueueName = "rps_limiter.models_deployed"
    deployed_reminder_enabled: bool = False
    deployed_reminder_grace_seconds: kind.SecondsOrZero = 60
    control_queue: QueueName = "rps_limiter.control"
    control_wait_seconds: kind.Seconds = 2
    control_explain_changes: kind.Count = 50

    @model_validator(mode="after")
    def _queue_rule(self) -> Self:
        control, deployed = self.control_queue, self.deployed_queue
        if {control, control + DEAD} & {deployed, deployed + DEAD}:
            raise ValueError(
                f"CONTROL_QUEUE={control!r} and DEPLOYED_QUEUE={deployed!r}: each must be a queue of its own, "
                f"as must its dead letters, <name>{DEAD}"
            )
        return self

    @model_validator(mode="after")
    def _key_rule(self) -> Self:
        deployed, no_use = self.notifier_deployed_routing_key, self.notifier_no_use_routing_key
        if is_routed(deployed.split("."), no_use.split(".")):
            raise ValueError(
                f"NOTIFIER_DEPLOYED_ROUTING_KEY={deployed!r} must not match NOTIFIER_NO_USE_ROUTING_KEY={no_use!r}: "
                "a warning that only DEPLOYED_QUEUE gets would count as delivered"
            )
        if self.deployed_reminder_enabled and {"*", "#"} & set(deployed.split(".")):
            raise ValueError(
                f"NOTIFIER_DEPLOYED_ROUTING_KEY={deployed!r} must be a key without * and #: with "
                "DEPLOYED_REMINDER_ENABLED it is published with, too"
            )
        return self
