"""The settings of Postgres."""

import os
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, Field, SecretStr

from limiter.config import kinds as kind
from limiter.config.base import FromEnvironment
from limiter.config.urls import check_host, check_port

# What the driver takes as text, as all that stands behind the ? of a URL is; it is not named: it may be of a password.
OPTIONS = {"host", "port", "user", "password", "passfile", "database", "service", "servicefile", "ssl"}
OPTIONS |= {"target_session_attrs", "krbsrvname", "gsslib", "prepared_statement_cache_size"}
OPTIONS |= {"statement_cache_size", "command_timeout", "timeout"}  # in place of which a replica has its own
NUMBERS = ("port", "prepared_statement_cache_size")
TLS_WORDS = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def _asyncpg_url(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith("postgresql+asyncpg://"):
        raise ValueError("must start with postgresql+asyncpg://")
    check_port(value.get_secret_value())
    check_host(urlsplit(value.get_secret_value()).hostname)
    given = parse_qs(urlsplit(value.get_secret_value()).query, keep_blank_values=True)
    if "sslmode" in given:
        raise ValueError("sslmode is libpq's word: asyncpg takes ?ssl=require or ?ssl=verify-full")
    if not given.keys() <= OPTIONS:
        raise ValueError("asyncpg takes no such option behind its ?; a ? in a password must be written as %3F")
    # Of several hosts the ports stand with commas between them.
    if not all(number.replace(",", "").isdecimal() for option in NUMBERS for number in given.get(option, ())):
        raise ValueError(f"{' and '.join(NUMBERS)} behind its ? must be whole numbers")
    for word in given.get("ssl", ()):
        _check_tls(word)
    return value


def _check_tls(word: str) -> None:
    """Raise ValueError if a connection could not even be tried so; the driver says of no file which it is."""
    if word.replace("_", "-") not in TLS_WORDS:
        raise ValueError(f"ssl behind its ? must be one of {', '.join(TLS_WORDS)}")
    if word.startswith(("require", "verify")):
        try:
            kind.ca_file(file := os.environ.get("PGSSLROOTCERT", ""))
        except ValueError as error:
            raise ValueError(f"for its ssl={word} PGSSLROOTCERT={file!r} {error}") from None


def _schema(name: str) -> str:
    if name.startswith("pg_"):
        raise ValueError("must not begin with pg_: Postgres keeps such names for itself")
    return name


Schema = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,62}$"), AfterValidator(_schema)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_asyncpg_url)]


class MigrationSettings(FromEnvironment):
    """The little that migrations need."""

    database_url: DatabaseUrl
    migrations_database_url: DatabaseUrl | None = None
    database_schema: Schema = "rps_limiter"

    @property
    def url(self) -> str:
        return (self.migrations_database_url or self.database_url).get_secret_value()


class DatabaseSettings(MigrationSettings):
    """How a replica uses the database."""

    database_pool_size: kind.Count = 5
    database_timeout_seconds: kind.Seconds = 10
