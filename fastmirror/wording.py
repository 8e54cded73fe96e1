"""Counts and moments, as a person reads them."""

from __future__ import annotations

import time

from fastmirror.progress import human_bytes


def plural(count: int, one: str, many: str) -> str:
    """A count with what it counts."""
    return f"{count:,} {one if count == 1 else many}"


def joined(*counts: tuple[int, str, str]) -> str:
    """Each count with what it counts, but for those of nothing."""
    return ", ".join(plural(*count) for count in counts if count[0])


def counted(*counts: tuple[int, str]) -> list[str]:
    """Each count with what it counts, but for those of nothing."""
    return [f"{count:,} {what}" for count, what in counts if count]


def files_text(count: int, size: int | None) -> str:
    """Files, and how much they are where that is known."""
    text = plural(count, "file", "files")
    return text if size is None else f"{text}, {human_bytes(size)}"


def date_and_time(epoch: float) -> str:
    """Epoch seconds as ISO 8601, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
