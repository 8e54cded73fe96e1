"""bandersnatch as the last of a chain: it follows a mirror of ours as it follows PyPI, served by nginx and by serve."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, closing, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.conftest import Mirror, Result
from tests.nginx import free_port, running_nginx, wait_until_it_answers
from tests.parity.beside import Bandersnatch, Run
from tests.parity.trees import read_facts
from tests.parity.upstreams import grow, plain
from tests.published import problems, root, succeed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fakes.index import FakeIndex

Server = Callable[..., AbstractContextManager[str]]
_AT_ONCE = {"delete-grace": "0", "processes": "1", "json": "true"}
_CONFIGURATION = """\
[mirror]
directory = {home}/mirror
master = {master}
download-mirror = {master}
download-mirror-no-fallback = true
allow-non-https = true
api-method = simple
workers = 3
"""


class Last(NamedTuple):
    """bandersnatch, which has a mirror of ours for its upstream."""

    program: Bandersnatch
    home: Path

    def follow(self, master: str) -> Result:
        """One run."""
        self.home.mkdir(exist_ok=True)
        (self.home / "mirror.conf").write_text(_CONFIGURATION.format(home=self.home, master=master))
        environment = {"HOME": str(self.home), "LANG": "C.UTF-8"}
        return self.program(Run(["-c", str(self.home / "mirror.conf"), "mirror"], environment, self.home))

    def require_in_step(self, master: str, mirror: Mirror, index: FakeIndex) -> None:
        """A run brings all that the mirror has, which is what upstream has, and asks nobody else."""
        index.clear_requests()
        said = self.follow(master)
        assert (said.status, "Stale" in said.stderr) == (0, False), said.stderr
        assert index.paths() == []
        assert problems(mirror, index) == []
        assert self.files() == {
            file.filename: file.sha256 for project in index.projects().values() for file in project.files
        }
        assert self.serial == max(root(mirror)["projects"].values())

    def files(self) -> dict[str, str]:
        """The sha256 of each file at rest that a page lists, by its name."""
        facts = read_facts(self.home / "mirror")
        listed = {key.split("/")[-2] for key in facts if "index.v1_json/" in key and facts[key] == "listed"}
        stored = {key[:-1].rpartition("/")[2]: fact for key, fact in facts.items() if key.startswith("packages/")}
        return {name: digest for name, digest in stored.items() if name in listed}

    @property
    def serial(self) -> int:
        """What it says that it has reached."""
        return int((self.home / "mirror/status").read_text())


@pytest.fixture
def last(bandersnatch: Bandersnatch, tmp_path: Path) -> Last:
    if bandersnatch.major < 8:
        pytest.skip(f"bandersnatch {bandersnatch.version} asks for XML-RPC")
    return Last(bandersnatch, tmp_path / "last")


@contextmanager
def by_nginx(mirror: Mirror, home: Path, *options: str) -> Iterator[str]:
    """Served as `fastmirror nginx` prints it; the address."""
    port = free_port()
    printed = mirror.run("--listen", f"127.0.0.1:{port}", *options, command="nginx", set=_AT_ONCE)
    succeed(printed)
    state = mirror.directory / ".fastmirror/nginx"
    state.mkdir(exist_ok=True)
    with running_nginx(printed.stdout, home, port, state / "access.log") as nginx:
        yield nginx.url


@contextmanager
def by_serve(mirror: Mirror, _home: Path, *_options: str) -> Iterator[str]:
    """Served by `fastmirror serve`; the address."""
    port = free_port()
    process = mirror.start("--port", str(port), command="serve", set=_AT_ONCE)
    wait_until_it_answers(process, port)
    yield f"http://127.0.0.1:{port}"


@pytest.mark.case(55)
@pytest.mark.parametrize(("layout", "served"), [("hashed", by_nginx), ("flat", by_serve)])
def test_a_chain_of_two_of_ours_and_bandersnatch_follows_what_upstream_changes(
    layout: str, served: Server, mirror: Mirror, index: FakeIndex, last: Last, tmp_path: Path
) -> None:
    mirror.settings |= {"layout": layout}
    plain(index)
    succeed(mirror.run(set=_AT_ONCE))
    (tmp_path / "second").mkdir()
    with by_nginx(mirror, tmp_path / "nginx-1") as first, closing(Mirror(tmp_path / "second", first)) as second:
        second.settings |= {"layout": layout}
        succeed(second.run(set=_AT_ONCE))
        with served(second, tmp_path / "nginx-2", "--for-bandersnatch") as master:
            last.require_in_step(master, second, index)
            grow(index)
            for each in (mirror, second):
                succeed(each.run(set=_AT_ONCE))
            last.require_in_step(master, second, index)
            assert root(second) == root(mirror)
