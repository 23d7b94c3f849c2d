"""What the fault suite breaks, and how: three replicas, their servers, the external services and the network."""

import asyncio
import random
import re
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from dev.chaos.cancelling_faults import CancellingFaults
from dev.chaos.observer import Observer
from dev.chaos.storage_faults import LOST_HOUR, StorageFaults
from dev.chaos.tcp_proxy import TcpProxy
from dev.chaos.workload import Workload
from dev.fake_platform.platform import Fault, Platform, Service
from dev.servers.replica import ROOT, Replica
from dev.servers.services import Services
from dev.wording import counted

SERVICES: tuple[Service, ...] = ("registry", "dispatcher", "booking", "entrypoint")
FAULTS = (Fault.status(500), Fault.hang(), Fault.reset(), Fault.garbage(b"\x00{"), Fault.json({"x": 1}), Fault.empty())
LONGEST_SILENCE = 22.0  # seconds: longer than Postgres lets a silent lock owner keep its lock
HOUR = 3600.0
# As a log line names the kinds of errors that are a statement's own fault, whatever else breaks.
SCHEMA_ERRORS = re.compile(r"(?:ProgrammingError|IntegrityError|DataError): [^,}]{1,80}")

Kind = Callable[[], Awaitable[None]]


@dataclass
class Member:
    """One replica, and the proxy through which it reaches pgbouncer."""

    replica: Replica
    proxy: TcpProxy
    root: Path


