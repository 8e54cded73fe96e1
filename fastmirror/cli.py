"""The commands: parse, call, print, exit. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from functools import partial, wraps
from typing import TYPE_CHECKING, Annotated, NamedTuple, NoReturn, ParamSpec

import typer

from fastmirror import __version__, configuration, logs
from fastmirror.configuration import CONFIGURATION_FILES, project_names
from fastmirror.errors import (
    Interrupted,
    MirrorError,
    SettingsError,
    StorageError,
    is_access_failure,
    is_storage_failure,
)
from fastmirror.progress import open_progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastmirror.layout import Tree
    from fastmirror.mirror import RunOptions
    from fastmirror.settings import Settings

P = ParamSpec("P")

_logger = logging.getLogger("fastmirror.cli")
load_settings = partial(configuration.load_settings, environment=os.environ)

_RUN_STATUSES = (
    "Exit status: 0 all done; 1 some projects failed or are partial, or a default configuration was just"
    " written; 2 settings; 3 another run holds the mirror; 4 the deletion guard held something back; 5 the"
    " upstream is unusable; 6 storage failed; 70 a bug; 130, 143 interrupted."
)
_LOOK_STATUSES = "Exit status: 0 done; 1 a default configuration was just written; 2 settings, or no mirror there."

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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


def _answering(command: Callable[P, int]) -> Callable[P, None]:
    """Turn what a command returns or raises into the exit status, before typer sees it."""

    @wraps(command)
    def answer(*args: P.args, **kwargs: P.kwargs) -> None:
        raise typer.Exit(_status(lambda: command(*args, **kwargs)))

    return answer


def _status(call: Callable[[], int]) -> int:
    try:
        return call()
    except KeyboardInterrupt:
        return 130
    except MirrorError as error:
        traced = _logger.isEnabledFor(logging.DEBUG)
        _logger.error("%s", error, exc_info=traced)  # noqa: TRY400 - foreseen: its text is enough
        return error.signal_status if isinstance(error, Interrupted) else error.exit_status
    except Exception as error:
        if isinstance(error, OSError) and (is_storage_failure(error) or is_access_failure(error)):
            _logger.error("storage: %s", error)  # noqa: TRY400 - foreseen: its text is enough
            return StorageError.exit_status
        path = logs.current_log()
        if path is None and not _logger.isEnabledFor(logging.DEBUG):
            traceback.print_exc()
        where = f"; its traceback is in {path}" if path else ""
        _logger.critical("this is a bug%s (%s: %s)", where, type(error).__name__, error, exc_info=True)
        return 70


def _print(text: str) -> None:
    """Write a result to stdout; that nobody reads it any more ends nothing."""
    try:
        print(text, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise StorageError(f"cannot write the result: {error.strerror}") from error


def _show_version(wanted: bool) -> None:
    if wanted:
        _print(f"fastmirror {__version__}")
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
        _print(context.get_help())


_Directory = Annotated[
    str | None,
    typer.Option("--directory", metavar="PATH", help="The mirror's directory; overrides the file."),
]
_Master = Annotated[
    str | None, typer.Option("--master", metavar="URL", help="The index to mirror; overrides the file.")
]
_Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of [mirror], or SECTION.KEY; may be repeated."),
]
_Projects = Annotated[
    list[str] | None,
    typer.Option("--project", metavar="NAME", help="Only this project; may be repeated, or be a list."),
]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(epilog=_RUN_STATUSES)
@_answering
def mirror(
    context: typer.Context,
    *,
    directory: _Directory = None,
    master: _Master = None,
    project: _Projects = None,
    sets: _Sets = None,
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


@app.command(epilog=_RUN_STATUSES)
@_answering
def sync(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="The projects.")],
    *,
    skip_simple_root: Annotated[
        bool, typer.Option("--skip-simple-root", help="Leave the root index as it is.")
    ] = False,
    directory: _Directory = None,
    master: _Master = None,
    sets: _Sets = None,
) -> int:
    """Bring these projects up to date now."""
    projects = project_names(names)
    settings = load_settings(context.obj.configuration, directory=directory, master=master, sets=sets)
    from fastmirror.mirror import RunOptions

    return _run(context, settings, RunOptions(projects=projects, skip_root=skip_simple_root, debug=context.obj.debug))


@app.command(epilog=_RUN_STATUSES)
@_answering
def plan(
    context: typer.Context,
    *,
    files: Annotated[bool, typer.Option("--files", help="Fetch the pages too, to tell files and bytes.")] = False,
    as_json: _AsJson = False,
    project: _Projects = None,
    directory: _Directory = None,
    master: _Master = None,
    sets: _Sets = None,
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
@_answering
def status(
    context: typer.Context, *, as_json: _AsJson = False, directory: _Directory = None, sets: _Sets = None
) -> int:
    """Show how complete and fresh the mirror is, and what failed."""
    settings = load_settings(context.obj.configuration, directory=directory, sets=sets)
    _require_mirror(settings)
    from fastmirror import reports
    from fastmirror.inquiry import read_status

    reached = read_status(settings)
    _print(reports.status_json(reached) if as_json else reports.status_text(reached))
    return 0 if reports.is_complete(reached) else 1


@app.command(epilog=_LOOK_STATUSES)
@_answering
def nginx(
    context: typer.Context,
    *,
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Where nginx is to listen.")
    ] = "127.0.0.1:8080",
    directory: _Directory = None,
    sets: _Sets = None,
) -> int:
    """Print a complete nginx configuration for this mirror."""
    settings = load_settings(context.obj.configuration, directory=directory, sets=sets)
    tree = _tree(settings)
    from fastmirror.nginx import nginx_configuration

    text = nginx_configuration(settings.storage.directory, tree, listen=listen, root_uri=settings.pages.root_uri)
    _print(text.rstrip("\n"))
    return 0


@app.command(epilog=f"{_LOOK_STATUSES[:-1]}; 130, 143 interrupted.")
@_answering
def serve(
    context: typer.Context,
    *,
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="The port to listen on.")] = 8080,
    directory: _Directory = None,
    sets: _Sets = None,
) -> int:
    """Serve this mirror, for a laptop or a test."""
    settings = load_settings(context.obj.configuration, directory=directory, sets=sets)
    tree = _tree(settings)
    from fastmirror.serving import serve as serve_until_interrupted

    address = f"[{host}]" if ":" in host else host
    _print(f"pip install --index-url http://{address}:{port}/simple/ PROJECT")
    serve_until_interrupted(settings.storage.directory, tree, host, port)
    return 0


def _run(context: typer.Context, settings: Settings, options: RunOptions) -> int:
    from fastmirror import reports
    from fastmirror.mirror import run_mirror

    if settings.storage.manage_permissions:
        os.umask(0o022)
    progress = open_progress(sys.stderr)
    try:
        logs.set_up(settings.storage.directory, settings.log, debug=context.obj.debug, emit=progress.note)
        _warn(settings)
        summary = run_mirror(settings, options, progress)
    finally:
        progress.close()
    _print(reports.summary_text(summary))
    return summary.exit_status


def _plan(settings: Settings, options: RunOptions, *, with_files: bool, as_json: bool) -> int:
    from fastmirror import reports
    from fastmirror.inquiry import plan_run

    _warn(settings)
    progress = open_progress(sys.stderr)
    try:
        planned = plan_run(settings, options, with_files=with_files, progress=progress)
    finally:
        progress.close()
    _print(reports.plan_json(planned) if as_json else reports.plan_text(planned))
    return 1 if planned.failed else 0


def _tree(settings: Settings) -> Tree:
    _require_mirror(settings)
    from fastmirror.inquiry import open_tree

    return open_tree(settings)


def _require_mirror(settings: Settings) -> None:
    directory = settings.storage.directory
    if not any(os.path.exists(os.path.join(directory, part)) for part in ("web", ".fastmirror/state.sqlite")):
        raise SettingsError(f"there is no mirror here (directory): {directory!r}")


def _warn(settings: Settings) -> None:
    for warning in settings.warnings:
        _logger.warning("%s", warning)
