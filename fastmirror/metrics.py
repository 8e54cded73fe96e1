"""How a mirror stands, as metrics for Prometheus: a file for the node exporter, and what ``serve`` answers."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, generate_latest, write_to_textfile

if TYPE_CHECKING:
    from fastmirror.inquiry import MirrorStatus

_RESULTS = ("updated", "unchanged", "removed", "partial", "failed", "gone", "pending")


def metrics_text(status: MirrorStatus) -> bytes:
    """The metrics in Prometheus' text format."""
    return generate_latest(_registry(status))


def write_metrics(status: MirrorStatus, path: str) -> None:
    """Put the metrics into a file, in one step. Raises OSError if that cannot be done."""
    write_to_textfile(path, _registry(status))


def _registry(status: MirrorStatus) -> CollectorRegistry:
    registry = CollectorRegistry()
    values: list[tuple[str, str, float | None]] = [
        ("projects", "Projects with a published page.", status.projects),
        ("files", "Files at rest.", status.files),
        ("bytes", "Bytes of the files at rest.", status.bytes),
        ("failing_projects", "Projects whose last outcome was not whole.", status.failing),
        ("doomed_files", "Files that no page names, not yet unlinked.", status.doomed),
        ("hidden_files", "Files that are kept and not served.", status.hidden),
        ("missing_projects", "Projects that should have a page, and have none.", status.missing),
        ("missing_files", "Files of the others that could not be had.", status.missing_files),
        ("missing_bytes", "Bytes of these, where upstream says.", status.missing_bytes),
        ("serial", "The upstream's serial that the mirror has reached.", status.serial),
        ("upstream_serial", "The upstream's serial that a run has seen last.", status.upstream_serial),
        ("clean", "1 if the last run ended in order.", int(status.clean)),
        ("never_verified_projects", "Projects not hashed since they were fetched.", status.never_verified),
        ("oldest_verification_timestamp_seconds", "Of all others, the longest ago.", _epoch(status.oldest_verified)),
        ("as_of_timestamp_seconds", "When the last whole run began that finished.", _epoch(status.as_of)),
    ]
    if status.last_run is not None:
        run = status.last_run
        values += [
            ("last_run_started_timestamp_seconds", "When the last run began.", _epoch(run["started"])),
            ("last_run_finished_timestamp_seconds", "When it ended.", _epoch(run["finished"])),
            ("last_run_exit_status", "Its exit status.", run["exit_status"]),
            ("last_run_duration_seconds", "How long it took.", run.get("seconds")),
            ("last_run_fetched_files", "Files that it fetched.", run.get("files")),
            ("last_run_fetched_bytes", "Bytes that it fetched.", run.get("bytes")),
            ("last_run_held_projects", "Projects that the deletion guard kept.", run.get("held_removals")),
            ("last_run_held_files", "Files that the deletion guard kept.", run.get("held_files")),
        ]
        results = Gauge(
            "fastmirror_last_run_projects", "Projects of the last run by result.", ["result"], registry=registry
        )
        for result in _RESULTS:
            results.labels(result).set(run.get(result) or 0)
    for name, meaning, value in values:
        if value is not None:
            Gauge(f"fastmirror_{name}", meaning, registry=registry).set(value)
    return registry


def _epoch(moment: str | None) -> float | None:
    return None if moment is None else datetime.fromisoformat(moment).timestamp()
