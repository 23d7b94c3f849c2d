"""What an answer must be made of: JSON, validated, with a complaint that names the place and the rule."""

from typing import Annotated, TypeVar

from pydantic import StringConstraints, TypeAdapter, ValidationError

from limiter.clients.errors import ContractBroken

T = TypeVar("T")
# Postgres cannot store NUL: one such name would stop the writes for all.
Storable = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]


def decode(adapter: TypeAdapter[T], raw: bytes, service: str, what: str) -> T:
    """Parse and validate JSON; raises ContractBroken that names the place and the rule."""
    try:
        return adapter.validate_json(raw)
    except ValidationError as error:
        raise ContractBroken(f"{service}: {what}: {describe_validation(error)}", service) from None


def describe_validation(error: ValidationError) -> str:
    """The first of a validation's complaints, in one line."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "body"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{place}: {first['msg']}{more}"
