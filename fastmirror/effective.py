"""The settings in force, as a person is shown them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fastmirror.masking import mask

if TYPE_CHECKING:
    from collections.abc import Collection

_LINES = 10
_UNITS = {1 << 30: "G", 1 << 20: "M"}


class Effective(NamedTuple):
    """One setting in force, or one that is given and not asked for."""

    section: str
    key: str
    value: str  # free of credentials; of a list the first lines
    origin: str  # "default", "FILE:12", "--set KEY" or "environment: VARIABLE"
    is_used: bool = True


def excerpt(value: str) -> str:
    """A value as it is shown: its first lines, without the credentials of the addresses in it."""
    lines = [line for line in value.split("\n") if line]
    shown = "\n".join(lines[:_LINES])
    more = f"\n… and {len(lines) - _LINES:,} more" if len(lines) > _LINES else ""
    return mask(shown) + more


def spelt(default: object) -> str:
    """A default value as it would be written."""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:g}"
    if isinstance(default, int):
        for unit, letter in _UNITS.items():
            if default and default % unit == 0:
                return f"{default // unit}{letter}"
    return str(default) if default or isinstance(default, int) else ""


def in_order(settings: Collection[Effective]) -> list[Effective]:
    """By sections, in the order in which they first occur, then by keys."""
    sections = [setting.section for setting in settings]
    return sorted(settings, key=lambda setting: (sections.index(setting.section), setting.key))
