"""Logs: one rotating file that every process of a run shares, and short lines for a person on stderr.

Every logger is named ``fastmirror`` or below it. No line, in the file or on stderr, holds the credentials of
a URL, and no text from upstream can forge a line or speak to the terminal.

The operator's own handlers (log-config) get the same records beside these, cleaned in the same way.
"""

from __future__ import annotations

import copy
import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fastmirror.errors import SettingsError, StorageError
from fastmirror.masking import clean, mask

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from fastmirror.settings import LogSettings

ROOT = "fastmirror"
BANDERSNATCH = "bandersnatch"  # the logger that an older log-config names

_NEVER = logging.CRITICAL + 1  # a level that no record has


def log_path(directory: str, host: str = "") -> Path:
    """Where a mirror's log lies, or that of a cluster's host; the older ones beside it end in .1, .2 and so on."""
    return Path(directory, ".fastmirror", "log", f"fastmirror-{host}.log" if host else "fastmirror.log")


def current_log() -> Path | None:
    """The file that this process logs to; None if it logs to none."""
    for handler in logging.getLogger(ROOT).handlers:
        if isinstance(handler, logging.FileHandler):
            return Path(handler.baseFilename)
    return None


def set_up(
    directory: str | None,
    settings: LogSettings | None,
    *,
    debug: bool = False,
    stream: TextIO | None = None,
    emit: Callable[[str], None] | None = None,
    host: str = "",
) -> None:
    """Send this process's log records to the mirror's log file, and the grave ones to a person.

    directory: the mirror's, absolute; None, or no settings: no log file.
    debug: DEBUG and above in the file, INFO and above for the person; else INFO and WARNING.
    stream: where the person's lines go; None: nowhere. emit: writes one such line in the stream's stead
    (Progress.note, so that a bar is not broken). With it, the handlers of the settings' log-config are added.
    host: whose own file it is, where many hosts share the directory: no lock has to hold among them.

    May be called again: the last call counts. A worker process, forked or spawned, calls it with the same
    directory, settings and debug, and neither stream nor emit. Starts no thread. Raises StorageError if the
    log's directory cannot be made; SettingsError, when the rest is set up, if the log-config cannot be used.
    """
    root = logging.getLogger(ROOT)
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        handler.close()
    level = logging.DEBUG if debug else logging.INFO
    configured, refusal = _Configured(()), None
    if settings is not None and settings.config is not None and emit is not None:
        try:
            configured = _Configured(_configure(settings.config))
        except SettingsError as error:
            refusal = error
    root.setLevel(min(level, configured.level))
    root.propagate = False
    if emit is None and stream is not None:
        emit = _line_writer(stream)
    if emit is not None:
        root.addHandler(_PersonHandler(emit, debug=debug, below=configured.console_level))
    if directory is not None and settings is not None:
        root.addHandler(_open_file(log_path(directory, host), settings, emit, level))
    if configured.targets or not root.handlers:
        root.addHandler(configured)
    if refusal is not None:
        raise refusal


def _line_writer(stream: TextIO) -> Callable[[str], None]:
    def write(line: str) -> None:
        stream.write(line + "\n")
        stream.flush()

    return write


class _FileFormatter(logging.Formatter):
    """2026-10-31T12:00:00.123Z INFO 4711 text, and the traceback below it."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(process)d %(message)s")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return clean(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        return mask(super().format(record))


class _PersonHandler(logging.Handler):
    """fastmirror: warning: text. The traceback is shown only with debug."""

    def __init__(self, emit: Callable[[str], None], *, debug: bool, below: int) -> None:
        super().__init__(logging.INFO if debug else logging.WARNING)
        self._emit_line = emit
        self._debug = debug
        self._below = below  # the level from which on a handler of the operator's speaks to the terminal

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= self._below:
            return
        try:
            line = clean(f"fastmirror: {record.levelname.lower()}: {record.getMessage()}")
            if self._debug and record.exc_info:
                line += "\n" + mask(_FileFormatter().formatException(record.exc_info)).rstrip("\n")
            self._emit_line(line)
        except OSError:
            pass  # nobody reads stderr any more: no reason to end a run
        except Exception:  # noqa: BLE001 - a handler never raises; logging words it
            self.handleError(record)


class _Target(NamedTuple):
    """A handler of the operator's, and the level from which on it is to have records."""

    level: int
    handler: logging.Handler

    @property
    def is_console(self) -> bool:
        """Whether it writes to the terminal that a person is told things on."""
        return getattr(self.handler, "stream", None) in (sys.stdout, sys.stderr)


