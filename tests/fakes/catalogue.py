"""What the fake index holds: files, projects, serials, and every earlier state of each."""

from __future__ import annotations

import hashlib
import re
import threading
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_FIRST_SERIAL = 1000
_FIRST_UPLOAD = datetime(2024, 1, 1, tzinfo=UTC)


def normalize(name: str) -> str:
    """A project's name, normalised."""
    return re.sub(r"[-_.]+", "-", name).lower()


def version_of(filename: str) -> str:
    """The version in a file's name; ``0`` if it has none."""
    try:
        if filename.endswith(".whl"):
            return str(parse_wheel_filename(filename)[1])
        return str(parse_sdist_filename(filename)[1])
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        match = re.search(r"-(\d[^-]*?)(?:\.tar\.\w+|\.\w+)?$", filename)
        return match[1] if match else "0"


@dataclass(frozen=True)
class FakeFile:
    """One file, as the index lists and serves it."""

    filename: str
    content: bytes
    path: str  # of its URL, percent-escaped, with a leading slash
    metadata: bytes | None  # served under path + ".metadata", and offered
    requires_python: str | None
    yanked: bool | str
    upload_time: str | None  # ISO 8601
    provenance: str | Mapping[str, Any] | None  # a URL to list, or an object to serve
    keys: Mapping[str, Any]  # override or add keys of its entry on the page; None removes one
    own_version: str | None = None  # where its name does not tell

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.content)

    @property
    def sha256(self) -> str:
        """Of its content."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def metadata_sha256(self) -> str | None:
        """Of its core metadata file."""
        return None if self.metadata is None else hashlib.sha256(self.metadata).hexdigest()

    @property
    def version(self) -> str:
        """As in its name, unless it was given."""
        return self.own_version or version_of(self.filename)

    @property
    def mtime(self) -> float | None:
        """Upload time, in seconds since the epoch."""
        return None if self.upload_time is None else datetime.fromisoformat(self.upload_time).timestamp()


@dataclass(frozen=True)
class Snapshot:
    """A project as it was from one serial on."""

    name: str  # display name
    serial: int
    files: tuple[FakeFile, ...] = ()
    status: str = "active"
    reason: str | None = None
    removed: bool = False
    info: Mapping[str, Any] = field(default_factory=dict)  # of the legacy API: added to what it says by itself

    @property
    def listed(self) -> bool:
        """Whether the root index has it."""
        return not self.removed and self.status != "quarantined"

    @property
    def visible_files(self) -> tuple[FakeFile, ...]:
        """What its page lists, in PyPI's order."""
        return () if self.status == "quarantined" else self.files


