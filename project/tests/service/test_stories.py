"""The warning and unbooking timelines as stories: N = 60 minutes, Y = 15, unless a story says otherwise.

Each is played by the composed service on real Postgres and RabbitMQ, in frozen time. Every act has its minute, and an
act that no story names fails it. Times to the second are in `test_timelines.py`.
"""

import pytest
from freezegun.api import FrozenDateTimeFactory

from tests.conftest import MakeBench
from tests.service.stories import Stage, Story, lines, text

ALL, UNINSTALL = {"UNBOOKING_MODE": "ALL"}, {"UNINSTALL_ON_IDLE": "true"}
SCALES = {"SCALE_UP_WINDOW_SECONDS": 60, "SCALE_DOWN_WINDOW_SECONDS": 120, "SCALE_DOWN_STABILIZATION_SECONDS": 120}

STORIES = [
    Story(
        "nobody calls: warned at N - Y, the following row cancelled at N",
        "0 ann books 0-120 120-180 180-240",
        """45 ann hears warning of 120-180 180-240 from 60
        60 ann loses 120-180
        60 ann loses 180-240
        60 ann hears cancelled 120-180 180-240""",
    ),
    Story(
        "a reservation that goes whole goes in one piece",
        """0 ann books 0-120
        0 ann books 120-180 180-240""",
        """45 ann hears warning of 120-180 180-240 from 60
        60 ann loses 120-180 180-240 as a whole
        60 ann hears cancelled 120-180 180-240""",
    ),
    Story(
        "called before the warning: a full N from then on",
        """0 ann books 0-180 180-240
        40 m is called""",
        """90 ann hears warning of 180-240 from 105
        105 ann loses 180-240
        105 ann hears cancelled 180-240""",
        until=105,
    ),
    Story(
        "called after the warning: withdrawn, and told; a new spell needs a full N",
        """0 ann books 0-180 180-240
        50 m is called""",
        """45 ann hears warning of 180-240 from 60
        60 ann hears withdrawn: used
        105 ann hears warning of 180-240 from 120
        120 ann loses 180-240
        120 ann hears cancelled 180-240""",
        until=120,
    ),
    Story(
        "down at N - Y: warned late, cancelled late",
        """0 ann books 0-180 180-240
        20 the service is down
        75 the service is up""",
        """75 ann hears warning of 180-240 from 90
        90 ann loses 180-240
        90 ann hears cancelled 180-240""",
    ),
    Story(
        "a warning that no queue takes does not count: Y begins when one does",
        """0 ann books 0-180 180-240
        30 the broker forgets the notifier
        70 the broker knows the notifier""",
        """75 ann hears warning of 180-240 from 90
        90 ann loses 180-240
        90 ann hears cancelled 180-240""",
    ),
    Story(
        "without an address nobody is warned, and so nobody cancelled, until the address is known",
        """0 ann books 0-180 180-240
        70 the platform announces ann's address""",
        """75 ann hears warning of 180-240 from 90
        90 ann loses 180-240
        90 ann hears cancelled 180-240""",
        settings={"USER_EMAIL_TEMPLATE": ""},
    ),
    Story(
        "metrics out across N - Y: nothing meanwhile; equal counters then prove the time between",
        """0 ann books 0-180 180-240
        20 entrypoint breaks
        70 entrypoint heals""",
        """75 ann hears warning of 180-240 from 90
        90 ann loses 180-240
        90 ann hears cancelled 180-240""",
    ),
    Story(
        "an Entrypoint restarts: the time since it was last read is unknown, and does not count",
        """0 ann books 0-180 180-240
        22 entrypoint 0 restarts""",
        """60 ann hears warning of 180-240 from 75
        75 ann loses 180-240
        75 ann hears cancelled 180-240""",
    ),
    Story(
        "the bookings cannot be read: nothing happens to anybody until they can",
        """0 ann books 0-180 180-240
        40 booking breaks
        70 booking heals""",
        """75 ann hears warning of 180-240 from 90
        90 ann loses 180-240
        90 ann hears cancelled 180-240""",
    ),
    Story(
        "one booking cannot be understood: its model is left alone, and no other",
        """0 another n runs
        0 a booking of m is garbled
        0 ann books 0-120 120-180
        0 ben books 0-120 180-240 of n
        0 ben books 120-180 of n""",
        """45 ben hears warning of 120-180 180-240 from 60
        60 ben loses 120-180 as a whole
        60 ben loses 180-240
        60 ben hears cancelled 120-180 180-240""",
    ),
    Story(
        "the registry does not answer: likewise",
        """0 ann books 0-180 180-240
        50 registry breaks
        70 registry heals""",
        """45 ann hears warning of 180-240 from 60
        75 ann loses 180-240
        75 ann hears cancelled 180-240""",
    ),
    Story(
        "IN_ROW ends at a pause longer than the gap",
        "0 ann books 0-120 125-180 186-240",
        """45 ann hears warning of 125-180 from 60
        60 ann loses 125-180
        60 ann hears cancelled 125-180""",
    ),
    Story(
        "ALL takes every later slot of that user and model",
        """0 ann books 0-120
        0 ann books 300-360
        0 ann books 400-460 of other
        0 ben books 500-560""",
        """45 ann hears warning of 300-360 from 60
        60 ann loses 300-360 as a whole
        60 ann hears cancelled 300-360""",
        settings=ALL,
    ),
    Story(
        "another user's slot in between is a pause, and stays",
        """0 ann books 0-120 180-240
        0 ben books 120-180""",
        "",
    ),
    Story(
        "ALL reaches over another user's slot, which stays",
        """0 ann books 0-120 180-240
        0 ben books 120-180""",
        """45 ann hears warning of 180-240 from 60
        60 ann loses 180-240
        60 ann hears cancelled 180-240""",
        settings=ALL,
    ),
    Story(
        "a pause longer than the gap starts the clock anew",
        """0 ann books 0-30
        0 ann books 45-180 180-240""",
        """90 ann hears warning of 180-240 from 105
        105 ann loses 180-240
        105 ann hears cancelled 180-240""",
        until=105,
    ),
    Story(
        "a row runs across reservations and slots: idle time goes on over a slot's end",
        """0 ann books 0-30
        0 ann books 30-90 90-150""",
        """45 ann hears warning of 90-150 from 60
        60 ann loses 90-150
        60 ann hears cancelled 90-150""",
    ),
    Story(
        "two users of one model: each has his own clock, and a warning of his own",
        """0 ann books 0-180 180-240
        0 ben books 30-180 240-300
        0 ben books 180-240""",
        """45 ann hears warning of 180-240 from 60
        60 ann loses 180-240
        60 ann hears cancelled 180-240
        75 ben hears warning of 180-240 240-300 from 90
        90 ben loses 180-240 as a whole
        90 ben loses 240-300
        90 ben hears cancelled 180-240 240-300""",
    ),
    Story(
        "one name, two instances: a call of the name is use of both",
        """0 another m runs
        0 ann books 0-180 180-240
        40 m is called""",
        "90 ann hears warning of 180-240 from 105",
    ),
    Story(
        "the user gives back what follows while warned: nothing is left, and the warning is withdrawn",
        """0 ann books 0-120 120-180
        50 ann gives back 120-180""",
        """45 ann hears warning of 120-180 from 60
        60 ann hears withdrawn: nothing_left""",
    ),
    Story(
        "booked on while warned: what no warning named stays",
        """0 ann books 0-120 120-180
        50 ann books 180-240""",
        """45 ann hears warning of 120-180 from 60
        60 ann loses 120-180
        60 ann hears cancelled 120-180""",
    ),
    Story(
        "nothing follows, and nothing can be freed: no warning",
        "0 ann books 0-180",
        "",
    ),
    Story(
        "the current slot goes too, if so configured",
        "0 ann books 0-180",
        """45 ann hears warning of 0-180 from 60
        60 ann loses 0-180 as a whole
        60 ann hears cancelled 0-180""",
        settings={"UNBOOK_CURRENT_SLOT": "true"},
    ),
    Story(
        "uninstalled when nobody else wants it; told when it is done",
        "0 ann books 0-120 120-180",
        """45 ann hears warning of 120-180 from 60
        60 ann loses 120-180
        60 m is uninstalled
        75 ann hears cancelled 120-180 uninstalled""",
        settings=UNINSTALL,
    ),
    Story(
        "not uninstalled while another user has booked it",
        """0 ann books 0-120 120-180
        0 ben books 30-90""",
        """45 ann hears warning of 120-180 from 60
        60 ann loses 120-180
        60 ann hears cancelled 120-180""",
        settings=UNINSTALL,
        until=60,
    ),
    Story(
        "not uninstalled when another user's slot starts soon",
        """0 ann books 0-120 120-180
        0 ben books 90-150""",
        """45 ann hears warning of 120-180 from 60
        60 ann loses 120-180
        60 ann hears cancelled 120-180""",
        settings=UNINSTALL,
        until=75,
    ),
    Story(
        "one run cancels for so many users, and the next goes on",
        """0 ann books 0-180 180-240
        0 ben books 0-180 180-240""",
        """45 ann hears warning of 180-240 from 60
        45 ben hears warning of 180-240 from 60
        60 ann loses 180-240
        60 ann hears cancelled 180-240
        75 ben loses 180-240
        75 ben hears cancelled 180-240""",
        settings={"IDLE_ENFORCE_MAX_PER_RUN": 1},
    ),
    Story(
        "called in the middle of the cancelling: the rest stays, and what went is told",
        """0 ann books 0-120 120-180 180-240 240-300
        50 after the first cancellation: m is called""",
        """45 ann hears warning of 120-180 180-240 240-300 from 60
        60 ann loses 120-180
        60 ann hears cancelled 120-180""",
    ),
    Story(
        "a cancellation that is not allowed now is tried again, and nothing is told meanwhile",
        """0 ann books 0-120 120-180 180-240
        50 a cancellation is answered with 403""",
        """45 ann hears warning of 120-180 180-240 from 60
        75 ann loses 120-180
        75 ann loses 180-240
        75 ann hears cancelled 120-180 180-240""",
    ),
    Story(
        "two slots of an hour with N = 1 h: the second is named, and goes although it has begun",
        "0 ann books 0-60 60-120",
        """45 ann hears warning of 60-120 from 60
        60 ann loses 60-120
        60 ann hears cancelled 60-120""",
    ),
    Story(
        "ALL: idle time adds up over short slots",
        """0 ann books 0-30
        0 ann books 45-75
        0 ann books 90-120""",
        """60 ann hears warning of 90-120 from 75
        75 ann loses 90-120 as a whole
        75 ann hears cancelled 90-120""",
        settings=ALL,
    ),
    Story(
        "IN_ROW: a new row starts the clock anew, so short slots never add up",
        """0 ann books 0-30
        0 ann books 45-75
        0 ann books 90-120""",
        "",
    ),
    Story(
        "nothing would be left at the deadline: no warning",
        "0 ann books 0-50 50-55",
        "",
        settings=UNINSTALL,
    ),
    Story(
        "a dry run tells nobody and takes nothing",
        """0 ann books 0-120 120-180
        30 other is called 50 times a second""",
        "",
        settings={"DRY_RUN": "true"},
    ),
    Story(
        "an exempted model is left alone",
        "0 ann books 0-120 120-180",
        "",
        settings={"POLICY_OVERRIDES": '{"m": {"exempt": true}}'},
    ),
    Story(
        "a model with limits of its own goes by them",
        "0 ann books 0-120 120-180",
        """15 ann hears warning of 120-180 from 30
        30 ann loses 120-180
        30 ann hears cancelled 120-180""",
        settings={"POLICY_OVERRIDES": '{"m": {"idle_limit_seconds": 1800}}'},
    ),
    Story(
        "the idle jobs paused and resumed: a full N from the resume on",
        """0 ann books 0-180 180-240
        20 the operator pauses the idle jobs
        40 the operator resumes the idle jobs""",
        """90 ann hears warning of 180-240 from 105
        105 ann loses 180-240
        105 ann hears cancelled 180-240""",
        until=105,
    ),
    Story(
        "a burst: up to what it needs, at once; then idle: down in one command",
        """0 m is called 25 times a second
        10 m is called 0 times a second""",
        """1 m scales to 3
        13 m scales to 1""",
        step=1,
        until=18,
        settings=SCALES,
    ),
    Story(
        "a failed saga backs off before the next command",
        """0 m is called 25 times a second
        1 the next saga fails""",
        """1 m scales to 3
        4 m scales to 3""",
        step=1,
        until=6,
        settings=SCALES | {"COMMAND_BACKOFF_FIRST_SECONDS": 120},
    ),
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.title)
async def test_story(make_bench: MakeBench, time: FrozenDateTimeFactory, story: Story) -> None:
    stage = Stage(await make_bench(**story.settings), time, make_bench)
    expected = lines(story.acts) if story.acts else []
    assert text(await stage.play(story)) == text(expected)
    assert stage.platform.violations == []