class _Configured(logging.Handler):
    """Hands records on to the handlers of log-config, free of credentials and control characters."""

    def __init__(self, targets: tuple[_Target, ...]) -> None:
        super().__init__()
        self.targets = targets
        self.level = min((target.level for target in targets), default=_NEVER)
        self.console_level = min((target.level for target in targets if target.is_console), default=_NEVER)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = clean(record.getMessage())
        except Exception:  # noqa: BLE001 - a handler never raises; logging words it
            self.handleError(record)
            return
        record = copy.copy(record)
        record.msg, record.args = message, None
        if record.exc_info:
            record.exc_text = mask(_FileFormatter().formatException(record.exc_info))
        for target in self.targets:
            if record.levelno >= target.level:
                target.handler.handle(record)

    def close(self) -> None:
        """Close them too: nobody else is sure to hold them."""
        for target in self.targets:
            target.handler.close()
        super().close()


def _configure(path: str) -> tuple[_Target, ...]:
    """Apply a file of logging.config; returns the handlers that are meant for us.

    These are the ones of the loggers `fastmirror` and `bandersnatch`, and of those above them; of the root
    logger alone, if the file names neither. Raises SettingsError.
    """
    loggers = [logging.getLogger(name) for name in (ROOT, BANDERSNATCH)]
    for logger in loggers:
        logger.setLevel(logging.NOTSET)
        logger.propagate = True
    from logging.config import fileConfig  # takes its time, and few ask for it

    try:
        Path(path).read_bytes()
        fileConfig(path, disable_existing_loggers=False, encoding="utf-8")
    except Exception as error:  # whatever its handlers' classes raise
        reason = (
            error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {' '.join(str(error).split())}"
        )
        raise SettingsError(f"log-config cannot be used ({reason}): {path!r}") from error
    named = [logger for logger in loggers if logger.handlers or logger.level or not logger.propagate]
    targets: dict[int, _Target] = {}
    for start in named or loggers[:1]:
        above: logging.Logger | None = start
        while above is not None:
            for handler in above.handlers:
                level = max(start.getEffectiveLevel(), handler.level, logging.DEBUG)
                targets.setdefault(id(handler), _Target(level, handler))
            above = above.parent if above.propagate else None
    for handler in loggers[0].handlers[:]:
        loggers[0].removeHandler(handler)
    return tuple(targets.values())


def _open_file(path: Path, settings: LogSettings, emit: Callable[[str], None] | None, level: int) -> logging.Handler:
    """The rotating file behind a lock file, which makes it safe for many processes at once."""
    from concurrent_log_handler import ConcurrentRotatingFileHandler

    class SharedFile(ConcurrentRotatingFileHandler):
        """A log that cannot be written (a full disk) is told once, and stops nothing."""

        told = False

        def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging's name
            if emit is not None and not self.told:
                self.told = True
                emit(clean(f"fastmirror: warning: cannot write the log: {sys.exc_info()[1]}"))

    try:
        os.makedirs(path.parent, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the log's directory ({error.strerror}): {str(path.parent)!r}") from error
    handler = SharedFile(
        path,
        maxBytes=settings.max_bytes,
        backupCount=settings.keep,
        encoding="utf-8",
        unicode_error_policy="replace",
    )
    handler.setFormatter(_FileFormatter())
    handler.setLevel(level)
    return handler
