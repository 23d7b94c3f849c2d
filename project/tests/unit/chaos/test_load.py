"""What `make load` takes for a true critical error."""

from dev.chaos.load import MINUTE, WARM_UP, still_rising, true_criticals
from dev.fake_platform.platform import Exchange


def call(service: str, at: float, method: str = "GET", path: str = "/p", status: int | None = 500) -> Exchange:
    return Exchange(at, service, method, path, {}, None, False, "ailing", status, status)


def failures(service: str, *times: float) -> list[Exchange]:
    return [call(service, at) for at in times]


def test_three_failed_answers_to_the_same_question_within_the_time_of_three_attempts_are_one_that_failed() -> None:
    assert true_criticals(failures("registry", 0, 3))["registry_unavailable"] == 0
    assert true_criticals(failures("registry", 0, 3, 6))["registry_unavailable"] == 1
    assert true_criticals(failures("registry", 0, 3, 14))["registry_unavailable"] == 0
    assert true_criticals(failures("registry", 0, 5, 14, 16, 17))["registry_unavailable"] == 1
    assert true_criticals(failures("registry", 0, 1, 2, 3, 4, 5, 6))["registry_unavailable"] == 2
    pages = [call("registry", 0, path=f"/{number}") for number in range(9)]
    assert true_criticals(pages)["registry_unavailable"] == 0


def test_a_good_answer_fails_nowhere_and_one_that_nobody_waited_for_has_failed() -> None:
    well, left = call("booking", 1, status=200), call("booking", 2, status=None)
    assert true_criticals([*failures("booking", 0, 3), well])["booking_unavailable"] == 0
    assert true_criticals([*failures("booking", 0, 3), left])["booking_unavailable"] == 1


def test_each_process_of_entrypoint_is_a_question_of_its_own_and_each_command_is_asked_once() -> None:
    pages = [call("entrypoint", 0, path=f"/{place}/metrics") for place in (0, 1, 0)]
    assert true_criticals(pages)["metrics_unavailable"] == 0
    assert true_criticals([*pages, pages[0]])["metrics_unavailable"] == 1
    commands = [call("dispatcher", 0, "POST", status=status) for status in (500, 201, 500)]
    assert true_criticals(commands)["command_answer_lost"] == 2


def test_memory_that_takes_a_step_is_flat_and_memory_that_rises_to_the_end_is_not() -> None:
    warm_up = [100.0] * WARM_UP * MINUTE
    assert still_rising("one", [*warm_up, *[150.0] * 15, *[190.0] * 21]) == []
    assert still_rising("one", [*warm_up, *(150.0 + rise for rise in range(36))]) == [
        "memory of one rose from 173.0 to 185.0 MB"
    ]
