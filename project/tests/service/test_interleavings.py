"""What `make model` found: steps of others that come between a look and the act that rests on it."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from freezegun.api import FrozenDateTimeFactory
from sqlalchemy import text

from dev.fake_platform.platform import Fault
from limiter.clients.booking import Booking
from limiter.clients.errors import Unavailable
from limiter.clients.http import ServiceClient
from limiter.db import tables
from limiter.domain.job import Job
from limiter.effects.closing import SpellClosing
from limiter.effects.snapshot import SnapshotReader
from limiter.runner.claim import Cause
from limiter.runner.guard import Guard, LockLost
from limiter.runner.run import Run
from tests.bench import Bench
from tests.conftest import START, MakeBench
from tests.service.test_control import ask
from tests.service.test_enforcement_rules import minutes, warned

ANN = UUID(int=1)


async def states(bench: Bench) -> tuple[list[str], list[str]]:
    """Of every spell, and of every step."""
    return (
        [row.state for row in await bench.rows(tables.idle_spell)],
        sorted(row.state for row in await bench.rows(tables.cancellation)),
    )


def before_the_delete(monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
    """Act once, after the look that a DELETE rests on."""
    plain, done = SnapshotReader.refresh, list[bool]()

    async def refresh(self: Any, run: Any, key: Any, base: Any, reservation_id: str | None) -> Any:
        found = await plain(self, run, key, base, reservation_id)
        if reservation_id is not None and not done:
            done.append(True)
            await act()
        return found

    monkeypatch.setattr(SnapshotReader, "refresh", refresh)


async def test_a_withdrawal_judged_before_the_cancelling_began_does_not_close_it(
    make_bench: MakeBench, time: FrozenDateTimeFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await warned(make_bench, time)
    other = await make_bench(POLICY_OVERRIDES='{"m0":{"exempt":true}}')  # a replica that has the new settings already
    time.move_to(START + minutes(60))
    plain, cancel, calls = SpellClosing.withdraw, Booking.cancel, []

    async def one_then_away(self: Any, *slot: Any) -> bool:
        calls.append(slot)
        if len(calls) > 1:
            raise Unavailable("503", "booking")
        return await cancel(self, *slot)

    async def late(self: Any, run: Run, spell: Any, record: Any) -> Any:
        if run.claim.job is Job.IDLE_WARNING:
            monkeypatch.setattr(Booking, "cancel", one_then_away)
            await bench.run(Job.IDLE_ENFORCE)
        return await plain(self, run, spell, record)

    monkeypatch.setattr(SpellClosing, "withdraw", late)
    await other.run(Job.IDLE_WARNING)
    await bench.run(Job.EVENT_DISPATCH)
    assert await states(bench) == (["enforcing"], ["done", "planned"])
    assert await bench.stages() == []
    monkeypatch.setattr(Booking, "cancel", cancel)
    time.move_to(START + minutes(70))
    await bench.run(Job.RPS_CHECK, Job.IDLE_ENFORCE, Job.EVENT_DISPATCH)
    assert await bench.stages() == ["cancelled"]


async def test_no_delete_goes_out_after_a_pause_was_answered(
    make_bench: MakeBench, time: FrozenDateTimeFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await warned(make_bench, time)
    time.move_to(START + minutes(60))
    before_the_delete(monkeypatch, lambda: bench.replica.table.pause(Job.IDLE_ENFORCE))
    await bench.run(Job.IDLE_ENFORCE)
    assert bench.platform.deletions == []
    assert (await states(bench))[1] == ["planned", "planned"]


async def withdraw(bench: Bench) -> str:
    answer = await ask(bench, {"command": "withdraw", "model": "m0", "user_id": str(ANN)})
    assert answer["outcome"] == "completed"
    return str(answer["detail"])


async def test_no_delete_goes_out_after_an_operator_closed_the_spell(
    make_bench: MakeBench, time: FrozenDateTimeFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await warned(make_bench, time, slots=1)
    time.move_to(START + minutes(60))
    before_the_delete(monkeypatch, lambda: withdraw(bench))
    await bench.run(Job.IDLE_ENFORCE, Job.EVENT_DISPATCH)
    assert bench.platform.deletions == []
    assert await bench.stages() == ["withdrawn"]
    assert "cancelled_after_closing" not in bench.criticals()


async def test_a_spell_that_was_closed_meanwhile_is_not_taken_for_the_one_that_was_opened_since(
    make_bench: MakeBench, time: FrozenDateTimeFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of idle_enforce may take as long as a closing and a new warning of the same booking."""
    bench = await warned(make_bench, time, {"UNINSTALL_ON_IDLE": True})
    time.move_to(START + minutes(60))
    plain = SnapshotReader.read

    async def read(self: Any, run: Run, *rest: Any) -> Any:
        found = await plain(self, run, *rest)
        if run.claim.job is Job.IDLE_ENFORCE and run.claim.epoch == 1:
            await withdraw(bench)
            for minute in (60, 105):
                time.move_to(START + minutes(minute))
                await bench.run(Job.RPS_CHECK, Job.IDLE_WARNING)
            time.move_to(START + minutes(125))  # the broker has not confirmed the second warning yet
        return found

    monkeypatch.setattr(SnapshotReader, "read", read)
    await bench.run(Job.IDLE_ENFORCE)
    assert (await states(bench))[0] == ["withdrawn", "warning_pending"]
    assert bench.platform.commands == []
    assert bench.platform.deletions == []


