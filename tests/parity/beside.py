"""Runs bandersnatch and fastmirror in turn: the same configuration file, the same directory, the same upstream."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.conftest import ROOT, Result
from tests.fakes.index import FakeIndex
from tests.parity.trees import Facts, read_facts

if TYPE_CHECKING:
    from tests.parity.differences import Difference

_TIMEOUT_S = 60.0
_COMMON = """\
[mirror]
directory = {home}/mirror
master = {index}
allow-non-https = true
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
    files: Mapping[str, str | bytes] = {}  # beside the configuration
    steps: tuple[Step, ...] = (Step(),)
    differences: tuple[Difference, ...] = ()
    since: int = 6  # the first major version of bandersnatch that has it
    file_host: bool = False  # whether upstream's files lie on a host of their own
    https: bool = False  # `verify` and `delete` of bandersnatch's take nothing else

    @property
    def configuration(self) -> str:
        """The file's text."""
        return f"{_COMMON}{self.options}\n{self.sections}"


class Program:
    """One of the two, with a directory that is its own between its turns."""

    def __init__(self, name: str, command: list[str], home: Path) -> None:
        self.name = name
        self.results: list[Result] = []  # of each run
        self.requests: list[list[str]] = []  # paths, of each run
        self.facts: Facts = {}  # after the last run
        self._command = command
        self._home = home

    def run(self, index: FakeIndex, *arguments: str) -> Result:
        """Run a command in ``mirror``, which is there for the time of the run, and read what it left."""
        index.clear_requests()
        with self.turn() as directory:
            ended = subprocess.run(
                [*self._command, "-c", str(self._home / "mirror.conf"), *arguments],
                cwd=self._home,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
            self.facts = read_facts(directory) if directory.exists() else {}
        result = Result(ended.returncode, ended.stdout, ended.stderr)
        self.results.append(result)
        self.requests.append(index.paths())
        self.facts |= {f"exit status/{number}": each.status for number, each in enumerate(self.results)}
        return result

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
        own = (
            {"PYTHONPATH": str(ROOT)}
            if self.name == "fastmirror"
            else {"SSL_CERT_FILE": str(self._home / "authority.pem")}
        )
        return {**kept, **own, "HOME": str(self._home), "LANG": "C.UTF-8"}

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

    def __init__(self, home: Path, bandersnatch: Path, index: FakeIndex, configuration: str) -> None:
        """`home` holds what the configuration names, the certificate that is trusted among it."""
        self.index = index
        places = {"{home}": str(home), "{index}": index.url, "{files}": index.file_host}
        for place, value in places.items():
            configuration = configuration.replace(place, value)
        (home / "mirror.conf").write_text(configuration)
        self.theirs = Program("bandersnatch", [str(bandersnatch)], home)
        self.ours = Program("fastmirror", [sys.executable, "-m", "fastmirror"], home)

    def run(self, step: Step) -> None:
        """Take one step with both."""
        if step.upstream is not None:
            step.upstream(self.index)
        for program in (self.theirs, self.ours):
            if step.tree is not None:
                with program.turn() as directory:
                    step.tree(directory)
            program.run(self.index, *step.arguments)

    def report(self) -> str:
        """What both said in their last runs."""
        return "\n".join(
            f"-- {program.name}: {' '.join(map(str, (result.status,)))}\n{result.stdout}{result.stderr[-4000:]}"
            for program in (self.theirs, self.ours)
            for result in program.results[-1:]
        )
