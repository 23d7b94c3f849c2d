"""Where a replay diverges from its recording: replicas and booked slots."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from uuid import UUID

from limiter.domain.fleet import Fleet, ServedModel
from limiter.domain.reservations import Bookings, Reservation, Slot
from limiter.replay.state import Cut

SlotKey = tuple[str, str]  # reservation and slot


@dataclass
class Replicas:
    """The replicas of each model, where the replayed commands differ from the recorded ones."""

    _own: dict[UUID, int] = field(default_factory=dict)
    _foreign: dict[UUID, int] = field(default_factory=dict)  # what a recorded command that is not ours leads to
    _gone: set[UUID] = field(default_factory=set)  # models that we have uninstalled
    _recorded: dict[UUID, ServedModel] = field(default_factory=dict)
    _last: Fleet | None = None

    def completed(self, id: UUID, replicas: int | None) -> None:
        """A replayed command that was not recorded has taken effect."""
        if replicas is None:
            self._gone.add(id)
        else:
            self._own[id] = replicas

    def foreign(self, id: UUID, replicas: int | None) -> None:
        """The latest recorded command of the model was not replayed."""
        if replicas is not None:
            self._foreign[id] = replicas

    def as_recorded(self, id: UUID, completed: int | None) -> None:
        """The latest recorded command was replayed too; `completed` are its replicas once it took effect."""
        self._foreign.pop(id, None)
        if id in self._own and completed is not None:
            self._own[id] = completed

    def of(self, recorded: Fleet) -> Fleet:
        """The recorded fleet, with the replicas of the replayed commands."""
        if recorded is not self._last:
            self._last = recorded
            for model in recorded.models:
                self._compare(model)
            if recorded.complete:
                self._gone &= recorded.by_id.keys()
        if not self._own and not self._gone:
            return recorded
        models = (
            replace(model, replicas=self._own.get(model.id, model.replicas))
            for model in recorded.models
            if model.id not in self._gone
        )
        return Fleet(tuple(models), recorded.complete)

    def _compare(self, model: ServedModel) -> None:
        """Distinguish a change of replicas by the recorded service's command from one by somebody else."""
        before = self._recorded.get(model.id)
        self._recorded[model.id] = model
        if before is not None and before.replicas != model.replicas:
            if self._foreign.get(model.id) == model.replicas:
                self._own.setdefault(model.id, before.replicas)
            elif model.id in self._own:
                del self._own[model.id]
        if self._own.get(model.id) == model.replicas:
            del self._own[model.id]


@dataclass
class Slots:
    """The booked slots: without those the replay cancelled, with those that only the recorded service cancelled."""

    _kept: dict[SlotKey, Reservation] = field(default_factory=dict)
    _cut: set[SlotKey] = field(default_factory=set)
    _cut_of: set[str] = field(default_factory=set)  # their reservations
    _counted: tuple[Sequence[Cut], int] = ((), 0)  # the cuts that these are the keys of, and how many of them
    _last: tuple[Bookings, int, int, Bookings] | None = None

    def of(self, recorded: Bookings, cuts: Sequence[Cut]) -> Bookings:
        """The recorded bookings as the replay has them; the same object as long as nothing changes them."""
        last, many = self._last, (len(cuts), len(self._kept))
        if last is None or last[0] is not recorded or last[1:3] != many:
            self._last = last = (recorded, *many, self._without_and_with(recorded, self._keys(cuts)))
        return last[3]

    def _without_and_with(self, recorded: Bookings, cut: set[SlotKey]) -> Bookings:
        kept = {key: one for key, one in self._kept.items() if key not in cut}
        booked = recorded.by_id.keys() & self._cut_of  # few: what is cancelled goes
        touched = any((id, slot.id) in cut for id in booked for slot in recorded.by_id[id].slots)
        if not touched and all(_has(recorded, key) for key in kept):
            return recorded
        whole = {one.id: one for one in kept.values()} | dict(recorded.by_id)
        slots = {one.id: {slot for slot in one.slots if (one.id, slot.id) not in cut} for one in whole.values()}
        for key, one in kept.items():
            slots.setdefault(one.id, set()).update(slot for slot in one.slots if slot.id == key[1])
        left = (replace(one, slots=tuple(sorted(slots[one.id]))) for one in whole.values() if slots[one.id])
        return Bookings(tuple(left), recorded.unreadable)

    def keep(self, cancelled: Iterable[Slot], before: Bookings, cuts: Sequence[Cut]) -> None:
        """Remember slots that the recorded service cancelled, in case the replay does not; `before` still has them."""
        ours = self._keys(cuts)
        for slot in cancelled:
            booked, key = before.by_id.get(slot.reservation_id), (slot.reservation_id, slot.id)
            if booked is not None and key not in ours:
                self._kept[key] = replace(booked, slots=(slot,))

    def _keys(self, cuts: Sequence[Cut]) -> set[SlotKey]:
        """The slots of the cuts; a list of them only grows, or another takes its place."""
        before, many = self._counted
        if before is not cuts:
            self._cut, self._cut_of, many = set(), set(), 0
        new = [cut.slot_key for cut in islice(cuts, many, None)]
        self._cut.update(new)
        self._cut_of.update(reservation for reservation, _ in new)
        self._counted = (cuts, len(cuts))
        return self._cut


def _has(bookings: Bookings, key: SlotKey) -> bool:
    booked = bookings.by_id.get(key[0])
    return booked is not None and any(slot.id == key[1] for slot in booked.slots)