@pytest.mark.parametrize("carried_out", [True, False])
async def test_an_operator_who_withdraws_over_an_unsettled_delete_has_the_truth_told(
    make_bench: MakeBench, time: FrozenDateTimeFactory, monkeypatch: pytest.MonkeyPatch, carried_out: bool
) -> None:
    bench = await warned(make_bench, time)
    time.move_to(START + minutes(60))
    cancel = Booking.cancel

    async def dies(self: Any, *slot: Any) -> bool:
        if carried_out:
            await cancel(self, *slot)
        raise LockLost("the replica dies here")

    monkeypatch.setattr(Booking, "cancel", dies)
    await bench.attempt(Job.IDLE_ENFORCE)
    monkeypatch.setattr(Booking, "cancel", cancel)
    assert "idle_enforce tells the user how it ended" in await withdraw(bench)
    assert await states(bench) == (["enforcing"], ["planned", "stopped"])
    await bench.run(Job.IDLE_ENFORCE, Job.EVENT_DISPATCH)
    assert len(bench.platform.deletions) == carried_out
    assert await bench.stages() == ["cancelled"] * carried_out
    time.move_to(START + minutes(61))  # by now it would have been carried out
    await bench.run(Job.IDLE_ENFORCE, Job.EVENT_DISPATCH)
    assert len(bench.platform.deletions) == carried_out
    assert await bench.stages() == ([] if carried_out else ["withdrawn"])


@pytest.mark.parametrize(("status", "at_once"), [(403, True), (429, True), (500, False)])
async def test_what_was_refused_needs_no_waiting_before_its_user_is_told_that_nothing_went(
    make_bench: MakeBench, time: FrozenDateTimeFactory, status: int, at_once: bool
) -> None:
    bench = await warned(make_bench, time)
    time.move_to(START + minutes(60))
    bench.platform.fault("booking", Fault.status(status), method="DELETE")
    await bench.run(Job.IDLE_ENFORCE)
    bench.platform.call("m0")
    await bench.run(Job.IDLE_ENFORCE)
    assert (await states(bench))[0] == ["withdrawn" if at_once else "enforcing"]
    time.move_to(START + minutes(61))
    await bench.run(Job.IDLE_ENFORCE, Job.EVENT_DISPATCH)
    assert await bench.stages() == ["withdrawn"]


@pytest.mark.parametrize("again", ["in the same call", "in the next run"])
async def test_a_refusal_says_nothing_of_the_delete_before_it_whose_answer_was_lost(
    make_bench: MakeBench, time: FrozenDateTimeFactory, again: str
) -> None:
    bench = await warned(make_bench, time, {"COMMAND_BACKOFF_FIRST_SECONDS": 1})
    time.move_to(START + minutes(60))
    bench.platform.fault("booking", Fault.reset(), method="DELETE", times=1 if again == "in the same call" else 2)
    bench.platform.fault("booking", Fault.status(429), method="DELETE")
    await bench.run(Job.IDLE_ENFORCE)
    if again == "in the next run":
        time.tick(5)
        await bench.run(Job.IDLE_ENFORCE)
    sent = [call.status for call in bench.platform.history if call.method == "DELETE"]
    assert sent == ([None, 429] if again == "in the same call" else [None, None, 429, 429])
    bench.platform.call("m0")
    await bench.run(Job.IDLE_ENFORCE)
    assert (await states(bench))[0] == ["enforcing"]
    time.move_to(START + minutes(62))
    await bench.run(Job.IDLE_ENFORCE, Job.EVENT_DISPATCH)
    assert await bench.stages() == ["withdrawn"]


