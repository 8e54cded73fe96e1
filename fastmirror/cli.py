"""The commands: parse, call, print, exit. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, NamedTuple, NoReturn

import typer

from fastmirror import __version__, logs, upkeep  # noqa: F401 - upkeep brings its commands
from fastmirror.configuration import CONFIGURATION_FILES, load_settings, project_names
from fastmirror.console import (
    LOOK_STATUSES,
    RUN_STATUSES,
    AsJson,
    Directory,
    Master,
    Projects,
    Sets,
    answering,
    app,
    require_mirror,
    say,
    warn,
)
from fastmirror.progress import open_progress

if TYPE_CHECKING:
    from fastmirror.layout import Tree
    from fastmirror.mirror import RunOptions
    from fastmirror.settings import Settings


class _Globals(NamedTuple):
    """The options before the command."""

    configuration: str | None
    debug: bool


def main() -> NoReturn:
    """Run the command that the command line asks for, and exit with its status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    logs.set_up(None, None, stream=sys.stderr)
    app(prog_name="fastmirror")
    sys.exit(0)


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"fastmirror {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True, epilog="Each command's --help states its exit statuses.")
def _main(
    context: typer.Context,
    configuration: Annotated[
        str | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE",
            help=f"The configuration; else {' or '.join(CONFIGURATION_FILES)}.",
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Log more, and show tracebacks.")] = False,
    _version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit."),
    ] = False,
) -> None:
    """A mirror of PyPI, or of any Python package index, that can be trusted and is fast."""
    context.obj = _Globals(configuration, debug)
    if debug:
        logs.set_up(None, None, debug=True, stream=sys.stderr)
    if context.invoked_subcommand is None:
        if len(sys.argv) > 1:
            context.fail("Missing command.")
        say(context.get_help())


@app.command(epilog=RUN_STATUSES)
@answering
def mirror(
    context: typer.Context,
    *,
    directory: Directory = None,
    master: Master = None,
    project: Projects = None,
    sets: Sets = None,
    force_check: Annotated[
        bool, typer.Option("--force-check", help="Plan every project anew and verify every file.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try failed projects again now, due or not.")
    ] = False,
    max_time: Annotated[
        float | None,
        typer.Option("--max-time", metavar="SECONDS", min=0, help="Stop in good order after so long."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done, as plan does.")] = False,
) -> int:
    """Bring the mirror up to date with its upstream: one run."""
    projects = project_names(project)
    settings = load_settings(context.obj.configuration, directory=directory, master=master, sets=sets)
    from fastmirror.mirror import RunOptions

    options = RunOptions(
        projects=projects,
        force_check=force_check,
        retry_failed=retry_failed,
        max_time_s=max_time,
        dry_run=dry_run,
        debug=context.obj.debug,
    )
    if dry_run:
        return _plan(settings, options, with_files=False, as_json=False)
    return _run(context, settings, options)


@app.command(epilog=RUN_STATUSES)
@answering
def sync(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="The projects.")],
    *,
    skip_simple_root: Annotated[
        bool, typer.Option("--skip-simple-root", help="Leave the root index as it is.")
    ] = False,
    directory: Directory = None,
    master: Master = None,
    sets: Sets = None,
) -> int:
    """Bring these projects up to date now."""
    projects = project_names(names)
    settings = load_settings(context.obj.configuration, directory=directory, master=master, sets=sets)
    from fastmirror.mirror import RunOptions

    return _run(context, settings, RunOptions(projects=projects, skip_root=skip_simple_root, debug=context.obj.debug))


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
) -> int:
    """Show what a run would do, and change nothing."""
    projects = project_names(project)
    settings = load_settings(context.obj.configuration, directory=directory, master=master, sets=sets)
    from fastmirror.mirror import RunOptions

    options = RunOptions(projects=projects, dry_run=True)
    return _plan(settings, options, with_files=files, as_json=as_json)


@app.command(
    epilog="Exit status: 0 the last run did all it had to do; 1 it did not, or projects are failing, or a"
    " default configuration was just written; 2 settings, or no mirror there."
)
@answering
def status(context: typer.Context, *, as_json: AsJson = False, directory: Directory = None, sets: Sets = None) -> int:
    """Show how complete and fresh the mirror is, and what failed."""
    settings = load_settings(context.obj.configuration, directory=directory, sets=sets)
    require_mirror(settings)
    from fastmirror import reports
    from fastmirror.inquiry import read_status

    reached = read_status(settings)
    say(reports.status_json(reached) if as_json else reports.status_text(reached))
    return 0 if reports.is_complete(reached) else 1


@app.command(epilog=LOOK_STATUSES)
@answering
def nginx(
    context: typer.Context,
    *,
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Where nginx is to listen.")
    ] = "127.0.0.1:8080",
    directory: Directory = None,
    sets: Sets = None,
) -> int:
    """Print a complete nginx configuration for this mirror."""
    settings = load_settings(context.obj.configuration, directory=directory, sets=sets)
    tree = _tree(settings)
    from fastmirror.nginx import nginx_configuration

    text = nginx_configuration(settings.storage.directory, tree, listen=listen, root_uri=settings.pages.root_uri)
    say(text.rstrip("\n"))
    return 0


@app.command(epilog=f"{LOOK_STATUSES[:-1]}; 130, 143 interrupted.")
@answering
def serve(
    context: typer.Context,
    *,
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="The port to listen on.")] = 8080,
    directory: Directory = None,
    sets: Sets = None,
) -> int:
    """Serve this mirror, for a laptop or a test."""
    settings = load_settings(context.obj.configuration, directory=directory, sets=sets)
    tree = _tree(settings)
    from fastmirror.serving import serve as serve_until_interrupted

    address = f"[{host}]" if ":" in host else host
    say(f"pip install --index-url http://{address}:{port}/simple/ PROJECT")
    serve_until_interrupted(settings.storage.directory, tree, host, port)
    return 0


def _run(context: typer.Context, settings: Settings, options: RunOptions) -> int:
    from fastmirror import reports
    from fastmirror.mirror import run_mirror

    os.umask(0o022)
    progress = open_progress(sys.stderr)
    try:
        logs.set_up(settings.storage.directory, settings.log, debug=context.obj.debug, emit=progress.note)
        warn(settings)
        summary = run_mirror(settings, options, progress)
    finally:
        progress.close()
    say(reports.summary_text(summary))
    return summary.exit_status


def _plan(settings: Settings, options: RunOptions, *, with_files: bool, as_json: bool) -> int:
    from fastmirror import reports
    from fastmirror.inquiry import plan_run

    warn(settings)
    progress = open_progress(sys.stderr)
    try:
        planned = plan_run(settings, options, with_files=with_files, progress=progress)
    finally:
        progress.close()
    say(reports.plan_json(planned) if as_json else reports.plan_text(planned))
    return 1 if planned.failed else 0


def _tree(settings: Settings) -> Tree:
    require_mirror(settings)
    from fastmirror.inquiry import open_tree

    return open_tree(settings)
