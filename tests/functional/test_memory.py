"""What a worker takes in memory: never more than 300 MB, whatever upstream sends, and however much of it at once.

That is 40 MB for itself, up to 100 MB for bodies in flight, the buffers of files, and what the allocator keeps, and
what max-page-memory allows: 100 MB, or less here.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastmirror.weight import page_weight
from tests.fakes import faults
from tests.fakes.pages import HTML_TYPE, JSON_TYPE
from tests.processes import until, workers_of
from tests.published import filenames

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex

DEFAULT_BUDGET_BYTES = 100 << 20
BUDGET_BYTES = 20 << 20
ITSELF_BYTES = 110 << 20
SHA256 = "ab" * 32
EMOJI = "\U0001f600".encode()


def entry(number: int) -> bytes:
    """What PyPI says of one file."""
    name = f"nightly_wheel-1.0.{number}-cp311-cp311-manylinux_2_17_x86_64.whl"
    return json.dumps(
        {
            "core-metadata": {"sha256": f"{number:064x}"},
            "data-dist-info-metadata": {"sha256": f"{number:064x}"},
            "filename": name,
            "hashes": {"sha256": f"{number:064x}"},
            "provenance": None,
            "requires-python": ">=3.8",
            "size": 123456 + number,
            "upload-time": f"2024-02-29T12:00:00.{number % 1000000:06d}Z",
            "url": f"https://files.example/packages/ab/cd/{number:060x}/{name}",
            "yanked": False,
        }
    ).encode()


def in_list(item: Callable[[int], bytes], key: bytes = b"files") -> tuple[bytes, Callable[[int], bytes], bytes]:
    return b'{"meta":{},"files":[],"name":"NAME","' + key + b'":[0', lambda i: b"," + item(i), b"]}"


def in_text(item: bytes, first: bytes = b"") -> tuple[bytes, Callable[[int], bytes], bytes]:
    return b'{"meta":{},"files":[],"name":"NAME","x":"' + first, lambda _: item, b'"}'


def in_link(item: bytes, first: bytes = b"") -> tuple[bytes, Callable[[int], bytes], bytes]:
    head = b'<!DOCTYPE html><a href="x-1.0.zip#sha256=' + SHA256.encode() + b'" data-yanked="' + first
    return head, lambda _: item, b'">x</a>'


def in_page(item: Callable[[int], bytes], first: bytes = b"") -> tuple[bytes, Callable[[int], bytes], bytes]:
    return b"<!DOCTYPE html>" + first, item, b""


SHAPES = {
    "json": {
        "files": (b'{"meta":{},"name":"NAME","files":[null', lambda i: b"," + entry(i), b"]}"),
        "empty-objects": in_list(lambda _: b"{}"),
        "objects": in_list(lambda i: b'{"a":%d}' % i, b"x"),
        "lists": in_list(lambda _: b"[1]", b"x"),
        "numbers": in_list(lambda _: b"1.5", b"x"),
        "texts": in_list(lambda i: b'"%09d"' % i, b"versions"),
        "keys": (b'{"meta":{},"files":[],"name":"NAME"', lambda i: b',"k%d":1' % i, b"}"),
        "one-text": in_text(b"a" * 1000),
        "one-wide-text": in_text(b"a" * 1000, EMOJI),
        "quotes": in_text(b'\\"' * 1000),
        "apostrophes": (
            b'{"meta":{},"name":"NAME","files":[{"filename":"x-1.0.zip","url":"https://files.example/x-1.0.zip",'
            b'"hashes":{"sha256":"' + SHA256.encode() + b'"},"requires-python":"' + EMOJI,
            lambda _: b"'" * 1000,
            b'"}]}',
        ),
        "nesting": (b"", lambda _: b"[" * 1000, b""),
        "a-number": (b"", lambda _: b"1" * 1000, b""),
        "blanks": (b'{"meta":{},"files":[],"name":"NAME"', lambda _: b" " * 1000, b"}"),
    },
    "html": {
        "links": in_page(lambda i: b"<a href=x-%d.zip>" % i),
        "hashed-links": in_page(lambda i: b"<a href=https://files.example/x-%d.zip#sha256=%064x>" % (i, i)),
        "empty-links": in_page(lambda _: b"<a href=x>"),
        "attributes": in_page(lambda i: b" a%d" % i, b"<a"),
        "properties": in_page(lambda i: b"<meta name=a%d>" % i),
        "an-attribute": in_link(b"a" * 1000),
        "a-wide-attribute": in_link(b"a" * 1000, EMOJI),
        "references": in_link(b"&amp;" * 1000),
        "apostrophes": in_link(b"'" * 1000, EMOJI),
        "a-fragment": in_page(lambda _: b"&" * 1000, b"<a href='x.zip#"),
        "text": in_page(lambda _: b"a" * 1000, EMOJI),
        "a-comment": in_page(lambda _: b"-" * 1000, b"<!--"),
    },
}


def largest(shape: tuple[bytes, Callable[[int], bytes], bytes], *, html: bool) -> bytes:
    """The largest page of this shape that is still taken: one item more is more than the budget."""
    head, item, tail = shape
    frame, first = page_weight([head + tail], html=html), page_weight([head + item(10**6) + tail], html=html)
    count = (BUDGET_BYTES - frame) // (first - frame)
    return head + b"".join(map(item, range(count))) + tail


def worked_on(mirror: Mirror) -> int:
    """Projects that are recorded, as done or failed."""
    state = mirror.directory / ".fastmirror" / "state.sqlite"
    with closing(sqlite3.connect(f"file:{state}?mode=ro", uri=True)) as connection:
        return int(connection.execute("select count(*) from project").fetchone()[0])


def peak_bytes(pid: int) -> int:
    """The most that a process ever had in memory."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) << 10


