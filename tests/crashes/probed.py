"""The program, every step of it that changes a disk noted down; at a chosen step it is killed.

    CRASH_JOURNAL=DIR python -m tests.crashes.probed mirror --directory …

The steps are seen where they leave Python: renames, links, unlinks, syncfs, SQLite's commits; the program's
own code is left alone. All its processes take turns, so that the journal has one order, and what is noted
is done. Each name that is given or taken away, each file's bytes and each committed state is kept beside the
journal: from these, ``tests.crashes.power`` makes what a loss of power leaves.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shutil
import signal
import sqlite3
import stat
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tests.processes import workers_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_Result = TypeVar("_Result")
JOURNAL = "CRASH_JOURNAL"  # a directory; it holds journal, lock, point, and what is kept
_MAIN = "CRASH_MAIN"  # process id of the run's parent
_FACTS = {"status", "generation"}
_SYNCHRONOUS_FULL = 2


class Probe:
    """One process's side of the journal."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        self._thread_lock = threading.RLock()
        self._depth = 0
        self.directory = Path((home / "directory").read_text())
        self._point: dict[str, Any] = json.loads((home / "point").read_text())

    def watch(self) -> None:
        """Take the place of the functions that change a disk."""
        real_open, real_rename, real_replace = os.open, os.rename, os.replace
        real_unlink, real_link = os.unlink, os.link

        def open_(path: Any, flags: int, *more: Any, **named: Any) -> int:
            staged = self._below(path) if flags & os.O_CREAT else ""
            if not staged.startswith(".fastmirror/staging/"):
                return real_open(path, flags, *more, **named)
            what = "partial" if "/partial/" in staged else "staged"
            return self.step(what, lambda: real_open(path, flags, *more, **named), {})

        def moved(real: Callable[..., None]) -> Callable[..., None]:
            return lambda old, new, **named: self.move(old, new, lambda: real(old, new, **named))

        def unlink(path: Any, **named: Any) -> None:
            gone = self._below(path)
            if not _lasts(gone) or named:
                return real_unlink(path, **named)
            return self.step(f"unlinked {_kind(gone)}", lambda: real_unlink(path), {"gone": gone})

        os.open, os.rename, os.replace = open_, moved(real_rename), moved(real_replace)
        os.unlink, os.link = unlink, moved(real_link)
        ctypes.CDLL = _library(self)  # type: ignore[misc]
        connect = sqlite3.connect
        _Connection.probe = self
        sqlite3.connect = lambda *words, **named: connect(*words, factory=_Connection, **named)  # type: ignore[assignment]

    def move(self, old: Any, new: Any, act: Callable[[], _Result]) -> _Result:
        """A name is given, and perhaps another taken away."""
        put, gone = self._below(new), self._below(old)
        if not _lasts(put):
            return act()
        facts = {"put": put} | ({"gone": gone} if _lasts(gone) else {})
        return self.step(_kind(put), act, facts)

    def flush(self, descriptor: int, act: Callable[[], int]) -> int:
        """Others go on meanwhile: what they do is not covered. Of files in staging it covers what they hold now."""
        if os.fstat(descriptor).st_dev != self.directory.stat().st_dev:
            return act()
        with self._turn():
            self._pause("flush", "before")
            held = {str(status.st_ino): status.st_size for status in self._unpublished()}
            begun = self._note("flush begins", {"held": held})
        result = act()
        with self._turn():
            if result == 0:
                self._note("flush", {"begun": begun})
            self._pause("flush", "after")
        return result

    def step(self, what: str, act: Callable[[], _Result], facts: dict[str, Any]) -> _Result:
        """Do it and note it, or be killed before or after."""
        with self._turn():
            self._pause(what, "before")
            result = act()
            number = self._note(what, facts) if _is_done(result) else 0
            if number and "put" in facts:
                os.link(self.directory / facts["put"], self._home / f"{number}.file")
            self._pause(what, "after")
        return result

    def commit(self, connection: sqlite3.Connection, act: Callable[[], _Result]) -> _Result:
        """A commit is durable if the state says so itself; the state as it is then is kept."""
        with self._turn():
            self._pause("commit", "before")
            result = act()
            (level,) = sqlite3.Connection.execute(connection, "pragma synchronous").fetchone()
            (_, _, path) = sqlite3.Connection.execute(connection, "pragma database_list").fetchone()
            number = self._note("commit", {"durable": level >= _SYNCHRONOUS_FULL})
            for ending in ("", "-wal"):
                with suppress(FileNotFoundError):
                    shutil.copyfile(path + ending, self._home / f"{number}.state{ending}")
            self._pause("commit", "after")
        return result

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with self._thread_lock:
            self._depth += 1
            if self._depth == 1:
                fcntl.lockf(self._lock, fcntl.LOCK_EX)
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0:
                    fcntl.lockf(self._lock, fcntl.LOCK_UN)

    def _note(self, what: str, facts: dict[str, Any]) -> int:
        number = len(self._lines()) + 1
        with (self._home / "journal").open("a") as stream:
            stream.write(json.dumps({"what": what, "pid": os.getpid(), **facts}) + "\n")
        return number

    def _lines(self) -> list[str]:
        with suppress(FileNotFoundError):
            return (self._home / "journal").read_text().splitlines()
        return []

    def _pause(self, what: str, when: str) -> None:
        """Be killed, if this is the point."""
        point = self._point
        if when != point.get("when") or point.get("what") not in {what, "step"} or (self._home / "struck").exists():
            return
        lines = self._lines()
        done = len(lines) if point["what"] == "step" else sum(json.loads(line)["what"] == what for line in lines)
        if done != point["number"] - (when == "before"):
            return
        (self._home / "struck").write_text(what)
        self._note("struck", {})
        strike(point["way"])

    def _unpublished(self) -> Iterator[os.stat_result]:
        """The files that have no final name yet."""
        own = self.directory / ".fastmirror"
        for path in (*self.directory.glob("*.new"), *own.glob("*.new"), *(own / "staging").rglob("*")):
            with suppress(FileNotFoundError):
                status = path.stat()
                if stat.S_ISREG(status.st_mode):
                    yield status

    def _below(self, path: Any) -> str:
        """Path below the mirror's directory, empty if it is not there."""
        try:
            return Path(os.fsdecode(path)).relative_to(self.directory).as_posix()
        except (ValueError, TypeError):
            return ""


