"""HTML that is safe to show: whatever is put into it is text, and escaped, unless it was made here."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Markup(str):
    """HTML, its texts escaped."""

    __slots__ = ()


def fill(template: str, **values: object) -> Markup:
    """The template with its ``{holes}`` filled: by Markup as it is, by anything else as escaped text."""
    return Markup(template.format_map({name: _marked_up(value) for name, value in values.items()}))


def each(template: str, rows: Sequence[Mapping[str, object]]) -> Markup:
    """The template filled once for each row."""
    return Markup("".join(fill(template, **row) for row in rows))


def _marked_up(value: object) -> str:
    return value if isinstance(value, Markup) else escape(str(value))
