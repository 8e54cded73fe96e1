"""upload_time: files by when they were uploaded: after a date, before one, or long enough ago."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from fastmirror import ini

if TYPE_CHECKING:
    from fastmirror.model import File

KEYS = frozenset({"after", "before", "cool-down"})


class Uploads(NamedTuple):
    """When a file has to have been uploaded; None: no bound."""

    after: float | None  # seconds since the epoch; not before this
    before: float | None  # seconds since the epoch
    cool_down_s: float | None  # so long before the run

    def keeps(self, file: File, moment: float) -> bool:
        """Whether a file is mirrored at this moment; one whose time upstream does not say is not."""
        uploaded = uploaded_at(file)
        if uploaded is None:
            return False
        if self.cool_down_s is not None and uploaded + self.cool_down_s > moment:
            return False
        return (self.after is None or uploaded >= self.after) and (self.before is None or uploaded < self.before)

    def due(self, file: File, moment: float) -> float | None:
        """When time alone lets a file in that is not mirrored at this moment; None: never."""
        uploaded = uploaded_at(file)
        if uploaded is None or self.cool_down_s is None:
            return None
        due = uploaded + self.cool_down_s
        return due if due > moment and self.keeps(file, due) else None


def uploaded_at(file: File) -> float | None:
    """A file's upload time (PEP 700) in seconds since the epoch; None where upstream does not say."""
    text = file.keys.get("upload-time")
    try:
        return _timestamp(text) if isinstance(text, str) else None
    except (ValueError, OverflowError):
        return None


def read(config: ini.Ini) -> Uploads | None:
    """The section [upload_time]; None if it sets no bound. Raises SettingsError."""
    uploads = Uploads(
        config.read("upload_time", "after", ini.optional(_date), None),
        config.read("upload_time", "before", ini.optional(_date), None),
        config.read("upload_time", "cool-down", ini.optional(ini.duration), None),
    )
    return uploads if any(bound is not None for bound in uploads) else None


def _date(entry: ini.Entry) -> float:
    try:
        return _timestamp(entry.value)
    except (ValueError, OverflowError):
        raise entry.refused("a date such as 2026-01-31, or a time such as 2026-01-31T12:00:00Z") from None


def _timestamp(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
