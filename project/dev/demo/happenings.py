"""What happens in the demo, as a person reads it: log lines and events in a few words."""

from dataclasses import dataclass
from typing import Any

from dev.demo.story import MODELS
from dev.wording import counted

SHOWN = ("decided", "enforced", "command_ended", "critical", "reading_distrusted", "run_lost")  # log events


@dataclass(frozen=True)
class Happening:
    """Something worth a line: its kind, the model, what happened, and the reason's code if there is one."""

    kind: str
    model: str
    what: str = ""
    why: str = ""


def mail(event: dict[str, Any]) -> Happening:
    """A ReservationNoUse event as the mail its user gets."""
    reservation = event["reservation"]
    at_risk, cancelled = len(reservation["slots_at_risk"]), len(reservation["cancelled_slots"])
    more = f", {counted(at_risk, 'slot')} at risk" if reservation["stage"] == "warning" else ""
    more += f", {counted(cancelled, 'slot')} cancelled" if cancelled else ""
    more += ", model uninstalled" if reservation["uninstalled"] else ""
    told = f"to {event['user']['email']}: {reservation['stage']}{more}"
    return Happening("mail", reservation["model_name"], told, reservation["closing_reason"] or "")


def logged(line: dict[str, Any]) -> Happening | None:
    """A replica's log line as a happening; None if it is of no interest to a person."""
    event, said, why = line.get("event"), str(line.get("message", "")), str(line.get("reason", ""))
    if event not in SHOWN:
        return None
    model = line.get("model") or next((name for name in MODELS if name in said), "all models")
    said = said.replace(f" of {model}", "")
    match event:
        case "command_ended":
            return Happening("saga", model, f"{line.get('kind')} {line.get('state')}")
        case "enforced":
            return Happening("cancelled", model, said, why)
        case "run_lost":
            return Happening("takeover", model, f"{line.get('job')}: {said}")
        case "decided" if line.get("decision") == "hold":
            return None
        case "decided":
            _, _, what = said.partition(f"{model}: ")
            return Happening(str(line.get("decision")), model, what, why)
    return Happening("critical" if event == "critical" else "distrust", model, said, why)
