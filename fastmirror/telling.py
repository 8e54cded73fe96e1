"""What a run leaves for others to read, once it has ended: metrics and a report, each put into place in one step."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from fastmirror.errors import MirrorError
from fastmirror.inquiry import read_status
from fastmirror.reports import status_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastmirror.inquiry import MirrorStatus
    from fastmirror.settings import Settings

_LOG = logging.getLogger(__name__)


def tell(settings: Settings) -> None:
    """Write what the settings ask for. What cannot be written is logged, and does not make the run fail."""
    run = settings.run
    if run.metrics_file is None and run.report_file is None:
        return
    try:
        status = read_status(settings)
    except (MirrorError, OSError) as error:
        _LOG.warning("how the mirror stands cannot be told: %s", error)
        return
    if run.metrics_file is not None:
        _write("metrics", _write_metrics, status, run.metrics_file)
    if run.report_file is not None:
        _write("the report", _write_report, status, run.report_file)


def _write(what: str, write: Callable[[MirrorStatus, str], None], status: MirrorStatus, path: str) -> None:
    try:
        write(status, path)
    except OSError as error:
        _LOG.warning("%s cannot be written: %s", what, error)


def _write_metrics(status: MirrorStatus, path: str) -> None:
    from fastmirror.metrics import write_metrics

    write_metrics(status, path)


def _write_report(status: MirrorStatus, path: str) -> None:
    staged = f"{path}.new"
    with open(staged, "w", encoding="utf-8") as stream:
        stream.write(f"{status_json(status)}\n")
    os.replace(staged, path)