def strike(way: str) -> None:
    """Kill, from within a step, what the point says."""
    main = int(os.environ[_MAIN])
    if way == "group":
        os.killpg(0, signal.SIGKILL)
    elif way == "parent":
        os.kill(main, signal.SIGKILL)
    elif way == "worker":
        victims = [os.getpid()] if os.getpid() != main else workers_of(main)[:1]
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
    else:
        os.kill(main, signal.Signals[way])


def _kind(path: str) -> str:
    first, _, rest = path.partition("/")
    if first != "web":
        return path if path in _FACTS else "hidden" if "hidden/" in path else "own"
    if rest.startswith("packages/"):
        return "metadata" if path.endswith(".metadata") else "file"
    return ("page" if rest.count("/") > 1 else "root index") if "/" in rest else rest


def _lasts(path: str) -> bool:
    """Whether a name is for good: staging is swept, and the state is SQLite's."""
    return bool(path) and not path.startswith((".fastmirror/staging/", ".fastmirror/state.sqlite")) and path != ".lock"


def _is_done(result: Any) -> bool:
    """As renameat2 says it: 0; Python's own functions raise."""
    return result is None or result >= 0


def _library(probe: Probe) -> type[ctypes.CDLL]:
    class Library(ctypes.CDLL):
        """The C library, two functions of it watched."""

        def __getattr__(self, name: str) -> Any:
            real: Any = super().__getattr__(name)
            watched = real
            if name == "syncfs":
                watched = lambda descriptor: probe.flush(descriptor, lambda: real(descriptor))  # noqa: E731
            elif name == "renameat2":
                watched = lambda d, old, e, new, flags: probe.move(old, new, lambda: real(d, old, e, new, flags))  # noqa: E731
            setattr(self, name, watched)  # where it will be found from now on
            return watched

    return Library


class _Connection(sqlite3.Connection):
    probe: Probe

    def execute(self, sql: str, *words: Any) -> sqlite3.Cursor:
        def act() -> sqlite3.Cursor:
            return sqlite3.Connection.execute(self, sql, *words)

        first = sql.split(None, 1)[0].lower()
        commits = first == "commit" or (not self.in_transaction and first in {"insert", "update", "delete"})
        return self.probe.commit(self, act) if commits else act()

    def executescript(self, sql: str) -> sqlite3.Cursor:
        return self.probe.commit(self, lambda: sqlite3.Connection.executescript(self, sql))


if __name__ in {"__main__", "__mp_main__"}:  # the latter in a worker that is spawned
    os.environ.setdefault(_MAIN, str(os.getpid()))
    Probe(Path(os.environ[JOURNAL])).watch()

if __name__ == "__main__":
    from fastmirror.cli import main

    main()
