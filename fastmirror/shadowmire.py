"""A mirror that shadowmire has made: ``simple``, ``packages`` and ``json`` at its top, and serials in ``local.db``."""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

from fastmirror.errors import InvalidName
from fastmirror.names import normalize

if TYPE_CHECKING:
    from fastmirror.names import NormalizedName

_LOG = logging.getLogger(__name__)
_DATABASE = "local.db"
_PARTS = ("simple", "packages", "json")


def move_below_web(directory: str, web: str) -> None:
    """Put shadowmire's directories where ours are, each in one step, unless something is there already."""
    if not os.path.exists(os.path.join(directory, _DATABASE)):
        return
    for part in _PARTS:
        source, target = os.path.join(directory, part), os.path.join(web, part)
        if not os.path.isdir(source) or os.path.islink(source):
            continue
        with suppress(OSError):
            os.rmdir(target)  # made by us, and empty
        if not os.path.exists(target):
            _LOG.warning("shadowmire's %s is moved to %s", source, target)
            os.rename(source, target)


def read_serials(directory: str) -> dict[NormalizedName, int]:
    """The serials in ``local.db``, by project; empty if there is none or it cannot be read, which is logged."""
    path = os.path.join(directory, _DATABASE)
    if not os.path.exists(path):
        return {}
    serials: dict[NormalizedName, int] = {}
    try:
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)) as database:
            for (table,) in database.execute("select name from sqlite_master where type = 'table'").fetchall():
                columns = {row[1] for row in database.execute("select * from pragma_table_info(?)", (table,))}
                if {"key", "serial"} <= columns:
                    for key, serial in database.execute(f'select key, serial from "{table}"'):  # noqa: S608 - as it says itself
                        with suppress(InvalidName):
                            if type(serial) is int:
                                serials[normalize(key)] = serial
    except sqlite3.Error as error:
        _LOG.warning("%s cannot be read, serials are taken from the pages: %s", path, error)
    return serials