def peak_of_the_worker(mirror: Mirror, index: FakeIndex, **settings: str) -> int:
    """Mirror with one worker; its peak, when all projects but the one that is held back are recorded."""
    index.add_file("last", "last-1.0.tar.gz")
    gate = index.gate("/simple/last/")
    process = mirror.start(set={"processes": "1", "timeout": "60", **settings})
    count = len(index.projects()) - 1
    gate.wait()
    until(lambda: worked_on(mirror) == count, "all others are recorded", longest_s=100)
    (worker,) = workers_of(process.pid)
    peak = peak_bytes(worker)
    gate.open()
    process.communicate(timeout=60)
    assert process.returncode in {0, 1}
    assert filenames(mirror, "last") == ["last-1.0.tar.gz"]
    return peak


@pytest.mark.parametrize("dialect", ["json", "html"])
def test_a_worker_takes_no_more_for_the_largest_pages_of_every_shape_at_once_than_is_allowed_for_one(
    mirror: Mirror, index: FakeIndex, dialect: str, record_property: Callable[[str, object], None]
) -> None:
    index.dialect = "html" if dialect == "html" else "json"
    for name, shape in SHAPES[dialect].items():
        body = largest(shape, html=dialect == "html").replace(b"NAME", name.encode(), 1)
        index.add_file(name, f"{name}-1.0.tar.gz")
        index.fault(f"/simple/{name}/", faults.body(body, HTML_TYPE if dialect == "html" else JSON_TYPE))
    settings = {"release-files": "false", "root_uri": "https://files.example", "max-page-memory": str(BUDGET_BYTES)}
    peak = peak_of_the_worker(mirror, index, **settings)
    assert peak < ITSELF_BYTES + BUDGET_BYTES
    record_property(
        "fault", f"{dialect} pages, {', '.join(SHAPES[dialect])}, at once: a worker took {peak >> 20} MB at most"
    )


@pytest.mark.case(11)
@pytest.mark.parametrize("transport", ["curl", "requests"])
def test_pages_as_large_as_they_may_be_cost_no_memory_and_are_refused_by_what_they_would_take(
    mirror: Mirror, index: FakeIndex, transport: str, record_property: Callable[[str, object], None]
) -> None:
    for name, size in (("large", 255 << 20), ("bomb", 1 << 30)):
        index.add_file(name, f"{name}-1.0.tar.gz")
        index.fault(f"/simple/{name}/", faults.gzip_bomb(size))
    peak = peak_of_the_worker(mirror, index, transport=transport)
    assert peak < 100 << 20
    assert mirror.failures() == {
        "bomb": f"page: larger than allowed ({256 << 20} bytes)",
        "large": f"page: takes more memory than allowed ({DEFAULT_BUDGET_BYTES} bytes, hint: max-page-memory)",
    }
    record_property("fault", f"a page of 255 MB and a gzip bomb at once ({transport}): refused, {peak >> 20} MB")
