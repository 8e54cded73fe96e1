"""Mirrors of real wheels whose upstream is gone, the two servers, and the two installers with no configuration."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import pytest
from packaging.utils import parse_wheel_filename

from tests.conftest import ROOT, Mirror
from tests.fakes.index import FakeIndex
from tests.nginx import free_port, running_nginx
from tests.processes import address_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

WANTED = "requests"
NEEDED = ("certifi", "charset-normalizer", "idna", "urllib3")
LACKING = "idna"
LAYOUTS = ("flat", "hashed")
_TIMEOUT_S = 100


class Mirrors(NamedTuple):
    """Directories of mirrors by layout, each of the same five projects, and what upstream had."""

    whole: Mapping[str, Path]
    lacking: Mapping[str, Path]  # without `LACKING`
    versions: Mapping[str, str]  # by project


class Asked(NamedTuple):
    """One request, as the server's log has it."""

    method: str
    path: str
    status: int


class Installed(NamedTuple):
    """What became of an installation into a new environment."""

    status: int
    output: str  # of both streams
    asked: list[Asked]  # of the server, in order
    python: Path  # of the environment


def clean_environment(home: Path) -> dict[str, str]:
    """What an installer sees: none of this machine's settings, caches or proxies."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PIP_CONFIG_FILE": os.devnull,
        "UV_NO_CONFIG": "1",
    }


def pip_install(python: Path, index_url: str, *projects: str) -> list[str]:
    """The command that a person types, for another environment than pip's own."""
    return [sys.executable, "-m", "pip", "--python", str(python), "install", "--index-url", index_url, *projects]


def uv_install(python: Path, index_url: str, *projects: str) -> list[str]:
    """The same for uv."""
    from uv import find_uv_bin

    return [find_uv_bin(), "pip", "install", "--python", str(python), "--default-index", index_url, *projects]


CLIENTS = {"pip": pip_install, "uv": uv_install}


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The real wheels, from the index that pip is set up with."""
    cache = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*command, "--dest", str(cache), WANTED, *NEEDED], check=True, timeout=_TIMEOUT_S)
    return sorted(cache.iterdir())


@pytest.fixture(scope="session")
def mirrors(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Mirrors:
    """Mirrors in both layouts, made by the real command; their upstream is stopped when a test gets them."""
    whole: dict[str, Path] = {}
    lacking: dict[str, Path] = {}
    versions: dict[str, str] = {}
    with FakeIndex() as index:
        for wheel in wheels:
            name, version, *_ = parse_wheel_filename(wheel.name)
            index.add_file(name, wheel.name, content=wheel.read_bytes(), metadata=metadata_of(wheel))
            versions[str(name)] = str(version)
        others = [argument for name in versions if name != LACKING for argument in ("--project", name)]
        for layout in LAYOUTS:
            for directories, projects in ((whole, []), (lacking, others)):
                mirror = Mirror(tmp_path_factory.mktemp("mirrored"), index.url)
                done = mirror.run(*projects, set={"layout": layout})
                assert done.status == 0, done
                directories[layout] = mirror.directory
    assert set(versions) == {WANTED, *NEEDED}
    return Mirrors(whole, lacking, versions)


@pytest.fixture
def install(tmp_path: Path) -> Callable[[str, str, Path], Installed]:
    """Serve a mirror and install from it: install(client, server, directory)."""

    def run(client: str, server: str, directory: Path) -> Installed:
        home, target = tmp_path / "client home", tmp_path / "target"
        home.mkdir()
        environment = clean_environment(home)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(target)], check=True, timeout=_TIMEOUT_S)
        python = target / "bin" / "python"
        with SERVERS[server](directory, tmp_path / "server") as served:
            done = subprocess.run(
                CLIENTS[client](python, f"{served.url}/simple/", WANTED),
                cwd=home,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
        return Installed(done.returncode, done.stdout, served.asked(), python)  # stopped: its log is whole

    return run


class _Served(NamedTuple):
    url: str
    log: Path
    line: re.Pattern[str]  # of one request in the log

    def asked(self) -> list[Asked]:
        found = self.line.finditer(self.log.read_text())
        return [Asked(match["method"], match["path"], int(match["status"])) for match in found]


_NGINX_LINE = re.compile(r'"(?P<method>[A-Z]+) (?P<path>\S+) HTTP/1\.1" (?P<status>\d{3}) ')
_SERVE_LINE = re.compile(r"^fastmirror: info: (?P<method>[A-Z]+) (?P<path>\S+): (?P<status>\d{3})$", re.MULTILINE)


@contextmanager
def _nginx(directory: Path, home: Path) -> Iterator[_Served]:
    """The real nginx, with the configuration that the real command prints, as its first lines say."""
    port = free_port()
    command = _fastmirror("nginx", "--directory", str(directory), "--listen", f"127.0.0.1:{port}")
    printed = subprocess.run(command, env=_own_environment(home), capture_output=True, text=True, check=True)
    logs = directory / ".fastmirror" / "nginx"
    logs.mkdir(exist_ok=True)
    log = logs / "access.log"
    log.unlink(missing_ok=True)
    with running_nginx(printed.stdout, home, port, log) as nginx:
        yield _Served(nginx.url, log, _NGINX_LINE)


@contextmanager
def _serve(directory: Path, home: Path) -> Iterator[_Served]:
    """``fastmirror serve``, telling each request."""
    home.mkdir()
    log = home / "stderr"
    command = _fastmirror("--debug", "serve", "--directory", str(directory), "--port", "0")
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            command,
            env=_own_environment(home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    try:
        yield _Served(address_of(process), log, _SERVE_LINE)
    finally:
        process.terminate()
        process.communicate(timeout=_TIMEOUT_S)


SERVERS = {"nginx": _nginx, "serve": _serve}


def _fastmirror(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "fastmirror", *arguments]


def _own_environment(home: Path) -> dict[str, str]:
    return {**clean_environment(home), "PYTHONPATH": str(ROOT)}


def metadata_of(wheel: Path) -> bytes:
    """The core metadata inside a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        return archive.read(name)


def stored_urls(directory: Path) -> set[str]:
    """The paths of the URLs of all files in a mirror."""
    web = directory / "web"
    return {f"/{quote(str(path.relative_to(web)))}" for path in (web / "packages").rglob("*") if path.is_file()}
