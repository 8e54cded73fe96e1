"""Objects in a bucket, held against two real servers, and against one behind a line that fails."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import TYPE_CHECKING

import pytest

from fastmirror.errors import SettingsError, StorageError
from fastmirror.objects import Bucket, ObjectFacts, ObjectHeaders
from tests.fakes.flaky import Fault, Flaky
from tests.object_store import ACCESS_KEY, BUCKET, SECRET_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.object_store import ObjectStore

PAGE = ObjectHeaders("text/html", "max-age=600", "", "")
ODD_KEY = "simple/a b+c%2F&é/index.html"


@pytest.fixture
def flaky(moto_store: ObjectStore) -> Iterator[Flaky]:
    with Flaky(moto_store.port) as flaky:
        yield flaky


@pytest.fixture
def bucket(each_store: ObjectStore, tmp_path: Path) -> Bucket:
    return Bucket(each_store.settings(prefix=tmp_path.name))


@pytest.fixture
def conditional(moto_store: ObjectStore, tmp_path: Path) -> Bucket:
    return Bucket(moto_store.settings(prefix=tmp_path.name))


@pytest.fixture
def faulty(moto_store: ObjectStore, flaky: Flaky, tmp_path: Path) -> Bucket:
    return Bucket(moto_store.settings(prefix=tmp_path.name, endpoint=flaky.url))


class InParts(Bucket):
    """Sends a file of some megabytes as a file of some gigabytes is sent."""

    part_size = 5 << 20
    single_size = 1 << 20


@pytest.fixture
def file(tmp_path: Path) -> tuple[str, str]:
    """A file of three parts, and its sha256."""
    content = os.urandom(11 << 20)
    path = tmp_path / "file"
    path.write_bytes(content)
    return str(path), hashlib.sha256(content).hexdigest()


def test_an_object_is_found_as_it_was_stored(bucket: Bucket) -> None:
    headers = ObjectHeaders("text/html; charset=utf-8", "max-age=600", "ab" * 32, "2024-01-01T00:00:00.123456Z")
    assert bucket.put(ODD_KEY, b"page", headers=headers)
    facts = bucket.head(ODD_KEY)
    assert facts is not None
    assert facts[:4] == (ODD_KEY, 4, "ab" * 32, "2024-01-01T00:00:00.123456Z")
    assert facts.content_type == "text/html; charset=utf-8"
    assert bucket.get(ODD_KEY) == b"page"
    assert [entry[:2] for entry in bucket.list("simple/a")] == [(ODD_KEY, 4)]


def test_a_part_of_an_object_is_read_and_the_whole_written_to_a_file(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("key", b"page", headers=PAGE)
    bucket.put("empty", b"", headers=PAGE)
    assert (bucket.get("key", most=2), bucket.get("empty", most=2), bucket.get("nothing", most=2)) == (b"pa", b"", None)
    path = tmp_path / "file"
    assert bucket.get_file("key", str(path))
    assert path.read_bytes() == b"page"
    assert not bucket.get_file("nothing", str(path))
    assert path.read_bytes() == b""


def test_a_disk_that_does_not_take_an_object_is_told_as_what_it_is_after_one_try(
    faulty: Bucket, flaky: Flaky, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    faulty.put("key", os.urandom(1 << 20), headers=PAGE)
    flaky.seen.clear()
    with files_up_to(1 << 16), pytest.raises(OSError, match="File too large") as caught:
        faulty.get_file("key", str(tmp_path / "file"))
    assert not isinstance(caught.value, StorageError)
    assert [request.split()[0] for request in flaky.seen] == ["GET"]
    assert capfd.readouterr().err == ""
    assert faulty.get_file("key", str(tmp_path / "file"))


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """This process can write no larger file meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_is_not_there_is_no_error(bucket: Bucket) -> None:
    assert bucket.head("nothing") is None
    assert bucket.get("nothing") is None
    assert bucket.get_with_tag("nothing") is None
    assert list(bucket.list("")) == []
    bucket.delete(["nothing"])
    bucket.delete(["nothing", "either"])


