"""`make replay FILE=... [AGAINST=other.env] [PICTURE=out.png]`: what these settings would have done, and when."""

import gc
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

from pydantic_settings import DotEnvSettingsSource

from limiter.config.loading import WrongSettings, load_as
from limiter.config.policy import PolicySettings
from limiter.recording.lines import Began
from limiter.recording.reader import WrongRecording, read
from limiter.replay import report
from limiter.replay.summary import Summary, summarize_file


def main(arguments: list[str]) -> int:
    """Read, replay, print; returns the exit code."""
    file, against, picture = (*arguments, "", "", "")[:3]
    if not file:
        print("usage: make replay FILE=recording.jsonl[.gz] [AGAINST=other.env] [PICTURE=out.png]", file=sys.stderr)
        return 2
    gc.disable()  # a replay makes no cycles worth collecting, and looking for them costs it a seventh of its time
    try:
        return _replay(Path(file), against, picture)
    except (WrongRecording, WrongSettings, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def _replay(file: Path, against: str, picture: str) -> int:
    began = _first(file)
    recorded = load_as(PolicySettings, **began.settings)
    choices = _settings(recorded, against)
    replayed = _replayed(choices, file)
    if any(summary.began_at is None for summary, _ in replayed):
        raise WrongRecording(f"{file}: has no run behind its start line: there is nothing to replay")
    summaries = []
    for (name, settings), (summary, seconds) in zip(choices.items(), replayed, strict=True):
        summaries.append(summary)
        hours = summary.hours
        print(f"{name}: {hours:.1f} h in {seconds:.1f} s, {hours / seconds:.1f} simulated hours per second")
        for change in _changes(recorded, settings):
            print(f"  {change}")
    for line in _resettings(recorded, summaries[0]):
        print(line)
    print("\n".join(report.lines(summaries)))
    if picture:
        _draw(summaries, Path(picture))
    return 0


def _replayed(choices: Mapping[str, PolicySettings], file: Path) -> list[tuple[Summary, float]]:
    """The summary of each choice and the seconds it took; of several, each in a process of its own."""
    if len(choices) == 1:
        return [summarize_file(name, settings, file) for name, settings in choices.items()]
    with ProcessPoolExecutor(len(choices), get_context("spawn"), initializer=gc.disable) as processes:
        return list(processes.map(summarize_file, choices, choices.values(), repeat(file)))


def _settings(recorded: PolicySettings, against: str) -> dict[str, PolicySettings]:
    """The environment's settings, and beside them those of the other file, or of the recording if they differ."""
    environment = load_as(PolicySettings)
    if against:
        return {"environment": environment, Path(against).name[:13]: _of_file(Path(against))}
    return {"environment": environment} | ({} if environment == recorded else {"recorded": recorded})


def _of_file(path: Path) -> PolicySettings:
    """The settings of another file alone: what it does not name is as by default, whatever the environment says."""
    if not path.is_file():
        raise FileNotFoundError(f"AGAINST={str(path)!r}: there is no such file")
    fields = PolicySettings.model_fields
    usual = {name: field.get_default(call_default_factory=True) for name, field in fields.items()}
    try:
        given = DotEnvSettingsSource(PolicySettings, env_file=path)()
    except UnicodeDecodeError:
        raise WrongSettings(f"AGAINST={str(path)!r}: must be UTF-8 text") from None
    return load_as(PolicySettings, **usual | {name: value for name, value in given.items() if name in fields})


def _changes(recorded: PolicySettings, settings: PolicySettings) -> Iterator[str]:
    for name in PolicySettings.model_fields:
        then, now = getattr(recorded, name), getattr(settings, name)
        if then != now:
            yield f"{name.upper()}={now} (recorded with {then})"


def _resettings(recorded: PolicySettings, summary: Summary) -> Iterator[str]:
    """What was recorded under other settings than the recording begins with: no column shows these."""
    for at, settings in summary.resettings:
        yield f"recorded after {at:%Y-%m-%d %H:%M:%S} UTC under:"
        changes = [f"  {change}" for change in _changes(recorded, load_as(PolicySettings, **settings))]
        yield from changes or ["  the settings that it begins with"]


def _first(file: Path) -> Began:
    for line in read(file):
        if isinstance(line, Began):
            return line
        break
    raise WrongRecording(f"{file}:1: a recording begins with a start line")


def _draw(summaries: list[Summary], path: Path) -> None:
    try:
        from limiter.replay.picture import draw
    except ImportError:
        print("PICTURE needs matplotlib: .venv/bin/pip install -r requirements-extra.txt", file=sys.stderr)
        raise SystemExit(1) from None
    draw(summaries, path)
    print(f"picture: {path}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
