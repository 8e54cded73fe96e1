from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from fastmirror import publisher as publisher_module
from fastmirror.errors import StorageError
from fastmirror.filetree import FileTree
from fastmirror.model import Outcome, StagedPage, StoredFile
from fastmirror.names import NormalizedName
from fastmirror.packing import pack_files
from fastmirror.publisher import Done, Publisher
from fastmirror.schema import RecordedJob
from fastmirror.state import State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEADLINE_S = 30.0
FILE = StoredFile("packages/0ef/six-1.0.whl", 7, "ab" * 32, 0.0, None)


class WatchedStorage(FileTree):
    """A storage that tells what was done, and what a reader of the state saw at that moment."""

    def __init__(self, directory: Path) -> None:
        super().__init__(str(directory), None, durable=True)
        self.seen: list[str] = []
        self.recorded: list[set[str]] = []  # projects in the state, at each deed
        self.doomed: list[int] = []  # files that wait for removal, at each deed
        self.fail_flush: int | None = None  # which flush the disk refuses, counted from 1
        self.fail_publish: OSError | None = None  # what the disk says to a rename
        self.gate = threading.Event()  # flush waits for it
        self.gate.set()

    @property
    def state_path(self) -> str:
        return os.path.join(self.own, "state.sqlite")

    def flush(self) -> None:
        self._note("flush")
        assert self.gate.wait(DEADLINE_S)
        if self.seen.count("flush") == self.fail_flush:
            raise StorageError("flush failed: no space left on device")
        super().flush()

    def publish(self, staged: str, path: str) -> None:
        self._note(path)
        if self.fail_publish is not None:
            raise self.fail_publish
        super().publish(staged, path)

    def remove(self, path: str) -> bool:
        self._note(f"- {path}")
        return super().remove(path)

    def _note(self, deed: str) -> None:
        reader = State(self.state_path, read_only=True)
        self.seen.append(deed)
        self.recorded.append({name for name, _ in reader.every_serial()})
        self.doomed.append(reader.totals().doomed)
        reader.close()


class Desk:
    """A publisher with all that it works on."""

    def __init__(self, directory: Path) -> None:
        self.storage = WatchedStorage(directory)
        self.storage.prepare()
        self.storage.open_desk()
        self.state = State(self.storage.state_path)
        self.awake = threading.Event()
        self.refused: list[tuple[Outcome, Outcome]] = []  # what was to be published, and what became of it
        self.publisher = Publisher(
            self.storage, self.state, 1, self.awake.set, lambda meant, became: self.refused.append((meant, became))
        )

    def add(self, name: str = "six", body: bytes = b"page", **fields: Any) -> Outcome:
        """Hand in an outcome with one page of two names."""
        staged = self.storage.write_staged(body)
        finals = (f"simple/{name}/index.html", f"simple/{name}/index.v1_html")
        page = StagedPage((staged, self.storage.link_staged(staged)), finals)
        facts: dict[str, Any] = {"status": "published", "serial": 5, "page_digest": "p", "pages": (page,)}
        outcome = Outcome(NormalizedName(name), **(facts | fields))
        self.publisher.add(Done(outcome, RecordedJob(False, False, 0, None)))
        return outcome

    def names(self) -> set[str]:
        return {name for name, _ in self.state.every_serial()}

    def page(self, name: str = "six") -> bytes | None:
        return self.storage.read(f"simple/{name}/index.html")

    def wait(self) -> None:
        """Until the group in flight is out."""
        assert self.awake.wait(DEADLINE_S)
        self.awake.clear()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.publisher.close()
    desk.state.close()
    desk.storage.close()


def test_files_are_durable_before_pages_and_pages_before_rows(desk):
    desk.add("six", fetched_files=1, files=pack_files([FILE]))
    desk.add("pip")
    desk.publisher.finish()
    names = [f"simple/{name}/index.{kind}" for name in ("six", "pip") for kind in ("html", "v1_html")]
    assert desk.storage.seen == ["flush", *names, "flush"]
    assert desk.storage.recorded == [set()] * 6
    assert desk.names() == {"six", "pip"}
    assert desk.page("six") == desk.page("pip") == b"page"


def test_what_a_page_drops_is_doomed_before_the_page_is_out(desk):
    desk.add(dropped=(FILE.path,))
    desk.publisher.finish()
    assert set(desk.storage.doomed) == {1}
    assert desk.storage.size(FILE.path) is None  # unlinking is another's part


def test_when_the_files_cannot_be_made_durable_no_page_is_out_and_no_row_written(desk):
    desk.storage.fail_flush = 1
    desk.add()
    with pytest.raises(StorageError, match="no space left"):
        desk.publisher.finish()
    assert desk.storage.seen == ["flush"]
    assert desk.page() is None
    assert desk.names() == set()


def test_when_the_pages_cannot_be_made_durable_no_row_is_written(desk):
    desk.storage.fail_flush = 2
    desk.add()
    with pytest.raises(StorageError):
        desk.publisher.finish()
    assert desk.page() == b"page"
    assert desk.names() == set()


