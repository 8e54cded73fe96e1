"""What the commands share: the app, its options, exit statuses, and the one place that prints."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from functools import wraps
from typing import TYPE_CHECKING, Annotated, ParamSpec

import typer

from fastmirror import logs
from fastmirror.errors import (
    Interrupted,
    MirrorError,
    SettingsError,
    StorageError,
    is_access_failure,
    is_storage_failure,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastmirror.settings import Settings

P = ParamSpec("P")

_logger = logging.getLogger(__name__)

RUN_STATUSES = (
    "Exit status: 0 all done; 1 some projects failed or are partial, or a default configuration was just"
    " written; 2 settings; 3 another run holds the mirror; 4 the deletion guard held something back; 5 the"
    " upstream is unusable; 6 storage failed; 70 a bug; 130, 143 interrupted."
)
LOOK_STATUSES = "Exit status: 0 done; 1 a default configuration was just written; 2 settings, or no mirror there."

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def answering(command: Callable[P, int]) -> Callable[P, None]:
    """Turn what a command returns or raises into the exit status, before typer sees it."""

    @wraps(command)
    def answer(*args: P.args, **kwargs: P.kwargs) -> None:
        raise typer.Exit(status_of(lambda: command(*args, **kwargs)))

    return answer


def status_of(call: Callable[[], int]) -> int:
    """The exit status of what a command returns or raises; errors are logged."""
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


def say(text: str) -> None:
    """Write a result to stdout; that nobody reads it any more ends nothing."""
    try:
        print(text, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise StorageError(f"cannot write the result: {error.strerror}") from error


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
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def require_mirror(settings: Settings) -> None:
    """Raises SettingsError if there is no mirror in the directory."""
    directory = settings.storage.directory
    if not any(os.path.exists(os.path.join(directory, part)) for part in ("web", ".fastmirror/state.sqlite")):
        raise SettingsError(f"there is no mirror here (directory): {directory!r}")


def warn(settings: Settings) -> None:
    """Log what of the settings was ignored."""
    for warning in settings.warnings:
        _logger.warning("%s", warning)
