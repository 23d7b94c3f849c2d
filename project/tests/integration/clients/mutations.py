"""Valid inputs of each kind, and seeded mutations of them: of their bytes, and of what JSON or a metrics page means."""

import json
import random
from collections.abc import Callable, Sequence
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

NOW = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
IDS = [str(UUID(int=number)) for number in range(1, 9)]
MODELS = ("Sber/GigaChat-Max-V2", "Qwen/Qwen3-32b", "a")


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


CONTROL = [
    encoded({"command": "run_job", "job": "idle_enforce", "request_id": "r-1"}),
    encoded({"command": "pause_job", "job": "rps_check"}),
    encoded({"command": "resume_job", "job": "saga_poll", "request_id": "é\n"}),
]
DEPLOYED = [
    encoded(
        {"user_id": IDS[0], "user_name": name, "user_email": f"{name}@example.org", "model_ids": IDS[: len(name)]}
        | {"model_names": list(MODELS), "reservation_ids": ["r1", "r2"]}
    )
    for name in ("ann", "ben-ö")
]
REGISTRY = [
    encoded(
        {
            "items": [
                {
                    "id": id,
                    "name": name,
                    "status": "RUNNING",
                    "deleted": False,
                    "instance": {"replicas": 2, "ownerId": None},
                }
                for id, name in zip(IDS, MODELS, strict=False)
            ],
            "total": len(MODELS),
        }
    )
]
BOOKING = [
    encoded(
        {
            "items": [
                {
                    "id": f"r{number}",
                    "user": {"id": IDS[number], "name": "ann"},
                    "model_name": name,
                    "model_id": model_id,
                    "slots": [
                        {"id": f"s{number}.{hour}", "start": _from + 3600 * hour, "end": _from + 3600 * hour + 3600}
                        for hour in range(3)
                    ],
                }
                for number, (name, model_id) in enumerate(zip(MODELS, (None, IDS[1], None), strict=True))
            ],
            "total": len(MODELS),
        }
    )
    for _from in (int(NOW.timestamp()) - 60,)
]
PAGE = b"# HELP model_calls_total Calls\n# TYPE model_calls_total counter\n" + b"".join(
    f'model_calls_total{{model_name="{name}",service_name="entrypoint"}} {10.0 * place}\n'.encode()
    for place, name in enumerate(MODELS)
)
PAGES = [PAGE, PAGE + b"process_start_time_seconds 1.7e+09\n", PAGE.replace(b"} 1", b"} 1.81039e+0")]

NASTY_BYTES = (
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"\\",
    b"\\ud800",
    b"\n",
    b"\r\n",
    b"-",
)
NASTY_VALUES: tuple[Any, ...] = (
    None, True, False, "", " ", 0, -1, -0.0, 1.5, 2**31, 2**53, 2**63, 10**18, 10**400, float("nan"), 1e308,
    float("inf"), 253_402_300_799, "\x00", "a\x00b", "\ud800", "\u202e", "x" * 100_000, [], {}, [None], {"": None},
)  # fmt: skip
NASTY_LINES = (
    b'model_calls_total{model_name="a"} NaN\n',
    b'model_calls_total{model_name="b"} +Inf\n',
    b'model_calls_total{model_name="c"} -1\n',
    b'model_calls_total{model_name="d"} 1e999\n',
    b'model_calls_total{model_name="d"} 1.7e308\n',
    b'model_calls_total{model_name="e"} 0x1p3\n',
    b'model_calls_total{model_name="f"} 1_000\n',
    b'model_calls_total{model_name="g"} 5 1700000000000\n',
    b'model_calls_total{model_name="h"} 5 # {trace="x"} 1\n',
    b'model_calls_total{model_name="a\x00b"} 5\n',
    b'model_calls_total{model_name="\xed\xa0\x80"} 5\n',
    b'model_calls_total{model_name="\\"\\\\\\n"} 5\n',
    b'model_calls_total{model_name="' + b"x" * 100_000 + b'"} 5\n',
    b"model_calls_total 5\n",
    b"model_calls_total{} 5\n",
    b"model_calls_total{model_name=} 5\n",
    b"process_start_time_seconds 1e400\n",
    b"process_start_time_seconds -5\n",
    b"# TYPE model_calls_total gauge\n",
    b"# TYPE\n# HELP\n#\n",
    b"\r\n",
    b"\x00\n",
)


def mutated_bytes(dice: random.Random, example: bytes, others: Sequence[bytes]) -> bytes:
    """One to three changes that know nothing of what the bytes mean."""
    data = bytearray(example)
    for _ in range(dice.randint(1, 3)):
        start = dice.randint(0, len(data))
        end = min(len(data), start + dice.choice((0, 1, 1, 5, 40)))
        match dice.randrange(6):
            case 0:  # lose
                del data[start:end]
            case 1:  # insert
                data[start:start] = dice.choice(NASTY_BYTES)
            case 2:  # flip
                data[start:end] = bytes(byte ^ (1 << dice.randrange(8)) for byte in data[start:end])
            case 3:  # repeat
                data[start:start] = data[start:end] * dice.choice((1, 2, 50))
            case 4:  # cut off
                del data[start:]
            case _:  # go on as another one does
                other = dice.choice(others)
                data[start:] = other[min(start, len(other)) :]
    return bytes(data)


def mutated_json(dice: random.Random, example: bytes) -> bytes:
    """One to three changes of values, keys or shape; now and then far too deep."""
    if dice.random() < 0.01:
        return b'{"items":' + b"[" * 5000 + b"]" * dice.choice((0, 5000)) + b"}"
    document = json.loads(example)
    for _ in range(dice.randint(1, 3)):
        document = _changed(dice, document)
    return json.dumps(document).encode()


def _changed(dice: random.Random, value: Any) -> Any:
    """Walk to a place by chance and change what is there."""
    inner = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not inner or dice.random() < 0.1:
        return deepcopy(dice.choice(NASTY_VALUES))
    place = dice.choice(inner)
    changes: tuple[Callable[[], Any], ...] = (
        lambda: value.pop(place),
        lambda: value.__setitem__(place, deepcopy(dice.choice(NASTY_VALUES))),
        lambda: value.__setitem__(place, _changed(dice, value[place])),
        lambda: value.__setitem__(place, _changed(dice, value[place])),
        lambda: value.__setitem__(place, [value[place]]),
        lambda: _doubled(value, place),
    )
    dice.choice(changes)()
    return value


def _doubled(value: Any, place: Any) -> None:
    """An item stands twice, or a key is called otherwise."""
    if isinstance(value, list):
        value.append(deepcopy(value[place]))
    else:
        value[f"{place}_"] = value.pop(place)


def mutated_page(dice: random.Random, example: bytes) -> bytes:
    """One to three lines added, lost, repeated or moved, and sometimes other line ends."""
    lines = example.splitlines(keepends=True)
    for _ in range(dice.randint(1, 3)):
        place = dice.randrange(len(lines)) if lines else 0
        match dice.randrange(5):
            case 0 if lines:
                del lines[place]
            case 1 if lines:
                lines.insert(dice.randint(0, len(lines)), lines[place])
            case 2:
                lines = [line.replace(b"\n", b"\r\n") for line in lines]
            case _:
                lines.insert(place, dice.choice(NASTY_LINES))
    return b"".join(lines)
