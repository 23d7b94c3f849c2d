"""What the status of an answer says."""

import httpx

from limiter.clients.errors import ContractBroken, NotAllowed, NotFound, Rejected, Unavailable

MAX_WHY = 200  # characters of what a refusal says
_REFUSALS: dict[int, type[Rejected]] = {401: NotAllowed, 403: NotAllowed, 404: NotFound}


def check_status(response: httpx.Response, *, gone_is_fine: bool = False) -> None:
    """Raise Unavailable on 5xx, a kind of Rejected on 4xx, ContractBroken on any other answer that is no success."""
    status = response.status_code
    if 200 <= status < 300 or (gone_is_fine and status == 404):
        return
    if status >= 500 or status in (408, 425, 429):
        raise Unavailable(f"HTTP {status}", status=status, retry_after=_retry_after(response))
    if status >= 400:
        raise _REFUSALS.get(status, Rejected)(f"HTTP {status}{_why(response)}", status=status)
    raise ContractBroken(f"HTTP {status} is no answer of the contract", status=status)


def _retry_after(response: httpx.Response) -> float:
    """The seconds after which it wants to be asked again; 0 if it does not say so, or by a date, of another clock."""
    value = response.headers.get("retry-after", "").strip()
    return float(value) if value.isascii() and value.isdigit() else 0.0


def _why(response: httpx.Response) -> str:
    """What a refusal says, in one line, if it was read: of a metrics page it is not. Our token is left out of it."""
    text = response.text if response.is_stream_consumed else ""
    if text and (token := response.request.headers.get("authorization", "").removeprefix("Bearer ")):
        text = text.replace(token, "***")  # some say what they were given, and it would stand in logs and tables
    text = text.strip()[:MAX_WHY]
    return f": {text!r}" if text else ""