@dataclass
class Nemesis:
    """Injects faults into everything that one seed runs on; each method is one fault, from its start to its end."""

    services: Services
    platform: Platform
    workload: Workload
    observer: Observer
    variables: dict[str, str]
    directory: Path
    dice: random.Random
    proxies: AsyncExitStack
    members: list[Member] = field(default_factory=list)
    injected: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    started: int = 0
    root: Path = ROOT  # of the code that replicas which are added run
    longest_silence: float = LONGEST_SILENCE
    longest_loss: float = LOST_HOUR

    def faults_of_replicas(self) -> Sequence[Kind]:
        return (
            self.kill_replica,
            self.freeze_replica,
            self.cut_network,
            self.skew_clock,
            self.set_clock,
            self.leave_log_unread,
        )

    def faults_of_servers(self) -> Sequence[Kind]:
        """Faults of servers and external services; those of the services have many kinds, so they are listed twice."""
        services = (self.break_service, self.lose_answers)
        storage = StorageFaults(self.services, self.workload, self.dice, self.longest_loss).kinds()
        return (self.bounce_pgbouncer, self.bounce_postgres, self.bounce_rabbitmq, *storage, *services, *services)

    def faults_of_cancelling(self) -> Sequence[Kind]:
        return CancellingFaults(self.platform, self.workload, self.dice).kinds()

    async def inject(self, kind: Kind) -> None:
        """Inject one fault and count it; returns when it is over."""
        self.injected[getattr(kind, "__name__", "fault")] += 1
        await kind()

    async def add_replica(
        self, clock_off: float | None = None, *, unread: bool = False, root: Path | None = None
    ) -> Member:
        """Start one more replica behind a proxy of its own, perhaps with a clock to set, or a log that nobody reads."""
        self.started += 1
        proxy = await self.proxies.enter_async_context(TcpProxy(self.services.pgbouncer.port))
        through = self.services.database_url.replace(f":{self.services.pgbouncer.port}/", f":{proxy.port}/")
        variables = self.variables | {"DATABASE_URL": through}
        name = f"replica-{self.started}"
        root = root or self.root
        replica = Replica(name, variables, self.directory, clock_off=clock_off, unread=unread, root=root)
        member = Member(replica, proxy, root)
        self.members.append(member)
        return member

    async def end(self, member: Member) -> None:
        """Stop a replica with SIGTERM, on which it must exit with 0, unless it has not logged anything yet."""
        self.members.remove(member)
        code = await member.replica.stop()
        if code != 0 and member.replica.log.stat().st_size:
            self.problems.append(f"{member.replica.name} ended with code {code} on SIGTERM")

    def strays(self) -> list[str]:
        """What the replicas' logs have beside JSON, such as uncaught exceptions, and errors of the schema."""
        found = []
        for log in sorted(self.directory.glob("*.log")):
            text = log.read_text()
            found += [f"{log.stem} met {error}" for error in sorted(set(SCHEMA_ERRORS.findall(text)))]
            lines = [line for line in text.splitlines() if not line.startswith("{")]
            if lines:
                found.append(f"{log.stem} wrote {counted(len(lines), 'line')} without JSON: {lines[-1][:200]!r}")
        return found

    # --- faults of one replica ---

    async def kill_replica(self) -> None:
        victim = self.dice.choice(self.members)
        await self.kill(victim)
        await asyncio.sleep(self.dice.uniform(0.5, 3))
        await self.add_replica(root=victim.root)

    async def kill(self, victim: Member) -> None:
        self.members.remove(victim)
        victim.replica.process.kill()
        await asyncio.to_thread(victim.replica.process.wait)

    async def freeze_replica(self) -> None:
        victim = self.dice.choice(self.members).replica.process
        victim.send_signal(signal.SIGSTOP)
        await asyncio.sleep(self.dice.uniform(1, self.longest_silence))
        victim.send_signal(signal.SIGCONT)

    async def cut_network(self) -> None:
        proxy = self.dice.choice(self.members).proxy
        proxy.cut()
        await asyncio.sleep(self.dice.uniform(1, self.longest_silence))
        proxy.heal(resume=self.dice.random() < 0.5)

    async def skew_clock(self) -> None:
        """Restart one replica with its clock an hour off, in which it must run nothing."""
        await self.end(self.dice.choice(self.members))
        wrong = await self.add_replica(self.dice.choice((-HOUR, HOUR)))
        await asyncio.sleep(self.dice.uniform(6, 12))
        ran = [line for line in wrong.replica.fresh_lines() if line.get("event") == "run_started"]
        self.problems += [f"a replica with a wrong clock ran {line.get('run')}" for line in ran]
        await self.end(wrong)
        await self.add_replica()

    async def set_clock(self) -> None:
        """Set the clock of a running replica an hour forward or back, and right again: it runs nothing meanwhile."""
        await self.end(self.dice.choice(self.members))
        member = await self.add_replica(clock_off=0.0)
        await member.replica.until(lambda page: page["status"] == "ok")
        for hour in self.dice.sample((-HOUR, HOUR), 2):
            member.replica.set_clock(hour)
            await member.replica.until(lambda page: page["dependencies"]["clock"] != "ok")
            member.replica.fresh_lines()
            await asyncio.sleep(self.dice.uniform(2, 5))
            ran = [line for line in member.replica.fresh_lines() if line.get("event") == "run_started"]
            self.problems += [f"a replica whose clock was set ran {line.get('run')}" for line in ran]
            member.replica.set_clock(-hour)
            await member.replica.until(lambda page: page["dependencies"]["clock"] == "ok")

    async def leave_log_unread(self) -> None:
        """A replica whose log nobody reads for a while goes on, and says so, whether or not it runs the jobs."""
        await self.end(self.dice.choice(self.members))
        member = await self.add_replica(unread=True)
        await member.replica.fill_log()
        await member.replica.until(lambda page: any("nobody reads the log" in warning for warning in page["warnings"]))
        await member.replica.until(lambda page: page["status"] == "ok")
        member.replica.read_log()
        await member.replica.until(lambda page: not page["warnings"])

    # --- faults of the servers ---

    async def bounce_pgbouncer(self) -> None:
        await asyncio.to_thread(self.services.pgbouncer.kill)
        await asyncio.sleep(self.dice.uniform(0.2, 3))
        await asyncio.to_thread(self.services.pgbouncer.start)

    async def bounce_postgres(self) -> None:
        await asyncio.to_thread(self.services.postgres.stop, "immediate")
        await asyncio.sleep(self.dice.uniform(0.2, 3))
        await asyncio.to_thread(self.services.postgres.start)

    async def bounce_rabbitmq(self) -> None:
        await asyncio.to_thread(self.services.rabbitmq.kill)
        await asyncio.sleep(self.dice.uniform(0.2, 2))
        await asyncio.to_thread(self.services.rabbitmq.start)

    # --- faults of the external services ---

    async def break_service(self) -> None:
        service = self.dice.choice(SERVICES)
        armed = self.platform.fault(service, self.dice.choice(FAULTS))
        await asyncio.sleep(self.dice.uniform(1, 5))
        self.platform.end_fault(armed)

    async def lose_answers(self) -> None:
        service: Service = self.dice.choice(("dispatcher", "booking"))
        armed = self.platform.fault(service, Fault.lost_answer(), times=self.dice.randint(1, 3))
        await asyncio.sleep(self.dice.uniform(1, 4))
        self.platform.end_fault(armed)
