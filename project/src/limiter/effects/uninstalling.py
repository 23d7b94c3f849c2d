"""Uninstalls the model of an enforced spell, where nobody else needs it."""

from dataclasses import dataclass, replace
from uuid import uuid4

from limiter.db import ledger
from limiter.domain.command import Command, CommandKind, CommandState, new_command
from limiter.domain.decision import Decision, Reason
from limiter.domain.fleet import ServedModel
from limiter.domain.idleness import IdleSpell
from limiter.domain.snapshot import Snapshot
from limiter.effects.audit import Audit
from limiter.effects.commands import Commands
from limiter.effects.snapshot import SnapshotReader
from limiter.recording.trace import RunTrace
from limiter.runner.run import Run

Parts = list[RunTrace]


@dataclass(frozen=True)
class Uninstalling:
    """Plans and sends the uninstall of a spell, once."""

    reader: SnapshotReader
    commands: Commands
    audit: Audit

    async def _read_fresh(self, run: Run, parts: Parts, spell: IdleSpell) -> Snapshot:
        snapshot = await self.reader.read_fresh(run, spell.key)
        parts.append(RunTrace(snapshots=((spell.key, snapshot),)))
        return snapshot

    async def uninstall(self, run: Run, parts: Parts, spell: IdleSpell) -> bool | None:
        """Whether the model was uninstalled for this spell; None while that is not settled."""
        async with run.read() as connection:
            command = await ledger.for_spell(connection, spell.id)
        if command is not None:
            return None if command.unfinished else command.state is CommandState.COMPLETED
        if not self.reader.policy.idle(spell.model_name).uninstall:
            return False
        snapshot = await self._read_fresh(run, parts, spell)
        if not snapshot.observation.known(spell.model_name):
            return None
        blocker, model = snapshot.uninstall_blocker(spell), snapshot.fleet.by_id.get(spell.model_id)
        if blocker is None and model is not None:
            return await self._plan_uninstall(run, parts, snapshot, spell, model)
        parts.append(self.audit.waits(snapshot, spell.key, blocker or Reason.MODEL_GONE))
        return False

    async def _plan_uninstall(
        self, run: Run, parts: Parts, snapshot: Snapshot, spell: IdleSpell, model: ServedModel
    ) -> bool | None:
        intent = new_command(uuid4(), model, CommandKind.UNINSTALL, None, None, run.now, dry_run=spell.dry_run)
        intent = replace(intent, spell_id=spell.id)
        record = snapshot.record(spell.key, Decision.UNINSTALL, Reason.DEADLINE_PASSED)
        async with run.write() as connection:
            recorded = await ledger.plan(connection, [intent], {intent.id: Reason.DEADLINE_PASSED})
            if recorded:
                await self.audit.write_acts(connection, record)
        if not recorded:
            return await self._blocked(run, spell)
        parts.append(self.audit.committed(record))
        await self.commands.send_all(run, [intent])
        return False if spell.dry_run else None

    async def _blocked(self, run: Run, spell: IdleSpell) -> bool | None:
        """Another command for the model is unfinished: wait for it, unless it is stuck."""
        async with run.read() as connection:
            blocking: list[Command] = await ledger.unfinished(connection)
        stuck = any(command.model_id == spell.model_id and command.state is CommandState.STUCK for command in blocking)
        return False if stuck else None
