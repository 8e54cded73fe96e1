"""Filters that bandersnatch has not: by upload time, by environment, by yanks, by advisories; what each leaves out."""

from __future__ import annotations

import json
import math
import pickle
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.tags import cpython_tags, sys_tags

from fastmirror.errors import SettingsError
from fastmirror.filters import Filters, Listing
from fastmirror.filters.environments import Target, can_install
from fastmirror.filters.requirements import Files
from fastmirror.filters.versions import Versions
from fastmirror.model import File, LeftOut
from fastmirror.names import NormalizedName
from fastmirror.settings_file import parse_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastmirror.settings import Settings

SIX = NormalizedName("six")
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC).timestamp()
DAY_S = 86400.0


def settings(enabled: str, *lines: str, files: Mapping[str, str] | None = None) -> Settings:
    contents = {path: text.encode() for path, text in (files or {}).items()}

    def read(path: str) -> bytes:
        if path not in contents:
            raise FileNotFoundError(2, "No such file or directory", path)
        return contents[path]

    names = [f"  {name}" for name in enabled.split()]
    text = "\n".join(["[mirror]", "directory = /srv/pypi", "[plugins]", "enabled =", *names])
    found = Files(read, lambda pattern: sorted(path for path in contents if path.startswith(pattern.partition("*")[0])))
    return parse_settings("\n".join([text, *lines]), source="FILE", files=found)


def filters(enabled: str, *lines: str, files: Mapping[str, str] | None = None, moment: float = math.inf) -> Filters:
    return Filters(pickle.loads(pickle.dumps(settings(enabled, *lines, files=files).filters)), moment)


def file(filename: str, size: int = 1, **keys: Any) -> File:
    keys = {key.replace("_", "-"): value for key, value in keys.items()}
    return File(filename, f"https://files.example/{filename}", "sha256", "0" * 64, size, None, keys)


def uploaded(*moments: str) -> Listing:
    return Listing(SIX, [file(f"six-{n}.zip", upload_time=moment) for n, moment in enumerate(moments)], None)


def kept(by: Filters, listing: Listing) -> list[str]:
    narrowed = by.narrow(listing)
    assert narrowed is not None
    return [one.filename for one in narrowed.files]


def refusal(enabled: str, *lines: str, files: Mapping[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        settings(enabled, *lines, files=files)
    return str(caught.value)


# By upload time


def test_only_what_was_uploaded_between_the_dates_stays_and_what_has_no_time_goes():
    by = filters("upload_time", "[upload_time]", "after = 2026-01-01", "before = 2026-02-01T00:00:00Z")
    listing = uploaded("2025-12-31T23:59:59Z", "2026-01-01T00:00:00Z", "2026-01-31T23:59:59.9Z", "2026-02-01T00:00:00Z")
    assert kept(by, listing._replace(files=[*listing.files, file("six-9.zip")])) == ["six-1.zip", "six-2.zip"]
    assert by.due(listing) is None


def test_a_file_is_held_back_until_it_has_cooled_down_and_the_first_of_them_says_when():
    by = filters("upload_time", "[upload_time]", "cool-down = 7d", moment=NOON)
    listing = uploaded("2026-03-03T12:00:00Z", "2026-03-03T12:00:01Z", "2026-03-09T12:00:00Z", "no time")
    assert kept(by, listing) == ["six-0.zip"]
    assert by.due(listing) == NOON + 1
    later = Filters(settings("upload_time", "[upload_time]", "cool-down = 7d").filters, NOON + 1)
    assert kept(later, listing) == ["six-0.zip", "six-1.zip"]
    assert later.due(listing) == NOON + 6 * DAY_S


def test_what_a_date_bars_for_good_never_comes_due():
    by = filters("upload_time", "[upload_time]", "cool-down = 7d", "before = 2026-03-05", moment=NOON)
    assert by.due(uploaded("2026-03-09T12:00:00Z")) is None


@given(st.floats(0, 2e9), st.floats(0, 2e9), st.floats(1, 1e8))
def test_what_is_due_is_held_back_before_and_let_in_then(uploaded_at: float, moment: float, cool_down_s: float):
    listing = uploaded(datetime.fromtimestamp(uploaded_at, UTC).isoformat())
    given_settings = settings("upload_time", "[upload_time]", f"cool-down = {cool_down_s:.3f}").filters
    due = Filters(given_settings, moment).due(listing)
    assert (due is None) == bool(kept(Filters(given_settings, moment), listing))
    if due is not None:
        assert due > moment
        assert kept(Filters(given_settings, due), listing)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("before = yesterday", "FILE:7: [upload_time] before: 'yesterday': expected a date such as 2026-01-31"),
        ("cool-down = a week", "FILE:7: [upload_time] cool-down: 'a week': expected seconds, or a duration"),
    ],
)
def test_a_bound_that_is_no_time_is_named_with_its_line(line, said):
    assert said in refusal("upload_time", "[upload_time]", line)


