"""A picture of a replay: the fleet's replicas over time for each setting, and what was done to the bookings."""

from pathlib import Path

from matplotlib import dates
from matplotlib.figure import Figure

from limiter.domain.decision import Decision
from limiter.replay.summary import Summary

ACTS = {
    Decision.WARN: ("v", "tab:orange", "warned"),
    Decision.WITHDRAW: ("^", "tab:green", "withdrawn"),
    Decision.CANCEL: ("x", "tab:red", "cancelled"),
    Decision.UNINSTALL: ("s", "tab:purple", "uninstalled"),
}


def draw(summaries: list[Summary], path: Path) -> None:
    """Write the picture, in the format that the path's ending names."""
    figure = Figure(figsize=(12, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    for summary in summaries:
        moments = [at for at, _ in summary.replicas] + ([summary.ended_at] if summary.ended_at else [])
        counts = [count for _, count in summary.replicas]
        above.step(moments, [*counts, counts[-1]], where="post", label=f"{summary.name}: {summary.replica_hours:.1f} h")
    above.set_ylabel("replicas of the fleet")
    above.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title="replica-hours", fontsize="small")
    above.grid(alpha=0.3)
    names = {act.model_name for summary in summaries for act in summary.acts if act.decision in ACTS}
    rows = {name: row for row, name in enumerate(sorted(names))}
    for offset, summary in enumerate(summaries):
        for decision, (marker, colour, label) in ACTS.items():
            acts = [act for act in summary.acts if act.decision is decision]
            heights = [rows[act.model_name] - 0.25 * offset for act in acts]
            named = f"{label} ({summary.name})" if len(summaries) > 1 else label
            faces = {"alpha": 1.0 if offset == 0 else 0.45}
            below.scatter([act.at for act in acts], heights, marker=marker, color=colour, label=named, **faces)
    below.set_yticks(list(rows.values()), list(rows))
    below.xaxis.set_major_formatter(dates.DateFormatter("%H:%M"))
    below.set_xlabel("UTC")
    below.grid(alpha=0.3)
    below.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small")
    figure.savefig(path, dpi=110)
