"""Several processes behind one address are recognised, and a restart is still a restart."""

import pytest

from limiter.domain.usage import Gap, Observation, ScrapedPage, ScrapeProblem
from tests.unit.domain.build import Readings, at, page, secs

A, B = 900_000.0, 1_200_000.0  # what two processes have counted in their lives


def one(now: float, value: float, started: float | None = None) -> ScrapedPage:
    return page(now, {"m": value}, started=started)


def reasons(observation: Observation) -> list[ScrapeProblem]:
    return [reason for reason, _ in observation.problems]


BALANCED = [ScrapeProblem.BALANCED]


# --- processes that say when they began ---


@pytest.mark.parametrize(
    ("started", "balanced"),
    [
        (-9000, True),
        (13.9, True),
        (14.1, False),  # a second for the clocks: the last reading was at 15
        (15, False),
        (22, False),
        (-500.5, False),  # the same process, whose time of boot moved
    ],
)
def test_another_start_time_is_a_restart_only_if_it_is_not_before_the_last_reading(
    started: float, balanced: bool
) -> None:
    readings = Readings()
    readings.scraped(0, one(0, 100, -500))
    readings.scraped(15, one(15, 100, -500))
    observation = readings.scraped(30, one(30, 200, started))
    assert (reasons(observation) == BALANCED) is balanced
    assert observation.known("m") is not balanced


def test_a_page_of_another_process_is_not_folded_in() -> None:
    readings = Readings()
    before = readings.scraped(0, one(0, A, -500)).memory
    observation = readings.scraped(15, one(15, B, -9000))
    assert observation.memory == before
    assert not observation.restarted
    assert observation.problems[0][1].startswith("a: a process answers that was running at the last reading")


@pytest.mark.parametrize("starts", [(-500.0, -9000.0), (None, None)], ids=["start times", "no start times"])
@pytest.mark.parametrize("values", [(A, B), (B, A), (100_000.0, 125_000.0), (5.0, B)])
def test_of_pages_in_turn_one_is_followed_and_the_other_is_unknown_every_time(
    starts: tuple[float | None, float | None], values: tuple[float, float]
) -> None:
    readings = Readings()
    rates = []
    found = []
    for tick in range(60):
        which = tick % 2
        observation = readings.scraped(15 * tick, one(15 * tick, values[which] + tick, starts[which]))
        rates.append(observation.rate("m", secs(60)))
        found.append(reasons(observation))
    assert found[2:].count(BALANCED) >= 28
    assert max(rates) < 10
    assert readings.calls() < 200


def test_calls_of_the_followed_process_go_on_counting_across_the_pages_of_the_other() -> None:
    readings = Readings()
    readings.scraped(0, one(0, A, -500))
    readings.scraped(15, one(15, B, -9000))
    observation = readings.scraped(30, one(30, A + 30, -500))
    assert observation.known("m")
    assert readings.calls() == 30
    assert observation.rate("m", secs(30)) == pytest.approx(1)


def test_a_restart_of_the_followed_process_is_a_restart() -> None:
    readings = Readings()
    readings.scraped(0, one(0, A, -500))
    readings.scraped(15, one(15, B, -9000))
    observation = readings.scraped(30, one(30, 4, 20))
    assert observation.restarts == (Gap("a", at(0), at(30)),)
    assert readings.calls() == 4


@pytest.mark.parametrize(("outage", "taken_over"), [(600, False), (601, True)])
def test_a_process_that_is_seen_alone_for_two_windows_becomes_the_baseline_and_its_history_is_no_use(
    outage: float, taken_over: bool
) -> None:
    readings = Readings()
    readings.scraped(0, one(0, A, -500))
    observation = readings.scraped(outage, one(outage, B, -9000))
    assert (reasons(observation) != BALANCED) is taken_over
    assert observation.restarts == ((Gap("a", at(0), at(outage)),) if taken_over else ())
    assert (readings.calls(), readings.used_at()) == (0, None)
    readings.scraped(620, one(620, B + 3, -9000))
    readings.scraped(635, one(635, B + 5, -9000))
    assert readings.calls() == (5 if taken_over else 2)


# --- processes that do not say when they began ---


def steady(rps: float, until: int = 300) -> Readings:
    readings = Readings()
    for now in range(0, until + 1, 15):
        readings.tick(now, a={"m": 1_000_000 + rps * now})
    return readings


@pytest.mark.parametrize(
    ("rps", "shown", "balanced"),
    [
        (0, 2_500, False),  # (10 x 0 + 100) x 15 + 1000
        (0, 2_501, True),
        (10, 4_000, False),  # (10 x 10 + 100) x 15 + 1000
        (10, 4_001, True),
    ],
)
def test_fallen_counters_are_a_restart_unless_they_show_ten_times_the_calls_that_were_due(
    rps: float, shown: float, balanced: bool
) -> None:
    readings = steady(rps)
    observation = readings.tick(315, a={"m": shown})
    assert (reasons(observation) == BALANCED) is balanced
    assert observation.restarted is not balanced


