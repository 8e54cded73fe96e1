"""What a run did, would do, and has reached: as text for a person and as JSON for a program. No I/O."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from fastmirror.masking import clean
from fastmirror.progress import human_bytes, human_time
from fastmirror.summary import gap_lines
from fastmirror.wording import counted, date_and_time, files_text, joined, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastmirror.deletion import Deletion
    from fastmirror.inquiry import MirrorStatus, PlannedRun
    from fastmirror.settings import Settings
    from fastmirror.summary import Failure, Summary, Verification

_SHOWN_FAILURES = 10
_SHOWN_NAMES = 10


def summary_text(summary: Summary) -> str:
    """The closing lines of a run; the last one says whether all that was planned is done."""
    counts = [
        (summary.updated, "updated"),
        (summary.unchanged, "unchanged"),
        (summary.removed, "removed"),
        (summary.partial, "partial"),
        (summary.failed, "failed"),
        (summary.gone, "gone upstream"),
    ]
    always = ("updated", "removed", "failed")
    lines = [
        "projects: " + ", ".join(f"{count:,} {what}" for count, what in counts if count or what in always),
        f"fetched: {files_text(summary.files, summary.bytes)} in {human_time(summary.seconds)}{_rates(summary)}",
        *_failure_lines(summary.failures, summary.failed + summary.partial),
    ]
    if summary.swept:
        found = counted((summary.swept_unread, "not read"))
        swept = plural(summary.swept, "project", "projects")
        lines.insert(1, ", ".join([f"swept: {swept}", f"{summary.swept_changed:,} changed", *found]))
    if summary.held_removals or summary.held_files:
        held = joined((summary.held_removals, "project", "projects"), (summary.held_files, "file", "files"))
        options = [
            f"--set {key}={count}"
            for key, count in (("max-removals", summary.held_removals), ("max-removed-files", summary.held_files))
            if count
        ]
        lines.append(f"held back by the deletion guard: {held} (hint: {' '.join(options)})")
    lines += [*gap_lines(summary.gaps), _verdict(summary)]
    return "\n".join(lines)


def _rates(summary: Summary) -> str:
    handled = summary.updated + summary.unchanged + summary.partial + summary.failed + summary.gone
    if summary.seconds <= 0 or not handled:
        return ""
    speed = human_bytes(summary.bytes / summary.seconds)
    return f" ({handled / summary.seconds:,.1f} projects/s, {speed}/s)"


def _verdict(summary: Summary) -> str:
    missing = counted((summary.failed, "failed"), (summary.partial, "partial"), (summary.pending, "not yet done"))
    if summary.held_removals or summary.held_files:
        missing.append("removals held back")
    if summary.error:
        missing.append(clean(summary.error))
    if missing or summary.exit_status:
        earlier = "projects are failing since earlier runs (hint: fastmirror status)"
        reasons = ", ".join(missing) or (earlier if summary.exit_status == 1 else f"exit status {summary.exit_status}")
        return f"not complete: {reasons}"
    serial = "" if summary.serial is None else f", serial {summary.serial}"
    return f"complete{serial}"


def settings_text(settings: Settings) -> str:
    """The settings in force, section by section, each with where it comes from; then what is given without effect."""
    used = [one for one in settings.effective if one.is_used]
    lines: list[str] = []
    for section, group in groupby(used, key=lambda setting: setting.section):
        lines += ["", f"[{clean(section)}]"] if lines else [f"[{clean(section)}]"]
        for one in group:
            first, *more = ("", *one.value.split("\n")) if "\n" in one.value else (one.value,)
            lines.append(f"{clean(one.key)} = {clean(first)}".rstrip() + f"    # {clean(one.origin)}")
            lines += [f"    {clean(line)}" for line in more]
    unused = [one for one in settings.effective if not one.is_used]
    if unused:
        lines += ["", "# without effect:"]
        lines += [f"# [{clean(one.section)}] {clean(one.key)}    # {clean(one.origin)}" for one in unused]
    return "\n".join(lines)


def settings_json(settings: Settings) -> str:
    """The settings in force as one JSON object: a list of section, key, value and origin, and the warnings."""
    return as_json({"settings": [one._asdict() for one in settings.effective], "warnings": settings.warnings})


def verification_text(found: Verification, *, delete: bool) -> str:
    """The closing lines of a verification; the last one says whether all is well."""
    rate = f" ({human_bytes(found.bytes / found.seconds)}/s)" if found.seconds > 0 else ""
    checked = f"{plural(found.projects, 'project', 'projects')}, {files_text(found.files, found.bytes)}"
    lines = [f"checked: {checked} in {human_time(found.seconds)}{rate}", *found.notes]
    damaged = found.mended + found.unmended
    if damaged:
        kinds = counted(*((count, kind) for kind, count in found.by_kind.items()))
        left = "to repair" if found.dry_run else "not repaired"
        became = counted((found.mended, "repaired"), (found.unmended, left))
        lines.append(f"damaged: {', '.join(kinds)}: {', '.join(became)}")
        for one in found.found[:_SHOWN_FAILURES]:
            size = f", {human_bytes(one.size)}" if one.size else ""
            lines.append(f"  {clean(one.name)}: {clean(one.path)} is {one.what}{size}{', repaired' * one.mended}")
        if damaged > _SHOWN_FAILURES:
            lines.append(f"  … and {damaged - _SHOWN_FAILURES:,} more (the log names all)")
    if found.left:
        lines.append(f"left to the next verification: {plural(found.left, 'project', 'projects')}")
    if found.fetched_files:
        lines.append(f"fetched: {files_text(found.fetched_files, found.fetched_bytes)}")
    if found.root_index:
        became_index = "is to be written anew" if found.dry_run else "written anew"
        lines.append(f"root index: {became_index}: {', '.join(found.root_index)}")
    lines += _unowned_lines(found, delete=delete)
    if found.failures:
        lines += ["not whole:", *_failure_lines(found.failures, found.failed)]
    lines.append(_judgement(found))
    return "\n".join(lines)


def _unowned_lines(found: Verification, *, delete: bool) -> list[str]:
    if found.refusal and (delete or found.unowned):
        return [f"nothing is removed: {found.refusal}"]
    if not found.unowned:
        return []
    what = f"owned by no project: {files_text(found.unowned, found.unowned_bytes)}"
    if found.held:
        fate = f": held back by the deletion guard (hint: --set max-removed-files={found.held})"
    elif found.removed:
        fate = ", removed" if found.removed == found.unowned else f", {found.removed:,} of them removed"
    else:
        fate = ", to remove" if delete else " (hint: --delete)"
    shown = [f"  {clean(path)}" for path in found.unowned_paths[:_SHOWN_FAILURES]]
    more = found.unowned - len(shown)
    return [what + fate, *shown, *([f"  … and {more:,} more"] if more else [])]


def _judgement(found: Verification) -> str:
    missing = counted(
        (found.unmended, "damaged"),
        (found.failed, "projects not whole"),
        (found.pending, "projects not looked at"),
    )
    if found.exit_status == 4:
        missing.append("removals held back")
    if found.error:
        missing.append(clean(found.error))
    if missing or found.exit_status:
        return f"not well: {', '.join(missing) or f'exit status {found.exit_status}'}"
    return "well" if not found.mended else "well again"


def deletion_text(deletion: Deletion) -> str:
    """What was deleted, or would be."""
    verb = "would be deleted" if deletion.dry_run else "deleted"
    lines = [f"  {clean(path)}" for path in deletion.paths] if deletion.dry_run else []
    lines += [f"not in the mirror: {clean(name)}" for name in deletion.absent]
    projects = plural(len(deletion.held), "project", "projects")
    lines.append(f"{verb}: {projects}, {files_text(len(deletion.paths), deletion.bytes)}")
    return "\n".join(lines)


def plan_text(plan: PlannedRun) -> str:
    """What a run would do."""
    lines = []
    if not plan.complete:
        lines.append("the upstream's list of projects was not read: only what was asked for by name is planned")
    again = f", of them {plan.retry:,} after a failure" if plan.retry else ""
    lines.append(f"to update: {plural(plan.update, 'project', 'projects')}{again}{_names(plan.names, plan.update)}")
    held = ", which the deletion guard would hold back" if plan.held else ""
    removals = len(plan.remove)
    removed = plan.remove[len(plan.denied) :]
    lines.append(f"to remove: {plural(removals, 'project', 'projects')}{held}")
    lines[-1] += _names(plan.denied, len(plan.denied), "no longer selected: ")
    lines[-1] += _names(removed, len(removed), "no longer listed: " if plan.denied else "")
    if plan.sweep:
        lines.append(f"to sweep: {plural(plan.sweep, 'project', 'projects')}, for what changes without a serial")
    if plan.files is not None:
        lines.append(f"to fetch: {files_text(plan.files, plan.bytes)}")
    if plan.left_out:
        total, *each = plan.left_out
        lines.append(f"filters leave out of these projects: {files_text(total.files, total.bytes)}")
        lines += [f"  {clean(one.filter)} by itself: {files_text(one.files, one.bytes)}" for one in each]
    if plan.failed:
        lines.append(f"not known: {plural(plan.failed, 'page', 'pages')} could not be read")
    lines += gap_lines(plan.gaps)
    if plan.complete and not (plan.update or plan.remove or plan.sweep):
        lines.append("nothing to do")
    return "\n".join(lines)


def plan_json(plan: PlannedRun) -> str:
    """The plan as one JSON object, its keys named like the fields of PlannedRun."""
    left_out, gaps = [one._asdict() for one in plan.left_out], [gap._asdict() for gap in plan.gaps]
    return as_json({**plan._asdict(), "left_out": left_out, "gaps": gaps})


def status_text(status: MirrorStatus) -> str:
    """How complete and how fresh the mirror is, what failed and why, and when it is tried again."""
    lines = [
        f"mirror: {clean(status.directory)} ({status.layout} layout)",
        f"holds: {plural(status.projects, 'project', 'projects')}, {files_text(status.files, status.bytes)}",
        f"serial: {'none yet' if status.serial is None else status.serial}",
        f"fresh: {_freshness(status)}",
        f"last run: {_last_run(status.last_run)}",
    ]
    if status.state_damaged:
        lines.append("state: a run found it damaged: do not trust what is said here; the next run makes it anew")
    if not status.clean:
        lines.append("unfinished: the last run was cut off, or one is going on now; the next run mends what is left")
    if status.doomed:
        lines.append(f"to unlink: {plural(status.doomed, 'file', 'files')}, when their grace is over")
    if status.unwanted:
        lines.append(
            f"deleted by command: {plural(status.unwanted, 'project', 'projects')} (hint: sync brings one back)"
        )
    if status.hidden:
        lines.append(f"hidden: {plural(status.hidden, 'file', 'files')} of what upstream quarantined or removed")
    if status.kept:
        lines.append(f"kept: {plural(status.kept, 'project', 'projects')} that upstream removed")
    lines.append(f"verified: {_verified(status)}")
    if status.history_damaged:
        lines.append("history: damaged: some runs are remembered without their figures, or not at all")
    if lacking := missing_text(status):
        lines.append(f"missing: {lacking}")
    if gaps := (status.last_run or {}).get("gaps"):
        count = plural(len(gaps), "gap", "gaps")
        lines.append(f"dependencies: {count} in what may be required (hint: plan names them)")
    lines.append(f"failing: {plural(status.failing, 'project', 'projects')}")
    lines += _failure_lines(status.failures, status.failing, shown=len(status.failures), where="")
    return "\n".join(lines)


def status_json(status: MirrorStatus) -> str:
    """The status as one JSON object: status_facts."""
    return as_json(status_facts(status))


def status_facts(status: MirrorStatus) -> dict[str, Any]:
    """The status for a program, its keys named like the fields of MirrorStatus; times are ISO, UTC."""
    failures = [
        {"name": name, "reason": clean(reason), "next_try": None if next_try is None else date_and_time(next_try)}
        for name, reason, next_try in status.failures
    ]
    largest = [large._asdict() for large in status.largest]
    facts = {key: value for key, value in status._asdict().items() if key != "past"}
    if status.last_run is not None and "error" in status.last_run:
        facts["last_run"] = status.last_run | {"error": clean(str(status.last_run["error"]))}
    return {**facts, "failures": failures, "largest": largest, "complete": is_complete(status)}


def missing_text(status: MirrorStatus) -> str:
    """What upstream has and the mirror lacks; empty if it lacks nothing that it knows of."""
    projects = joined((status.missing, "project", "projects"))
    files = files_text(status.missing_files, status.missing_bytes) if status.missing_files else ""
    return ", ".join(filter(None, (projects, files)))


def _verified(status: MirrorStatus) -> str:
    """Since when all that is at rest has been hashed again; what was never is as old as its download."""
    never = f"{plural(status.never_verified, 'project', 'projects')} not since they were fetched"
    if status.oldest_verified is None:
        return never
    also = f", {never}" if status.never_verified else ""
    return f"since {status.oldest_verified}{also}"


def _freshness(status: MirrorStatus) -> str:
    if status.as_of is None or status.lag_s is None:
        return "no whole run has finished yet"
    return f"as upstream was at {status.as_of}, {human_time(status.lag_s)} ago"


def is_fresh(status: MirrorStatus, max_lag_s: float) -> bool:
    """Whether a whole run that finished began within so many seconds."""
    return status.lag_s is not None and status.lag_s <= max_lag_s


def is_complete(status: MirrorStatus) -> bool:
    """Whether the last run finished, did all it had to do, and left no project failing."""
    return (
        status.clean
        and not status.state_damaged
        and not status.failing
        and status.last_run is not None
        and status.last_run.get("exit_status") == 0
    )


def _last_run(run: dict[str, Any] | None) -> str:
    if run is None:
        return "none yet"
    started = clean(str(run.get("started")))
    if run.get("finished") is None:
        return f"began {started}, not finished"
    counts = ", ".join(f"{run.get(key) or 0:,} {key}" for key in ("updated", "removed", "failed"))
    fetched = files_text(run.get("files") or 0, run.get("bytes") or 0)
    seconds = human_time(run.get("seconds") or 0)
    return (
        f"{started} to {clean(str(run['finished']))}, exit status {run.get('exit_status')}:"
        f" {counts}; {fetched} in {seconds}"
    )


def _failure_lines(
    failures: Sequence[Failure],
    total: int,
    *,
    shown: int = _SHOWN_FAILURES,
    where: str = ": fastmirror status",
) -> list[str]:
    lines = []
    for failure in failures[:shown]:
        again = "" if failure.next_try is None else f" (next try {date_and_time(failure.next_try)})"
        lines.append(f"  {clean(failure.name)}: {clean(failure.reason)}{again}")
    more = max(total, len(failures)) - len(lines)
    if lines and more > 0:
        lines.append(f"  … and {more:,} more{where}")
    return lines


def _names(names: Sequence[str], total: int, why: str = "") -> str:
    if not names:
        return ""
    text = " ".join(names[:_SHOWN_NAMES])
    more = total - min(len(names), _SHOWN_NAMES)
    return f"\n  {why}{text}" + (f" … and {more:,} more" if more > 0 else "")


def as_json(value: dict[str, Any]) -> str:
    """One JSON object, for a program and for eyes."""
    import orjson

    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
