"""A mirror whose tree is in an object store, for tests: its settings, and what its readers find there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from fastmirror.lease import conditions_refused
from fastmirror.objects import Bucket
from fastmirror.s3 import S3
from tests.object_store import ACCESS_KEY, BUCKET, SECRET_KEY
from tests.published import succeed
from tests.tree import check_tree

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex
    from tests.object_store import ObjectStore


class Object(NamedTuple):
    """What a reader gets."""

    body: bytes
    headers: dict[str, str]  # names in lower case

    @property
    def served_as(self) -> tuple[str, str]:
        """Its media type, and how long it may be kept."""
        return self.headers["content-type"], self.headers["cache-control"]


class Published(NamedTuple):
    """What a mirror has published in a store, by path below ``web/``."""

    store: ObjectStore
    prefix: str

    def tags(self) -> dict[str, str]:
        """The store's tag of each object."""
        found = Bucket(self.store.settings(self.prefix)).list("web/")
        return {item.key.removeprefix("web/"): item.etag for item in found}

    def objects(self) -> dict[str, Object]:
        """Everything, with its headers."""
        s3 = S3(self.store.settings())
        answers = {path: s3.send("GET", self._key(path)) for path in self.tags()}
        return {path: Object(answer.body, answer.headers) for path, answer in answers.items()}

    def bodies(self) -> dict[str, bytes]:
        """Everything, without its headers."""
        return {path: item.body for path, item in self.objects().items()}

    def put(self, path: str, body: bytes) -> None:
        """Store an object as a stranger would, without saying its sha256."""
        S3(self.store.settings()).send("PUT", self._key(path), body=body)

    def delete(self, path: str) -> None:
        """Remove an object."""
        S3(self.store.settings()).send("DELETE", self._key(path))

    def lose_state(self) -> None:
        """Remove what the store keeps beside the tree: the copy of the state, and the lease."""
        bucket = Bucket(self.store.settings(self.prefix))
        bucket.delete([item.key for item in bucket.list(".fastmirror/")])

    def problems(self, index: FakeIndex | None, home: Path, *, settled: bool = True) -> list[str]:
        """What check_tree finds in a copy, made as a tree of directories is: with times, and links."""
        found = self.objects()
        for path, item in found.items():
            file = home / path
            file.parent.mkdir(parents=True, exist_ok=True)
            twin = path.replace(".v1_html", ".html")
            if twin != path and twin in found and found[twin].body == item.body:
                os.link(home / twin, file)
                continue
            file.write_bytes(item.body)
            if uploaded := item.headers.get("x-amz-meta-uploaded-at"):
                os.utime(file, (float(uploaded), float(uploaded)))
        return check_tree(home, "flat", index, settled=settled)

    def _key(self, path: str) -> str:
        return f"{self.prefix}/web/{path}"


def bind(mirror: Mirror, store: ObjectStore, url: str = "") -> Published:
    """Let a mirror's tree be in the store, which it asks at this address, if one is given."""
    prefix = mirror.home.parent.name
    mirror.settings |= {
        "storage-backend": "s3",
        "s3.bucket": BUCKET,
        "s3.prefix": prefix,
        "s3.endpoint_url": url or store.url,
        "s3.aws_access_key_id": ACCESS_KEY,
        "s3.aws_secret_access_key": SECRET_KEY,
        "s3.lease": "false" if conditions_refused(Bucket(store.settings(prefix))) else "true",
    }
    return Published(store, prefix)


def run_again(mirror: Mirror, published: Published, *arguments: str) -> tuple[set[str], set[str]]:
    """Run once more: (paths of the objects that were stored anew, paths of those that are gone)."""
    before = published.tags()
    succeed(mirror.run(*arguments))
    after = published.tags()
    return {path for path, tag in after.items() if before.get(path) != tag}, before.keys() - after.keys()