def test_what_is_removed_is_gone_and_the_rest_is_not(bucket: Bucket) -> None:
    keys = ["one", ODD_KEY, "two", "three"]
    for key in keys:
        bucket.put(key, b"", headers=PAGE)
    bucket.delete(keys[:2])
    bucket.delete(["two"])
    assert [facts.key for facts in bucket.list("")] == ["three"]


def test_what_the_store_does_not_remove_at_the_moment_is_named_to_it_again(faulty: Bucket, flaky: Flaky) -> None:
    keys = ["one", "two", "a & b"]
    for key in keys:
        faulty.put(key, b"", headers=PAGE)
    flaky.seen.clear()
    flaky.faults = [Fault("POST", "spare", times=3)]
    faulty.delete([*reversed(keys)])
    assert list(faulty.list("")) == []
    assert [request.split()[0] for request in flaky.seen] == ["POST"] * 4 + ["GET"]


@pytest.mark.parametrize(
    ("kind", "requests", "said"), [("spare", 4, r"SlowDown \(4 attempts\)"), ("keep", 1, "AccessDenied")]
)
def test_what_the_store_never_removes_is_named_in_one_line(
    faulty: Bucket, flaky: Flaky, kind: str, requests: int, said: str
) -> None:
    for key in ("one", "two"):
        faulty.put(key, b"", headers=PAGE)
    flaky.seen.clear()
    flaky.faults = [Fault("POST", kind, times=100)]
    with pytest.raises(StorageError, match=rf"object store: DELETE s3://packages/.*/one: {said}$"):
        faulty.delete(["one", "two"])
    assert len(flaky.seen) == requests
    assert [facts.key for facts in faulty.list("")] == ["one"]


def test_a_listing_goes_on_where_an_answer_ends(bucket: Bucket) -> None:
    bucket.listed_at_once = 3
    keys = {f"many/{number} +" for number in range(7)}
    for key in keys:
        bucket.put(key, b"", headers=PAGE)
    found = [facts.key for facts in bucket.list("many/")]
    assert len(found) == 7
    assert set(found) == keys


def test_a_key_that_is_taken_is_left_as_it_was(conditional: Bucket) -> None:
    assert conditional.put("key", b"first", headers=PAGE, only_new=True)
    assert not conditional.put("key", b"second", headers=PAGE, only_new=True)
    assert conditional.get("key") == b"first"


def test_a_version_is_replaced_only_by_who_has_seen_it(conditional: Bucket) -> None:
    tag = conditional.put_if("key", b"1", tag=None, headers=PAGE)
    assert tag is not None
    assert conditional.put_if("key", b"2", tag=None, headers=PAGE) is None
    newer = conditional.put_if("key", b"2", tag=tag, headers=PAGE)
    assert conditional.put_if("key", b"3", tag=tag, headers=PAGE) is None
    assert conditional.get_with_tag("key") == (b"2", newer)
    assert conditional.put_if("nothing", b"1", tag=tag, headers=PAGE) is None


@pytest.mark.parametrize("kind", ["throttle", "cut", "lose"])
def test_what_fails_for_a_moment_is_done_again(kind: str, faulty: Bucket, flaky: Flaky) -> None:
    flaky.faults = [Fault("PUT", kind, times=2)]
    assert faulty.put("key", b"page" * 1000, headers=PAGE)
    assert faulty.get("key") == b"page" * 1000
    assert [request.split()[0] for request in flaky.seen] == ["PUT", "PUT", "PUT", "GET"]


def test_a_store_that_goes_on_failing_is_told_in_one_line(faulty: Bucket, flaky: Flaky, tmp_path: Path) -> None:
    flaky.faults = [Fault("PUT", "throttle", times=100)]
    with pytest.raises(StorageError) as caught:
        faulty.put("key", b"page", headers=PAGE)
    assert str(caught.value) == (f"object store: PUT s3://{BUCKET}/{tmp_path.name}/key: 503 SlowDown (4 attempts)")


