"""Runs bandersnatch and fastmirror in turn: the same configuration file, the same directory, the same upstream."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.conftest import ROOT, Result
from tests.parity.differences import BEFORE_8, EVERYWHERE, Difference, unexplained
from tests.parity.trees import Facts, read_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.fakes.index import FakeIndex

_TIMEOUT_S = 60.0
AUTHORITY = "authority.pem"  # of the certificate that upstream shows, beside the configuration
_COMMON = """\
[mirror]
directory = {home}/mirror
master = {index}
allow-non-https = true
api-method = simple
ca-bundle = {home}/authority.pem
workers = 5
"""


class Step(NamedTuple):
    """A command that both are given, and what happens before it."""

    arguments: tuple[str, ...] = ("mirror",)
    upstream: Callable[[FakeIndex], None] | None = None  # changes it, once
    tree: Callable[[Path], None] | None = None  # changes both directories


class Case(NamedTuple):
    """What both are run over, and how the results are to differ."""

    name: str
    fill: Callable[[FakeIndex], None]
    options: str = ""  # more lines of [mirror]; {home} and {index} are filled in
    sections: str = ""
    files: Mapping[str, str] = {}  # beside the configuration
    steps: tuple[Step, ...] = (Step(),)
    differences: tuple[Difference, ...] = ()
    since: int = 6  # the first major version of bandersnatch that has it
    second: Callable[[FakeIndex], None] | None = None  # fills another index, {mirror}
    keeps_all: bool = False  # a filter that is to leave all as it is
    https: bool = False  # `verify` and `delete` of bandersnatch's take nothing else

    def configuration(self, **places: object) -> str:
        """The file's text, with its places filled in: {home}, {index}, …"""
        text = f"{_COMMON}{self.options}\n{self.sections}"
        for place, value in places.items():
            text = text.replace(f"{{{place}}}", str(value))
        return text


class Run(NamedTuple):
    """One run of a program, to be made."""

    arguments: list[str]
    environment: dict[str, str]
    directory: Path  # to run in


class Bandersnatch:
    """bandersnatch, in forks of one process that has imported it: see preloaded.py."""

    name = "bandersnatch"

    def __init__(self, python: Path, version: str, authority: Path) -> None:
        self.python = python
        self.version = version
        self._process = subprocess.Popen(
            [str(python), str(Path(__file__).with_name("preloaded.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "SSL_CERT_FILE": str(authority)},  # read at import
        )

    @property
    def major(self) -> int:
        """6 or 8."""
        return int(self.version.partition(".")[0])

    def __call__(self, run: Run) -> Result:
        """Run it; what it says comes as ``stderr``."""
        said = run.directory / "bandersnatch.out"
        order = {"arguments": run.arguments, "environment": run.environment, "directory": str(run.directory)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(order | {'output': str(said)})}\n")
        self._process.stdin.flush()
        return Result(int(self._process.stdout.readline()), "", said.read_text())

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=_TIMEOUT_S)


class Fastmirror:
    """fastmirror from this checkout."""

    name = "fastmirror"

    def __call__(self, run: Run) -> Result:
        """Run it."""
        ended = subprocess.run(
            [sys.executable, "-m", "fastmirror", *run.arguments],
            cwd=run.directory,
            env={**run.environment, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        return Result(ended.returncode, ended.stdout, ended.stderr)


class Side:
    """One of the two, with a directory that is its own between its turns."""

    def __init__(self, program: Bandersnatch | Fastmirror, home: Path) -> None:
        self.name = program.name
        self.results: list[Result] = []  # of each run
        self.requests: list[list[str]] = []  # paths, of each run
        self.facts: Facts = {}  # after the last run
        self._program = program
        self._home = home

    def run(self, index: FakeIndex, *arguments: str) -> Result:
        """Run a command in ``mirror``, which is there for the time of the run, and read what it left."""
        index.clear_requests()
        kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
        environment = {**kept, "HOME": str(self._home), "LANG": "C.UTF-8"}
        with self.turn() as directory:
            configured = ["-c", str(self._home / "mirror.conf")]
            result = self._program(Run([*configured, *arguments], environment, self._home))
            self.facts = read_facts(directory) if directory.exists() else {}
        self.results.append(result)
        self.requests.append(index.paths())
        self.facts |= {f"exit status/{number}": each.status for number, each in enumerate(self.results)}
        return result

    @contextlib.contextmanager
    def turn(self) -> Iterator[Path]:
        """Its directory under the name that the configuration has."""
        mine, common = self._home / self.name, self._home / "mirror"
        if mine.exists():
            mine.rename(common)
        yield common
        if common.exists():
            common.rename(mine)


class Beside:
    """The two programs over one upstream."""

    def __init__(self, home: Path, bandersnatch: Bandersnatch, index: FakeIndex, configuration: str) -> None:
        """`home` holds what the configuration names, the certificate that is trusted among it."""
        self.index = index
        (home / "mirror.conf").write_text(configuration)
        self._usual = EVERYWHERE if bandersnatch.major >= 8 else (*EVERYWHERE, *BEFORE_8)
        self.theirs = Side(bandersnatch, home)
        self.ours = Side(Fastmirror(), home)

    def run(self, step: Step) -> None:
        """Take one step with both."""
        if step.upstream is not None:
            step.upstream(self.index)
        for side in (self.theirs, self.ours):
            if step.tree is not None:
                with side.turn() as directory:
                    step.tree(directory)
            side.run(self.index, *step.arguments)

    def unexplained(self, *expected: Difference, results: bool = True) -> list[str]:
        """How their trees differ, and their exit statuses unless told otherwise, but for what is expected."""
        theirs, ours = (
            {key: fact for key, fact in side.facts.items() if results or not key.startswith("exit status/")}
            for side in (self.theirs, self.ours)
        )
        return unexplained(theirs, ours, expected, self._usual)

    def report(self) -> str:
        """What both said in their last runs."""
        return "\n".join(
            f"-- {side.name}: {side.results[-1].status}\n{side.results[-1].stdout}{side.results[-1].stderr[-4000:]}"
            for side in (self.theirs, self.ours)
        )