@dataclass
class Catalogue:
    """Projects by normalised name, each with its history; every change bumps the serials, as on PyPI."""

    serial: int = _FIRST_SERIAL
    version: int = 0  # of the whole; grows with every change, also with those that bump no serial
    lock: threading.RLock = field(default_factory=threading.RLock)
    _histories: dict[str, list[Snapshot]] = field(default_factory=dict)
    _stored: dict[str, FakeFile] = field(default_factory=dict)  # by decoded path

    def snapshot(self, name: str, as_of: int | None = None, *, previous: bool = False) -> Snapshot | None:
        """A project's state: now, as of a serial, or before the last change; None if there is none."""
        with self.lock:
            history = self._histories.get(normalize(name), [])
            if previous and len(history) > 1:
                return _at(history, history[-2].serial)
            return _at(history, as_of)

    def listed(self, as_of: int | None = None) -> dict[str, Snapshot]:
        """What the root index lists, by normalised name, in its order."""
        with self.lock:
            states = {name: _at(history, as_of) for name, history in sorted(self._histories.items())}
        return {name: state for name, state in states.items() if state is not None and state.listed}

    def stored(self, path: str) -> FakeFile | None:
        """The file under a decoded path."""
        return self._stored.get(path)

    def add_project(self, name: str) -> Snapshot:
        """A project without files; one that is there already is returned as it is."""
        return self.snapshot(name) or self._change(name, Snapshot(name, 0))

    def add_file(self, project: str, file: FakeFile) -> None:
        """Add a file, or replace the project's file of that name."""
        with self.lock:
            state = self.snapshot(project) or Snapshot(project, 0)
            others = [other for other in state.files if other.filename != file.filename]
            ordered = tuple(sorted([*others, file], key=lambda one: one.filename))
            self._stored[unquote(file.path)] = file
            self._change(project, replace(state, files=ordered))

    def remove_file(self, project: str, filename: str, *, keep_content: bool = False) -> None:
        """Take a file off its page, and off the server unless told to keep its content."""
        with self.lock:
            state = self._need(project)
            rest = tuple(file for file in state.files if file.filename != filename)
            if len(rest) == len(state.files):
                raise KeyError(filename)
            if not keep_content:
                self._forget([file for file in state.files if file.filename == filename])
            self._change(project, replace(state, files=rest))

    def remove_project(self, name: str, *, keep_content: bool = False) -> None:
        """Remove a project, with its files unless told to keep their content."""
        with self.lock:
            state = self._need(name)
            if not keep_content:
                self._forget(state.files)
            self._change(name, replace(state, files=(), removed=True))

    def set_status(self, name: str, status: str, reason: str | None, *, bump: bool) -> None:
        """Set a project's status marker."""
        self._change(name, replace(self._need(name), status=status, reason=reason), bump=bump)

    def set_info(self, name: str, info: Mapping[str, Any]) -> None:
        """Add to what the legacy API says of a project."""
        state = self._need(name)
        self._change(name, replace(state, info={**state.info, **info}))

    def set_files(self, name: str, filename: str, **changes: Any) -> None:
        """Change fields of the files whose name begins so."""
        with self.lock:
            state = self._need(name)
            files = tuple(
                replace(file, **changes) if file.filename.startswith(filename) else file for file in state.files
            )
            if files == state.files:
                raise KeyError(filename)
            self._stored.update({unquote(file.path): file for file in files})
            self._change(name, replace(state, files=files))

    def touch(self, name: str) -> int:
        """Bump a project's serial and change nothing else, as a change of roles does; the new serial."""
        return self._change(name, self._need(name)).serial

    def set_serial(self, name: str, serial: int) -> None:
        """Give a project any serial, also a lower one; what it was before is forgotten."""
        with self.lock:
            self._histories[normalize(name)] = [replace(self._need(name), serial=serial)]
            self.version += 1

    def next_upload_time(self) -> str:
        """An upload time of its own for each file, in PyPI's form."""
        moment = _FIRST_UPLOAD + timedelta(minutes=self.serial, microseconds=self.serial * 7919 % 1_000_000)
        return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def _need(self, name: str) -> Snapshot:
        state = self.snapshot(name)
        if state is None:
            raise KeyError(name)
        return state

    def _forget(self, files: Iterable[FakeFile]) -> None:
        for file in files:
            self._stored.pop(unquote(file.path), None)

    def _change(self, name: str, state: Snapshot, *, bump: bool = True) -> Snapshot:
        with self.lock:
            history = self._histories.setdefault(normalize(name), [])
            self.version += 1
            if not bump and history:
                history[-1] = replace(state, serial=history[-1].serial)
                return history[-1]
            self.serial += 1
            history.append(replace(state, serial=self.serial))
            return history[-1]


def _at(history: list[Snapshot], as_of: int | None) -> Snapshot | None:
    if as_of is not None:
        history = history[: bisect_right(history, as_of, key=lambda snapshot: snapshot.serial)]
    return history[-1] if history and not history[-1].removed else None


def content_path(filename: str, content: bytes) -> str:
    """PyPI's path for a file: three parts of the BLAKE2b-256 of its content, and its name."""
    digest = hashlib.blake2b(content, digest_size=32).hexdigest()
    return f"/packages/{digest[:2]}/{digest[2:4]}/{digest[4:]}/{quote(filename)}"
