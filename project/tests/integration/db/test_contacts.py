"""Addresses and reminders, however many there are."""

from uuid import UUID

from sqlalchemy import func, select

from limiter.db import contacts, tables
from tests.conftest import MakeBench

MORE_THAN_PARAMETERS = 40_000  # a statement has at most 32,767
ANNA = UUID(int=101)


async def test_reminders_of_a_large_fleet_are_noted_and_found_in_one_statement(make_bench: MakeBench) -> None:
    bench = await make_bench()
    started = [(f"r{number}", UUID(int=number)) for number in range(MORE_THAN_PARAMETERS)]
    async with bench.engine.begin() as connection:
        await contacts.note_reminders(connection, started[1:])
        await contacts.note_reminders(connection, started[1:3])  # again is no harm
        assert await contacts.reminded(connection, started) == set(started[1:])
        assert await contacts.reminded(connection, [("r1", UUID(int=2))]) == set()
        assert await contacts.reminded(connection, []) == set()


async def test_addresses_of_many_users_are_found_in_one_statement(make_bench: MakeBench) -> None:
    bench = await make_bench()
    await contacts.learn(bench.engine, ANNA, "anna", "anna@example.org", [])
    async with bench.engine.connect() as connection:
        users = [UUID(int=number) for number in range(MORE_THAN_PARAMETERS)]
        assert await contacts.emails(connection, users) == {ANNA: "anna@example.org"}


async def test_an_announcement_renews_what_is_known_of_a_user(make_bench: MakeBench) -> None:
    """By `learned_at` cleanup knows who has not been announced for long."""
    bench = await make_bench()
    for email in ("old@example.org", "new@example.org"):
        await contacts.learn(bench.engine, ANNA, "anna", email, [("r", UUID(int=1))])
    async with bench.engine.begin() as connection:
        await connection.execute(tables.contact.update().values(learned_at=func.now() - func.make_interval(1)))
    await contacts.learn(bench.engine, ANNA, "anna", "new@example.org", [])
    async with bench.engine.connect() as connection:
        assert await connection.scalar(
            select(func.now() - tables.contact.c.learned_at < func.make_interval(0, 0, 0, 1))
        )
        assert await contacts.emails(connection, [ANNA]) == {ANNA: "new@example.org"}
