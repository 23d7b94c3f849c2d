"""A replica is killed in the middle of a cancelling, and another one takes its place."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dev.demo.facts import Facts
from dev.demo.happenings import Happening
from dev.demo.story import GUS, TAKEN_OVER
from dev.fake_platform.faulty_wire import ArmedFault
from dev.servers.replica import Replica
from dev.wording import counted


@dataclass
class Takeover:
    """Kills the replica that waits for the `hanging` DELETE; `replicas` are those that run."""

    facts: Facts
    replicas: list[Replica]
    start: Callable[[str], Replica]
    hanging: ArmedFault
    runner: str = ""

    def note(self, replica: str, line: dict[str, Any]) -> None:
        """Remember which replica runs idle_enforce."""
        if (line.get("event"), line.get("job")) == ("run_started", "idle_enforce"):
            self.runner = replica

    async def play(self) -> list[Happening]:
        """Kill the runner once its DELETE hangs; returns what was done."""
        if self.facts.killed or self.hanging.left != 0:
            return []
        victim = next(replica for replica in self.replicas if replica.name == self.runner)
        victim.process.kill()
        await asyncio.to_thread(victim.process.wait)
        self.facts.killed = victim.name
        self.facts.gone_when_killed = sum(self.facts.times_deleted(GUS))
        follower = self.start(f"replica-{len(self.replicas) + 1}")
        self.replicas[self.replicas.index(victim)] = follower
        slots = f"{self.facts.gone_when_killed} of {counted(len(self.facts.expected_gone[GUS]), 'slot')}"
        return [
            Happening("kill -9", TAKEN_OVER, f"{victim.name} is killed after it has cancelled {slots}"),
            Happening("start", "all models", f"{follower.name} is started"),
        ]
