"""Draws the dashboard as Prometheus answers it, where no Grafana is at hand."""

from math import ceil

from matplotlib.figure import Figure

from dev.dashboards.prometheus import Prometheus, queries

COLUMNS = 4


async def draw(source: Prometheus, start: float, end: float, path: str) -> None:
    """One small chart for each panel, room by room; the time is in seconds since the start."""
    panels: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    for query in queries():
        panels.setdefault((query.room, query.panel), {}).update(await source.over(query, start, end))
    rooms = dict.fromkeys(room for room, _ in panels)
    rows = {room: ceil(sum(of == room for of, _ in panels) / COLUMNS) for room in rooms}
    figure = Figure(figsize=(5 * COLUMNS, 2.7 * sum(rows.values())), layout="constrained")
    for part, room in zip(
        figure.subfigures(len(rooms), 1, height_ratios=list(rows.values()), squeeze=False).flat, rooms, strict=True
    ):
        part.suptitle(room, fontweight="bold", x=0.01, ha="left")
        places = part.subplots(rows[room], COLUMNS, squeeze=False).flat
        for (of, title), series in panels.items():
            if of == room:
                axes = next(places)
                axes.set_title(title, fontsize="small")
                for name, points in sorted(series.items()):
                    axes.plot([at for at, _ in points], [value for _, value in points], label=name or "value")
                axes.tick_params(labelsize="x-small")
                if 0 < len(series) <= 9:
                    axes.legend(fontsize=6, loc="upper left")
                axes.grid(alpha=0.3)
        for empty in places:
            empty.set_axis_off()
    figure.savefig(path, dpi=70)
