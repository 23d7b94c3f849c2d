"""Long work is done beside the event loop, one piece after the other."""

import asyncio
from contextvars import ContextVar
from threading import Event, get_ident

import pytest

from limiter.clients.decoding import KnownPages
from limiter.computing import computed

run = ContextVar("run", default="none")


async def test_no_two_pieces_are_done_at_once_and_the_loop_goes_on_meanwhile() -> None:
    started, free, begun = Event(), Event(), list[int]()

    def work(number: int) -> int:
        begun.append(number)
        started.set()
        assert free.wait(10)
        return number

    pieces = [asyncio.create_task(computed(work, number)) for number in range(3)]
    assert await asyncio.to_thread(started.wait, 10)
    for _ in range(5):  # the loop's own threads are free
        await asyncio.to_thread(get_ident)
    assert begun == [0]
    free.set()
    assert await asyncio.gather(*pieces) == [0, 1, 2]


async def test_work_knows_its_run_and_what_it_raises_is_raised() -> None:
    run.set("rps_check:1")
    assert await computed(run.get) == "rps_check:1"
    with pytest.raises(ValueError, match="'x'"):
        await computed(int, "x")


async def test_a_page_that_is_not_known_is_decoded_beside_the_loop_and_only_once() -> None:
    decoded_in = list[int]()

    def sound(raw: bytes) -> bytes:
        decoded_in.append(get_ident())
        return raw

    pages = KnownPages(sound)
    assert [await pages.read(1, b"[]") for _ in range(2)] == [b"[]", b"[]"]
    (thread,) = decoded_in
    assert thread != get_ident()
