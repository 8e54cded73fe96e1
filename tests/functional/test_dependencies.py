"""Mirroring what is required: the closure comes, grows, shrinks, and says what it lacks."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.conftest import clean_environment, pip_install
from tests.fakes import faults
from tests.published import filenames, last_run, root, stamps, stored, succeed, written
from tests.wheels import make_wheel, offer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex

TARGETS = "cp312 manylinux_2_28_x86_64\ncp311 win_amd64"
AT_ONCE = {"delete-grace": "0"}


def add(index: FakeIndex, name: str, version: str, *requires: str, **fields: Any) -> None:
    offer(index, make_wheel(name, version, requires, **fields))


@pytest.fixture
def closed(mirror: Mirror) -> Mirror:
    """A mirror of `app`, and of what it requires."""
    mirror.settings |= {
        "plugins.enabled": "allowlist_project",
        "allowlist.packages": "app",
        "with-dependencies": "true",
        "environments.targets": TARGETS,
    }
    return mirror


def gaps(mirror: Mirror) -> dict[str, str]:
    found: Any = last_run(mirror)["gaps"]
    return {gap["name"]: gap["reason"] for gap in found}


def holds(mirror: Mirror) -> dict[str, list[str]]:
    return {name: [one.split("-")[1] for one in filenames(mirror, name)] for name in root(mirror)["projects"]}


def test_what_is_required_comes_in_the_same_run_down_to_its_versions_and_nothing_else(
    closed: Mirror, index: FakeIndex
) -> None:
    add(
        index,
        "app",
        "1.0",
        "lib>=2,<4",
        'windows; sys_platform == "win32"',
        'old; python_version < "3.9"',
        "deep[fast]",
    )
    for version in ("1.0", "2.0", "3.0", "3.1rc1", "4.0"):
        add(index, "lib", version)
    add(index, "deep", "1.0", 'speed; extra == "fast"', 'doc; extra == "docs"', extras=("fast", "docs"))
    for name in ("windows", "old", "speed", "doc", "other"):
        add(index, name, "1.0", "app")
    succeed(closed.run())
    assert holds(closed) == {
        "app": ["1.0"],
        "deep": ["1.0"],
        "lib": ["2.0", "3.0"],
        "speed": ["1.0"],
        "windows": ["1.0"],
    }
    before = stamps(closed.web)
    index.clear_requests()
    succeed(closed.run())
    assert sorted(index.paths()) == [f"/simple/{name}/" for name in ("app", "deep", "lib", "speed", "windows")]
    assert written(before, stamps(closed.web)) == set()


def test_a_closure_grows_and_shrinks_with_what_its_projects_require(closed: Mirror, index: FakeIndex) -> None:
    add(index, "app", "1.0", "lib<2")
    add(index, "lib", "1.0", "first")
    add(index, "lib", "2.0", "second")
    for name in ("first", "second"):
        add(index, name, "1.0", "lib")  # a cycle holds nothing up
    closed.settings["plugins.enabled"] = "allowlist_project\nlatest_release"
    closed.settings["latest_release.keep"] = "1"
    succeed(closed.run(set=AT_ONCE))
    assert holds(closed) == {"app": ["1.0"], "first": ["1.0"], "lib": ["1.0", "2.0"], "second": ["1.0"]}
    add(index, "app", "2.0", "third")
    add(index, "third", "1.0")
    plan = json.loads(closed.run("--json", command="plan").stdout)
    assert plan["remove"] == []
    succeed(closed.run(set=AT_ONCE))
    assert holds(closed) == {"app": ["2.0"], "third": ["1.0"]}
    assert {name for name in stored(closed) if name.endswith(".whl")} == {
        "app-2.0-py3-none-any.whl",
        "third-1.0-py3-none-any.whl",
    }
    succeed(closed.run())


def test_nothing_leaves_the_closure_while_something_in_it_fails(closed: Mirror, index: FakeIndex) -> None:
    add(index, "app", "1.0", "lib")
    add(index, "lib", "1.0")
    succeed(closed.run())
    index.remove_file("app", "app-1.0-py3-none-any.whl")
    add(index, "app", "2.0", "third")
    add(index, "third", "1.0")
    index.fault("/packages/*third*", faults.status(404))
    assert closed.run().status == 1
    assert set(holds(closed)) == {"app", "lib", "third"}
    index.clear_faults()
    succeed(closed.run())
    assert holds(closed) == {"app": ["2.0"], "third": ["1.0"]}


def test_what_fails_and_is_required_no_more_leaves_as_well(closed: Mirror, index: FakeIndex) -> None:
    add(index, "app", "1.0", "lib", "never")
    for name in ("lib", "never"):
        add(index, name, "1.0")
    index.fault("/packages/*lib*", faults.status(404))
    index.fault("/simple/never/", faults.status(403))
    assert closed.run().status == 1
    index.remove_file("app", "app-1.0-py3-none-any.whl")
    add(index, "app", "2.0")
    assert closed.run().status == 1  # they were tried once more before it was known
    assert (holds(closed), closed.failures()) == ({"app": ["2.0"]}, {})
    succeed(closed.run())


def test_the_deletion_guard_holds_what_nothing_requires_any_more(closed: Mirror, index: FakeIndex) -> None:
    add(index, "app", "1.0", "lib")
    add(index, "lib", "1.0")
    succeed(closed.run())
    index.remove_file("app", "app-1.0-py3-none-any.whl")
    add(index, "app", "2.0")
    done = closed.run(set={"max-removals": "0"})
    assert (done.status, set(holds(closed))) == (4, {"app", "lib"})
    succeed(closed.run())
    assert set(holds(closed)) == {"app"}


def test_what_is_lacking_or_not_known_is_told_with_what_it_means_and_is_no_failure(
    closed: Mirror, index: FakeIndex
) -> None:
    requires = ["absent", "lib>=9", "bare", 'kernel; platform_release >= "5"', "not a requirement", "blocked"]
    add(index, "app", "1.0", *requires, "elsewhere @ https://files.example/x.whl")
    for name in ("lib", "kernel", "blocked"):
        add(index, name, "1.0")
    index.add_file("bare", "bare-1.0.tar.gz")
    closed.settings["plugins.enabled"] = "allowlist_project\nblocklist_project"
    closed.settings["blocklist.packages"] = "blocked"
    done = closed.run()
    succeed(done)
    everywhere = "cp311 win_amd64, cp312 manylinux_2_28_x86_64"
    assert gaps(closed) == {
        "absent": "upstream has no such project, required by app",
        "app": "requirement that cannot be understood: 'not a requirement'",
        "bare": "1.0: what it requires is not known, bare-1.0.tar.gz has no core metadata",
        "blocked": "left out by filters, required by app",
        "lib": f"no version that satisfies >=9 for {everywhere}",
    }
    assert "  absent: upstream has no such project, required by app\n" in done.stdout
    assert "  app: elsewhere: from elsewhere than an index, not mirrored\n" in done.stdout
    assert '  app: kernel: marker that cannot be evaluated, taken as true: platform_release >= "5"\n' in done.stdout
    assert done.stdout.splitlines()[-1].startswith("complete")
    assert "kernel" in holds(closed)
    add(index, "absent", "1.0")
    succeed(closed.run())
    assert "absent" not in gaps(closed)
    plan = json.loads(closed.run("--json", command="plan").stdout)
    assert [gap["name"] for gap in plan["gaps"]].count("bare") == 1


def test_a_changed_environment_acts_in_the_next_run(closed: Mirror, index: FakeIndex) -> None:
    add(index, "app", "1.0", 'windows; sys_platform == "win32"')
    add(index, "windows", "1.0")
    succeed(closed.run())
    closed.settings["environments.targets"] = "cp312 manylinux_2_28_x86_64"
    succeed(closed.run())
    assert set(holds(closed)) == {"app"}
    closed.settings["environments.targets"] = TARGETS
    succeed(closed.run())
    assert set(holds(closed)) == {"app", "windows"}
    closed.settings["with-dependencies"] = "false"
    succeed(closed.run())
    assert set(holds(closed)) == {"app"}


def test_what_upstream_offers_no_metadata_of_is_known_by_its_wheel_and_a_source_distribution_by_the_wheel_beside_it(
    closed: Mirror, index: FakeIndex
) -> None:
    offer(index, make_wheel("app", "1.0", ["lib"]), with_metadata=False)
    add(index, "lib", "1.0", 'deep; sys_platform == "linux"', tag="py3-none-win_amd64")
    index.add_file("lib", "lib-1.0.tar.gz")
    add(index, "deep", "1.0")
    succeed(closed.run())
    assert set(holds(closed)) == {"app", "deep", "lib"}
    assert gaps(closed) == {}


def test_a_command_brings_what_its_project_requires_and_leaves_the_rest_alone(mirror: Mirror, index: FakeIndex) -> None:
    add(index, "app", "1.0", "lib")
    add(index, "other", "1.0", "third")
    for name in ("lib", "third"):
        add(index, name, "1.0")
    mirror.settings["environments.targets"] = TARGETS
    succeed(mirror.run("--with-dependencies", "--project", "other"))
    succeed(mirror.run("app", "--with-dependencies", command="sync"))
    assert set(holds(mirror)) == {"app", "lib", "other", "third"}
    index.clear_requests()
    succeed(mirror.run("app", "--with-dependencies", command="sync"))
    assert sorted(index.paths()) == ["/simple/app/", "/simple/lib/"]


def test_a_long_allowlist_has_its_closure_by_the_root_index(closed: Mirror, index: FakeIndex) -> None:
    add(index, "app", "1.0", "lib")
    add(index, "lib", "1.0")
    add(index, "other", "1.0")
    closed.settings["allowlist.packages"] = "\n".join(["app", *(f"name-{number}" for number in range(501))])
    succeed(closed.run())
    assert set(holds(closed)) == {"app", "lib"}
    succeed(closed.run())
    add(index, "lib", "2.0", "deep")
    add(index, "deep", "1.0")
    succeed(closed.run())
    assert holds(closed) == {"app": ["1.0"], "deep": ["1.0"], "lib": ["1.0", "2.0"]}
    succeed(closed.run())
    index.clear_requests()
    succeed(closed.run())
    assert index.paths() == ["/simple/"]


def test_pip_installs_from_the_closure_with_no_other_index(closed: Mirror, index: FakeIndex, tmp_path: Path) -> None:
    """With extras, markers, a yanked and a newest version that does not suit."""
    this = f"cp{sys.version_info.major}{sys.version_info.minor} manylinux_2_17_x86_64"
    closed.settings["environments.targets"] = this
    closed.settings["allowlist.packages"] = "app[fast]"
    add(index, "app", "1.0", "lib<3", 'speed; extra == "fast"', 'old; python_version < "3.0"', extras=("fast",))
    for version in ("1.0", "2.0", "3.0"):
        add(index, "lib", version, "deep~=1.0")
    index.set_yanked("lib", "lib-2.0-py3-none-any.whl")
    for name, version in (("deep", "1.4"), ("deep", "2.0"), ("speed", "1.0"), ("old", "1.0")):
        add(index, name, version)
    closed.settings["plugins.enabled"] = "allowlist_project\nenvironments\nyanked\nlatest_release"
    closed.settings["latest_release.keep"] = "1"
    closed.settings["layout"] = "flat"
    succeed(closed.run())
    assert holds(closed) == {"app": ["1.0"], "deep": ["1.4"], "lib": ["1.0"], "speed": ["1.0"]}
    target = tmp_path / "target"
    command = pip_install(target, (closed.web / "simple").as_uri() + "/", "app[fast]")
    command = [*command[:3], *command[5:], "--target", str(target), "--no-cache-dir"]
    done = subprocess.run(command, env=clean_environment(tmp_path), capture_output=True, text=True, check=False)
    assert "Successfully installed app-1.0 deep-1.4 lib-1.0 speed-1.0" in done.stdout, done
