"""A picture of a replay: the fleet's replicas over time for each setting, and what was done to the bookings."""

from pathlib import Path

from matplotlib import dates
from matplotlib.figure import Figure

from limiter.domain.action import Decision
from limiter.replay.tally import Tally

ACTS = {
    Decision.WARN: ("v", "tab:orange", "warned"),
    Decision.WITHDRAW: ("^", "tab:green", "withdrawn"),
    Decision.CANCEL: ("x", "tab:red", "cancelled"),
    Decision.UNINSTALL: ("s", "tab:purple", "uninstalled"),
}


def draw(tallies: list[Tally], path: Path) -> None:
    """Write the picture, in the format that the path's ending names."""
    figure = Figure(figsize=(12, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    for tally in tallies:
        moments = [at for at, _ in tally.replicas] + ([tally.ended_at] if tally.ended_at else [])
        counts = [count for _, count in tally.replicas]
        above.step(moments, [*counts, counts[-1]], where="post", label=f"{tally.name}: {tally.replica_hours:.1f} h")
    above.set_ylabel("replicas of the fleet")
    above.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title="replica-hours", fontsize="small")
    above.grid(alpha=0.3)
    told = {act.model_name for tally in tallies for act in tally.acts if act.decision in ACTS}
    rows = {name: row for row, name in enumerate(sorted(told))}
    for offset, tally in enumerate(tallies):
        for decision, (marker, colour, label) in ACTS.items():
            acts = [act for act in tally.acts if act.decision is decision]
            heights = [rows[act.model_name] - 0.25 * offset for act in acts]
            named = f"{label} ({tally.name})" if len(tallies) > 1 else label
            faces = {"alpha": 1.0 if offset == 0 else 0.45}
            below.scatter([act.at for act in acts], heights, marker=marker, color=colour, label=named, **faces)
    below.set_yticks(list(rows.values()), list(rows))
    below.xaxis.set_major_formatter(dates.DateFormatter("%H:%M"))
    below.set_xlabel("UTC")
    below.grid(alpha=0.3)
    below.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small")
    figure.savefig(path, dpi=110)
