"""Core metadata that a wheel holds itself is not asked for; whatever differs is."""

from __future__ import annotations

import hashlib
import io
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.published import page

if TYPE_CHECKING:
    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex

WHEEL = "six-1.0-py3-none-any.whl"
METADATA = b"Metadata-Version: 2.1\nName: six\nVersion: 1.0\n"


def wheel(metadata: bytes, filling: int = 100) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("six.py"), b"x" * filling, zipfile.ZIP_STORED)
        archive.writestr("six-1.0.dist-info/METADATA", metadata)
    return packed.getvalue()


def asked_for_metadata(index: FakeIndex) -> list[str]:
    return [request.path for request in index.requests if request.path.endswith(".metadata")]


@pytest.mark.parametrize("transport", ["curl", "requests"])
@pytest.mark.parametrize("filling", [100, 3 << 20])
def test_a_wheels_own_metadata_is_stored_and_offered_without_a_request(mirror: Mirror, index, transport, filling):
    index.add_file("six", WHEEL, content=wheel(METADATA, filling), metadata=METADATA)
    assert mirror.run(set={"transport": transport}).status == 0
    assert asked_for_metadata(index) == []
    (entry,) = page(mirror, "six")["files"]
    assert entry["core-metadata"] == {"sha256": hashlib.sha256(METADATA).hexdigest()}
    (stored,) = (mirror.web / "packages").rglob("*.metadata")
    (distribution,) = (mirror.web / "packages").rglob("*.whl")
    assert stored.read_bytes() == METADATA
    assert stored.name == f"{distribution.name}.metadata"
    assert stored.stat().st_mtime == distribution.stat().st_mtime


def test_metadata_that_differs_from_the_wheels_own_is_asked_for(mirror: Mirror, index):
    index.add_file("six", WHEEL, content=wheel(METADATA + b"Summary: other\n"), metadata=METADATA)
    assert mirror.run().status == 0
    assert len(asked_for_metadata(index)) == 1
    (stored,) = (mirror.web / "packages").rglob("*.metadata")
    assert stored.read_bytes() == METADATA
