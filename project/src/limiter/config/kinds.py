"""The kinds of values that settings have, each with its rule; those of URLs are in `urls`."""

import re
import ssl
from datetime import datetime, time
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from limiter.domain.shard import Shard


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, LookupError, OSError):
        raise ValueError("must be a time zone of the IANA database, such as UTC or Europe/Berlin") from None
    return name


def cron(expression: str, zone: str) -> CronTrigger:
    """The fire times of five fields: minute, hour, day of month, month, day of week (0 is Monday)."""
    return CronTrigger.from_crontab(expression, timezone=ZoneInfo(zone))


def _cron(expression: str) -> str:
    if not expression:
        return ""
    try:
        first = cron(expression, "UTC").get_next_fire_time(None, datetime(2000, 1, 1, tzinfo=ZoneInfo("UTC")))
    except ValueError as error:
        raise ValueError(f"must be five fields, minute hour day month weekday: {error}") from None
    if first is None:
        raise ValueError("must be five fields that some moment fits: this one never comes")
    return expression


def _factor(value: float) -> float:
    if 0 < value <= 1:
        raise ValueError("must be above 1, or 0 for never")
    return value


def _duration(value: float) -> float:
    if 0 < value < 1e-6:
        raise ValueError("must be at least 0.000001: what is shorter counts as 0")
    return value


def hours(text: str) -> tuple[time, time]:
    """The two times of HH:MM-HH:MM; raises ValueError."""
    start, _, end = text.partition("-")
    return time.fromisoformat(start), time.fromisoformat(end)


def _hours(text: str) -> str:
    if not text:
        return ""
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d", text):
        raise ValueError("must be HH:MM-HH:MM, such as 22:00-08:00")
    start, end = hours(text)
    if start == end:
        raise ValueError("must end at another time than it starts: a whole day would forbid everything")
    return text


def trusting(file: str, certificate: str = "", key: str | None = None) -> ssl.SSLContext:
    """TLS that trusts the machine's authorities and those of the file; raises OSError, of which SSLError is one.

    `certificate` names a file with the certificate, and its key unless that has a file of its own, by which the
    services know us.
    """
    context = ssl.create_default_context()
    if file:
        context.load_verify_locations(file)
    if certificate:
        context.load_cert_chain(certificate, key)
    return context


def ca_file(file: str) -> str:
    """The file, if it has certificates of authorities; raises ValueError."""
    try:
        if file:
            trusting(file)
    except OSError as error:
        raise ValueError(f"must be a file of certificates in PEM: {error.strerror or error}") from None
    return file


def _certificate_file(file: str) -> str:
    try:
        if file:
            trusting("", file)
    except OSError as error:
        raise ValueError(f"must be a file with a certificate and its key in PEM: {error.strerror or error}") from None
    return file


def shard(text: str) -> Shard:
    """The share that k/n names; raises ValueError."""
    number, _, of = text.partition("/")
    return Shard(int(number), int(of))


def _shard(text: str) -> str:
    if not re.fullmatch(r"\d{1,4}/[1-9]\d{0,3}", text, re.ASCII) or shard(text).number >= shard(text).of:
        raise ValueError("must be k/n with 0 <= k < n, such as 0/2 and 1/2")
    return text


def _strip(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def bare(text: str) -> str:
    """The text, if nothing is around it, as `docker --env-file` leaves quotes; raises ValueError."""
    if text != text.strip() or (text[:1] in ("'", '"') and text[:1] == text[-1:]):
        raise ValueError("must have no space and no quotes around it")
    return text


def _header(value: SecretStr) -> SecretStr:
    token = bare(value.get_secret_value())
    if not (token.isascii() and token.isprintable()):
        raise ValueError("must be printable ASCII: it is sent in a header")
    if token.lower().startswith("bearer "):
        raise ValueError("must stand without the word Bearer, which is put before it")
    return value


Token = Annotated[SecretStr, BeforeValidator(_strip), AfterValidator(_header)]
TimeZone = Annotated[str, AfterValidator(_zone)]
Cron = Annotated[str, AfterValidator(_cron)]
CaFile = Annotated[str, AfterValidator(ca_file)]
CertificateFile = Annotated[str, AfterValidator(_certificate_file)]
ShareOfModels = Annotated[str, AfterValidator(_shard)]
Hours = Annotated[str, AfterValidator(_hours)]
Seconds = Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False), AfterValidator(_duration)]
AboveBeat = Annotated[float, Field(gt=1, le=31_536_000, allow_inf_nan=False)]  # the scheduler beats once a second
SecondsOrZero = Annotated[float, Field(ge=0, le=31_536_000, allow_inf_nan=False)]
Factor = Annotated[float, Field(ge=0, le=1000), AfterValidator(_factor)]
Count = Annotated[int, Field(ge=1, le=100_000)]
Name = Annotated[str, Field(min_length=1, max_length=255)]
