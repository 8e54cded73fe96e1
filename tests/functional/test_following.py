"""A mirror of a mirror of ours: what has changed is read from its change feed, and not from its whole root index."""

from __future__ import annotations

import json
import socket
import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from fastmirror.serving import application
from tests.conftest import Mirror
from tests.published import problems, root, succeed, tree_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fakes.index import FakeIndex

NAMES = tuple(f"project-{i}" for i in range(8))
AT_ONCE = {"delete-grace": "0", "processes": "1"}
HEAD = "/changes/head.json"


class Chain:
    """An upstream, a mirror of it, and a mirror of that, which it reads over HTTP."""

    def __init__(self, index: FakeIndex, first: Mirror, home: Path) -> None:
        self.index = index
        self.first = first
        self._home = home
        self._asked: list[str] = []

    @contextmanager
    def linked(self) -> Iterator[Chain]:
        """Serve the first mirror, and have the second follow it once."""
        served: Any = application(str(self.first.directory), tree_of(self.first))

        async def recorded(scope: Any, receive: Any, send: Any) -> None:
            self._asked.append(scope["path"])
            await served(scope, receive, send)

        server = uvicorn.Server(uvicorn.Config(recorded, log_level="warning", lifespan="off"))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            self.second = Mirror(self._home, f"http://127.0.0.1:{listener.getsockname()[1]}")
            try:
                self.follow()
                yield self
            finally:
                self.second.close()
                server.should_exit = True
                thread.join()

    def change(self, *names: str) -> None:
        """A file more for each of these projects; the first mirror has them."""
        for name in names:
            self.index.add_file(name, f"{name}-{self.index.serial}.tar.gz")
        succeed(self.first.run(set=AT_ONCE))

    def follow(self, **settings: str) -> list[str]:
        """A run of the second mirror; returns what it asked for, but for files, sorted."""
        self._asked.clear()
        succeed(self.second.run(set=AT_ONCE | settings))
        return sorted(path for path in self._asked if not path.startswith("/packages/"))

    def is_in_step(self) -> bool:
        """Whether both hold what upstream has, the one's root index byte for byte the other's."""
        assert problems(self.first, self.index) == problems(self.second, self.index) == []
        index = "simple/index.v1_json"
        return (self.first.web / index).read_bytes() == (self.second.web / index).read_bytes()


@pytest.fixture
def chain(mirror: Mirror, index: FakeIndex, tmp_path: Path) -> Iterator[Chain]:
    """All three in step."""
    for name in NAMES:
        index.add_file(name, f"{name}-1.0.tar.gz")
    succeed(mirror.run(set=AT_ONCE))
    home = tmp_path / "second"
    home.mkdir()
    with Chain(index, mirror, home).linked() as chain:
        yield chain


def steps(mirror: Mirror) -> list[str]:
    """The steps of a mirror's feed as they are asked for, the oldest first."""
    states = json.loads((mirror.web / HEAD[1:]).read_bytes())["states"]
    return [f"/changes/{before}-{after}.json" for before, after in pairwise(states)]


def test_a_second_mirror_reads_what_has_changed_and_not_the_list(chain: Chain) -> None:
    chain.index.remove_project("project-3")
    chain.index.add_file("new", "new-1.0.tar.gz")
    chain.change("project-1", "project-7")
    pages = ["/simple/new/", "/simple/project-1/", "/simple/project-3/", "/simple/project-7/"]
    assert chain.follow() == sorted([HEAD, *steps(chain.first), *pages])
    assert chain.is_in_step()
    assert steps(chain.second) == steps(chain.first)

    chain.change("project-1")
    succeed(chain.first.run("project-5", command="delete"))
    planned = chain.second.run("--json", command="plan")
    assert [json.loads(planned.stdout)[what] for what in ("update", "remove")] == [1, ["project-5"]]
    assert chain.follow() == sorted([HEAD, *steps(chain.first)[1:], "/simple/project-1/", "/simple/project-5/"])
    assert root(chain.second) == root(chain.first)


def test_a_feed_that_is_left_behind_is_believed_for_a_week_at_most(chain: Chain) -> None:
    head = chain.first.web / HEAD[1:]
    behind = head.read_bytes()
    chain.change("project-1")
    head.write_bytes(behind)
    assert chain.follow() == [HEAD]
    eight_days_ago = str(time.time() - 8 * 24 * 3600)
    with closing(sqlite3.connect(chain.second.directory / ".fastmirror/state.sqlite", isolation_level=None)) as state:
        state.execute("update meta set value = ? where key = 'root_read'", (eight_days_ago,))
    assert chain.follow() == ["/simple/", "/simple/project-1/"]
    assert chain.is_in_step()