def test_of_many_files_at_once_each_need_not_find_out_that_the_store_takes_none(
    faulty: Bucket, flaky: Flaky, tmp_path: Path
) -> None:
    path, sha256 = tmp_path / "file", hashlib.sha256(b"file").hexdigest()
    path.write_bytes(b"file")
    flaky.faults = [Fault("PUT", "throttle", times=1000)]
    together = Barrier(16)

    def put(number: int) -> str:
        together.wait()
        with pytest.raises(StorageError, match="503 SlowDown") as caught:
            faulty.put_file(str(number), str(path), headers=PAGE, sha256=sha256)
        return str(caught.value)

    with ThreadPoolExecutor(16) as threads:
        assert len(set(threads.map(put, range(16)))) <= 2
    assert len(flaky.seen) <= 2 * 4  # a second question if one came late, each of so many tries
    flaky.faults = []
    assert faulty.put_file("file", str(path), headers=PAGE, sha256=sha256)


def test_an_object_whose_answer_was_lost_is_our_own(faulty: Bucket, flaky: Flaky) -> None:
    flaky.faults = [Fault("/key", "lose"), Fault("/tagged", "lose")]
    digest = hashlib.sha256(b"page").hexdigest()
    assert faulty.put("key", b"page", headers=PAGE._replace(sha256=digest), only_new=True)
    tag = faulty.put_if("tagged", b"page", tag=None, headers=PAGE)
    assert faulty.get_with_tag("tagged") == (b"page", tag)


def test_a_body_that_changes_on_its_way_is_refused(
    rclone_store: ObjectStore, tmp_path: Path, file: tuple[str, str]
) -> None:
    path, sha256 = file
    with Flaky(rclone_store.port) as flaky:
        bucket = Bucket(rclone_store.settings(prefix=tmp_path.name, endpoint=flaky.url))
        flaky.faults = [Fault("/page", "alter"), Fault("/file", "alter")]
        with pytest.raises(StorageError, match="BadDigest"):
            bucket.put("page", b"page", headers=PAGE)
        with pytest.raises(StorageError, match="BadDigest"):
            bucket.put_file("file", path, headers=PAGE, sha256=sha256)
    assert list(bucket.list("")) == []


def test_a_large_file_is_whole_when_its_parts_are(
    each_store: ObjectStore, tmp_path: Path, file: tuple[str, str]
) -> None:
    path, sha256 = file
    bucket = InParts(each_store.settings(prefix=tmp_path.name))
    assert bucket.put_file("file", path, headers=PAGE._replace(sha256=sha256), sha256=sha256, only_new=True)
    assert hashlib.sha256(bucket.get("file") or b"").hexdigest() == sha256
    assert (bucket.head("file") or ObjectFacts("", 0)).sha256 == sha256


def test_a_large_file_does_not_replace_what_is_there(
    conditional: Bucket, tmp_path: Path, file: tuple[str, str]
) -> None:
    path, sha256 = file
    conditional.put("file", b"first", headers=PAGE)
    conditional.part_size, conditional.single_size = InParts.part_size, InParts.single_size
    assert not conditional.put_file("file", path, headers=PAGE, sha256=sha256, only_new=True)
    assert conditional.get("file") == b"first"


def test_a_large_file_that_breaks_off_leaves_nothing(
    moto_store: ObjectStore, flaky: Flaky, tmp_path: Path, file: tuple[str, str]
) -> None:
    path, sha256 = file
    bucket = InParts(moto_store.settings(prefix=tmp_path.name, endpoint=flaky.url))
    flaky.faults = [Fault("partNumber=2", "cut", times=100)]
    with pytest.raises(StorageError, match=r"\(4 attempts\)"):
        bucket.put_file("file", path, headers=PAGE, sha256=sha256)
    assert bucket.head("file") is None
    assert [request.split()[0] for request in flaky.seen if "uploadId" in request][-1] == "DELETE"


def test_a_large_file_survives_one_lost_part(
    moto_store: ObjectStore, flaky: Flaky, tmp_path: Path, file: tuple[str, str]
) -> None:
    path, sha256 = file
    bucket = InParts(moto_store.settings(prefix=tmp_path.name, endpoint=flaky.url))
    flaky.faults = [Fault("partNumber=2", "cut"), Fault("POST", "throttle")]
    assert bucket.put_file("file", path, headers=PAGE, sha256=sha256)
    assert hashlib.sha256(bucket.get("file") or b"").hexdigest() == sha256