@pytest.mark.parametrize("status", [409, 301])
@pytest.mark.parametrize("again", ["in the same call", "after a death"])
async def test_what_is_refused_since_a_delete_before_it_was_carried_out_is_told_as_gone(
    make_bench: MakeBench, time: FrozenDateTimeFactory, monkeypatch: pytest.MonkeyPatch, again: str, status: int
) -> None:
    bench = await warned(make_bench, time, slots=1)
    time.move_to(START + minutes(60))
    cancel, late = Booking.cancel, list[Any]()
    if again == "in the same call":
        bench.platform.fault("booking", Fault.lost_answer(), method="DELETE", times=1)
    else:

        async def dies(self: Any, *slot: Any) -> bool:
            late.append((self, *slot[:2]))
            raise LockLost("the replica dies here, and the booking service is slow")

        monkeypatch.setattr(Booking, "cancel", dies)
        await bench.attempt(Job.IDLE_ENFORCE)
        monkeypatch.setattr(Booking, "cancel", cancel)
    bench.platform.fault("booking", Fault.status(status), method="DELETE", times=1)
    await bench.run(Job.IDLE_ENFORCE, Job.EVENT_DISPATCH)
    for call in late:
        assert await bench.events() == []
        await cancel(*call)
    time.move_to(START + minutes(62))
    await bench.run(Job.IDLE_ENFORCE, Job.EVENT_DISPATCH)
    (event,) = await bench.events()
    heard = event["reservation"]
    assert ([slot["already_gone"] for slot in heard["cancelled_slots"]], heard["failed_slots"]) == ([True], [])
    assert len(bench.platform.deletions) == 1


@pytest.mark.parametrize("arrives", [True, False])
async def test_a_delete_that_may_still_be_carried_out_is_waited_for_before_its_user_is_told_that_nothing_went(
    make_bench: MakeBench, time: FrozenDateTimeFactory, monkeypatch: pytest.MonkeyPatch, arrives: bool
) -> None:
    first, other = await warned(make_bench, time), await make_bench()
    time.move_to(START + minutes(60))
    cancel, late = Booking.cancel, list[Any]()

    async def dies(self: Any, *slot: Any) -> bool:
        late.append((self, *slot[:2]))
        raise LockLost("the replica dies here, and the booking service is slow")

    monkeypatch.setattr(Booking, "cancel", dies)
    await first.attempt(Job.IDLE_ENFORCE)
    monkeypatch.setattr(Booking, "cancel", cancel)
    first.platform.call("m0")
    await other.run(Job.IDLE_ENFORCE, Job.EVENT_DISPATCH)
    assert await states(other) == (["enforcing"], ["planned", "stopped"])
    assert "delete_in_flight" in [row.reason for row in await other.rows(tables.decision)]
    if arrives:
        await cancel(*late[0])
    time.move_to(START + minutes(61))
    await other.run(Job.IDLE_ENFORCE, Job.EVENT_DISPATCH)
    assert await other.stages() == ["cancelled" if arrives else "withdrawn"]
    assert len(other.platform.deletions) == arrives


async def test_a_replica_frozen_before_its_claim_does_not_take_the_job_from_its_runner(make_bench: MakeBench) -> None:
    frozen, other = await make_bench(), await make_bench()
    end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock'"
    async with frozen.replica.lock.acquire(Job.RPS_CHECK) as guard:
        assert guard is not None
        async with other.engine.begin() as connection:
            await connection.execute(text(end))  # what the idle timeout does to a frozen replica
        async with asyncio.timeout(5), other.replica.lock.acquire(Job.RPS_CHECK) as theirs:
            assert theirs is not None
            claimed = await other.replica.table.claim(Job.RPS_CHECK, 3600, Cause.SCHEDULE, check=theirs.check)
            assert claimed is not None
            lost = asyncio.Event()
            guard.on_lost = lost.set
            if guard.lost is None:
                await lost.wait()
            with pytest.raises(LockLost):
                await frozen.replica.table.claim(Job.RPS_CHECK, 3600, Cause.SCHEDULE, check=guard.check)
            async with Run(claimed, START, theirs, other.engine, other.telemetry).write():
                pass
    assert [(row.epoch, row.state) for row in await other.rows(tables.job_run)] == [(1, "running")]


@pytest.mark.parametrize("of", ["command", "cancelling"])
async def test_a_replica_that_froze_between_two_attempts_of_a_call_makes_no_further_one(
    make_bench: MakeBench, time: FrozenDateTimeFactory, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    plain, frozen = Guard.check, list[int]()

    async def freeze(self: ServiceClient, attempt: int, at_least: float) -> None:
        frozen.append(attempt)

    def check(self: Guard) -> None:
        if frozen:
            self.lose("no heartbeat for 20 s")
        plain(self)

    if of == "command":
        bench, job = await make_bench(SCALE_MIN_REPLICAS=2, MODEL_DISPATCHER_URL="http://127.0.0.1:9"), Job.RPS_CHECK
        bench.platform.add_model("m")
    else:
        bench, job = await warned(make_bench, time), Job.IDLE_ENFORCE
        time.move_to(START + minutes(60))
        bench.platform.fault("booking", Fault.status(503), method="DELETE", times=1)
    monkeypatch.setattr(ServiceClient, "pause", freeze)
    monkeypatch.setattr(Guard, "check", check)
    assert (await bench.attempt(job)).state == "lost"
    assert frozen == [1]
    assert bench.platform.deletions == []
    assert bench.count("http_requests_total", peer="dispatcher", outcome="unreachable") == (of == "command")
