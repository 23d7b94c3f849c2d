"""The settings of RabbitMQ: its queues, what is published there and what is asked there."""

from typing import Annotated

from pydantic import AfterValidator, SecretStr

from limiter.config import kinds as kind
from limiter.config.base import FromEnvironment
from limiter.config.urls import check_port


def _amqp_url(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith(("amqp://", "amqps://")):
        raise ValueError("must start with amqp:// or amqps://")
    check_port(value.get_secret_value())
    return value


AmqpUrl = Annotated[SecretStr, AfterValidator(_amqp_url)]


class BrokerSettings(FromEnvironment):
    """How events, announcements and control messages go through RabbitMQ."""

    rabbitmq_url: AmqpUrl
    rabbitmq_timeout_seconds: kind.Seconds = 5
    rabbitmq_reconnect_seconds: kind.Seconds = 1
    notifier_exchange: kind.Name = "notifications"
    notifier_deployed_routing_key: kind.Name = "models.deployed.successfully"
    notifier_no_use_routing_key: kind.Name = "reservation.no_use"
    deployed_queue: kind.Name = "rps_limiter.models_deployed"
    deployed_reminder_enabled: bool = False
    deployed_reminder_grace_seconds: kind.SecondsOrZero = 60
    control_queue: kind.Name = "rps_limiter.control"
    control_wait_seconds: kind.Seconds = 2
    control_explain_changes: kind.Count = 50
