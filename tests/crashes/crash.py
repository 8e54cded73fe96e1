"""Kinds of runs, ready to be cut off as often as it takes."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.conftest import Mirror, Result
from tests.crashes.power import Outage
from tests.crashes.probed import JOURNAL
from tests.fakes.index import FakeIndex
from tests.processes import group_lives, until
from tests.published import succeed

if TYPE_CHECKING:
    from pathlib import Path

_ENDED_S = 10.0  # so soon the last worker is gone
_LARGE = 1_300_000  # bytes: more than one buffer, so that it has a partial


class Ground(NamedTuple):
    """A kind of run: what it finds upstream and at rest."""

    upstream: FakeIndex
    before: Path  # the mirror's directory as the run finds it
    steps: list[str]  # of a run that nothing happens to

    def count(self, what: str) -> int:
        """How many such steps that run takes."""
        return len(self.steps) if what == "step" else self.steps.count(what)


class Crash:
    """A mirror whose next run is cut off."""

    def __init__(self, home: Path, ground: Ground, layout: str) -> None:
        self.ground = ground
        self._journal = home / "journal"
        self._journal.mkdir()
        self._before = home / "before"
        self.mirror = Mirror(home, ground.upstream.url)
        self.mirror.settings |= {"layout": layout, "delete-grace": "0", "max-removals": "100"}
        _copy(ground.before, self.mirror.directory)
        _copy(self.mirror.directory, self._before, "--link")
        state = ".fastmirror/state.sqlite"
        if (ground.before / state).exists():  # the one file that is written in place
            _copy(ground.before / state, self._before / state, "--remove-destination")

    def cut_off(self, **point: Any) -> Result:
        """The run, until it and all its workers are gone; see tests.crashes.probed for the point."""
        (self._journal / "point").write_text(json.dumps(point))
        (self._journal / "directory").write_text(str(self.mirror.directory))
        self.mirror.environment[JOURNAL] = str(self._journal)
        self.mirror.module = "tests.crashes.probed"
        process = self.mirror.start()
        stdout, stderr = process.communicate(timeout=60)
        until(lambda: not group_lives(process.pid), "the last process of the run is gone", _ENDED_S)
        self.mirror.module = "fastmirror"
        return Result(process.returncode, stdout, stderr)

    def steps(self) -> list[str]:
        """What the run did, in its order, and where it was struck."""
        return [json.loads(line)["what"] for line in (self._journal / "journal").read_text().splitlines()]

    def lose_power(self, loss: str, seed: int = 0) -> None:
        """What was not flushed when the run was killed is not, or not as it was."""
        Outage(self._journal, self._before, self.mirror.directory).strike(loss, random.Random(seed))


class Grounds(dict[tuple[str, str], Ground]):
    """By run ("first", "update") and layout; each is made when it is asked for."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def __missing__(self, key: tuple[str, str]) -> Ground:
        run, layout = key
        home = _made(self._home / f"{run}-{layout}")
        ground = self[key] = Ground(FakeIndex(), _made(home / "before"), [])
        _fill(ground.upstream)
        if run == "update":
            mirror = Crash(_made(home / "base"), ground, layout).mirror
            succeed(mirror.run())
            shutil.rmtree(ground.before)
            mirror.directory.rename(ground.before)
            _change(ground.upstream)
        uncut = Crash(_made(home / "uncut"), ground, layout)
        succeed(uncut.cut_off())
        ground.steps.extend(uncut.steps())
        return ground

    def close(self) -> None:
        """End the upstreams."""
        for ground in self.values():
            ground.upstream.close()


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def _copy(source: Path, target: Path, *how: str) -> None:
    """With times and modes, and with the links between files."""
    subprocess.run(["cp", "--archive", *how, source, target], check=True)


def _fill(index: FakeIndex) -> None:
    index.fill(16)
    for number in range(3):
        content = random.Random(number).randbytes(_LARGE)
        index.add_file(f"large-{number}", f"large_{number}-1.tar.gz", content=content)
        index.add_file(f"doomed-{number}", f"doomed_{number}-1-py3-none-any.whl", metadata=b"Name: doomed\n")


def _change(index: FakeIndex) -> None:
    """Something of everything that happens upstream."""
    chance = random.Random(1)
    names = [name for name, state in index.projects().items() if state.files and not name.startswith("doomed")]
    for name in names[:8]:
        index.add_file(name, f"{name.replace('-', '_')}-3.tar.gz", content=chance.randbytes(700))
    for name in names[4:8]:
        index.remove_file(name, index.projects()[name].files[0].filename)
    index.set_yanked(names[8], "", "broken")
    index.remove_project("doomed-0")
    index.remove_project("doomed-1")
    index.quarantine("doomed-2")
    index.add_file("new", "new-1-py3-none-any.whl", metadata=b"Name: new\n")
    index.add_file("new-large", "new_large-1.tar.gz", content=chance.randbytes(_LARGE))
