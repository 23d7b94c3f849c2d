"""What is checked: the models whole, and with one safeguard at a time taken away."""

from dataclasses import dataclass

HOLDS = "holds"
JOB, SPELL = "job_lock", "idle_spell"
RUN_BY_SOMEBODY, CLOSED_AT_LAST = "run_by_somebody", "closed_at_last"


@dataclass(frozen=True, slots=True)
class Configuration:
    """One check of a model; `broken` is the property that must turn out broken, None if all must hold.

    `liveness` names the LTL formula that is checked, with weak fairness; else the assertions are.
    """

    model: str
    flags: tuple[str, ...] = ()
    broken: str | None = None
    liveness: str | None = None

    @property
    def expected(self) -> str:
        return self.broken or HOLDS

    @property
    def whole(self) -> bool:
        """Whether it is the model as it should be, all of which is searched."""
        return self.broken is None

    @property
    def name(self) -> str:
        claim = f", {self.liveness}" if self.liveness and self.whole else ""
        return " ".join(flag.lower().replace("_", " ") for flag in self.flags) + claim


def _size(replicas: int, faults: int, slots: int) -> tuple[str, ...]:
    return f"REPLICAS={replicas}", f"FAULTS={faults}", f"DUE_SLOTS={slots}"


def _spells(spells: int, slots: int) -> tuple[str, ...]:
    return f"SPELLS={spells}", f"SLOTS={slots}"


WHOLE = [
    Configuration(JOB, _size(2, 2, 1), liveness=RUN_BY_SOMEBODY),
    Configuration(JOB, _size(3, 2, 1)),
    Configuration(JOB, _size(3, 1, 1), liveness=RUN_BY_SOMEBODY),
    Configuration(JOB, _size(2, 3, 1)),
    Configuration(JOB, _size(2, 2, 2)),
    Configuration(JOB, (*_size(2, 2, 1), "PAUSES")),
    Configuration(JOB, (*_size(3, 1, 1), "PAUSES")),
    Configuration(SPELL, _spells(1, 2), liveness=CLOSED_AT_LAST),
    Configuration(SPELL, _spells(1, 2)),
    Configuration(SPELL, _spells(2, 1)),
]

# What each property is called in the models, by the safeguard without which it breaks.
_SAFETY = {
    JOB: [
        ("WITHOUT_LOCK", "took_from_its_runner"),
        ("WITHOUT_CHECK_IN_CLAIM", "took_from_its_runner"),
        ("WITHOUT_DUE_ROW", "ran_slot_twice"),
        ("WITHOUT_DUE_IN_CLAIM", "ran_slot_twice"),
        ("WITHOUT_FENCE", "wrote_after_takeover"),
        ("WITHOUT_FOR_SHARE", "wrote_after_takeover"),
        ("WITHOUT_TRUST_WINDOW IGNORE_TAKING", "called_unrecorded"),
        ("TRUST_LONGER_THAN_IDLE_TIMEOUT IGNORE_TAKING", "called_after_takeover"),
        ("WITHOUT_INTENT", "called_twice"),
        ("WITHOUT_UNIQUE_COMMAND", "called_twice"),
        ("WITHOUT_BRAKE", "stepped_after_pause"),
        ("WITHOUT_BRAKE_IN_WRITE", "stepped_after_pause"),
        ("WITHOUT_PAUSED_IN_CLAIM", "stepped_after_pause"),
        ("EVEN_IF_LATE", "called_unrecorded"),
    ],
    SPELL: [
        ("WITHOUT_DELIVERED_CHECK", "cancelled_early"),
        ("WITHOUT_LEAD", "cancelled_early"),
        ("WITHOUT_CONFIRMATION IGNORE_ORDER", "cancelled_early"),
        ("WITHOUT_ARROWS", "closed_twice"),
        ("WITHOUT_JUDGED_STATE", "withdrawn_though_taken"),
        ("WITHOUT_UNTOUCHED_CHECK", "closed_without_event"),
        ("WITHOUT_OUTBOX_ORDER", "heard_closing_first"),
        ("WITHOUT_FRESH_LOOK", "deleted_after_use"),
        ("WITHOUT_SPELL_ID", "uninstalled_early"),
        ("WITHOUT_INTENT", "withdrawn_though_taken"),
        ("WITHOUT_BRAKE_IN_DELETE", "stepped_after_pause"),
        ("WITHOUT_PLANNED_CHECK", "deleted_after_closing"),
        ("WITHOUT_REFUSALS_KEPT", "told_done_but_booked"),
        ("WITHOUT_ALL_STEPS_GONE", "uninstalled_after_refusal"),
        ("WITHOUT_UNINSTALL_BLOCKER", "uninstalled_from_another"),
        ("WITHOUT_UNSETTLED_CHECK", "withdrawn_though_taken"),
        ("EVEN_IF_LATE", "withdrawn_though_taken"),
    ],
}
_LIVENESS = [
    (JOB, "WITHOUT_SKIP_LOCKED", RUN_BY_SOMEBODY),
    (JOB, "WITHOUT_MARK", RUN_BY_SOMEBODY),
    (JOB, "WITHOUT_HEARTBEAT", RUN_BY_SOMEBODY),
    (JOB, "WITHOUT_IDLE_TIMEOUT", RUN_BY_SOMEBODY),
    (JOB, "WITHOUT_ORPHANS", RUN_BY_SOMEBODY),
    (SPELL, "WITHOUT_OUTBOX", CLOSED_AT_LAST),
]
_SMALLEST = {JOB: (*_size(2, 1, 1), "PAUSES"), SPELL: _spells(1, 2), "WITHOUT_SPELL_ID": _spells(2, 1)}

# Without these everything holds: they only make it quicker.
NOT_NEEDED = [Configuration(JOB, ("WITHOUT_CHECK_IN_WRITE", *_size(2, 2, 1)))]

REMOVED = [
    Configuration(model, (*flags.split(), *_SMALLEST.get(flags, _SMALLEST[model])), broken=broken)
    for model, pairs in _SAFETY.items()
    for flags, broken in pairs
] + [
    Configuration(model, (flag, *_SMALLEST[model]), broken=formula, liveness=formula)
    for model, flag, formula in _LIVENESS
]
