"""What a loss of power leaves of a mirror: all that was flushed, and of the rest whatever the disk came to.

A flush covers what was done before it began, once it has ended. What came later (a name given or taken away)
may be there or not, in any order; a file whose bytes were not flushed may be empty, cut, or full of zeros.
A commit of SQLite's covers the state alone.
"""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

_STATE = ".fastmirror/state.sqlite"


class _Step(NamedTuple):
    number: int
    facts: dict[str, Any]

    @property
    def what(self) -> str:
        return str(self.facts["what"])

    @property
    def is_of_files(self) -> bool:
        """Of packages, not of pages and the rest."""
        return "packages/" in self.facts.get("put", self.facts.get("gone", ""))


ALL = "all that was not flushed"
LOSSES: dict[str, Callable[[list[_Step], random.Random], list[_Step]]] = {
    ALL: lambda steps, chance: [],
    "contents, not names": lambda steps, chance: steps,
    "files, not pages": lambda steps, chance: [step for step in steps if not step.is_of_files],
    "pages, not files": lambda steps, chance: [step for step in steps if step.is_of_files],
    "the last steps": lambda steps, chance: steps[: chance.randrange(len(steps) + 1)],
    "any steps": lambda steps, chance: [step for step in steps if chance.random() < 0.5],
}


class Outage:
    """One run's journal, and the tree as it was before it."""

    def __init__(self, journal: Path, before: Path, directory: Path) -> None:
        self._journal = journal
        self._before = before
        self._directory = directory
        lines = (journal / "journal").read_text().splitlines()
        steps = [_Step(number, json.loads(line)) for number, line in enumerate(lines, 1)]
        self._names = [step for step in steps if "put" in step.facts or "gone" in step.facts]
        self._commits = [step.number for step in steps if step.what == "commit" and step.facts["durable"]]
        begun = [step.facts["begun"] for step in steps if step.what == "flush"]
        self._barrier = max(begun, default=0)
        self._ends_in_commit = len(steps) > 1 and steps[-2].what == "commit"  # which may not have come to its end
        self._held: dict[int, int] = {}  # bytes that are durable, by inode
        durable = [path for path in before.rglob("*") if path.is_file()]
        durable += [self._kept(step) for step in self._names if "put" in step.facts and step.number <= self._barrier]
        for status in map(os.stat, durable):
            self._held[status.st_ino] = status.st_size
        for number in begun:
            for inode, size in steps[number - 1].facts["held"].items():
                self._held[int(inode)] = max(self._held.get(int(inode), 0), size)

    def strike(self, loss: str, chance: random.Random) -> None:
        """Let the directory become what is left."""
        later = [step for step in self._names if step.number > self._barrier]
        kept = [step for step in self._names if step.number <= self._barrier] + LOSSES[loss](later, chance)
        contents: dict[str, Path | None] = {}
        for step in kept:
            if "gone" in step.facts:
                contents[step.facts["gone"]] = None
            if "put" in step.facts:
                contents[step.facts["put"]] = self._kept(step)
        for name in ("web", ".fastmirror/hidden"):
            shutil.rmtree(self._directory / name, ignore_errors=True)
        for path in self._before.rglob("*"):
            name = path.relative_to(self._before).as_posix()
            if path.is_file() and not name.startswith((_STATE, ".fastmirror/staging/", ".lock")):
                contents.setdefault(name, path)
        # What was put and is lost in a directory that was not emptied above.
        for step in later:
            contents.setdefault(step.facts.get("put") or step.facts["gone"], None)
        spoilt: dict[int, Path] = {}
        for name, content in contents.items():
            self._lay(name, content, spoilt, chance)
        for path in (self._directory / ".fastmirror/staging").rglob("*"):
            if path.is_file():
                _spoil(path, self._held.get(path.stat().st_ino, 0), chance)
        self._lay_state(chance, is_torn=self._ends_in_commit and loss != ALL and chance.random() < 0.5)

    def _kept(self, step: _Step) -> Path:
        return self._journal / f"{step.number}.file"

    def _lay(self, name: str, content: Path | None, spoilt: dict[int, Path], chance: random.Random) -> None:
        final = self._directory / name
        final.unlink(missing_ok=True)
        if content is None:
            return
        final.parent.mkdir(parents=True, exist_ok=True)
        os.link(self._survived(content, spoilt, chance), final)

    def _survived(self, content: Path, spoilt: dict[int, Path], chance: random.Random) -> Path:
        """These bytes, or what is left of them: the same under each of a file's names."""
        status = content.stat()
        durable = self._held.get(status.st_ino, 0)
        if durable >= status.st_size:
            return content
        if status.st_ino not in spoilt:
            copy = spoilt[status.st_ino] = content.with_suffix(".spoilt")
            shutil.copy2(content, copy)
            _spoil(copy, durable, chance)
        return spoilt[status.st_ino]

    def _lay_state(self, chance: random.Random, *, is_torn: bool) -> None:
        """The state as of the last durable commit, and perhaps a torn piece of what was written after it."""
        commits = [0, *self._commits]
        commit = commits[-2 if is_torn and len(commits) > 1 else -1]
        if self._barrier == 0 and not (self._before / _STATE).exists() and chance.random() < 0.25:
            commit = -1  # its very directory was new, and is lost
        wal = self._directory / f"{_STATE}-wal"
        written = wal.read_bytes() if wal.exists() else b""
        for ending in ("", "-wal", "-shm"):
            target = self._directory / f"{_STATE}{ending}"
            target.unlink(missing_ok=True)
            source = self._journal / f"{commit}.state{ending}" if commit else self._before / f"{_STATE}{ending}"
            if commit >= 0 and source.exists():
                shutil.copyfile(source, target)
        durable = wal.read_bytes() if wal.exists() else b""
        if durable and written.startswith(durable) and len(written) > len(durable):
            tail = bytearray(written[len(durable) :])
            cut = chance.randrange(len(tail))
            tail[cut:] = bytes(len(tail) - cut)
            wal.write_bytes(durable + tail)


def _spoil(path: Path, durable: int, chance: random.Random) -> None:
    """Beyond the bytes that are durable: nothing, less, or zeros."""
    size = path.stat().st_size
    if durable >= size:
        return
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    form = chance.choice(("nothing", "less", "zeros", "zeros"))
    if form == "zeros":
        with path.open("r+b") as stream:
            stream.seek(durable)
            stream.write(bytes(size - durable))
    else:
        os.truncate(path, durable if form == "nothing" else chance.randrange(durable, size))
    os.utime(path, ns=times)
