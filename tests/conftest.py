"""What the tests share: a fake upstream, and the real command bound to a directory of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.fakes.index import FakeIndex
from tests.parity.summary import pytest_terminal_summary  # noqa: F401 - a hook: only this conftest is always read
from tests.warm import Command

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from _pytest.mark.structures import ParameterSet

pytest_plugins = ["tests.tables"]
ROOT = Path(__file__).parents[1]
DEFAULTS = {"allow-non-https": "true", "min-free": "0", "processes": "2", "timeout": "3", "status-page": "false"}
_WITH_MASTER = {"mirror", "sync", "plan", "verify"}


Recorder = Callable[[str, object], None]  # record_property: what a test tells for the tables


class Result(NamedTuple):
    """What became of a command."""

    status: int  # as the shell has it; negative: ended by that signal
    stdout: str
    stderr: str


class Mirror:
    """The real command, in processes of its own, over one directory and one upstream."""

    def __init__(self, home: Path, master: str) -> None:
        self.home = home
        self.directory = home / "mirror"
        self.master = master
        self.settings: dict[str, str] = dict(DEFAULTS)  # given with every command; a test may change them
        self.module = "fastmirror"  # what is run; a test may wrap it
        self.environment: dict[str, str] = {}  # added to every command's; a test may change it
        self.through: list[str] = []  # a program that runs the command, and its options; a test may change it
        self._started: list[subprocess.Popen[str]] = []

    @property
    def web(self) -> Path:
        """What is published."""
        return self.directory / "web"

    def run(
        self,
        *arguments: str,
        command: str = "mirror",
        set: Mapping[str, Any] | None = None,  # noqa: A002 - named as the option is
        timeout_s: float = 60,
    ) -> Result:
        """Run a command to its end; the whole process group is killed if it takes too long."""
        process = self.start(*arguments, command=command, set=set)
        try:
            stdout, stderr = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            end_group(process, signal.SIGKILL)
            stdout, stderr = process.communicate()
            pytest.fail(f"{command} took more than {timeout_s} s\n{stdout}\n{stderr}")
        return Result(process.returncode, stdout, stderr)

    def status(self) -> dict[str, Any]:
        """What ``status --json`` says of the mirror."""
        status: dict[str, Any] = json.loads(self.run("--json", command="status").stdout)
        return status

    def failures(self) -> dict[str, str]:
        """Why which projects were not mirrored whole, as ``status`` has it."""
        return {failure["name"]: failure["reason"] for failure in self.status()["failures"]}

    def start(
        self,
        *arguments: str,
        command: str = "mirror",
        set: Mapping[str, Any] | None = None,  # noqa: A002 - named as the option is
    ) -> subprocess.Popen[str]:
        """Start a command in a session of its own, and leave it running; what is left is killed after the test."""
        words = [self.module, command, "--directory", str(self.directory)]
        if command in _WITH_MASTER:
            words += ["--master", self.master]
        for key, value in {**self.settings, **(set or {})}.items():
            words += ["--set", f"{key}={value}"]
        starter: type[subprocess.Popen[str]] = Command
        if self.through or self.module != "fastmirror" or "PYTHONPATH" in self.environment:
            starter, words = subprocess.Popen, [*self.through, sys.executable, "-m", *words]
        process = starter(
            [*words, *arguments],
            cwd=self.home,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "SYSTEMROOT") if name in os.environ}
        return {**kept, "HOME": str(self.home), "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT), **self.environment}

    def close(self) -> None:
        """End what is still running."""
        for process in self._started:
            end_group(process, signal.SIGKILL)
            process.communicate()


def pytest_configure() -> None:
    """A shell starts what goes into the background deaf to SIGINT, and so would be every command started here."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kill-points", type=int, metavar="N", help="cut runs off at so many points, not at a quick share"
    )


def each_in_one_process(scene: str, kinds: Iterable[str]) -> list[ParameterSet]:
    """Parameters of a scene that takes long to set: with pytest-xdist, what looks at one is run by one process."""
    return [pytest.param(kind, marks=pytest.mark.xdist_group(f"{scene}-{kind}")) for kind in kinds]


def end_group(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a signal to a started command and all its workers."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


@pytest.fixture
def index() -> Iterator[FakeIndex]:
    """An upstream without projects."""
    with FakeIndex() as index:
        yield index


@pytest.fixture
def mirror(tmp_path: Path, index: FakeIndex) -> Iterator[Mirror]:
    """The command, mirroring ``index`` into a new directory."""
    home = tmp_path / "home"
    home.mkdir()
    mirror = Mirror(home, index.url)
    yield mirror
    mirror.close()


@pytest.fixture(params=["hashed", "flat"])
def each_layout(request: pytest.FixtureRequest, mirror: Mirror) -> Mirror:
    """The same in one layout and in the other."""
    mirror.settings["layout"] = request.param
    return mirror


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for loopback that signs itself, and its key."""
    home = tmp_path_factory.mktemp("certificate")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=loopback"
    command += " -addext subjectAltName=IP:127.0.0.1 -out certificate.pem -keyout key.pem"
    subprocess.run(command.split(), cwd=home, check=True, capture_output=True)
    return home / "certificate.pem", home / "key.pem"
