"""The change feed: what is written beside a root index, and what a mirror of this mirror makes of it."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from fastmirror.errors import PageError
from fastmirror.feed import HEAD_PATH, beginning_of, offers_feed, read_head, rebuilt, render_step
from fastmirror.filetree import FileTree
from fastmirror.following import facts_of_whole, follow
from fastmirror.layout import PageFormat, index_path
from fastmirror.model import Outcome
from fastmirror.names import NormalizedName
from fastmirror.packing import pack_files
from fastmirror.rootindex import write_feed, write_root_index
from fastmirror.schema import Notes, RecordedJob
from fastmirror.settings_file import parse_settings
from fastmirror.simple import render_index_json
from fastmirror.state import State
from fastmirror.transport import Reply
from fastmirror.transport.control import ControlLane
from tests.fakes import faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.fakes.index import FakeIndex

FORMATS = frozenset(PageFormat)
JOB = RecordedJob(wanted=False, forced=False, tries=0, expected=None)
names = st.from_regex(r"[a-c]{1,2}(-[a-c0]{1,2})?", fullmatch=True)
indexes = st.dictionaries(names, st.none() | st.integers(1, 99), max_size=12)


class Published:
    """A mirror's state and root index, without pages."""

    def __init__(self, directory: Path) -> None:
        self.storage = FileTree(str(directory), None, durable=False)
        self.storage.prepare()
        self.state = State(f"{self.storage.own}/state.sqlite")

    def close(self) -> None:
        self.state.close()
        self.storage.close()

    def record(self, serials: Mapping[str, int | None], *gone: str) -> None:
        with self.state.transaction():
            for name, serial in serials.items():
                outcome = Outcome(
                    NormalizedName(name), "published", serial=serial, page_digest="p", files=pack_files(())
                )
                self.state.record([(outcome, JOB)], 0.0, 1)
            for name in gone:
                self.state.forget(name)

    def publish(self) -> None:
        write_root_index(self.state, self.storage, FORMATS, self.state.greatest_serial())
        write_feed(self.state, self.storage, FORMATS)

    @property
    def index(self) -> bytes:
        return self.path(index_path(PageFormat.JSON)).read_bytes()

    @property
    def head(self) -> Path:
        return self.path(HEAD_PATH)

    @property
    def states(self) -> list[str]:
        return read_head(self.head.read_bytes())

    @property
    def steps(self) -> list[Path]:
        return [path for path in self.head.parent.iterdir() if path != self.head]

    def path(self, below: str) -> Path:
        return Path(self.storage.web, below)


class Reader:
    """Follows what is published, over HTTP, from the root index that it has now."""

    def __init__(self, published: Published, upstream: FakeIndex, home: Path) -> None:
        self._published = published
        self._upstream = upstream
        self._control = ControlLane(parse_settings(None, overrides={"directory": str(home), "master": upstream.url}))
        self.cache = home / "root-index"
        self.cache.write_bytes(published.index)
        self.applied = {"root_read": str(time.time()), "root_digest": xxhash.xxh3_128_hexdigest(published.index)}

    def follow(self) -> Reply | None:
        self._upstream.clear_faults()
        self._upstream.clear_requests()
        for path in self._published.head.parent.iterdir():
            self._upstream.fault(f"/changes/{path.name}", faults.body(path.read_bytes(), "application/json"))
        return follow(self._control.get, self._upstream.url, str(self.cache), self.applied)

    def is_led_to_what_is_published(self) -> bool:
        reply = self.follow()
        return reply is not None and (reply.status, reply.body) == (200, self._published.index)


@pytest.fixture
def published(tmp_path: Path) -> Iterator[Published]:
    published = Published(tmp_path / "mirror")
    published.record({f"project-{i}": i for i in range(1, 9)})
    published.publish()
    yield published
    published.close()


@pytest.fixture
def reader(published: Published, index: FakeIndex, tmp_path: Path) -> Reader:
    return Reader(published, index, tmp_path)


# What stands in it


def test_a_feed_begins_with_the_root_index_that_is_there(published: Published) -> None:
    assert offers_feed(published.index)
    assert published.states == [xxhash.xxh3_128_hexdigest(published.index)]
    assert published.steps == []


def test_a_step_says_what_changed_came_and_left_and_nothing_else(published: Published) -> None:
    published.record({"project-2": 20, "new": 21, "without": None, "project-4": 4}, "project-3")
    with published.state.transaction():
        published.state.unlist(["project-5"])
    published.publish()
    [step] = published.steps
    assert step.name == "-".join(published.states) + ".json"
    assert json.loads(step.read_bytes()) == {
        "meta": {"_changes": 1, "_last-serial": 21, "api-version": "1.4"},
        "projects": [
            {"_last-serial": 21, "name": "new"},
            {"_last-serial": 20, "name": "project-2"},
            {"name": "without"},
        ],
        "removed": ["project-3", "project-5"],
    }


