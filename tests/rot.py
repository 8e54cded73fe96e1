"""Bit rot in a state: pages of its file hold what nobody wrote."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PAGE = 4096


def overwrite(path: Path, pages: Iterable[int]) -> None:
    """Fill these pages, the first of which is 1, with what nobody wrote."""
    with path.open("r+b") as stream:
        for page in pages:
            stream.seek((page - 1) * PAGE)
            stream.write(random.Random(page).randbytes(PAGE))


def root_pages(path: Path, *tables: str) -> list[int]:
    """The pages at which these tables or indexes begin."""
    with closing(sqlite3.connect(path)) as state:
        state.execute("pragma wal_checkpoint(truncate)")
        roots = dict(state.execute("select name, rootpage from sqlite_master"))
    return [roots[table] for table in tables]
