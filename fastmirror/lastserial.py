"""The mirror's greatest serial where stock nginx can read it: as the name of the directory that a link leads to.

| path below ``<directory>/.fastmirror/`` | what |
|---|---|
| serial/now | a link to the directory named by the serial; nginx follows it anew at each request (``$realpath_root``) |
| serial/<serial>/web | a link to the mirror's ``web/``, so that this directory can be the root of a location |
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from fastmirror.errors import is_storage_failure

_LOG = logging.getLogger(__name__)
_AREA = "serial"
ROOT = f"{_AREA}/now"  # below ``<directory>/.fastmirror/``


def show_serial(own: str, serial: int | None) -> None:
    """Say that every document of the mirror, whose ``.fastmirror`` is `own`, is at least of this serial; in one step.

    To be called when the documents are in place, and before the root index is: whoever caches a document under
    this serial has one that is as new. A run does not fail for what stands in the way: it is warned of.
    """
    if serial is None or _shown(own) == str(serial):
        return
    try:
        _show(os.path.join(own, _AREA), str(serial))
    except OSError as error:
        if is_storage_failure(error):
            raise
        _LOG.warning("the serial for bandersnatch cannot be shown: %s", error)


def _shown(own: str) -> str:
    try:
        return os.readlink(os.path.join(own, ROOT))
    except OSError:
        return ""


def _show(area: str, serial: str) -> None:
    named, link, staged = (os.path.join(area, name) for name in (serial, "now", "now.new"))
    os.makedirs(named, exist_ok=True)
    _link("../../../web", os.path.join(named, "web"))
    _link(serial, staged)
    os.replace(staged, link)
    with os.scandir(area) as entries:
        for entry in entries:
            if entry.name not in (serial, "now"):
                shutil.rmtree(entry.path, ignore_errors=True)


def _link(target: str, path: str) -> None:
    if os.path.lexists(path):
        os.unlink(path)
    Path(path).symlink_to(target)
