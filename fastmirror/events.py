"""What happens in a run, for scripts: a JSON object a line (``mirror --json``, ``sync --json``)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import orjson

from fastmirror.masking import clean

if TYPE_CHECKING:
    from fastmirror.summary import Summary


def event_json(event: dict[str, Any]) -> str:
    """One event, with its time in seconds since the epoch."""
    return orjson.dumps({"time": round(time.time(), 3)} | event).decode()


def summary_event(summary: Summary) -> str:
    """The last event: how the run ended, its keys named like the fields of Summary."""
    failures = [failure._asdict() | {"reason": clean(failure.reason)} for failure in summary.failures]
    slowest = [slow._asdict() for slow in summary.slowest]
    return event_json({"event": "summary", **summary._asdict(), "failures": failures, "slowest": slowest})
