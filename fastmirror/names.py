"""Normalised project names, as their own type, so that no raw name reaches a path."""

from __future__ import annotations

import re
from typing import NewType

from fastmirror.errors import InvalidName

NormalizedName = NewType("NormalizedName", str)

# Longer names could not be stored: a file system's names end at 255 bytes, and suffixes need room.
_MAX_LENGTH = 240

_NORMAL = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*", re.ASCII)
_VALID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", re.ASCII)
_SEPARATORS = re.compile(r"[-_.]+")


def normalize(raw: object) -> NormalizedName:
    """Return the normalised form of a project's name, as the name normalisation specification has it.

    Raises InvalidName for anything that is no valid name: other characters than ASCII letters, digits and
    inner ``._-``, an empty or an over-long name, something that is no string.
    """
    if not isinstance(raw, str) or len(raw) > _MAX_LENGTH:
        raise InvalidName(raw)
    if _NORMAL.fullmatch(raw):
        return NormalizedName(raw)
    if not _VALID.fullmatch(raw):
        raise InvalidName(raw)
    return NormalizedName(_SEPARATORS.sub("-", raw).lower())