@pytest.mark.parametrize("name", ["upload_time", "environments", "advisories"])
def test_a_filter_without_its_section_is_told_to_be_without_effect(name):
    found = settings(name)
    assert [name in warning and "without effect" in warning for warning in found.warnings] == [True]
    assert Filters(found.filters).narrowing == ""


def test_all_stands_for_bandersnatchs_filters_alone():
    lists = ["[allowlist]", "packages = six", "requirements = /r.txt", "[upload_time]", "before = 1999-01-01"]
    found = settings("all", *lists, files={"/r.txt": "six"}).filters
    assert (found.uploads, found.drop_yanked) == (None, False)
    assert settings("all yanked", *lists, files={"/r.txt": "six"}).filters.drop_yanked


# By environment

WHEELS = {
    "six-1-py3-none-any.whl": {"linux", "old", "mac", "windows", "threaded", "pypy"},
    "six-1-py2.py3-none-any.whl": {"linux", "old", "mac", "windows", "threaded", "pypy"},
    "six-1-py2-none-any.whl": set(),
    "six-1-cp312-cp312-manylinux_2_28_x86_64.whl": {"linux"},
    "six-1-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl": {"linux", "old"},
    "six-1-cp312-cp312-manylinux2014_x86_64.whl": {"linux", "old"},
    "six-1-cp312-cp312-manylinux_2_34_x86_64.whl": set(),
    "six-1-cp312-cp312-manylinux_2_28_aarch64.whl": set(),
    "six-1-cp312-cp312-musllinux_1_2_x86_64.whl": set(),
    "six-1-cp38-abi3-manylinux1_x86_64.whl": {"linux", "old"},
    "six-1-cp313-abi3-manylinux1_x86_64.whl": set(),
    "six-1-cp311-cp311-manylinux1_x86_64.whl": set(),
    "six-1-py3-none-win_amd64.whl": {"windows"},
    "six-1-cp312-cp312-macosx_11_0_arm64.whl": {"mac"},
    "six-1-cp312-cp312-macosx_10_9_universal2.whl": {"mac"},
    "six-1-cp312-cp312-macosx_15_0_arm64.whl": set(),
    "six-1-cp313-cp313t-manylinux_2_28_x86_64.whl": {"threaded"},
    "six-1-cp313-cp313-manylinux_2_28_x86_64.whl": set(),
    "six-1-pp310-pypy310_pp73-manylinux_2_28_x86_64.whl": {"pypy"},
    "six-1-12-cp312-cp312-win_amd64.whl": {"windows"},
    "six.whl": set(),
    "six-1.tar.gz": {"linux", "old", "mac", "windows", "threaded", "pypy"},
    "six-1.win-amd64-py3.12.exe": set(),
    "six-1-py3.12.egg": set(),
}
TARGETS = {
    "linux": Target("cp312", "manylinux_2_28_x86_64"),
    "old": Target("cp312", "manylinux_2_17_x86_64"),
    "mac": Target("cp312", "macosx_14_0_arm64"),
    "windows": Target("cp312", "win_amd64"),
    "threaded": Target("cp313t", "manylinux_2_28_x86_64"),
    "pypy": Target("pp310", "manylinux_2_28_x86_64"),
}


