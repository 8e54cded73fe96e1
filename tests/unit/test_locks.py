"""Files that a lock names: each is held to its sha256, and what upstream has otherwise is refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fastmirror.errors import SettingsError
from fastmirror.filters import Filters, Listing
from fastmirror.filters.requirements import Files
from fastmirror.model import File
from fastmirror.names import NormalizedName
from fastmirror.settings_file import parse_settings

if TYPE_CHECKING:
    from fastmirror.settings import Settings

SIX = NormalizedName("six")
ONE, TWO, THREE, OTHER = (digit * 64 for digit in "123f")
PINNED = "project_requirements_pinned"


def settings(path: str, text: str) -> Settings:
    whole = f"[mirror]\ndirectory = /srv/pypi\n[plugins]\nenabled = {PINNED}\n[allowlist]\nrequirements = {path}\n"
    return parse_settings(whole, source="FILE", files=Files(lambda _: text.encode(), lambda path: [path]))


def file(filename: str, digest: str, **keys: Any) -> File:
    return File(filename, f"https://files.example/{filename}", "sha256", digest, 1, None, keys)


def uv_lock(wheel: str = ONE, more: str = "") -> str:
    return f"""
version = 1
[[package]]
name = "six"
version = "1.0"
source = {{ registry = "https://index.example/simple" }}
sdist = {{ url = "https://files.example/a/six-1.0.tar.gz", hash = "sha256:{TWO}", size = 1 }}
wheels = [
    {{ url = "https://files.example/b/six-1.0-py3-none-any.whl", hash = "sha256:{wheel}" }},{more}
]
"""


PYLOCK = f"""
lock-version = "1.0"
[[packages]]
name = "six"
version = "1.0"
sdist = {{ url = "https://files.example/six-1.0.tar.gz", hashes = {{ sha256 = "{TWO}", md5 = "00" }} }}
[[packages.wheels]]
name = "six-1.0-py3-none-any.whl"
url = "https://files.example/renamed"
hashes = {{ sha256 = "{ONE.upper()}" }}
"""
HASHES = f"six==1.0 --hash=sha256:{ONE} \\\n    --hash=sha256:{TWO}\n"
PAGE = Listing(
    SIX,
    [
        file("six-1.0-py3-none-any.whl", ONE),
        file("six-1.0.tar.gz", TWO),
        file("six-1.0-py2-none-any.whl", THREE),  # came after the lock was made
        file("six-2.0.tar.gz", OTHER),
    ],
    None,
)
LOCKS = {"uv.lock": uv_lock(), "pylock.dev.toml": PYLOCK, "pylock.toml": PYLOCK, "requirements.txt": HASHES}


def kept(by: Filters, listing: Listing = PAGE) -> list[str]:
    narrowed = by.narrow(listing)
    assert narrowed is not None
    return [one.filename for one in narrowed.files]


@pytest.mark.parametrize("path", LOCKS)
def test_exactly_the_files_that_a_lock_names_stay(path):
    given = settings(f"/lock/{path}", LOCKS[path])
    by = Filters(given.filters)
    assert (kept(by), by.refusals(PAGE), given.warnings) == (["six-1.0-py3-none-any.whl", "six-1.0.tar.gz"], [], ())


@pytest.mark.parametrize("path", ["uv.lock", "pylock.toml"])
def test_a_file_with_another_sha256_and_one_that_is_not_there_are_refused_by_name(path):
    by = Filters(settings(f"/lock/{path}", LOCKS[path]).filters)
    listing = PAGE._replace(files=[file("six-1.0-py3-none-any.whl", OTHER), *PAGE.files[2:]])
    assert kept(by, listing) == []
    refused = dict(by.refusals(listing))
    assert sorted(refused) == ["six-1.0-py3-none-any.whl", "six-1.0.tar.gz"]
    reason = refused["six-1.0-py3-none-any.whl"]
    assert reason.startswith(f"its sha256 upstream is {OTHER}, and {ONE} in /lock/{path}:")
    assert refused["six-1.0.tar.gz"].endswith(" names it, and upstream does not list it")


def test_hashes_without_names_are_refused_where_none_of_them_is_upstream():
    by = Filters(settings("/r.txt", HASHES).filters)
    listing = PAGE._replace(files=PAGE.files[2:])
    assert (kept(by, listing), by.refusals(listing)) == (
        [],
        [("==1.0", "no file upstream has a sha256 that /r.txt:1 names")],
    )
    assert by.refusals(PAGE._replace(files=PAGE.files[:1])) == []


def test_a_requirement_without_hashes_beside_one_with_them_admits_its_own_versions():
    by = Filters(settings("/r.txt", HASHES + "six>=2\n").filters)
    assert kept(by) == ["six-1.0-py3-none-any.whl", "six-1.0.tar.gz", "six-2.0.tar.gz"]


def test_a_digest_of_another_kind_is_no_sha256():
    by = Filters(settings("/r.txt", HASHES).filters)
    listing = PAGE._replace(files=[PAGE.files[0]._replace(algorithm="blake2b_256")])
    assert kept(by, listing) == []


def test_what_a_lock_cannot_hold_to_is_told():
    assert settings("/r.txt", "six==1.0 --hash=md5:00\n").warnings == (
        "/r.txt:1: 'six==1.0': hashes other than sha256 are not held to",
    )
    more = '\n    { url = "https://files.example/six-1.0-py2-none-any.whl" },'
    given = settings("/uv.lock", uv_lock(more=more))
    assert given.warnings == ("/uv.lock:4: six: a file without sha256 is held to its name alone",)
    assert "six-1.0-py2-none-any.whl" in kept(Filters(given.filters))


def test_a_locked_file_without_a_name_is_refused_with_its_line():
    with pytest.raises(SettingsError, match=r"^/uv\.lock:4: six: a file without a name"):
        settings("/uv.lock", uv_lock(more='\n    { hash = "sha256:00" },'))


def test_a_changed_hash_touches_its_project_alone_and_a_moved_line_none():
    before, moved, after = (
        Filters(settings("/uv.lock", text).filters) for text in (uv_lock(), "\n\n" + uv_lock(), uv_lock(THREE))
    )
    assert before.digest(SIX) == moved.digest(SIX) != after.digest(SIX)
    assert before.narrowing == moved.narrowing != after.narrowing
    other = NormalizedName("other")
    assert before.digest(other) == after.digest(other)
