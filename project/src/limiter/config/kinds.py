"""The kinds of values that settings have, each with its rule."""

import json
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

Value = TypeVar("Value")


def _http_url(value: str) -> str:
    if urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).netloc:
        raise ValueError("must be an http:// or https:// URL")
    return value.rstrip("/")


def _asyncpg_url(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith("postgresql+asyncpg://"):
        raise ValueError("must start with postgresql+asyncpg://")
    return value


def _amqp_url(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith(("amqp://", "amqps://")):
        raise ValueError("must start with amqp:// or amqps://")
    return value


def _strip(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _header(value: SecretStr) -> SecretStr:
    token = value.get_secret_value()
    if not (token.isascii() and token.isprintable()):
        raise ValueError("must be printable ASCII: it is sent in a header")
    return value


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _json(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError as error:
        raise ValueError(f"must be a JSON object: {error}") from None


Token = Annotated[SecretStr, BeforeValidator(_strip), AfterValidator(_header)]
Url = Annotated[str, AfterValidator(_http_url)]
AmqpUrl = Annotated[SecretStr, AfterValidator(_amqp_url)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_asyncpg_url)]
Urls = Annotated[tuple[Url, ...], NoDecode, BeforeValidator(_split), Field(min_length=1)]
Json = Annotated[Value, NoDecode, BeforeValidator(_json)]
Schema = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,62}$")]
Seconds = Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)]
SecondsOrZero = Annotated[float, Field(ge=0, le=31_536_000, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=100_000)]
Name = Annotated[str, Field(min_length=1, max_length=255)]
