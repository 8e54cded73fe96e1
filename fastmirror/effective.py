"""The settings in force, as a person is shown them."""

from __future__ import annotations

from typing import NamedTuple


class Effective(NamedTuple):
    """One setting in force."""

    section: str
    key: str
    value: str  # free of credentials
    origin: str  # "default", "FILE:12" or "--set KEY"


def spelt(default: object) -> str:
    """A default value as it would be written."""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:g}"
    return str(default) if default or isinstance(default, int) else ""
