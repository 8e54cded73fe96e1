"""The commands that go through what is held: verify and delete."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fastmirror import logs
from fastmirror.commands import at_work, require_mirror, warn
from fastmirror.configuration import project_names
from fastmirror.face import Directory, Executor, Master, Scheduler, Sets, answering, load_settings, show, with_crew
from fastmirror.offering import app

__all__ = ["app"]

_Workers = Annotated[
    int, typer.Option("--workers", metavar="N", min=0, help="Worker processes; else as the configuration says.")
]


@app.command(
    epilog="Exit status: 0 all is well, or was repaired; 1 something is missing or corrupt after repair, or a default"
    " configuration was just written; 2 settings, or no mirror there; 3 another run holds the mirror; 4 removals were"
    " held back; 5 the cluster is unusable; 6 storage failed; 70 a bug; 130, 143 interrupted."
)
@answering
def verify(
    context: typer.Context,
    *,
    delete: Annotated[bool, typer.Option("--delete", help="Remove what no project of the mirror owns.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only look, and say what would be done: no request, no change.")
    ] = False,
    json_update: Annotated[
        bool, typer.Option("--json-update", help="Plan every project anew, and refresh its documents.")
    ] = False,
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="DURATION", help="For so long: what was not verified for longest first."),
    ] = None,
    budget_bytes: Annotated[
        str | None, typer.Option("--budget-bytes", metavar="SIZE", help="So much, likewise: 500M, 20G.")
    ] = None,
    workers: _Workers = 0,
    executor: Executor = None,
    scheduler: Scheduler = None,
    directory: Directory = None,
    master: Master = None,
    sets: Sets = None,
) -> int:
    """Hash everything that is stored, and repair what is damaged."""
    from fastmirror.interval import parse_duration, parse_size

    seconds = None if budget is None else parse_duration("--budget", budget)
    size = None if budget_bytes is None else parse_size("--budget-bytes", budget_bytes)
    sets = with_crew(sets, executor, scheduler)
    settings = load_settings(context.obj.configuration, directory=directory, master=master, sets=sets)
    require_mirror(settings, here=False)
    from fastmirror import reports
    from fastmirror.verify import VerifyOptions, verify_mirror

    options = VerifyOptions(delete, dry_run, json_update, workers, seconds, size, context.obj.debug)
    with at_work(context, settings) as progress:
        verification = verify_mirror(settings, options, progress)
    show(reports.verification_text(verification, delete=delete))
    return verification.exit_status


@app.command(
    epilog="Exit status: 0 nothing to mend; 1 something is, or a default configuration was just written; 2 settings."
)
@answering
def doctor(context: typer.Context, *, directory: Directory = None, master: Master = None, sets: Sets = None) -> int:
    """Look at the machine, the storage, the mirror and the upstream, and say what to mend."""
    settings = load_settings(context.obj.configuration, directory=directory, master=master, sets=sets)
    from fastmirror.doctor import examine, finding_text

    warn(settings)
    is_well = True
    for finding in examine(settings):
        show(finding_text(finding))
        is_well = is_well and finding.is_well
    return 0 if is_well and not settings.warnings else 1


@app.command(
    epilog="Exit status: 0 they are gone, or were not there; 1 a default configuration was just written; 2 settings, or"
    " no mirror there; 3 another run holds the mirror; 6 storage failed; 70 a bug."
)
@answering
def delete(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="The projects.")],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    _workers: _Workers = 0,
    _skip_json_fetch: Annotated[
        bool, typer.Option("--skip-json-fetch", help="For bandersnatch's sake: nothing is ever fetched.")
    ] = False,
    directory: Directory = None,
    sets: Sets = None,
) -> int:
    """Take projects out of the mirror, now and until they are asked for by name."""
    projects = project_names(names)
    settings = load_settings(context.obj.configuration, directory=directory, sets=sets)
    require_mirror(settings, here=False)
    from fastmirror import reports
    from fastmirror.deletion import delete_projects

    logs.set_up(settings.storage.directory, settings.log, debug=context.obj.debug, stream=sys.stderr)
    warn(settings)
    show(reports.deletion_text(delete_projects(settings, projects, dry_run=dry_run)))
    return 0
