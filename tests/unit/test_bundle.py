"""A bundle's manifest: what is cut off, altered or not contained is refused before it is believed."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmirror.bundle import MANIFEST, Entry, Header, Kind, ManifestWriter, kind_of, read_header, read_manifest
from fastmirror.errors import UpstreamError

if TYPE_CHECKING:
    from pathlib import Path

HEADER = Header("ab" * 16, 3, 2, "flat", hash_index=False, created=1.7e9)
ENTRIES = [
    Entry("packages/aa/bb/cc/six-1.0.tar.gz", "1" * 64, 10, 1_700_000_000_000_000_000),
    Entry("simple/six/index.html", link="versions/index_3_2026-01-01T000000Z.html"),
    Entry("simple/index.html", "2" * 64, 20),
    Entry("last-modified", "3" * 64, 18),
    Entry("pypi/attrs/json"),
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bundle")
    with ManifestWriter(str(directory), HEADER) as manifest:
        for entry in ENTRIES:
            manifest.add(entry)
    manifest.publish()
    return directory


def test_what_was_written_is_read(bundle: Path):
    assert read_manifest(str(bundle)) == (HEADER, ENTRIES)
    assert read_header(str(bundle)) == HEADER
    assert [entry.is_gone for entry in ENTRIES] == [False, False, False, False, True]
    assert [kind_of(entry.path) for entry in ENTRIES] == [Kind.FILE, Kind.PAGE, Kind.INDEX, Kind.INDEX, Kind.PAGE]


def refused(directory: Path, body: bytes) -> None:
    (directory / MANIFEST).write_bytes(body)
    with pytest.raises(UpstreamError, match=r"^bundle: "):
        read_manifest(str(directory))


@given(data=st.data())
def test_a_manifest_cut_anywhere_or_altered_in_one_bit_is_refused(
    bundle: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    whole = (bundle / MANIFEST).read_bytes()
    directory = tmp_path_factory.getbasetemp()
    place = data.draw(st.integers(0, len(whole) - 1))
    refused(directory, whole[:place])
    altered = bytearray(whole)
    altered[place] ^= 1 << data.draw(st.integers(0, 7))
    refused(directory, bytes(altered))


def test_a_manifest_with_something_after_its_end_is_refused(bundle: Path, tmp_path: Path):
    refused(tmp_path, (bundle / MANIFEST).read_bytes() + b"{}\n")


def with_line(bundle: Path, document: object) -> bytes:
    """The manifest with another first entry, and an end that agrees with it."""
    lines = (bundle / MANIFEST).read_bytes().splitlines(keepends=True)
    lines[1] = json.dumps(document).encode() + b"\n"
    digest = hashlib.sha256(b"".join(lines[:-1])).hexdigest()
    return b"".join(lines[:-1]) + json.dumps({"entries": len(lines) - 2, "sha256": digest}).encode() + b"\n"


def test_another_entry_with_an_end_that_agrees_is_read(bundle: Path, tmp_path: Path):
    (tmp_path / MANIFEST).write_bytes(with_line(bundle, {"path": "packages/0ab/x.whl", "sha256": "0" * 64, "size": 1}))
    assert read_manifest(str(tmp_path))[1][0] == Entry("packages/0ab/x.whl", "0" * 64, 1)


@pytest.mark.parametrize(
    "entry",
    [
        {"path": "../outside", "sha256": "0" * 64, "size": 1},
        {"path": "simple/../../outside", "sha256": "0" * 64, "size": 1},
        {"path": "simple//six", "sha256": "0" * 64, "size": 1},
        {"path": "simple/./six", "sha256": "0" * 64, "size": 1},
        {"path": "/etc/outside", "sha256": "0" * 64, "size": 1},
        {"path": "elsewhere/file", "sha256": "0" * 64, "size": 1},
        {"path": "simple", "sha256": "0" * 64, "size": 1},
        {"path": "simple/a\nb", "sha256": "0" * 64, "size": 1},
        {"path": "simple/six", "link": "/etc/passwd"},
        {"path": "simple/six/index.html", "link": "versions/../../../outside"},
        {"path": "packages/000/six.tar.gz", "link": "versions/x"},
        {"path": "simple/six/index.html", "link": "versions/x", "sha256": "0" * 64},
        {"path": "packages/000/six.tar.gz", "sha256": "../../../../etc/passwd", "size": 1},
        {"path": "packages/000/six.tar.gz", "sha256": "0" * 64, "size": -1},
        {"path": "packages/000/six.tar.gz", "sha256": "0" * 64, "size": "1"},
        {"path": 7},
        {"path": "simple/six/index.html", "unknown": 1},
        {"entries": 5, "sha256": 0},
        [],
    ],
)
def test_a_path_that_would_leave_the_mirror_is_refused(bundle: Path, tmp_path: Path, entry: object):
    refused(tmp_path, with_line(bundle, entry))


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"format": "fastmirror bundle 2", **HEADER._asdict()},
        {"format": "fastmirror bundle 1", **HEADER._asdict(), "number": "3"},
        {"format": "fastmirror bundle 1", **HEADER._asdict(), "layout": "other"},
        {"format": "fastmirror bundle 1", **HEADER._asdict(), "more": 1},
    ],
)
def test_a_header_that_cannot_be_used_is_refused(tmp_path: Path, header: dict[str, object]):
    refused(tmp_path, json.dumps(header).encode() + b"\n")


def test_a_directory_without_a_manifest_is_no_bundle(tmp_path: Path):
    with pytest.raises(UpstreamError, match="not finished"):
        read_manifest(str(tmp_path))
