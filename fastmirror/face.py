"""What every command shares: the program's options, how an outcome becomes an exit status, how results are shown."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from functools import partial, wraps
from typing import TYPE_CHECKING, Annotated, NamedTuple, ParamSpec

import typer

from fastmirror import __version__, configuration, logs
from fastmirror.configuration import CONFIGURATION_FILES
from fastmirror.errors import Interrupted, MirrorError, StorageError, is_access_failure, is_storage_failure

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")

_logger = logging.getLogger("fastmirror.cli")
load_settings = partial(configuration.load_settings, environment=os.environ)

RUN_STATUSES = (
    "Exit status: 0 all done; 1 some projects failed or are partial, or a default configuration was just"
    " written; 2 settings; 3 another run holds the mirror; 4 the deletion guard held something back; 5 the"
    " upstream or the cluster is unusable; 6 storage failed; 70 a bug; 130, 143 interrupted."
)
LOOK_STATUSES = "Exit status: 0 done; 1 a default configuration was just written; 2 settings, or no mirror there."

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class _Globals(NamedTuple):
    """The options before the command."""

    configuration: str | None
    debug: bool


def answering(command: Callable[P, int]) -> Callable[P, None]:
    """Turn what a command returns or raises into the exit status, before typer sees it."""

    @wraps(command)
    def answer(*args: P.args, **kwargs: P.kwargs) -> None:
        raise typer.Exit(status_of(lambda: command(*args, **kwargs)))

    return answer


def status_of(call: Callable[[], int]) -> int:
    """The exit status of what a command returns or raises; what it raises is logged."""
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


def with_flag(sets: list[str] | None, with_dependencies: bool) -> list[str]:
    """What is set on the command line, and with it what --with-dependencies stands for."""
    return [*(sets or ()), *["with-dependencies=true"] * with_dependencies]


def with_crew(sets: list[str] | None, executor: str | None, scheduler: str | None) -> list[str]:
    """What is set on the command line, and with it what --executor and --scheduler stand for."""
    chosen = {"executor": executor, "scheduler": scheduler}
    return [*(sets or ()), *(f"{key}={value}" for key, value in chosen.items() if value is not None)]


def show(text: str) -> None:
    """Write a result to stdout; that nobody reads it any more ends nothing."""
    try:
        print(text, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise StorageError(f"cannot write the result: {error.strerror}") from error


def _show_version(wanted: bool) -> None:
    if wanted:
        show(f"fastmirror {__version__}")
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
        show(context.get_help())


Directory = Annotated[
    str | None,
    typer.Option("--directory", metavar="PATH", help="The mirror's directory; overrides the file."),
]
Master = Annotated[str | None, typer.Option("--master", metavar="URL", help="The index to mirror; overrides the file.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of [mirror], or SECTION.KEY; may be repeated."),
]
Projects = Annotated[
    list[str] | None,
    typer.Option("--project", metavar="NAME", help="Only this project; may be repeated, or be a list."),
]
WithDependencies = Annotated[
    bool, typer.Option("--with-dependencies", help="Mirror what the projects require too; as the key of [mirror].")
]
Executor = Annotated[
    str | None,
    typer.Option("--executor", metavar="NAME", help="Who does the work: local, or dask; as the key of [mirror]."),
]
Scheduler = Annotated[
    str | None,
    typer.Option("--scheduler", metavar="ADDRESS", help="The cluster's, for dask: tcp://HOST:PORT; as the key."),
]
ForceCheck = Annotated[bool, typer.Option("--force-check", help="Plan every project anew and verify every file.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Try failed projects again now, due or not.")]
MaxTime = Annotated[
    float | None, typer.Option("--max-time", metavar="SECONDS", min=0, help="Stop in good order after so long.")
]
Every = Annotated[
    str | None, typer.Option("--every", metavar="INTERVAL", help="Run again and again: 5m, 1h; until a signal.")
]
Hours = Annotated[
    str | None, typer.Option("--hours", metavar="A-B", help="With --every: only in these hours of the day: 22-6.")
]
AllowEmpty = Annotated[bool, typer.Option("--allow-empty", help="Take filters that would leave nothing of the mirror.")]
AsEvents = Annotated[bool, typer.Option("--json", help="Print what happens as JSON, an object a line.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