def test_a_file_that_is_not_what_its_sha256_says_is_not_completed(
    moto_store: ObjectStore, tmp_path: Path, file: tuple[str, str]
) -> None:
    bucket = InParts(moto_store.settings(prefix=tmp_path.name))
    with pytest.raises(StorageError, match="has changed since it was hashed"):
        bucket.put_file("file", file[0], headers=PAGE, sha256="00" * 32)
    assert bucket.head("file") is None


def test_a_wrong_bucket_is_named(each_store: ObjectStore) -> None:
    bucket = Bucket(each_store.settings(bucket="elsewhere", attempts=1))
    with pytest.raises(StorageError, match=r"s3://elsewhere/: 404 NoSuchBucket: there is no such bucket \(hint: `dir"):
        bucket.check()
    with pytest.raises(StorageError, match="NoSuchBucket"):
        bucket.get("key")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (("AKIAIOSFODNN7ANOTHER", SECRET_KEY, ""), "InvalidAccessKeyId: the store does not know this access key"),
        (("AKIAIOSFODNN7EXAMPLE", "not-the-secret", ""), "SignatureDoesNotMatch: the store refuses the secret key"),
    ],
)
def test_wrong_keys_are_named_and_not_shown(keys: tuple[str, str, str], said: str, rclone_store: ObjectStore) -> None:
    with pytest.raises(StorageError, match=said) as caught:
        Bucket(rclone_store.settings(credentials=keys)).check()
    assert keys[0] not in str(caught.value)
    assert keys[1] not in str(caught.value)
    assert keys[1] not in repr(rclone_store.settings(credentials=keys))


def test_a_store_that_is_not_there_is_named(moto_store: ObjectStore) -> None:
    with pytest.raises(StorageError, match=r"s3://packages/: .*connect.* \(2 attempts\)"):
        Bucket(moto_store.settings(endpoint="http://127.0.0.1:1", attempts=2)).check()


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that a profile's program prints: keys that are valid for a minute, and so asked for each time."""
    keys = tmp_path / "keys.json"
    until = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    stated = {"Version": 1, "AccessKeyId": ACCESS_KEY, "SecretAccessKey": SECRET_KEY, "SessionToken": ""}
    keys.write_text(json.dumps({**stated, "Expiration": until}))
    config = tmp_path / "config"
    config.write_text(f"[profile printed]\ncredential_process = cat {keys}\n")
    for name, value in {
        "CONFIG_FILE": config,
        "SHARED_CREDENTIALS_FILE": tmp_path / "none",
        "PROFILE": "printed",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", str(value))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    return keys


@pytest.mark.parametrize("printed", [None, "", "{}", '{"Version": 1}'])
def test_keys_that_can_be_found_no_more_end_a_request_as_the_store_would(
    rclone_store: ObjectStore, profile: Path, printed: str | None
) -> None:
    bucket = Bucket(rclone_store.settings(credentials=None))
    bucket.check()
    if printed is None:
        profile.unlink()
    else:
        profile.write_text(printed)
    with pytest.raises(StorageError, match="object store: the keys cannot be had: ") as caught:
        bucket.check()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("printed", [None, "", "{}", '{"Version": 1}'])
def test_keys_that_cannot_be_found_are_the_operator_s_to_mend(
    rclone_store: ObjectStore, profile: Path, printed: str | None
) -> None:
    if printed is None:
        profile.unlink()
    else:
        profile.write_text(printed)
    with pytest.raises(SettingsError, match="object store: the keys cannot be found: "):
        Bucket(rclone_store.settings(credentials=None))


def test_a_profile_that_is_not_there_is_named(
    rclone_store: ObjectStore, profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert profile.exists()
    monkeypatch.setenv("AWS_PROFILE", "another")
    with pytest.raises(SettingsError, match=r"the keys cannot be found: ProfileNotFound: .*\(another\)"):
        Bucket(rclone_store.settings(credentials=None))


def test_without_keys_the_extra_that_looks_for_them_is_named() -> None:
    program = """
import sys
from fastmirror.errors import SettingsError
from fastmirror.objects import Bucket
from fastmirror.settings import S3Settings
sys.modules["botocore"] = None
try:
    Bucket(S3Settings("b", "", None, "r", None, (), 1, 1, None, 1.0))
except SettingsError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "aws_access_key_id" in done.stdout
    assert done.stdout.endswith("for profiles and roles: pip install 'fastmirror[s3]')\n")
