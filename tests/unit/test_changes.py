"""What is noted for a diff-file: before it is done, so that a run that is cut off loses nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fastmirror.changes import note_removed, note_written, write_diff
from fastmirror.filetree import FileTree
from fastmirror.model import Outcome, StagedPage
from fastmirror.names import NormalizedName
from fastmirror.publisher import Done, Publisher
from fastmirror.schema import Notes, RecordedJob
from fastmirror.settings import RunSettings
from fastmirror.state import State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class WatchedStorage(FileTree):
    """A storage that keeps what another reader of the state saw noted when a page was renamed."""

    noted: list[tuple[str, int]]

    def publish(self, staged: str, path: str) -> None:
        reader = State(f"{self.own}/state.sqlite", read_only=True)
        self.noted = reader.select("select path, removed from change order by path")
        reader.close()
        super().publish(staged, path)


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[WatchedStorage]:
    storage = WatchedStorage(str(tmp_path), None, durable=True)
    storage.prepare()
    storage.open_desk()
    yield storage
    storage.close()


@pytest.fixture
def state(storage: WatchedStorage) -> Iterator[State]:
    state = State(f"{storage.own}/state.sqlite")
    state.notes = Notes(diff=True)
    yield state
    state.close()


def diff(path: Path) -> RunSettings:
    return RunSettings(
        stop_on_error=False,
        diff_file=str(path),
        diff_with_epoch=False,
        verifiers=0,
        sweep=None,
        metrics_file=None,
        report_file=None,
        status_page=False,
        public_url=None,
    )


def test_a_page_is_noted_before_it_is_put_into_place(storage: WatchedStorage, state: State) -> None:
    storage.publish(storage.write_staged(b"old"), "simple/six/index.old")
    publisher = Publisher(storage, state, 1, lambda: None, lambda meant, became: None)
    pages = (StagedPage((storage.write_staged(b"page"),), ("simple/six/index.html",)),)
    retired = ("simple/six/index.never", "simple/six/index.old")
    outcome = Outcome(NormalizedName("six"), "published", serial=5, page_digest="p", pages=pages, retired=retired)
    publisher.add(Done(outcome, RecordedJob(False, False, 0, None)))
    publisher.finish()
    publisher.close()
    assert storage.noted == [("simple/six/index.html", 0), ("simple/six/index.old", 1)]


def test_long_lists_are_written_whole_in_order_and_once(tmp_path: Path, storage: WatchedStorage, state: State) -> None:
    paths = [f"packages/{number:05}" for number in range(20_001)]
    with state.transaction():
        note_removed(state, paths[:3])
        note_written(state, reversed(paths))
        note_removed(state, paths[-1:])
    write_diff(state, storage, diff(tmp_path / "diff"), 0.0, finished=True)
    assert (tmp_path / "diff").read_text() == "\n".join(f"{storage.web}/{path}" for path in paths[:-1])
    assert (tmp_path / "diff.deleted").read_text() == f"{storage.web}/{paths[-1]}"
    write_diff(state, storage, diff(tmp_path / "diff"), 0.0, finished=True)
    assert (tmp_path / "diff").read_text() == ""


def test_nothing_is_noted_where_no_list_is_asked_for(storage: WatchedStorage, state: State) -> None:
    state.notes = Notes()
    with state.transaction():
        note_written(state, ["packages/a"])
        note_removed(state, ["packages/b"])
    assert state.select("select path from change") == []
