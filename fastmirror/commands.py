"""The commands: parse, call, show. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from fastmirror import logs
from fastmirror.configuration import project_names
from fastmirror.display import open_events, open_progress
from fastmirror.errors import SettingsError
from fastmirror.face import (
    RUN_STATUSES,
    AllowEmpty,
    AsEvents,
    AsJson,
    Directory,
    Every,
    Executor,
    ForceCheck,
    Hours,
    Master,
    MaxTime,
    Projects,
    RetryFailed,
    Scheduler,
    Sets,
    WithDependencies,
    answering,
    app,
    load_settings,
    show,
    status_of,
    with_crew,
    with_flag,
)
from fastmirror.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastmirror.mirror import RunOptions
    from fastmirror.progress import Progress
    from fastmirror.settings import Settings

__all__ = ["app"]

_logger = logging.getLogger("fastmirror.cli")


@app.command(epilog=RUN_STATUSES)
@answering
def mirror(
    context: typer.Context,
    *,
    directory: Directory = None,
    master: Master = None,
    project: Projects = None,
    sets: Sets = None,
    with_dependencies: WithDependencies = False,
    allow_empty: AllowEmpty = False,
    force_check: ForceCheck = False,
    retry_failed: RetryFailed = False,
    max_time: MaxTime = None,
    executor: Executor = None,
    scheduler: Scheduler = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done, as plan does.")] = False,
    every: Every = None,
    hours: Hours = None,
    as_json: AsEvents = False,
) -> int:
    """Bring the mirror up to date with its upstream: one run."""
    from fastmirror.mirror import RunOptions

    options = RunOptions(
        projects=project_names(project),
        force_check=force_check,
        retry_failed=retry_failed,
        max_time_s=max_time,
        dry_run=dry_run,
        debug=context.obj.debug,
    )

    def load() -> Settings:
        return load_settings(
            context.obj.configuration,
            directory=directory,
            master=master,
            sets=with_crew(with_flag(sets, with_dependencies), executor, scheduler),
            allow_empty=allow_empty,
        )

    def one_round() -> int:
        settings = load()
        if dry_run:
            return _plan(settings, options, with_files=False, as_json=as_json)
        return _run(context, settings, options, supervisor, as_json=as_json)

    supervisor = Supervisor.of(os.environ)
    if every is None and hours is None:
        supervisor.tell("READY=1")
        return one_round()
    if every is None or dry_run:
        raise SettingsError("--hours: is for --every" if every is None else "--dry-run: is not for --every")
    from fastmirror.interval import parse_duration, parse_hours, run_every

    interval_s, hours_of_day = parse_duration("--every", every), None if hours is None else parse_hours(hours)
    load()  # what was just written, or cannot be used, is for a person to look at before any round
    return run_every(interval_s, hours_of_day, lambda: status_of(one_round), supervisor)


@app.command(epilog=RUN_STATUSES)
@answering
def sync(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="The projects.")],
    *,
    skip_simple_root: Annotated[
        bool, typer.Option("--skip-simple-root", help="Leave the root index as it is.")
    ] = False,
    with_dependencies: WithDependencies = False,
    directory: Directory = None,
    master: Master = None,
    sets: Sets = None,
    executor: Executor = None,
    scheduler: Scheduler = None,
    allow_empty: AllowEmpty = False,
    as_json: AsEvents = False,
) -> int:
    """Bring these projects up to date now."""
    projects = project_names(names)
    settings = load_settings(
        context.obj.configuration,
        directory=directory,
        master=master,
        sets=with_crew(with_flag(sets, with_dependencies), executor, scheduler),
        allow_empty=allow_empty,
    )
    from fastmirror.mirror import RunOptions

    options = RunOptions(projects=projects, skip_root=skip_simple_root, debug=context.obj.debug)
    return _run(context, settings, options, Supervisor(), as_json=as_json)


@app.command(epilog=RUN_STATUSES)
@answering
def plan(
    context: typer.Context,
    *,
    files: Annotated[bool, typer.Option("--files", help="Fetch the pages too, to tell files and bytes.")] = False,
    as_json: AsJson = False,
    project: Projects = None,
    directory: Directory = None,
    master: Master = None,
    sets: Sets = None,
    with_dependencies: WithDependencies = False,
    allow_empty: AllowEmpty = False,
) -> int:
    """Show what a run would do, and change nothing."""
    projects = project_names(project)
    settings = load_settings(
        context.obj.configuration,
        directory=directory,
        master=master,
        sets=with_flag(sets, with_dependencies),
        allow_empty=allow_empty,
    )
    from fastmirror.mirror import RunOptions

    options = RunOptions(projects=projects, dry_run=True)
    return _plan(settings, options, with_files=files, as_json=as_json)


@app.command(
    epilog="Exit status: 0 the last run did all it had to do; 1 it did not, or projects are failing, or the mirror is"
    " older than --max-lag, or a default configuration was just written; 2 settings, or no mirror there."
)
@answering
def status(
    context: typer.Context,
    *,
    max_lag: Annotated[
        str | None,
        typer.Option(
            "--max-lag", metavar="DURATION", help="Fail, too, if no whole run began within 90s, 5m, 2h or 1d."
        ),
    ] = None,
    as_json: AsJson = False,
    directory: Directory = None,
    sets: Sets = None,
) -> int:
    """Show how complete and fresh the mirror is, and what failed."""
    from fastmirror.interval import parse_duration

    max_lag_s = None if max_lag is None else parse_duration("--max-lag", max_lag)
    settings = load_settings(context.obj.configuration, directory=directory, sets=sets)
    require_mirror(settings)
    from fastmirror import reports
    from fastmirror.inquiry import read_status

    reached = read_status(settings)
    show(reports.status_json(reached) if as_json else reports.status_text(reached))
    is_fresh = max_lag_s is None or reports.is_fresh(reached, max_lag_s)
    return 0 if reports.is_complete(reached) and is_fresh else 1


@app.command(epilog="Exit status: 0 they can be used; 1 a default configuration was just written; 2 they cannot.")
@answering
def config(
    context: typer.Context,
    *,
    as_json: AsJson = False,
    directory: Directory = None,
    master: Master = None,
    sets: Sets = None,
    allow_empty: AllowEmpty = False,
) -> int:
    """Show the settings in force and where each comes from, and check them."""
    settings = load_settings(
        context.obj.configuration, directory=directory, master=master, sets=sets, allow_empty=allow_empty
    )
    from fastmirror import reports
    from fastmirror.inquiry import check_settings

    warn(settings)
    check_settings(settings)
    show(reports.settings_json(settings) if as_json else reports.settings_text(settings))
    return 0


def _run(
    context: typer.Context, settings: Settings, options: RunOptions, supervisor: Supervisor, *, as_json: bool
) -> int:
    from fastmirror import events, reports
    from fastmirror.mirror import run_mirror
    from fastmirror.telling import tell

    with at_work(context, settings, as_json=as_json) as progress:
        summary = run_mirror(settings, options, progress, supervisor, partial(tell, settings))
        supervisor.tell(f"STATUS=the last run ended with exit status {summary.exit_status}")
    show(events.summary_event(summary) if as_json else reports.summary_text(summary))
    return summary.exit_status


@contextmanager
def at_work(context: typer.Context, settings: Settings, *, as_json: bool = False) -> Iterator[Progress]:
    """The log and the progress of a command that works on the mirror; the modes of what it makes are as set."""
    if settings.storage.manage_permissions:
        os.umask(0o022)
    from fastmirror.events import event_json

    progress = open_events(lambda event: show(event_json(event)), sys.stderr) if as_json else open_progress(sys.stderr)
    try:
        logs.set_up(settings.storage.directory, settings.log, debug=context.obj.debug, emit=progress.note)
        warn(settings)
        yield progress
    finally:
        progress.close()


def _plan(settings: Settings, options: RunOptions, *, with_files: bool, as_json: bool) -> int:
    from fastmirror import reports
    from fastmirror.inquiry import plan_run

    warn(settings)
    progress = open_progress(sys.stderr)
    try:
        planned = plan_run(settings, options, with_files=with_files, progress=progress)
    finally:
        progress.close()
    show(reports.plan_json(planned) if as_json else reports.plan_text(planned))
    return 1 if planned.failed else 0


def require_directories(settings: Settings) -> None:
    """Raises SettingsError if the tree is in an object store."""
    if settings.storage.s3 is not None:
        raise SettingsError(
            "this is for a tree in directories, and the mirror's is in an object store"
            " (hint: README, Mirror into an object store)"
        )


def require_mirror(settings: Settings, *, here: bool = True) -> None:
    """Raises SettingsError if there is no mirror; if it need not be `here`, one in a bucket is looked for there."""
    directory = settings.storage.directory
    if settings.storage.s3 is not None and not here:
        return
    if not any(os.path.exists(os.path.join(directory, part)) for part in ("web", ".fastmirror/state.sqlite")):
        raise SettingsError(f"there is no mirror here (directory): {directory!r}")


def warn(settings: Settings) -> None:
    """Say what of the settings was ignored."""
    for warning in settings.warnings:
        _logger.warning("%s", warning)
