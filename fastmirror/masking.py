"""Texts that are safe to show: without credentials, and on one line."""

from __future__ import annotations

import re

# Greedy up to the last @ before the host's end, as URL parsers have it: a password may hold an @.
_CREDENTIALS = re.compile(r"//[^/?#\s]*@")


def mask(text: str) -> str:
    """The text, without the credentials of the URLs in it."""
    return _CREDENTIALS.sub("//***@", text) if "@" in text else text


def clean(text: str) -> str:
    """The text as one line that is safe to show: credentials masked, control characters escaped."""
    text = mask(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
