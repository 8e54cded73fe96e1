"""Mirrors into a real object store: what its readers find there, and what a run changes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.bucket import bind, run_again
from tests.fakes import faults
from tests.fakes.oddities import fill_with_oddities
from tests.object_store import BUCKET
from tests.published import succeed
from tests.wheels import make_wheel, offer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex
    from tests.object_store import ObjectStore

PAGE = "public, max-age=600"
FOREVER = "public, max-age=31536000, immutable"
SERVED = {
    "simple/six/index.html": ("text/html; charset=utf-8", PAGE),
    "simple/six/index.v1_html": ("application/vnd.pypi.simple.v1+html; charset=utf-8", PAGE),
    "simple/six/index.v1_json": ("application/vnd.pypi.simple.v1+json", PAGE),
    "simple/index.html": ("text/html; charset=utf-8", PAGE),
    "simple/index.v1_json": ("application/vnd.pypi.simple.v1+json", PAGE),
    "json/six": ("application/json", PAGE),
    "pypi/six/json": ("application/json", PAGE),
    "changes/head.json": ("application/json", "public, max-age=60"),
    "last-modified": ("text/plain; charset=utf-8", "no-cache"),
    "status/index.html": ("text/html; charset=utf-8", "no-cache"),
    "status/status.json": ("application/json", "no-cache"),
}
FORMS = ("html", "v1_html", "v1_json")


def test_a_first_run_publishes_all_that_upstream_lists(
    mirror: Mirror, index: FakeIndex, each_store: ObjectStore, tmp_path: Path
) -> None:
    fill_with_oddities(index)
    published = bind(mirror, each_store)
    succeed(mirror.run())
    assert published.problems(index, tmp_path / "copy") == []


def test_the_tree_is_that_of_a_file_system_byte_for_byte(
    mirror: Mirror, index: FakeIndex, moto_store: ObjectStore
) -> None:
    fill_with_oddities(index)
    mirror.settings |= {"layout": "flat", "json": "true"}
    succeed(mirror.run())
    on_disk = {
        file.relative_to(mirror.web).as_posix(): file.read_bytes() for file in mirror.web.rglob("*") if file.is_file()
    }
    mirror.directory = mirror.home / "local"
    published = bind(mirror, moto_store)
    succeed(mirror.run())
    in_bucket = published.bodies()
    for tree in (on_disk, in_bucket):
        del tree["last-modified"]
    assert in_bucket == on_disk
    assert not mirror.web.exists()


def test_each_object_says_what_it_is_and_how_long_it_holds(
    mirror: Mirror, index: FakeIndex, moto_store: ObjectStore
) -> None:
    index.add_file("six", "six-1.0-py3-none-any.whl", metadata=b"Metadata-Version: 2.1\nName: six\n")
    mirror.settings |= {"json": "true", "status-page": "true"}
    published = bind(mirror, moto_store)
    succeed(mirror.run())
    found = published.objects()
    assert {path: found[path].served_as for path in SERVED} == SERVED
    files = [item for path, item in found.items() if path.startswith("packages/")]
    assert {item.served_as for item in files} == {("application/octet-stream", FOREVER)}
    assert len(files) == 2
    assert all("x-amz-meta-uploaded-at" in item.headers for item in files)
    for item in found.values():
        assert item.headers["x-amz-meta-sha256"] == hashlib.sha256(item.body).hexdigest()


def test_a_page_is_found_at_its_url_too_where_keys_may_end_with_a_slash(
    mirror: Mirror, index: FakeIndex, moto_store: ObjectStore
) -> None:
    index.fill(2)
    name = next(iter(index.projects()))
    published = bind(mirror, moto_store)
    mirror.settings["s3.slash-keys"] = "true"
    succeed(mirror.run())
    found = published.objects()
    pages = {path: item for path, item in found.items() if path.endswith("/index.html")}
    assert len(pages) == 3
    for path, item in pages.items():
        twin = found[path.removesuffix("index.html")]
        assert (twin.body, twin.served_as) == (item.body, item.served_as)
    published.delete(f"simple/{name}/")
    assert mirror.run(command="verify").status == 0
    assert f"simple/{name}/" in published.tags()
    assert mirror.run(name, command="delete").status == 0
    assert not [path for path in published.tags() if f"/{name}" in path]


def test_a_run_with_nothing_to_do_stores_nothing_but_its_time(
    mirror: Mirror, index: FakeIndex, moto_store: ObjectStore
) -> None:
    index.fill(3)
    published = bind(mirror, moto_store)
    succeed(mirror.run())
    changed, gone = run_again(mirror, published)
    assert (changed - {"last-modified"}, gone) == (set(), set())


def test_a_run_stores_and_removes_what_has_changed_alone(
    mirror: Mirror, index: FakeIndex, each_store: ObjectStore, tmp_path: Path
) -> None:
    index.fill(6)
    changed, yanked, removed, *_ = index.projects()
    published = bind(mirror, each_store)
    mirror.settings["delete-grace"] = "0"
    succeed(mirror.run())
    before = published.tags()
    index.add_file(changed, f"{changed}-9.0.tar.gz")
    (first, *_) = index.projects()[yanked].files
    index.set_yanked(yanked, first.filename, "broken")
    index.remove_project(removed)
    stored, gone = run_again(mirror, published)
    assert len([path for path in stored if path.startswith("packages/")]) == 1
    pages = {f"simple/{name}/index.{form}" for name in (changed, yanked) for form in FORMS}
    assert {path for path in stored if path.count("/") == 2} == pages
    assert {f"simple/index.{form}" for form in FORMS} < stored
    assert gone == {path for path in before if f"/{removed}" in path or f"/{removed.replace('-', '_')}-" in path}
    assert published.problems(index, tmp_path / "copy") == []


def test_a_wrong_file_is_on_no_page_and_nowhere_in_the_bucket(
    mirror: Mirror, index: FakeIndex, moto_store: ObjectStore
) -> None:
    index.add_file("six", "six-1.0.tar.gz")
    index.add_file("six", "six-2.0.tar.gz")
    index.fault("*/six-2.0.tar.gz", faults.wrong_content())
    published = bind(mirror, moto_store)
    assert mirror.run().status == 1
    found = published.bodies()
    assert [path for path in found if path.endswith("six-1.0.tar.gz")]
    assert not [path for path in found if path.endswith("six-2.0.tar.gz")]
    assert b"six-1.0.tar.gz" in found["simple/six/index.html"]
    assert b"six-2.0.tar.gz" not in found["simple/six/index.html"]


def test_pip_reads_a_bucket_that_anyone_may_read_as_it_is(
    mirror: Mirror, index: FakeIndex, moto_store: ObjectStore, tmp_path: Path
) -> None:
    offer(index, make_wheel("six", "1.0"))
    published = bind(mirror, moto_store)
    mirror.settings |= {"s3.slash-keys": "true", "s3.config_param_ACL": "public-read"}
    succeed(mirror.run())
    url = f"{moto_store.url}/{BUCKET}/{published.prefix}/web/simple/"
    options = ["--isolated", "--no-cache-dir", "--no-deps", "--disable-pip-version-check", "--index-url", url]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *options, "--dest", str(tmp_path / "got"), "six"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    (wheel,) = (tmp_path / "got").iterdir()
    (stored,) = (body for path, body in published.bodies().items() if path.endswith(wheel.name))
    assert wheel.read_bytes() == stored
