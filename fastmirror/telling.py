"""What a run leaves for others to read, once it has ended: a status page, metrics, a report, each in one step."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

from fastmirror.damage import mark
from fastmirror.errors import MirrorError, StateDamaged
from fastmirror.inquiry import read_status
from fastmirror.reports import status_json
from fastmirror.tree import state_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastmirror.inquiry import MirrorStatus
    from fastmirror.settings import Settings
    from fastmirror.storage import Storage

_LOG = logging.getLogger(__name__)


def tell(settings: Settings, storage: Storage) -> None:
    """Write what the settings ask for. What cannot be written is logged, and does not make the run fail."""
    run = settings.run
    if run.metrics_file is None and run.report_file is None and not run.status_page:
        return
    try:
        status = read_status(settings)
    except StateDamaged as error:
        mark(state_path(settings.storage.directory), str(error))  # the mirror is held
        _LOG.warning("how the mirror stands cannot be told, and the next run makes its state anew: %s", error)
        return
    except (MirrorError, OSError) as error:
        _LOG.warning("how the mirror stands cannot be told: %s", error)
        return
    if run.status_page:
        _try("the status page", lambda: _write_page(status, settings, storage))
    if (path := run.metrics_file) is not None:
        _try("metrics", lambda: _write_metrics(status, path))
    if (report := run.report_file) is not None:
        _try("the report", lambda: _write_report(status, report))


def _try(what: str, write: Callable[[], None]) -> None:
    try:
        write()
    except (MirrorError, OSError) as error:
        _LOG.warning("%s cannot be written: %s", what, error)


def _write_page(status: MirrorStatus, settings: Settings, storage: Storage) -> None:
    from fastmirror.statuspage import Place, page_json, status_page
    from fastmirror.trends import trends

    now = time.time()
    place, changes = Place(settings.upstream.master, settings.run.public_url), trends(status.past, now)
    told = {
        "web/status/index.html": status_page(status, changes, place, now),
        "web/status/status.json": f"{page_json(status, changes, now)}\n",
    }
    staged = [(storage.stage_fact(path, text), path) for path, text in told.items()]
    storage.flush()
    for where, path in staged:
        storage.put_fact(where, path)


def _write_metrics(status: MirrorStatus, path: str) -> None:
    from fastmirror.metrics import write_metrics

    write_metrics(status, path)


def _write_report(status: MirrorStatus, path: str) -> None:
    staged = f"{path}.new"
    with open(staged, "w", encoding="utf-8") as stream:
        stream.write(f"{status_json(status)}\n")
    os.replace(staged, path)