def test_a_page_that_cannot_be_renamed_fails_its_project_and_no_other(desk):
    desk.add("six", body=b"old", serial=4)
    desk.publisher.finish()
    meant = desk.add("six", body=b"new", serial=5, dropped=(FILE.path,))
    os.unlink(meant.pages[0].staged[0])
    desk.add("pip")
    desk.publisher.finish()
    assert desk.page("six") == b"old"
    assert dict(desk.state.every_serial()) == {"six": 4, "pip": 5}
    ((refused, became),) = desk.refused
    assert refused == meant
    assert became.status == "failed"
    assert "storage: page: " in became.reason
    (failing,) = desk.state.failing(10)
    assert (failing.name, failing.reason) == ("six", became.reason)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_refuses_to_rename_keeps_the_whole_group_off_the_record(desk, code):
    desk.storage.fail_publish = OSError(code, os.strerror(code))
    desk.add("six")
    desk.add("pip")
    with pytest.raises(OSError, match=os.strerror(code)):
        desk.publisher.finish()
    assert desk.names() == set()
    assert desk.refused == []


def test_a_page_of_a_retired_form_goes_after_the_new_ones_are_out(desk):
    old = "simple/six/index.v1_json"
    desk.storage.publish(desk.storage.write_staged(b"{}"), old)
    desk.storage.seen.clear()
    desk.add(retired=(old,))
    desk.publisher.finish()
    assert desk.storage.seen == ["flush", "simple/six/index.html", "simple/six/index.v1_html", f"- {old}", "flush"]
    assert desk.storage.read(old) is None


def test_what_was_recorded_before_a_failure_stays(desk):
    desk.add("pip")
    desk.publisher.finish()
    desk.storage.fail_flush = 3
    desk.add("six")
    with pytest.raises(StorageError):
        desk.publisher.finish()
    assert desk.names() == {"pip"}


def test_a_flight_that_failed_is_reported_by_the_next_advance(desk):
    desk.storage.fail_flush = 1
    desk.add()
    desk.publisher.advance(hurry=True)
    desk.wait()
    with pytest.raises(StorageError):
        desk.publisher.advance(hurry=False)
    assert desk.names() == set()


def test_outcomes_without_pages_or_files_cost_no_flush(desk):
    desk.add("six", status="unchanged", pages=())
    desk.add("pip", status="failed", reason="page: HTTP status 500", pages=())
    desk.publisher.finish()
    assert desk.storage.seen == []
    assert desk.names() == {"pip"}
    assert desk.state.count_failing() == 1


def test_files_that_changed_no_page_are_made_durable_before_their_row(desk):
    desk.add(pages=(), fetched_files=1, files=pack_files([FILE]))
    desk.publisher.finish()
    assert desk.storage.seen == ["flush"]
    assert desk.storage.recorded == [set()]
    assert desk.names() == {"six"}


def test_a_small_group_waits_for_more_unless_there_is_hurry(desk):
    for number in range(511):
        desk.add(f"p-{number}", pages=())
    desk.publisher.advance(hurry=False)
    assert not desk.awake.is_set()
    assert not desk.publisher.is_idle
    desk.add("p-511", pages=())
    desk.publisher.advance(hurry=False)
    desk.wait()
    desk.publisher.advance(hurry=False)
    assert desk.publisher.is_idle
    assert len(desk.names()) == 512


def test_a_small_group_that_has_waited_long_goes_out(desk, monkeypatch):
    class Clock:
        now = 1000.0
        monotonic = staticmethod(lambda: Clock.now)
        time = staticmethod(lambda: 1_700_000_000.0)

    monkeypatch.setattr(publisher_module, "time", Clock)
    desk.add()
    Clock.now += 1.9
    desk.publisher.advance(hurry=False)
    assert not desk.awake.is_set()
    Clock.now += 0.2
    desk.publisher.advance(hurry=False)
    desk.wait()
    desk.publisher.advance(hurry=False)
    assert desk.names() == {"six"}


def test_the_next_group_gathers_while_one_is_in_flight(desk):
    desk.storage.gate.clear()
    desk.add("six")
    desk.publisher.advance(hurry=True)
    desk.add("pip")
    desk.publisher.advance(hurry=True)
    assert desk.page("pip") is None
    assert desk.names() == set()
    desk.storage.gate.set()
    desk.publisher.finish()
    assert desk.storage.seen.index("simple/pip/index.html") > desk.storage.seen.index("flush", 1)
    assert desk.names() == {"six", "pip"}


def test_an_outcome_that_came_during_a_flush_is_covered_by_a_flush_of_its_own(desk):
    """The flush under way began before its files were there."""
    desk.storage.gate.clear()
    desk.add("six")
    desk.publisher.advance(hurry=True)
    desk.add("pip")
    desk.storage.gate.set()
    desk.publisher.finish()
    position = desk.storage.seen.index("simple/pip/index.html")
    assert desk.storage.seen[position - 1] == "flush"
    assert desk.storage.recorded[position] == {"six"}


def test_two_outcomes_of_one_project_are_recorded_in_their_order(desk):
    desk.add(body=b"old", serial=5)
    desk.add(body=b"new", serial=6)
    desk.publisher.finish()
    assert desk.page() == b"new"
    assert dict(desk.state.every_serial()) == {"six": 6}


def test_nothing_to_publish_is_idle(desk):
    assert desk.publisher.is_idle
    desk.publisher.advance(hurry=True)
    desk.publisher.finish()
    assert desk.storage.seen == []


def test_closing_waits_for_the_flight_and_records_nothing_more(desk):
    desk.storage.gate.clear()
    desk.add()
    desk.publisher.advance(hurry=True)
    desk.storage.gate.set()
    desk.publisher.close()
    assert desk.page() == b"page"
    assert desk.names() == set()
