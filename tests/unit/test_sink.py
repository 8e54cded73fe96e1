"""A large body on its way: one file of its own from the first byte to its final name."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastmirror.filetree import FileTree
from fastmirror.sink import BUFFER_BYTES, FileSink, Goal, SideThread

if TYPE_CHECKING:
    from collections.abc import Iterator

DEADLINE_S = 30.0
PATH = "packages/0ef/large-1.0.whl"
CONTENT = os.urandom(3 * BUFFER_BYTES + 5)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
GOAL = Goal("https://h/large-1.0.whl", "sha256", DIGEST, len(CONTENT), len(CONTENT), 1_600_000_000.0)


class Desk:
    """What a sink works with."""

    def __init__(self, directory: Path) -> None:
        self.storage = FileTree(str(directory), None, durable=False)
        self.storage.prepare()
        self.storage.open_desk()
        self.awake = threading.Event()
        self.side = SideThread(self.awake.set)

    def sink(self, goal: Goal = GOAL) -> FileSink:
        return FileSink(goal, self.storage, self.side, lambda: None)

    def feed(self, sink: FileSink, data: bytes) -> None:
        """Hand a body over in chunks, as a transport does."""
        for start in range(0, len(data), 1 << 16):
            while not sink.feed(data[start : start + (1 << 16)]):
                self.settle()

    def rest(self) -> None:
        """Until the side thread has done its work, which is not yet settled."""
        done = threading.Event()
        self.side.submit(done.set, lambda: None)
        assert done.wait(DEADLINE_S)

    def settle(self) -> None:
        """What the loop does when the side thread wakes it."""
        self.rest()
        self.side.settle()

    def is_free(self) -> bool:
        """Whether another transfer could have the partial now."""
        descriptor, _ = self.storage.open_partial(DIGEST)
        if descriptor < 0:
            return False
        os.close(descriptor)
        return True


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.side.close()
    desk.storage.close()


def test_a_large_body_is_its_transfers_own_until_it_has_its_final_name(desk):
    """Another transfer that took it up between would write into the published file."""
    sink, finished = desk.sink(), []
    assert sink.begin(200, {}) is None
    desk.feed(sink, CONTENT)
    assert not desk.is_free()
    sink.finish(lambda: finished.append(sink.hexdigests()))
    desk.rest()
    assert not desk.is_free()
    desk.side.settle()
    assert finished == [[DIGEST]]
    assert not desk.is_free()
    assert desk.storage.place(sink.path, PATH)
    sink.close()
    assert not desk.is_free()
    assert desk.storage.open_partial(DIGEST) == (-1, 0)
    final = Path(desk.storage.web, PATH)
    assert final.read_bytes() == CONTENT
    assert final.stat().st_mtime == GOAL.mtime


def test_another_transfer_of_the_same_file_goes_beside_it(desk):
    sinks = [desk.sink(), desk.sink()]
    for sink in sinks:
        assert sink.begin(200, {}) is None
        desk.feed(sink, CONTENT)
    for sink in sinks:
        sink.finish(lambda: None)
    desk.settle()
    assert sinks[0].path != sinks[1].path
    assert [Path(sink.path).read_bytes() for sink in sinks] == [CONTENT, CONTENT]
    for sink in sinks:
        sink.close()


def broken_off(desk: Desk, size: int) -> None:
    """Leave a partial of so many bytes."""
    sink = desk.sink()
    assert sink.begin(200, {}) is None
    desk.feed(sink, CONTENT[:size])
    sink.break_off(lambda: None)
    desk.settle()


@pytest.mark.parametrize("size", [BUFFER_BYTES + 70_000, 2 * BUFFER_BYTES + 1, len(CONTENT)])
def test_what_came_of_a_broken_transfer_is_taken_up_by_the_next_one(desk, size):
    broken_off(desk, size)
    assert desk.is_free()
    sink = desk.sink()
    assert sink.resumed_at == size
    assert sink.begin(206, {"content-range": f"bytes {size}-{len(CONTENT) - 1}/{len(CONTENT)}"}) is None
    desk.feed(sink, CONTENT[size:])
    sink.finish(lambda: None)
    desk.settle()
    assert sink.hexdigests() == [DIGEST]
    assert Path(sink.path).read_bytes() == CONTENT
    sink.close()


def test_an_answer_with_the_whole_begins_anew(desk):
    broken_off(desk, 2 * BUFFER_BYTES)
    sink = desk.sink()
    assert sink.begin(200, {}) is None
    desk.feed(sink, CONTENT)
    sink.finish(lambda: None)
    desk.settle()
    assert sink.hexdigests() == [DIGEST]
    assert Path(sink.path).read_bytes() == CONTENT
    sink.close()


@pytest.mark.parametrize("said", ["", "bytes 0-9/10", "bytes 5-9/*", "bytes */10", "items 2097152-2097153/9"])
def test_an_answer_with_another_range_is_refused_and_what_came_before_is_not_trusted(desk, said):
    broken_off(desk, 2 * BUFFER_BYTES)
    sink = desk.sink()
    assert "another range" in (sink.begin(206, {"content-range": said}) or "")
    sink.break_off(lambda: None)
    desk.settle()
    assert not Path(desk.storage.partial(DIGEST)).exists()


def test_a_body_that_proved_wrong_is_discarded_and_leaves_nothing(desk):
    sink = desk.sink()
    assert sink.begin(200, {}) is None
    desk.feed(sink, CONTENT[::-1])
    sink.finish(sink.discard)
    desk.settle()
    assert not desk.is_free()
    assert not [path for path in Path(desk.storage.own, "staging").rglob("*") if path.is_file()]


def test_a_small_body_is_written_in_one_go_and_at_once(desk):
    content = b"small"
    goal = GOAL._replace(digest=hashlib.sha256(content).hexdigest(), size=len(content), limit=len(content))
    sink, finished = desk.sink(goal), []
    assert sink.begin(200, {}) is None
    assert sink.feed(content)
    sink.finish(lambda: finished.append(sink.hexdigests()))
    assert finished == [[goal.digest]]
    assert Path(sink.path).read_bytes() == content
    sink.close()


def test_a_body_of_another_algorithm_gets_both_digests(desk):
    content = b"small"
    goal = GOAL._replace(algorithm="blake2b", digest=hashlib.blake2b(content).hexdigest(), size=None)
    sink = desk.sink(goal)
    assert sink.begin(200, {}) is None
    assert sink.feed(content)
    sink.finish(lambda: None)
    desk.settle()
    assert sink.hexdigests() == [hashlib.sha256(content).hexdigest(), goal.digest]
    sink.close()


def test_an_empty_body_is_a_file_too(desk):
    goal = GOAL._replace(digest=hashlib.sha256().hexdigest(), size=0)
    sink = desk.sink(goal)
    assert sink.begin(200, {}) is None
    sink.finish(lambda: None)
    desk.settle()
    assert sink.hexdigests() == [goal.digest]
    assert Path(sink.path).read_bytes() == b""
    sink.close()


@pytest.mark.parametrize("content", [b"small", CONTENT], ids=["small", "large"])
def test_a_disk_that_refuses_is_told_when_the_body_is_whole(desk, content):
    """Nothing is raised into a transport, whose callbacks this is called from."""
    shutil.rmtree(Path(desk.storage.own, "staging"))
    Path(desk.storage.own, "staging").write_bytes(b"")
    sink, finished = desk.sink(GOAL._replace(size=len(content))), []
    assert sink.begin(200, {}) is None
    desk.feed(sink, content)
    sink.finish(lambda: finished.append(sink.error))
    desk.settle()
    assert isinstance(finished[0], NotADirectoryError)
    sink.discard()
