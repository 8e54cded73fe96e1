"""The programs that are compared: how each is installed, started, and checked for a complete mirror.

bandersnatch is given its best settings: the most workers that it takes (10), uvloop, no log lines but
warnings, no legacy JSON saved; version 6.8 fetches no metadata files. curl fetches the same URLs into one flat
directory, hashes nothing and writes no pages: about the least that the transfers themselves can cost.
"""

from __future__ import annotations

import compileall
import hashlib
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from benchmarks.bandersnatch import bandersnatch_version, install_bandersnatch, program_output

if TYPE_CHECKING:
    from benchmarks.upstream import Upstream

FIRST_SYNC, NO_CHANGE, FORCE_CHECK = "first sync", "no change", "force-check"
CHECKOUT = Path(__file__).parent.parent
SAMPLED_FILES = 200
BANDERSNATCH = """\
[mirror]
directory = {directory}
master = {master}
allow-non-https = true
workers = 10
compare-method = {compare_method}
json = false
release-files = true
core-metadata = true
simple-format = ALL
timeout = 60
global-timeout = 1800
stop-on-error = false
log-config = {log_config}
{api_method}
"""
WARNINGS_ONLY = """\
[loggers]
keys = root,bandersnatch
[handlers]
keys = stderr
[formatters]
keys =
[handler_stderr]
class = StreamHandler
args = (sys.stderr,)
[logger_root]
level = WARNING
handlers = stderr
[logger_bandersnatch]
level = WARNING
qualname = bandersnatch
propagate = 0
handlers = stderr
"""


class Step(NamedTuple):
    """One thing to do with a mirror."""

    name: str  # what is compared
    variant: str  # where a tool has several ways: which one; else ""
    command: list[str]


class Peer(Protocol):
    """One program under measurement."""

    label: str
    version: str

    def steps(self, upstream: Upstream, directory: Path) -> list[Step]:
        """What it does with a fresh directory, in order."""
        ...

    def lacks(self, upstream: Upstream, directory: Path) -> str:
        """What a complete mirror would hold and this one does not; "" if nothing."""
        ...


class Fastmirror:
    """fastmirror in one of its layouts, from this checkout or from another."""

    def __init__(self, layout: str, checkout: Path = CHECKOUT, suffix: str = "") -> None:
        self.layout = layout
        self.label = f"fastmirror{suffix} ({layout})"
        self._program = ["env", f"--chdir={checkout}", sys.executable, "-m", "fastmirror"]
        compileall.compile_dir(checkout / "fastmirror", quiet=1)
        self.version = program_output([*self._program, "--version"]).replace("fastmirror", "").strip() or "not runnable"

    def command(self, name: str, upstream: Upstream, directory: Path, **settings: str | int) -> list[str]:
        """A command of fastmirror for a mirror of this upstream."""
        command = [*self._program, name, "--directory", str(directory), "--master", upstream.address]
        chosen = {"allow-non-https": "true", "min-free": 0, "layout": self.layout, **settings}
        for key, value in chosen.items():
            command += ["--set", f"{key.replace('_', '-')}={value}"]
        return command

    def steps(self, upstream: Upstream, directory: Path) -> list[Step]:
        """A first sync, a run with nothing to do, and one that plans and hashes everything again."""
        mirror = self.command("mirror", upstream, directory)
        return [
            Step(FIRST_SYNC, "core metadata out of wheels", mirror),
            Step(NO_CHANGE, "index answered 304", mirror),
            Step(FORCE_CHECK, "every file hashed", [*mirror, "--force-check"]),
        ]

    def lacks(self, upstream: Upstream, directory: Path) -> str:
        """Compare the tree with the upstream."""
        return _tree_lacks(upstream, directory / "web")


