"""What each panel must show after the scene: by what the platform, the Notificator and Postgres have recorded."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf, isnan

from dev.dashboards.scene import BUDGET, BUSY, CONTROL, DEPLOYED, LIMIT_OF_NEXT, MOST, NEXT, STEADY, STEADY_RPS, Scene
from limiter import VERSION
from limiter.domain.job import Job

WINDOW = 300  # seconds: the rates of the dashboard are over five minutes
HALF_AN_HOUR = 0.5  # of the two slots of a quarter of an hour


@dataclass(frozen=True)
class Within:
    """Two bounds, both included."""

    low: float
    high: float

    def allows(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        low, high = f"{self.low:.4g}", f"{self.high:.4g}"
        return low if low == high else f"{low} to {high}"


def about(value: float, share: float = 0.05, most: float = 0) -> Within:
    """Prometheus works an increase out from samples, so it is right within a few hundredths; `most` more came since."""
    return Within(value * (1 - share) - most, value * (1 + share) + most)


ANY, NOTHING = Within(0, inf), Within(0, 0)


@dataclass(frozen=True)
class Known:
    """What the series of a panel must show, by their names; all `others` as given, and NaN never counts."""

    series: Mapping[str, Within] = field(default_factory=dict)
    others: Within = NOTHING

    def wrong(self, shown: Mapping[str, float]) -> list[str]:
        """What is otherwise than it must be."""
        found = [
            f"{name}: {value:g}, not {self.series.get(name, self.others)}"
            for name, value in shown.items()
            if not isnan(value) and not self.series.get(name, self.others).allows(value)
        ]
        missing = [name for name in self.series if name not in shown or isnan(shown[name])]
        return found + [f"{name}: not there" for name in missing]


async def expected(scene: Scene) -> dict[str, Known]:
    """By the panels' titles; what a panel must show of a series that has no place here is 0."""
    platform, instances = scene.platform, scene.instances
    runs, missed = await scene.runs(), await scene.missed()
    asked = scene.calls()
    commands = Counter(command.kind for command in platform.commands)
    replicas = {model.name: model.replicas for model in platform.models}
    stages = scene.stages
    decided = {"warn": stages["warning"], "cancel": stages["cancelled"], "uninstall": commands["uninstall"]}
    scaled = commands["scale"]
    pages = dict.fromkeys(platform.metrics_urls, Within(0, 5))
    recent = {str(job): Within(0, 120) for job in Job if job is not Job.CLEANUP}
    since_start = time.time() - scene.began
    hours = HALF_AN_HOUR * 2  # of replicas: the uninstalled model had two
    acts = {
        "scale_up: overloaded": about(scaled),
        "uninstall: deadline_passed": about(commands["uninstall"]),
        "warn: unused": about(stages["warning"]),
        "cancel: deadline_passed": about(stages["cancelled"]),
    }
    return {
        "Replicas that answer": Known({"replicas": about(2, 0)}),
        # One announcement could not be understood; nothing else may have gone wrong.
        "Critical errors, last hour": Known({"errors": about(1)}),
        "Critical errors by reason": Known({"announcement_rejected": about(1)}),
        "Since the last success": Known(recent, Within(0, since_start)),
        "Intervals missed, last hour": Known({job: about(missed.get(job, 0)) for job in Job}),
        "Dry run": Known({"dry run": NOTHING}),
        "Dry run, pauses, not ready": Known({"dry run": NOTHING, "idle_enforce paused": about(1, 0)}),
        "Age of what waits": Known({"oldest event": Within(0, 5), "fleet's numbers": Within(0, 5)}),
        "Versions and memory": Known({VERSION: about(2, 0)}, Within(20, 500)),
        "How late the event loop is (99 %)": Known(dict.fromkeys(instances, Within(0, 1))),
        "Connections in use": Known(dict.fromkeys(instances, Within(0, 5))),
        "Recording": Known({f"{name} stopped": NOTHING for name in instances}),
        "Models that flap": Known({"models": NOTHING}),
        "Dead letters": Known({CONTROL: about(1, 0), DEPLOYED: about(1, 0)}),
        "Models observed": Known({"running models": about(len(platform.models), 0)}),
        "The fleet's budget": Known(
            {
                "replicas": about(sum(replicas.values()), 0),
                "budget ": about(BUDGET, 0),
                "models without enough": NOTHING,
            }
        ),
        "Actions in progress": Known(dict.fromkeys(("scale_up", "scale_down", "uninstall"), NOTHING)),
        "Scalings and uninstalls decided": Known(
            {name: known for name, known in acts.items() if name.startswith(("scale", "un"))}
        ),
        "Unfinished commands": Known(dict.fromkeys(("planned", "submitted", "stuck"), NOTHING)),
        # How often nothing changed depends on how long it took.
        "Held, and why": Known({"at_max": Within(1, inf), "within_target": Within(1, inf)}, ANY),
        "Acted, and why": Known(acts),
        "Busiest models": Known({STEADY: about(STEADY_RPS, 0.2)}, ANY),
        "Largest models": Known({BUSY: about(MOST, 0), STEADY: about(2, 0), NEXT: about(1, 0)}),
        "Open idle spells": Known({"warned": about(1, 0), "warning_pending": NOTHING, "enforcing": NOTHING}),
        "Until the next cancelling": Known({"seconds": about(LIMIT_OF_NEXT - since_start, 0, 20)}),
        "Idle the longest": Known({NEXT: about(since_start, 0, 20)}, Within(0, 10)),
        "Warnings, withdrawals, cancellations": Known(
            {
                "warn": about(stages["warning"]),
                "cancel": about(stages["cancelled"]),
                "withdraw": about(stages["withdrawn"]),
            }
        ),
        "Models and slots cancelled": Known({"models": about(1), "slots": about(len(platform.deletions))}),
        "Cancelled, last day": Known({"models": about(1), "slots": about(len(platform.deletions))}),
        "Hours freed, last day": Known({"booked hours": about(HALF_AN_HOUR), "replica hours": about(hours)}),
        "Runs by outcome": Known({name: about(times, 0.1, 3) for name, times in runs.items()}),
        "How long runs take (95 %)": Known(
            dict.fromkeys(("rps_check", "idle_enforce", "saga_poll"), Within(0, 5)), ANY
        ),
        "Time to answer (95 %)": Known({}, Within(0, 1)),
        "Calls by outcome": Known(
            # Those before the first page was scraped may be missing.
            {
                name: Within(about((times - scene.unscraped[name]) / WINDOW).low, about(times / WINDOW).high)
                for name, times in asked.items()
            }
        ),
        "Entries refused": Known(),
        "Age of the readings": Known(pages),
        "Restarts of Entrypoint": Known({platform.metrics_urls[0]: about(1), platform.metrics_urls[1]: NOTHING}),
        "Calls that are unknown": Known({platform.metrics_urls[0]: Within(0.1, 3), platform.metrics_urls[1]: NOTHING}),
        "Events pending": Known({"pending": NOTHING}),
        "Events handed to the broker": Known({f"{stage} confirmed": about(times) for stage, times in stages.items()}),
        "Decided, last hour": Known(
            {name: about(times) for name, times in decided.items()} | {"scale_up": about(scaled)}
        ),
        "Applied, last hour": Known(
            {f"{stage} told": about(times) for stage, times in stages.items()}
            | {"models cancelled": about(1), "slots cancelled": about(len(platform.deletions))}
        ),
    }
