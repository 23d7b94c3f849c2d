"""The bearer token: sent where it is due, and never shown to anybody else."""

import traceback

import pytest

from dev.fake_platform.platform import Fault, Platform
from limiter.clients.errors import ServiceError
from tests.integration.clients.conftest import MakeService
from tests.integration.clients.wire import raw_server, says

LIST = "/api/v1/reservations"
SECRET = "very-secret-token"


async def test_the_token_goes_out_as_a_bearer(make_service: MakeService) -> None:
    async with raw_server(says(b"", "204 No Content")) as server:
        await make_service("booking", url=server.url, token=SECRET).delete(f"{LIST}/r", repeat=True)
    assert f"\r\nauthorization: bearer {SECRET}\r\n" in server.heads[0].lower()


async def test_without_a_token_nothing_goes_out(make_service: MakeService) -> None:
    async with raw_server(says(b"{}")) as server:
        await make_service("booking", url=server.url, token="").get(LIST)
    assert "authorization" not in server.heads[0].lower()


def test_the_token_is_not_in_the_clients_text(make_service: MakeService) -> None:
    client = make_service("booking", token=SECRET)
    assert SECRET not in repr(client) + str(client)


@pytest.mark.parametrize(
    "fault",
    [Fault.status(401), Fault.status(500), Fault.status(302), Fault.reset(), Fault.hang(), Fault.truncated()],
    ids=lambda fault: str(fault.name),
)
async def test_the_token_is_in_no_errors_text(platform: Platform, make_service: MakeService, fault: Fault) -> None:
    platform.fault("booking", fault)
    with pytest.raises(ServiceError) as caught:
        await make_service("booking", token=SECRET, attempts=1, timeout=0.1).get(LIST)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


async def test_the_token_is_in_no_errors_text_when_nobody_is_there(
    platform: Platform, make_service: MakeService
) -> None:
    await platform.stop()
    with pytest.raises(ServiceError) as caught:
        await make_service("booking", token=SECRET, attempts=1).get(LIST)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("token", [f"{SECRET}\n", f"{SECRET}\r\nx: y", f"{SECRET}é"])
async def test_a_token_that_cannot_be_sent_is_not_shown_either(make_service: MakeService, token: str) -> None:
    """A secret read from a file often ends in a line feed."""
    with pytest.raises((ServiceError, ValueError)) as caught:
        await make_service("booking", token=token, attempts=1).get(f"{LIST}/r")
    assert SECRET not in str(caught.value)
    assert isinstance(caught.value, ServiceError)
