"""The fleet's budget: how many replicas may be asked for, and who gets those that are left."""

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from uuid import UUID

from limiter.domain.command import Command, CommandKind
from limiter.domain.fleet import Fleet, ServedModel

FLEET = ""  # stands for the budget of all models where others go by their tag


@dataclass(frozen=True, slots=True)
class FleetBudget:
    """How many replicas all models may have together (0: as many as they need), and those with a registry tag."""

    most: int = 0
    by_tag: Mapping[str, int] = field(default_factory=dict)

    @property
    def limits(self) -> Mapping[str, int]:
        """The budgets there are, by tag; that of all models is `FLEET`."""
        return {FLEET: self.most, **self.by_tag} if self.most else self.by_tag

    def of(self, tags: frozenset[str] | None) -> list[str]:
        """The budgets that a model with these tags draws on; one whose tags are not known draws on all."""
        return [tag for tag in self.limits if tag == FLEET or tags is None or tag in tags]


class Wish(NamedTuple):
    """What a model is to have: `held` of it is asked for already, `minimum` is what it must have in any case."""

    model: ServedModel
    held: int
    minimum: int
    wished: int
    urgency: float


class Grant(NamedTuple):
    """What a model gets; `full` is the budget that leaves no more, and `asked` of its `most` replicas are asked for."""

    wish: Wish
    replicas: int
    full: str | None = None
    most: int = 0
    asked: int = 0

    @property
    def given(self) -> int:
        """What may be asked for of it: never less than the minimum; what is left is kept until it is enough."""
        return self.replicas if self.replicas >= self.wish.minimum else self.wish.held


def granted(
    budget: FleetBudget, others: Iterable[ServedModel], wishes: Sequence[Wish], booked: frozenset[UUID]
) -> list[Grant]:
    """What each gets of its wish: minimums first, then who is booked now, then who is most overloaded.

    The `others` wish for nothing more, and have what they have.
    """
    limits, asked = budget.limits, Counter[str]()
    for model, replicas in [(one, one.replicas) for one in others] + [(wish.model, wish.held) for wish in wishes]:
        asked.update(dict.fromkeys(budget.of(model.tags), replicas))
    has = [wish.held for wish in wishes]
    order = sorted(range(len(wishes)), key=lambda n: (wishes[n].model.id not in booked, -wishes[n].urgency))
    # Whole minimums first: what is too little for one is of use to another.
    for only_minimum, whole in ((True, True), (True, False), (False, False)):
        for n in order:
            wish = wishes[n]
            goal = min(wish.minimum, wish.wished) if only_minimum else wish.wished
            left = [limits[tag] - asked[tag] for tag in budget.of(wish.model.tags)]
            more = max(0, min([goal - has[n], *left]))
            if whole and has[n] + more < goal:
                continue
            has[n] += more
            asked.update(dict.fromkeys(budget.of(wish.model.tags), more))
    return [_grant(budget, wish, replicas, asked) for wish, replicas in zip(wishes, has, strict=True)]


def _grant(budget: FleetBudget, wish: Wish, replicas: int, asked: Mapping[str, int]) -> Grant:
    if replicas >= wish.wished:
        return Grant(wish, wish.wished)
    limits = budget.limits
    full = min(budget.of(wish.model.tags), key=lambda tag: limits[tag] - asked[tag])
    return Grant(wish, replicas, full, limits[full], asked[full])


def whose(grant: Grant) -> str:
    """Whose budget leaves no more, in words."""
    return "the fleet's" if grant.full == FLEET else f"the {grant.full} budget's"


def others_of(fleet: Fleet, asked: Iterable[Command], deciding: Container[UUID], unread: int) -> list[ServedModel]:
    """The models that nothing is decided about, each with what is `asked` for it: also one that is not listed now.

    One that is listed and could never be read counts as having `unread` replicas: unknown is not zero.
    """
    others = {model.id: model for model in fleet.models + fleet.last_known if model.id not in deciding}
    for id in fleet.unreadable:
        if id not in deciding:
            others.setdefault(id, ServedModel(id, "", unread, None))
    for command in asked:
        id = command.model_id
        if id not in deciding and command.kind is CommandKind.SCALE_UP:
            model = others.get(id) or ServedModel(id, command.model_name, 0, None)
            others[id] = replace(model, replicas=max(model.replicas, command.replicas or 0))
    return list(others.values())


def not_granted(
    budget: FleetBudget, fleet: Fleet, asked: Iterable[Command], waiting: Sequence[Command], unread: int
) -> dict[UUID, Grant]:
    """Which of the scales up that wait to be sent the budget does not grant in full by now; the first come first.

    The commands `asked` are those that the registry may not show yet.
    """
    others = others_of(fleet, asked, {command.model_id for command in waiting}, unread)
    listed = {model.id: model for model in fleet.last_known + fleet.models}
    wishes = []
    for command in waiting:
        model = listed.get(command.model_id) or ServedModel(command.model_id, command.model_name, 0, None)
        wishes.append(Wish(model, model.replicas, 0, command.replicas or 0, 0.0))
    grants = zip(waiting, granted(budget, others, wishes, frozenset()), strict=True)
    return {command.id: grant for command, grant in grants if grant.full is not None}
