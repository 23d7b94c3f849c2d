"""The kinds of URLs that are called by HTTP, each with its rule."""

import re
from importlib.util import find_spec
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

SPACE = "must have no space before or behind it, or in its host; several URLs are separated by commas"
WRONG_HOST = "its host must be an address or a name, with 1 to 63 characters between two dots"


def _http_url(value: str) -> str:
    if value != value.strip() or re.search(r"\s", urlsplit(value).netloc) or re.search(r"\shttps?://", value):
        raise ValueError(SPACE)
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// URL")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must have no user and no password in it: it stands in logs and as a label of metrics")
    check_port(value)
    _check_called(value)
    return value


def _check_called(url: str) -> None:
    """Raise ValueError if the client could not even send a request to the URL."""
    try:
        check_host(httpx.URL(url).host)
    except httpx.InvalidURL as error:
        raise ValueError(f"must be a URL that can be asked for: {error}") from None
    except UnicodeError:
        raise ValueError(WRONG_HOST) from None


def _base_url(value: str) -> str:
    if "?" in value or "#" in value:
        raise ValueError("must end with its path, without ? and #: paths are joined to it")
    return _http_url(value).rstrip("/")


def _page_url(value: str) -> str:
    if "#" in value:
        raise ValueError("must have no # in it: what is behind it is never sent")
    return _http_url(value)


def check_port(url: str) -> None:
    """Raise ValueError if the URL's port is none; the message shows no part of a password with such a sign in it."""
    try:
        port = urlsplit(url).port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("its port must be a number from 1 to 65535; / ? # in a password are written as %2F %3F %23")


def check_host(host: str | None) -> None:
    """Raise ValueError if the host has a name that cannot even be looked up."""
    try:
        (host or "").encode("idna")
    except UnicodeError:
        raise ValueError(WRONG_HOST) from None


def _distinct(urls: tuple[str, ...]) -> tuple[str, ...]:
    """A page that is read twice would count every call twice."""
    found: dict[tuple[object, ...], int] = {}
    for number, url in enumerate(urls, 1):
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        page = (parts.scheme, parts.hostname, port, parts.path.rstrip("/"), parts.query)
        earlier = found.setdefault(page, number)
        if earlier != number:
            raise ValueError(f"number {number} is the same page as number {earlier}: each may stand there once")
    return urls


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _traces_url(url: str) -> str:
    if not url:
        return ""
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        raise ValueError("tracing needs the packages of requirements-tracing.txt, which are not installed")
    return _http_url(url).rstrip("/")


Url = Annotated[str, AfterValidator(_base_url)]
PageUrl = Annotated[str, AfterValidator(_page_url)]
Urls = Annotated[tuple[PageUrl, ...], NoDecode, BeforeValidator(_split), Field(min_length=1), AfterValidator(_distinct)]
TracesUrl = Annotated[str, AfterValidator(_traces_url)]
