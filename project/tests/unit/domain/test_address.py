"""What may stand where an address is due."""

import pytest

from limiter.domain.address import is_address


@pytest.mark.parametrize("text", ["anna@example.org", "a@b", "анна@пример.рф", "a.b+c@d-e.f"])
def test_something_on_both_sides_of_one_at_is_an_address(text: str) -> None:
    assert is_address(text)


@pytest.mark.parametrize(
    "text",
    ["", "@", "anna", "anna@", "@b", "a@b@c", "Ivan Petrov@example.org", "a@b\n", "\na@b", "a@b c", "a\x00@b", "a\t@b"],
)
def test_anything_else_is_none(text: str) -> None:
    assert not is_address(text)
