"""What `make load` takes for a true critical error."""

from dev.chaos.load import true_criticals
from dev.fake_platform.platform import Exchange


def call(service: str, status: int | None, method: str = "GET", path: str = "/p", **query: str) -> Exchange:
    return Exchange(0.0, service, method, path, query, None, False, "ailing", status, status)


def test_only_three_failed_answers_in_a_row_to_the_same_question_are_one_that_failed() -> None:
    failed, well = call("registry", 500), call("registry", 200)
    assert true_criticals([failed, failed, well, failed])["registry_unavailable"] == 0
    assert true_criticals([failed, failed, failed])["registry_unavailable"] == 1
    assert true_criticals([failed] * 7)["registry_unavailable"] == 2
    pages = [call("registry", 500, offset=str(100 * number)) for number in range(9)]
    assert true_criticals(pages)["registry_unavailable"] == 0


def test_an_answer_that_nobody_waited_for_has_failed() -> None:
    assert (
        true_criticals([call("booking", 500), call("booking", None), call("booking", 500)])["booking_unavailable"] == 1
    )


def test_each_process_of_entrypoint_is_a_question_of_its_own_and_each_command_is_asked_once() -> None:
    pages = [call("entrypoint", 500, path=f"/{place}/metrics") for place in (0, 1, 0)]
    assert true_criticals(pages)["metrics_unavailable"] == 0
    assert true_criticals([*pages, pages[0]])["metrics_unavailable"] == 1
    commands = [call("dispatcher", status, "POST") for status in (500, 201, 500)]
    assert true_criticals(commands)["command_answer_lost"] == 2
