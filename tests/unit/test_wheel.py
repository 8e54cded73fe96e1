"""A wheel's core metadata, read out of the wheel itself."""

from __future__ import annotations

import io
import os
import random
import zipfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmirror.wheel import core_metadata

if TYPE_CHECKING:
    from pathlib import Path

METADATA = b"Metadata-Version: 2.1\nName: six\nVersion: 1.0\n\n" + "Beschreibung: äöü\n".encode() * 40
NAME = "six-1.0.dist-info/METADATA"
LIMIT = 1 << 20


def wheel(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, body in members:
            archive.writestr(zipfile.ZipInfo(name), body, method)
        archive.comment = comment
    return packed.getvalue()


def read(path: Path, body: bytes, limit: int = LIMIT) -> bytes | None:
    path.write_bytes(body)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return core_metadata(descriptor, len(body), limit)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("comment", [b"", b"a comment of the archive"])
def test_the_metadata_of_a_wheel_is_what_a_zip_reader_finds(tmp_path: Path, method: int, comment: bytes):
    body = wheel(("six.py", b"x = 1\n" * 500), (NAME, METADATA), ("z", b""), method=method, comment=comment)
    assert read(tmp_path / "w", body) == METADATA


def test_a_large_wheel_with_many_members_is_read(tmp_path: Path):
    noise = random.Random(1).randbytes(300_000)
    members = [(f"package/module_{i}.py", b"pass\n") for i in range(3000)]
    body = wheel((NAME, METADATA), ("data.bin", noise), *members, method=zipfile.ZIP_STORED)
    assert read(tmp_path / "w", body) == METADATA


@pytest.mark.parametrize(
    "name", ["vendored/six-1.0.dist-info/METADATA", "six-1.0.dist-info/METADATA.txt", "six-1.0/METADATA"]
)
def test_only_the_metadata_at_the_top_counts(tmp_path: Path, name: str):
    assert read(tmp_path / "w", wheel((name, METADATA))) is None


def test_metadata_over_the_limit_is_not_unpacked(tmp_path: Path):
    assert read(tmp_path / "w", wheel((NAME, b"0" * 100_000)), limit=99_999) is None


def test_metadata_that_states_a_smaller_size_than_it_unpacks_to_stays_within_the_limit(tmp_path: Path):
    body = bytearray(wheel((NAME, b"0" * 100_000)))
    at = body.rindex(b"PK\x01\x02") + 24
    body[at : at + 4] = (10).to_bytes(4, "little")
    assert len(read(tmp_path / "w", bytes(body), limit=500) or b"") <= 500


def test_what_is_no_zip_has_none(tmp_path: Path):
    assert read(tmp_path / "w", b"") is None
    assert read(tmp_path / "w", b"six-1.0-py3-none-any.whl" * 100) is None


@given(st.binary(min_size=1, max_size=8), st.integers(0, 10_000), st.booleans())
def test_a_damaged_wheel_never_raises(damage: bytes, at: int, cut: bool):
    body = bytearray(wheel(("six.py", b"x = 1\n" * 50), (NAME, METADATA)))
    at %= len(body)
    if cut:
        del body[at:]
    else:
        body[at : at + len(damage)] = damage
    descriptor = os.memfd_create("wheel")
    try:
        os.write(descriptor, body)
        core_metadata(descriptor, len(body), LIMIT)
    finally:
        os.close(descriptor)