@pytest.mark.parametrize("filename", WHEELS)
def test_a_file_is_for_the_environments_whose_installer_would_take_it(filename):
    told = Versions(SIX, None).of(filename)
    assert {name for name, target in TARGETS.items() if can_install(file(filename), told, target)} == WHEELS[filename]


def test_what_this_very_python_accepts_is_what_a_target_like_it_accepts():
    """The tags are packaging's own, but for the platforms that it looks up on the machine."""
    linux = [tag for tag in sys_tags() if "musllinux" not in tag.platform]
    (abi,) = {tag.abi for tag in linux[:1]}
    newest = next(tag.platform for tag in linux if tag.platform.startswith("manylinux"))
    target = Target(abi, newest)
    told = Versions(SIX, None)
    for tag in linux:
        name = f"six-1-{tag}.whl"
        assert can_install(file(name), told.of(name), target), name
    alien = next(cpython_tags((3, target.version[1] + 1), [f"cp3{target.version[1] + 1}"], [newest]))
    assert not can_install(file(f"six-1-{alien}.whl"), told.of(f"six-1-{alien}.whl"), target)


@pytest.mark.parametrize(
    ("requires", "stays"),
    [(">=3.12", True), (">=3.12.4", True), ("<3.12", False), (">=3.13", False), ("!=3.12.*", False), ("junk", True)],
)
def test_requires_python_counts_as_far_as_some_release_of_that_python_satisfies_it(requires, stays):
    by = filters("environments", "[environments]", "targets = cp312 win_amd64")
    assert bool(kept(by, Listing(SIX, [file("six-1.zip", requires_python=requires)], None))) is stays


@pytest.mark.parametrize(
    ("sdists", "expected"),
    [
        ("all", ["six-1-py3-none-win_amd64.whl", "six-1.zip", "six-2-py3-none-any.whl", "six-2.zip"]),
        ("needed", ["six-1-py3-none-win_amd64.whl", "six-1.zip", "six-2-py3-none-any.whl"]),
        ("none", ["six-1-py3-none-win_amd64.whl", "six-2-py3-none-any.whl"]),
    ],
)
def test_source_distributions_stay_all_of_them_where_they_are_needed_or_not_at_all(sdists, expected):
    lines = ["[environments]", "targets =", "  cp312 win_amd64  # desks", "  cp311 cp312 manylinux2014_x86_64"]
    by = filters("environments", *lines, f"sdists = {sdists}")
    names = ["six-1-py3-none-macosx_14_0_arm64.whl", "six-1-py3-none-win_amd64.whl", "six-1.zip"]
    names += ["six-2-py3-none-any.whl", "six-2.zip"]
    assert kept(by, Listing(SIX, [file(name) for name in names], None)) == expected


@pytest.mark.parametrize("target", ["cp312", "manylinux_2_28_x86_64", "cp312 windows", "py3 win_amd64", "cp27 win32"])
def test_a_target_that_is_no_python_on_a_platform_is_named_with_its_line(target):
    said = refusal("environments", "[environments]", "targets =", f"  {target}")
    assert said.startswith(f"FILE:8: [environments] targets: {target!r}: expected Pythons and platforms, such as cp312")


# By yanks


def test_yanked_files_go_but_for_versions_that_are_pinned_one_by_one():
    listing = Listing(SIX, [file(f"six-{n}.zip", yanked="bad") for n in (1, 2, 3)] + [file("six-4.zip")], None)
    assert kept(filters("yanked"), listing) == ["six-4.zip"]
    pinned = ["[allowlist]", "packages =", "  six==1.0", "  six>=2,!=3", "  six>3"]
    assert kept(filters("yanked allowlist_release", *pinned), listing) == ["six-1.zip", "six-4.zip"]


# By advisories


def osv(*affected: Any, **keys: Any) -> str:
    return json.dumps({"id": "PYSEC-1", "affected": list(affected), **keys})


