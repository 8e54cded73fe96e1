"""Which configuration a command line means: the file that it names or the default one, and its overrides."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from fastmirror.errors import InvalidName, MirrorError, SettingsError
from fastmirror.names import normalize

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fastmirror.names import NormalizedName
    from fastmirror.settings import Settings

# The configuration when none is named: the first that exists. The first of all is written if none does.
CONFIGURATION_FILES = ("/etc/fastmirror.conf", "/etc/bandersnatch.conf")


def load_settings(
    named: str | None,
    *,
    directory: str | None = None,
    master: str | None = None,
    sets: Sequence[str] | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
    allow_empty: bool = False,
) -> Settings:
    """The settings of one command: of the file `named`, or of the default one, or of none if a directory is given.

    directory: may be relative. sets: ``KEY=VALUE`` each. All of them win over the file. environment: names a
    proxy where nothing else does. allow_empty: filters may leave nothing of the mirror.
    Raises what read_configuration and parse_settings raise.
    """
    from fastmirror.filters.requirements import Files
    from fastmirror.settings_file import parse_settings

    overrides = {}
    for text in sets or ():
        key, equals, value = text.partition("=")
        if not key.strip() or not equals:
            raise SettingsError(f"--set: expected KEY=VALUE: {text!r}")
        overrides[key.strip()] = value.strip()
    if directory is not None:
        if not directory.strip():  # of a variable that is not set, perhaps: not the working directory
            raise SettingsError(f"--directory: expected a path: {directory!r}")
        overrides["directory"] = os.path.abspath(os.path.expanduser(directory))
    if master is not None:
        overrides["master"] = master
    text_or_none, source = read_configuration(named, optional="directory" in overrides)
    return parse_settings(
        text_or_none,
        source=source,
        overrides=overrides,
        environment=environment,
        cores=_cores(),
        files=Files(lambda path: Path(path).read_bytes(), _expanded),
        allow_empty=allow_empty,
    )


def read_configuration(
    named: str | None, *, optional: bool, defaults: Sequence[str] = CONFIGURATION_FILES
) -> tuple[str | None, str]:
    """The configuration's text, and its name for messages.

    (None, …) if none was named, no default one exists and none is needed. Raises SettingsError if it cannot
    be read; MirrorError, exit status 1, if there was none and the default one was written or should have been.
    """
    candidates = tuple(defaults) if named is None else (named,)
    for path in candidates:
        try:
            return Path(path).read_text(encoding="utf-8-sig"), path
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SettingsError(f"cannot read the configuration ({error.strerror}): {path!r}") from error
        except UnicodeDecodeError as error:
            raise SettingsError(f"the configuration is not UTF-8 (byte {error.start}): {path!r}") from error
    if named is None and optional:
        return None, "settings"
    raise _default_written(candidates[0])


def _default_written(path: str) -> MirrorError:
    from fastmirror.settings_file import DEFAULT_CONFIGURATION

    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(DEFAULT_CONFIGURATION)
    except OSError as error:
        return MirrorError(
            f"there is no configuration, and none can be written ({error.strerror}): {path!r}"
            " (hint: name one with --config, or do without: --directory PATH)"
        )
    return MirrorError(
        f"there was no configuration; the default one was written: {path!r}"
        f" (hint: set `directory` in it, then see what a run would do: fastmirror --config {path} plan)"
    )


def _expanded(pattern: str) -> list[str]:
    """The files that a path with ``*`` in its last part means."""
    path = Path(pattern)
    return sorted(str(found) for found in path.parent.glob(path.name))


def project_names(given: Iterable[str] | None) -> tuple[NormalizedName, ...]:
    """The names that were given, one by one or in lists with commas or blanks, normalised, each once.

    Raises SettingsError for what is no project's name, and if something was given that names none.
    """
    texts = tuple(given or ())
    raw = [name for text in texts for name in re.split(r"[,\s]+", text) if name]
    if texts and not raw:
        raise SettingsError("no project was named")
    try:
        return tuple(dict.fromkeys(normalize(name) for name in raw))
    except InvalidName as error:
        raise SettingsError(str(error)) from error


def _cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
