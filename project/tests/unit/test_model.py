"""The models of the protocol have the states and arrows of the code; each safeguard in them is checked and told of."""

import re
from pathlib import Path

import pytest

from dev.model.configurations import NOT_NEEDED, REMOVED, WHOLE
from dev.model.spin import MODELS, SpinFailed, result_of
from limiter.domain.idle_spell import ARROWS, SpellState, StepState

PAGE = Path(__file__).parents[3] / "docs/locking.md"
CHECKED = [*REMOVED, *NOT_NEEDED]
SPELL = (MODELS / "idle_spell.pml").read_text()
SAFEGUARD = re.compile(r"\b(?:WITHOUT|TRUST_LONGER|EVEN_IF)_\w+")
SEARCHED = "State-vector 88 byte, depth reached 9, errors: {}\n  12 states, stored\npan: elapsed time 0.5 seconds\n"


def names(kind: str) -> set[str]:
    """The members of an mtype of the model of spells."""
    found = re.search(rf"mtype:{kind} = {{(.*)}};", SPELL)
    assert found is not None
    return {name.strip() for name in found[1].split(",")}


def test_the_states_of_a_spell_and_of_a_step_are_those_of_the_code() -> None:
    assert names("spell") == set(SpellState) | {"unopened"}
    assert names("step") == set(StepState) | {"unnamed"}


def test_a_spell_moves_along_the_arrows_of_the_code_and_no_other() -> None:
    # Of the arrow that a flag changes, the last definition is the one that holds without it.
    modelled = dict(re.findall(r"#define MAY_BECOME_(\w+)\(s\) (.*)", SPELL))
    arrows = {(source, to.lower()) for to, when in modelled.items() for source in re.findall(r"s == (\w+)", when)}
    assert arrows == {(str(source), str(to)) for source, causes in ARROWS.items() for to in causes}


@pytest.mark.parametrize("model", ["job_lock", "idle_spell"])
def test_each_safeguard_that_a_model_can_do_without_is_removed_in_a_check_of_it(model: str) -> None:
    removable = {
        flag
        for line in (MODELS / f"{model}.pml").read_text().splitlines()
        if line.startswith("#if")
        for flag in SAFEGUARD.findall(line)
    }
    checked = {flag for one in CHECKED if one.model == model for flag in one.flags if SAFEGUARD.fullmatch(flag)}
    assert removable == checked


def test_the_page_tells_of_each_safeguard_that_is_removed() -> None:
    checked = {flag for one in CHECKED for flag in one.flags if SAFEGUARD.fullmatch(flag)}
    assert set(SAFEGUARD.findall(PAGE.read_text())) == checked


def test_the_models_are_searched_whole_with_two_and_three_replicas_for_safety_and_for_liveness() -> None:
    jobs = {(one.flags[0], one.liveness is not None) for one in WHOLE if one.model == "job_lock"}
    assert jobs == {(f"REPLICAS={replicas}", liveness) for replicas in (2, 3) for liveness in (False, True)}


def test_a_search_tells_what_is_broken() -> None:
    assert result_of(SEARCHED.format(0)).outcome == "holds"
    assert result_of("pan:1: assertion violated  !(called_twice) (at depth 9)\n" + SEARCHED.format(1)).outcome == (
        "called_twice"
    )
    cycle = "pan:1: acceptance cycle (at depth 9)\n" + SEARCHED.format(1)
    assert result_of(cycle, "run_by_somebody").outcome == "run_by_somebody"


@pytest.mark.parametrize(
    "said",
    [
        "error: max search depth too small\n" + SEARCHED.format(0),
        "pan: out of memory\n" + SEARCHED.format(0),
        "Warning: Search not completed\n" + SEARCHED.format(0),
        "pan: invalid end state (at depth 9)\n" + SEARCHED.format(1),
        "pan: error: too many processes\n",
    ],
)
def test_a_search_that_was_not_whole_is_no_proof(said: str) -> None:
    with pytest.raises(SpinFailed):
        result_of(said)