def test_a_project_that_changes_leaves_and_comes_back_before_the_next_step_is_told_of_once(
    published: Published,
) -> None:
    published.record({"project-1": 20}, "project-2")
    published.record({"project-1": 21, "project-2": 22})
    published.publish()
    [step] = published.steps
    told = json.loads(step.read_bytes())
    assert {entry["name"]: entry["_last-serial"] for entry in told["projects"]} == {"project-1": 21, "project-2": 22}
    assert told["removed"] == []


def test_nothing_is_written_where_nothing_has_changed(published: Published) -> None:
    before = published.head.stat()
    published.publish()
    assert published.head.stat() == before


def test_a_feed_keeps_so_many_states_and_their_steps(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmirror.rootindex.STATES_MOST", 3)
    for serial in range(10, 15):
        published.record({"project-1": serial})
        published.publish()
    assert len(published.states) == 3
    assert {path.stem for path in published.steps} == {"-".join(published.states[i : i + 2]) for i in (0, 1)}


def test_too_many_changes_and_a_state_that_comes_back_begin_a_feed_anew(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    published.record({"project-8": 9})
    published.publish()
    published.record({"project-8": 8})
    published.publish()
    assert (len(published.states), published.steps) == (1, [])
    monkeypatch.setattr("fastmirror.rootindex.CHANGES_MOST", 1)
    published.record({"project-1": 11, "project-2": 12})
    published.publish()
    assert (len(published.states), published.steps) == (1, [])
    published.record({"project-1": 13})
    published.publish()
    assert len(published.states) == 2


def test_without_a_root_index_in_json_there_is_no_feed_and_nobody_elses_file_goes_with_it(published: Published) -> None:
    published.record({"project-1": 10})
    published.publish()
    other = published.head.with_name("notes.txt")
    other.touch()
    write_feed(published.state, published.storage, {PageFormat.HTML})
    assert list(published.head.parent.iterdir()) == [other]
    assert published.state.select("select * from feed") == []


def test_what_stands_in_the_feeds_way_is_warned_of_and_fails_nothing(
    published: Published, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(published.head.parent)
    published.head.parent.touch()
    published.record({"project-1": 10})
    published.publish()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert b'"_last-serial":10,"name":"project-1"' in published.index
    published.head.parent.unlink()
    published.publish()
    assert published.states[-1:] == [xxhash.xxh3_128_hexdigest(published.index)]


def test_what_is_written_and_removed_is_noted_for_a_diff_file(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastmirror.rootindex.STATES_MOST", 2)
    published.record({"project-1": 10})
    published.publish()
    [old] = published.steps
    published.state.notes = Notes(diff=True)
    published.record({"project-1": 11})
    published.publish()
    [new] = published.steps
    noted = dict(published.state.select("select path, removed from change where path like 'changes/%'"))
    assert noted == {HEAD_PATH: 0, f"changes/{new.name}": 0, f"changes/{old.name}": 1}


# What a reader makes of it


@given(indexes, indexes, st.integers(1, 99))
def test_a_step_makes_the_very_bytes_of_the_root_index(
    old: dict[str, int | None], new: dict[str, int | None], serial: int
) -> None:
    def index(projects: dict[str, int | None]) -> bytes:
        return b"".join(
            render_index_json(((NormalizedName(name), projects[name]) for name in sorted(projects)), serial)
        )

    changed = [item for item in new.items() if item not in old.items()]
    step = render_step(beginning_of(index(new)), changed, old.keys() - new.keys())
    assert rebuilt(index(old), [step.encode()]) == index(new)


@given(st.binary(max_size=80), st.sampled_from([b"", b"}", b'"name":"a"},{"', b"},"]), st.sampled_from([b"", b"]}"]))
def test_of_anything_else_a_root_index_is_made_or_an_error(noise: bytes, more: bytes, end: bytes) -> None:
    step = render_step(b'{"projects":[', [("a", 1), ("b", 2)], ["c"]).encode()
    for body, made_of in ((b'{"projects":[' + noise + more + end, step), (step, noise + more)):
        try:
            assert type(rebuilt(body, [made_of])) is bytes
        except PageError:
            continue


def test_a_reader_is_told_that_nothing_has_changed_by_the_head_alone(reader: Reader, index: FakeIndex) -> None:
    reply = reader.follow()
    assert reply is not None
    assert (reply.status, index.paths()) == (304, [f"/{HEAD_PATH}"])


def test_a_reader_that_missed_some_steps_reads_them_all(published: Published, reader: Reader) -> None:
    for serials in ({"project-1": 10, "new": 11}, {"new": 12, "zzz": 13}, {"project-1": 14}):
        published.record(serials, "project-2")
        published.publish()
    published.record({}, "new")
    published.publish()
    assert reader.is_led_to_what_is_published()


def test_a_hundred_changes_among_many_projects_are_read_in_a_few_kilobytes(
    published: Published, reader: Reader, index: FakeIndex
) -> None:
    published.record({f"many-{i}": 1000 + i for i in range(3000)})
    published.publish()
    reader.cache.write_bytes(published.index)
    reader.applied["root_digest"] = published.states[-1]
    published.record({f"many-{i}": 5000 + i for i in range(0, 3000, 30)})
    published.publish()
    assert reader.is_led_to_what_is_published()
    read = published.head.stat().st_size + published.path(index.paths()[1][1:]).stat().st_size
    assert read < 5000 < len(published.index) // 20


# What does not fit


def test_a_run_that_was_cut_off_before_it_recorded_its_feed_makes_a_reader_slower_and_nothing_wrong(
    published: Published, reader: Reader, index: FakeIndex, tmp_path: Path
) -> None:
    published.record({"project-1": 10})
    write_root_index(published.state, published.storage, FORMATS, 10)
    published.state.close()
    kept = Path(published.storage.own, "state.sqlite")
    before = shutil.copy(kept, tmp_path / "before")
    published.state = State(str(kept))
    write_feed(published.state, published.storage, FORMATS)
    ahead = Reader(published, index, tmp_path)
    published.state.close()
    shutil.copy(before, kept)
    published.state = State(str(kept))
    published.record({"project-2": 11})
    published.publish()
    assert reader.is_led_to_what_is_published()
    assert ahead.follow() is None
    assert len(published.steps) == 1


def lose(path: Path) -> None:
    path.unlink()


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def falsify(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"name":"project-1"', b'"name":"project-2"'))


def misname(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"name"', b'"eman"'))


def forget(path: Path) -> None:
    path.write_bytes(b'{"version":1,"states":["%s"]}' % (b"0" * 32))


def lead_out(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"]', b'","../../simple/"]'))


def make_newer(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":2'))


def bloat(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" " * (5 << 20))


HEAD_HARMS = (lose, tear, forget, lead_out, make_newer, bloat)
STEP_HARMS = (lose, tear, falsify, misname, bloat)


@pytest.mark.parametrize(
    ("of_head", "harm"), [*((True, harm) for harm in HEAD_HARMS), *((False, harm) for harm in STEP_HARMS)]
)
def test_a_feed_that_is_not_whole_is_not_followed(
    of_head: bool, harm: Callable[[Path], None], published: Published, reader: Reader
) -> None:
    published.record({"project-1": 10})
    published.publish()
    assert reader.is_led_to_what_is_published()
    harm(published.head if of_head else published.steps[0])
    assert reader.follow() is None


def test_a_root_index_that_is_held_no_more_is_read_whole(published: Published, reader: Reader) -> None:
    published.record({"project-1": 10})
    published.publish()
    reader.cache.write_bytes(published.index[:-40])
    assert reader.follow() is None
    reader.cache.unlink()
    assert reader.follow() is None


def test_a_feed_is_followed_for_a_week_and_asked_for_only_where_it_is_offered(reader: Reader, index: FakeIndex) -> None:
    for read in ("", str(time.time() - 8 * 24 * 3600), str(time.time() + 8 * 24 * 3600)):
        reader.applied["root_read"] = read
        assert reader.follow() is None
        assert index.requests == []


def test_the_week_begins_with_each_root_index_that_was_read_whole_and_offers_a_feed(published: Published) -> None:
    def read(status: int, body: bytes) -> dict[str, str | None]:
        return facts_of_whole(Reply(0, status, {"etag": '"e"'}, body, "", retryable=False), published.state)

    assert read(304, b"") == {}
    ours = read(200, published.index)
    assert ours["root_etag"] == '"e"'
    assert abs(float(ours["root_read"] or 0) - time.time()) < 3600
    for other in (published.index.replace(b'"_changes":1,', b""), b'{"meta":1,"projects":[]}', b"<html>", b""):
        assert read(200, other) == {"root_read": None, "root_etag": '"e"'}
    published.state.put(ours)
    assert read(304, b"").keys() == {"root_read"}