def check_out(revision: str, cache: Path) -> Path:
    """The program as it was at this commit, in a directory of the cache."""
    commit = program_output(["git", "-C", str(CHECKOUT), "rev-parse", "--verify", f"{revision}^{{commit}}"]).strip()
    if not commit:
        raise RuntimeError(f"no such commit: {revision}")
    checkout = cache / f"commit-{commit}"
    if not checkout.exists():
        partial = checkout.with_name(f"{checkout.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        subprocess.run(["git", "clone", "--quiet", "--no-checkout", str(CHECKOUT), str(partial)], check=True)
        subprocess.run(["git", "-C", str(partial), "checkout", "--quiet", commit], check=True)
        partial.rename(checkout)
    return checkout


class Bandersnatch:
    """bandersnatch with its best settings."""

    label = "bandersnatch"

    def __init__(self, cache: Path) -> None:
        self._program = install_bandersnatch(cache)
        self.version = bandersnatch_version(self._program)
        self._is_old = self.version.startswith(("6.", "7."))

    def steps(self, upstream: Upstream, directory: Path) -> list[Step]:
        """As fastmirror's, with force-check twice: comparing times and sizes only, and hashing every file."""
        commands = {}
        for method in ("stat", "hash"):
            configuration = directory.with_name(f"{directory.name}-{method}.conf")
            log_config = directory.with_name(f"{directory.name}-log.conf")
            log_config.write_text(WARNINGS_ONLY)
            configuration.write_text(
                BANDERSNATCH.format(
                    directory=directory,
                    master=upstream.address,
                    compare_method=method,
                    log_config=log_config,
                    api_method="api-method = simple" if self._is_old else "",
                )
            )
            commands[method] = [str(self._program), "-c", str(configuration), "mirror"]
        return [
            Step(FIRST_SYNC, "", commands["stat"]),
            Step(NO_CHANGE, "index fetched", commands["stat"]),
            Step(FORCE_CHECK, "times and sizes compared", [*commands["stat"], "--force-check"]),
            Step(FORCE_CHECK, "every file hashed", [*commands["hash"], "--force-check"]),
        ]

    def lacks(self, upstream: Upstream, directory: Path) -> str:
        """Compare the tree with the upstream; its exit status says nothing about failed projects."""
        if self._is_old:
            upstream = upstream._replace(metadata_files=0, metadata_bytes=0)  # which it does not fetch
        return _tree_lacks(upstream, directory / "web")


class Curl:
    """``curl --parallel`` over the same URLs."""

    label = "curl --parallel"

    def __init__(self) -> None:
        self.version = " ".join(program_output(["curl", "--version"]).split()[1:2])

    def steps(self, upstream: Upstream, directory: Path) -> list[Step]:
        """One run, 64 transfers at a time."""
        directory.mkdir()
        wanted = directory.with_name(f"{directory.name}.curl")
        with upstream.url_list.open() as urls, wanted.open("w") as file:
            for line in urls:
                path, name = line.split()
                file.write(f'url = "{upstream.address}{path}"\noutput = "{directory}/{name}"\n')
        command = ["curl", "--silent", "--show-error", "--fail", "--parallel", "--parallel-max", "64"]
        command += ["--header", "Accept: application/vnd.pypi.simple.v1+json", "--config", str(wanted)]
        return [Step(FIRST_SYNC, "no hash, no page, no flush", command)]

    def lacks(self, upstream: Upstream, directory: Path) -> str:
        """Count what lies in the directory."""
        wanted = upstream.files + upstream.metadata_files + upstream.projects
        found = sum(entry.stat().st_size > 0 for entry in os.scandir(directory))
        return "" if found == wanted else f"{found} of {wanted} files"


class _Stored:
    """What lies in a mirror's tree."""

    def __init__(self, web: Path) -> None:
        self.files: list[str] = []
        self.file_bytes = self.metadata_files = self.metadata_bytes = self.json_pages = self.html_pages = 0
        for folder, _, names in os.walk(web / "packages"):
            for name in names:
                path = os.path.join(folder, name)
                size = os.stat(path).st_size
                if name.endswith(".metadata"):
                    self.metadata_files += 1
                    self.metadata_bytes += size
                else:
                    self.files.append(path)
                    self.file_bytes += size
        for folder, _, names in os.walk(web / "simple"):
            if Path(folder) == web / "simple":
                continue  # the root index
            self.json_pages += sum(name.endswith(".v1_json") for name in names)
            self.html_pages += sum(name.endswith(".html") for name in names)


def _tree_lacks(upstream: Upstream, web: Path) -> str:
    stored = _Stored(web)
    lacking = [
        f"{what}: {found} instead of {wanted}"
        for what, found, wanted in (
            ("files", len(stored.files), upstream.files),
            ("bytes", stored.file_bytes, upstream.file_bytes),
            ("metadata files", stored.metadata_files, upstream.metadata_files),
            ("bytes of metadata", stored.metadata_bytes, upstream.metadata_bytes),
            ("JSON pages", stored.json_pages, upstream.projects),
            ("HTML pages", stored.html_pages, upstream.projects),
        )
        if found != wanted
    ]
    lacking += [f"{name}: missing" for name in ("index.html", "index.v1_json") if not (web / "simple" / name).exists()]
    if not lacking:
        lacking = _damaged(upstream, stored.files)
    return "; ".join(lacking)


def _damaged(upstream: Upstream, paths: list[str]) -> list[str]:
    """Of a sample of the stored files, those whose bytes the upstream does not serve."""
    damaged = []
    for path in random.Random(upstream.last_serial).sample(sorted(paths), min(SAMPLED_FILES, len(paths))):
        body = Path(path).read_bytes()
        digest = hashlib.blake2b(body, digest_size=32).hexdigest()
        served = upstream.tree / "packages" / digest[:2] / digest[2:4] / digest[4:] / Path(path).name
        if not served.exists():
            damaged.append(f"{Path(path).name}: not what upstream serves")
    return damaged
