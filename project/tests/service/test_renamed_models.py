"""A model gets another name: its use and its keeps go along, and nobody is cancelled for the change; N = 60, Y = 15."""

import pytest
from freezegun.api import FrozenDateTimeFactory

from tests.conftest import MakeBench
from tests.service.stories import Stage, Story, lines, text

EXEMPT = 'the service restarts with POLICY_OVERRIDES={"k":{"exempt":true}}'

STORIES = [
    Story(
        "called by the old name: that was use, and a full N counts from then on",
        """0 ann books 0-180 180-240
        30 m is called
        35 m is renamed k""",
        """75 ann hears warning of 180-240 from 90
        90 ann loses 180-240
        90 ann hears cancelled 180-240""",
        runs=(0, 30, 45, 60, 75, 90),
    ),
    Story(
        "called and renamed between two runs: use as well, as of the run that sees it",
        """0 ann books 0-180 180-240
        31 m is called
        31 m is renamed k""",
        "90 ann hears warning of 180-240 from 105",
        runs=(0, 30, 45, 75, 89, 90),
    ),
    Story(
        "kept by the old name: kept by the new one too, until the end of the keep",
        """0 ann books 0-180 180-240
        20 the operator keeps m until 60
        30 m is renamed k""",
        "105 ann hears warning of 180-240 from 120",
        runs=(0, 30, 45, 60, 104, 105),
    ),
    Story(
        "renamed while warned, and exempted by the new name: withdrawn",
        f"""0 ann books 0-180 180-240
        50 m is renamed k
        51 {EXEMPT}""",
        """45 ann hears warning of 180-240 from 60
        60 ann hears withdrawn: exempt""",
        runs=(0, 45, 60),
    ),
    Story(
        "renamed while warned, and kept by the old name after that: withdrawn",
        """0 ann books 0-180 180-240
        50 m is renamed k
        51 the operator keeps m until 200""",
        """45 ann hears warning of 180-240 from 60
        60 ann hears withdrawn: kept""",
        runs=(0, 45, 60),
    ),
    Story(
        "renamed in the middle of a cancelling, and exempted by the new name: the rest stays",
        f"""0 ann books 0-120 120-180 180-240
        50 after the first cancellation: all cancellations are answered with 403
        61 m is renamed k
        61 cancellations are allowed
        61 {EXEMPT}""",
        """45 ann hears warning of 120-180 180-240 from 60
        60 ann loses 120-180
        62 ann hears cancelled 120-180""",
        runs=(0, 45, 60, 62),
    ),
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.title)
async def test_story(make_bench: MakeBench, time: FrozenDateTimeFactory, story: Story) -> None:
    stage = Stage(await make_bench(**story.settings), time, make_bench)
    assert text(await stage.play(story)) == text(lines(story.acts))
