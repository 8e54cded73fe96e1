"""What the tests of an object store share: servers that run as long as the tests do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.object_store import moto_server, rclone_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.object_store import ObjectStore


@pytest.fixture(scope="session")
def rclone_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A store that knows no conditions: every test takes a prefix of its own."""
    with rclone_server(tmp_path_factory.mktemp("rclone")) as store:
        yield store


@pytest.fixture(scope="session")
def moto_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A store that honours conditions: every test takes a prefix of its own."""
    with moto_server(tmp_path_factory.mktemp("moto")) as store:
        yield store


@pytest.fixture(params=["rclone_store", "moto_store"])
def each_store(request: pytest.FixtureRequest) -> ObjectStore:
    """One store and the other."""
    store: ObjectStore = request.getfixturevalue(request.param)
    return store