@pytest.mark.parametrize(("calls", "balanced"), [(15_000, False), (15_001, True)])
def test_an_idle_process_is_not_called_a_thousand_times_a_second_all_at_once(calls: float, balanced: bool) -> None:
    readings = steady(0)
    observation = readings.tick(315, a={"m": 1_000_000 + calls})
    assert (reasons(observation) == BALANCED) is balanced


@pytest.mark.parametrize(("calls", "balanced"), [(16_500, False), (16_501, True)])
def test_a_busy_process_may_become_ten_times_as_busy_besides(calls: float, balanced: bool) -> None:
    readings = steady(10)
    observation = readings.tick(315, a={"m": 1_003_000 + calls})
    assert (reasons(observation) == BALANCED) is balanced


@pytest.mark.parametrize(("calls", "balanced"), [(150_000, False), (150_001, True)])
def test_a_process_that_says_it_is_the_same_is_believed_ten_times_as_much(calls: float, balanced: bool) -> None:
    readings = Readings()
    readings.tick(0, started=-500, a={"m": 0})
    observation = readings.tick(15, started=-500, a={"m": calls})
    assert (reasons(observation) == BALANCED) is balanced


def test_fallen_counters_are_of_another_process_though_it_says_it_is_the_same() -> None:
    readings = Readings()
    readings.tick(0, started=-500, a={"m": B})
    assert reasons(readings.tick(15, started=-500, a={"m": A})) == BALANCED


def test_a_process_that_is_busier_than_was_thought_possible_is_believed_after_two_windows() -> None:
    readings = Readings()
    for now in range(0, 901, 15):
        observation = readings.tick(now, a={"m": 2000.0 * now})
    assert observation.complete
    assert observation.rate("m", secs(60)) == pytest.approx(2000)
    assert observation.memory.gaps == (Gap("a", at(0), at(615)),)


def test_start_times_within_a_second_are_no_proof_of_one_process() -> None:
    readings = Readings()
    readings.tick(0, started=-500, a={"m": A})
    assert reasons(readings.tick(15, started=-499.5, a={"m": B})) == BALANCED


@pytest.mark.parametrize(("outage", "shown"), [(60, 600 * 10), (3600, 3600 * 10)])
def test_a_restart_in_an_outage_may_show_the_calls_of_all_of_it(outage: int, shown: float) -> None:
    readings = steady(10)
    for now in range(315, 300 + outage, 15):
        readings.tick(now, a=None)
    observation = readings.tick(300 + outage, a={"m": shown})
    assert observation.complete
    assert observation.restarts == (Gap("a", at(300), at(300 + outage)),)
    assert readings.calls() >= shown


@pytest.mark.parametrize(
    ("again_after", "before", "balanced"),
    [
        (285, 1001, True),
        (300, 1001, False),  # a window after the first
        (285, 1000, False),  # so few calls do no harm
    ],
)
def test_counters_that_fall_twice_within_a_window_are_of_several_processes(
    again_after: int, before: float, balanced: bool
) -> None:
    readings = steady(0)
    assert readings.tick(315, a={"m": 0}).restarted
    readings.tick(330, a={"m": before})
    observation = readings.tick(315 + again_after, a={"m": 0})
    assert (reasons(observation) == BALANCED) is balanced


def test_a_fall_of_another_target_does_not_count() -> None:
    readings = Readings()
    readings.tick(0, a={"m": 5000}, b={"m": 5000})
    readings.tick(15, a={"m": 0}, b={"m": 5000})
    assert readings.tick(30, a={"m": 0}, b={"m": 0}).complete


def test_reading_after_reading_a_balancer_shows_no_more_calls_than_there_are_however_it_chooses() -> None:
    for pattern in ("AABB", "AAB", "ABB", "ABBBBB"):
        readings = Readings()
        for tick in range(120):
            base = A if pattern[tick % len(pattern)] == "A" else B
            observation = readings.tick(15 * tick, a={"m": base + tick})
            assert observation.rate("m", secs(60)) < 10, pattern


@pytest.mark.parametrize(("calls", "balanced"), [(39_037.0, False), (39_038.0, True)])
def test_after_a_lull_a_process_may_be_ten_times_as_busy_as_in_the_window_before(calls: float, balanced: bool) -> None:
    readings, value = Readings(), 0.0
    for now in range(0, 76, 15):  # 48,000 calls in a minute, 160.25 a second over the window of 300 s, then none
        value += 12_000.0 if 0 < now < 75 else 0.0
        readings.scraped(now, one(now, value), page(now, {"n": float(now)}, target="b"))
    observation = readings.scraped(90, one(90, value + calls), page(90, {"n": 90.0}, target="b"))
    assert (reasons(observation) == BALANCED) is balanced
