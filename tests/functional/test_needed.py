"""Mirroring what is needed: files by their age, by environment, by yanks and advisories, and what that saves."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tests.published import filenames, last_run, root, stored, succeed

if TYPE_CHECKING:
    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex

WHEEL = "a-{}-py3-none-any.whl"
AT_ONCE = {"delete-grace": "0"}


def ago(seconds: float) -> str:
    return datetime.fromtimestamp(time.time() - seconds, UTC).isoformat()


def time_passes(mirror: Mirror, seconds: float) -> None:
    """Every later run is so much later."""
    mirror.module = "tests.later"
    mirror.environment["LATER_S"] = str(seconds)


def test_a_file_comes_in_when_it_has_cooled_down_without_a_new_serial(mirror: Mirror, index: FakeIndex) -> None:
    index.add_file("a", WHEEL.format("1.0"), upload_time=ago(86400))
    index.add_file("a", WHEEL.format("2.0"), upload_time=ago(60))
    index.add_file("b", "b-1.0-py3-none-any.whl", upload_time=ago(86400))
    mirror.settings |= {"plugins.enabled": "upload_time", "upload_time.cool-down": "1h"}
    succeed(mirror.run())
    assert filenames(mirror, "a") == [WHEEL.format("1.0")]
    index.clear_requests()
    succeed(mirror.run())
    assert index.paths() == ["/simple/"]
    time_passes(mirror, 3600)
    assert json.loads(mirror.run("--files", "--json", command="plan").stdout)["files"] == 1
    index.clear_requests()
    succeed(mirror.run())
    assert index.paths("/simple/") == ["/simple/", "/simple/a/"]
    assert filenames(mirror, "a") == [WHEEL.format("1.0"), WHEEL.format("2.0")]
    index.clear_requests()
    succeed(mirror.run())
    assert index.paths() == ["/simple/"]


def test_a_page_that_is_asked_for_conditionally_is_read_anew_once_a_file_of_it_is_due(
    mirror: Mirror, index: FakeIndex
) -> None:
    index.add_file("a", WHEEL.format("1.0"), upload_time=ago(60))
    mirror.settings |= {"plugins.enabled": "allowlist_project\nupload_time", "upload_time.cool-down": "1h"}
    mirror.settings["allowlist.packages"] = "a"
    succeed(mirror.run())
    time_passes(mirror, 1800)
    succeed(mirror.run())
    assert (last_run(mirror)["unchanged"], filenames(mirror, "a")) == (1, [])
    time_passes(mirror, 3600)
    succeed(mirror.run())
    assert filenames(mirror, "a") == [WHEEL.format("1.0")]


def test_filters_say_in_a_plan_what_they_save_and_act_on_what_is_there(mirror: Mirror, index: FakeIndex) -> None:
    index.add_file("a", WHEEL.format("1.0"), content=b"1" * 1000, yanked="broken")
    index.add_file("a", "a-2.0-cp312-cp312-win_amd64.whl", content=b"2" * 2000)
    index.add_file("a", "a-2.0-cp312-cp312-macosx_11_0_arm64.whl", content=b"3" * 4000)
    index.add_file("a", WHEEL.format("3.0"), content=b"4" * 8000)
    succeed(mirror.run())
    advisory = mirror.home / "bad.txt"
    advisory.write_text("a==3.0\n")
    mirror.settings |= {
        "plugins.enabled": "environments\nyanked\nadvisories",
        "environments.targets": "cp312 win_amd64",
        "advisories.files": str(advisory),
    }
    plan = json.loads(mirror.run("--files", "--json", command="plan").stdout)
    assert plan["left_out"] == [
        {"filter": "", "files": 3, "bytes": 13000},
        {"filter": "advisories", "files": 1, "bytes": 8000},
        {"filter": "environments", "files": 1, "bytes": 4000},
        {"filter": "yanked", "files": 1, "bytes": 1000},
    ]
    said = mirror.run("--files", command="plan").stdout
    assert "filters leave out of these projects: 3 files, 13.0 kB\n  advisories by itself: 1 file, 8.00 kB\n" in said
    succeed(mirror.run(set=AT_ONCE))
    assert stored(mirror) == {"a-2.0-cp312-cp312-win_amd64.whl"}
    advisory.write_text("b==3.0\n")
    succeed(mirror.run())
    assert filenames(mirror, "a") == ["a-2.0-cp312-cp312-win_amd64.whl", WHEEL.format("3.0")]


def test_of_a_lock_exactly_the_files_come_that_it_names_and_one_that_differs_is_refused_by_name(
    mirror: Mirror, index: FakeIndex
) -> None:
    named = index.add_file("a", WHEEL.format("1.0"))
    for filename in ("a-1.0.tar.gz", WHEEL.format("2.0")):
        index.add_file("a", filename)
    index.add_file("b", "b-1.0-py3-none-any.whl")
    lock = mirror.home / "pylock.toml"
    text = '[[packages]]\nname = "a"\nversion = "1.0"\n[[packages.wheels]]\nurl = "{}"\nhashes = {{ sha256 = "{}" }}\n'
    lock.write_text(text.format(named.filename, named.sha256))
    mirror.settings["plugins.enabled"] = "project_requirements\nproject_requirements_pinned"
    mirror.settings["allowlist.requirements"] = str(lock)
    succeed(mirror.run())
    assert (set(root(mirror)["projects"]), stored(mirror)) == ({"a"}, {WHEEL.format("1.0")})
    lock.write_text(text.format(named.filename, "0" * 64))
    done = mirror.run()
    reason = f"its sha256 upstream is {named.sha256}, and {'0' * 64} in {lock}:2"
    assert (done.status, mirror.failures()["a"]) == (1, f"{named.filename}: {reason}")
    assert filenames(mirror, "a") == []