def six_osv(**keys: Any) -> dict[str, Any]:
    return {"package": {"ecosystem": "PyPI", "name": "Six"}, **keys}


EVENTS = [{"introduced": "0"}, {"fixed": "1.1"}, {"introduced": "2"}, {"last_affected": "2.0"}, {"introduced": "4"}]


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("/bad.txt", "# known\nsix==1.0\nsix<=2.0,>1.5\nother==3\n", ["1.1", "3.0", "4.5"]),
        ("/bad.txt", "six", []),
        ("/bad.json", osv(six_osv(versions=["1.0", "3.0", "not a version"])), ["1.1", "2.0", "4.5"]),
        ("/bad.json", osv(six_osv(ranges=[{"type": "ECOSYSTEM", "events": EVENTS}])), ["1.1", "3.0"]),
        ("/bad.json", osv(six_osv(ranges=[{"type": "GIT", "events": [{"introduced": "0"}]}])), "all"),
        ("/bad.json", osv({"package": {"ecosystem": "npm", "name": "six"}, "versions": ["1.0"]}), "all"),
        ("/bad.json", osv(six_osv(versions=["1.0"]), withdrawn="2026-01-01T00:00:00Z"), "all"),
    ],
)
def test_versions_that_an_advisory_names_go(path, text, expected):
    versions = ["1.0", "1.1", "2.0", "3.0", "4.5"]
    by = filters("advisories", "[advisories]", f"files = {path[:4]}*", files={path: text})
    listing = Listing(SIX, [file(f"six-{version}.zip") for version in versions], versions)
    assert kept(by, listing) == [f"six-{version}.zip" for version in (versions if expected == "all" else expected)]


def test_a_pin_does_not_save_what_an_advisory_names():
    files = {"/bad.txt": "six==1.0", "/lock.txt": "six==1.0\nsix==2.0"}
    lines = ["[allowlist]", "requirements = /lock.txt", "[advisories]", "files = /bad.txt"]
    by = filters("project_requirements_pinned advisories", *lines, files=files)
    assert kept(by, Listing(SIX, [file("six-1.0.zip"), file("six-2.0.zip")], None)) == ["six-2.0.zip"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"affected": [1]}', '{"affected": [{"package": {"ecosystem": "PyPI", "name": "-"}}]}']
)
def test_an_advisory_that_cannot_be_understood_is_named(text):
    said = refusal("advisories", "[advisories]", "files = /bad.json", files={"/bad.json": text})
    assert said.startswith("/bad.json: not an advisory in OSV's format: ")


def test_an_advisory_that_is_not_there_is_named_with_the_line_that_names_it():
    assert refusal("advisories", "[advisories]", "files = /bad.json") == (
        "FILE:7: [advisories] files: cannot read '/bad.json': No such file or directory"
    )


def test_a_changed_advisory_touches_its_own_project_alone():
    before, after = (
        filters("advisories", "[advisories]", "files = /bad.txt", files={"/bad.txt": text})
        for text in ("six==1.0\nother==1", "six==1.1\nother==1")
    )
    assert before.digest(SIX) != after.digest(SIX)
    assert before.digest(NormalizedName("other")) == after.digest(NormalizedName("other"))
    assert (before.narrowing != after.narrowing, before.digest(NormalizedName("third"))) == (True, "")


# What each leaves out


def test_each_filter_is_told_with_what_it_leaves_out_by_itself_and_all_with_what_they_do_together():
    lines = ["[environments]", "targets = cp312 win_amd64", "sdists = none", "[latest_release]", "keep = 1"]
    by = filters("environments yanked latest_release", *lines)
    files = [
        file("six-1-py3-none-any.whl", 10),
        file("six-1.zip", 100, yanked=True),
        file("six-2-py3-none-any.whl", 1000),
        file("six-2.zip", 10_000),
    ]
    assert by.left_out(Listing(SIX, files, None)) == [
        LeftOut("environments", 2, 10_100),
        LeftOut("yanked", 1, 100),
        LeftOut("latest_release", 1, 10),
        LeftOut("", 3, 10_110),
    ]
