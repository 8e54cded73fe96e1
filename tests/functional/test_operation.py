"""config, and mirror --every."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.conftest import end_group
from tests.fakes import faults

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex


def test_config_shows_each_setting_with_its_origin_and_no_credentials(mirror: Mirror):
    result = mirror.run(command="config", set={"master": "https://user:secret@index.example", "workers": "7"})
    assert (result.status, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert "workers = 7    # --set workers" in lines
    assert "simple-format = ALL    # default" in lines
    assert "master = https://***@index.example    # --set master" in lines
    assert "secret" not in result.stdout


def test_config_tells_the_line_of_the_file_and_what_is_ignored(mirror: Mirror):
    path = mirror.home / "mirror.conf"
    path.write_text("[mirror]\ndirectory = /srv/pypi\nworkers = 4\nwerkers = 5\n")
    words = [sys.executable, "-m", "fastmirror", "-c", str(path), "config", "--json"]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    document = json.loads(result.stdout)
    shown = {one["key"]: (one["value"], one["origin"]) for one in document["settings"] if one["section"] == "mirror"}
    assert shown["workers"] == ("4", f"{path}:3")
    assert "werkers: unknown key, ignored (did you mean 'workers'?)" in result.stderr
    assert result.returncode == 0


def config_of(home: Path, text: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What config says of a file."""
    (home / "conf").write_text(text)
    command = [sys.executable, "-m", "fastmirror", "-c", str(home / "conf"), "config", *words]
    names = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=names | environment)


def test_config_shows_values_as_they_are_in_force_lists_by_line_and_long_ones_by_their_beginning(tmp_path: Path):
    names = "".join(f"    project-{number}\n" for number in range(1012))
    text = "[DEFAULT]\nbase = /srv\n[mirror]\ndirectory = %(base)s/pypi\ndiff-file = {{ mirror_directory }}/new\n"
    lists = "[filter_regex]\npackages =\n    .+?-nightly\\d$\n    (?i)x@y\n[blocklist]\npackages =\n" + names
    enabled = "[plugins]\nenabled =\n    regex_project\n    blocklist_project\n"
    shown = config_of(tmp_path, text + enabled + lists).stdout
    assert f"directory = /srv/pypi    # {tmp_path}/conf:4\n" in shown
    assert f"diff-file = /srv/pypi/new    # {tmp_path}/conf:5\n" in shown
    assert f"packages =    # {tmp_path}/conf:11\n    .+?-nightly\\d$\n    (?i)x@y\n" in shown
    assert "    project-9\n    … and 1,002 more\n" in shown
    assert "project-10\n" not in shown
    assert "min-free = 1G    # default\n" in shown


def test_config_shows_the_environments_proxy_and_whose_word_it_is(tmp_path: Path):
    text = "[mirror]\ndirectory = /srv/pypi\n"
    shown = config_of(tmp_path, text, https_proxy="http://me:word@proxy.example:3128").stdout
    assert "proxy = http://***@proxy.example:3128    # environment: https_proxy\n" in shown


def test_config_names_what_is_given_without_effect_and_keeps_its_value_to_itself(tmp_path: Path):
    text = "[mirror]\ndirectory = /srv/pypi\napi-method = x\nwerkers = 5\n[s3]\naws_secret_access_key = hunter2\n"
    result = config_of(tmp_path, text)
    _, _, without_effect = result.stdout.partition("# without effect:\n")
    assert without_effect.splitlines() == [
        f"# [mirror] api-method    # {tmp_path}/conf:3",
        f"# [mirror] werkers    # {tmp_path}/conf:4",
        f"# [s3] aws_secret_access_key    # {tmp_path}/conf:6",
    ]
    result = config_of(tmp_path, text, "--json")
    unused = [one["key"] for one in json.loads(result.stdout)["settings"] if not one["is_used"]]
    assert unused == ["api-method", "werkers", "aws_secret_access_key"]
    assert "hunter2" not in result.stdout + result.stderr


def test_config_refuses_a_file_that_is_not_there_and_a_tree_that_was_made_otherwise(mirror: Mirror, index: FakeIndex):
    for key in ("ca-bundle", "netrc", "log-config"):
        result = mirror.run(command="config", set={key: "/nowhere/file"})
        assert (result.status, result.stdout) == (2, "")
        assert f"[mirror] {key}: '/nowhere/file': expected a file that can be read" in result.stderr
    index.add_file("six", "six-1.0.tar.gz")
    assert mirror.run().status == 0
    assert mirror.run(command="config").status == 0
    result = mirror.run(command="config", set={"layout": "flat"})
    assert result.status == 2
    assert "[mirror] layout = flat: this mirror's tree is hashed" in result.stderr


def test_config_refuses_what_cannot_be_used(mirror: Mirror):
    result = mirror.run(command="config", set={"workers": "many"})
    assert result.status == 2
    assert "--set workers: 'many': expected a whole number from 1 to 10" in result.stderr


def test_every_runs_again_until_a_signal_and_then_ends_in_order(mirror: Mirror, index: FakeIndex):
    index.add_file("six", "six-1.0.tar.gz")
    process = mirror.start("--every", "1s")
    assert process.stdout is not None
    seen = [line for line in (process.stdout.readline() for _ in range(9)) if line.startswith("complete")]
    assert len(seen) >= 2
    gate = index.gate("/simple/", times=1)
    gate.wait()
    end_group(process, signal.SIGTERM)
    index.release()
    process.communicate(timeout=30)
    assert process.returncode in (0, 143)
    assert len(index.paths("/packages/")) == 1


def test_every_with_settings_that_cannot_be_used_ends_at_once(mirror: Mirror):
    assert mirror.run("--every", "1s", set={"workers": "0"}).status == 2
    assert mirror.run("--hours", "1-2").status == 2
    assert mirror.run("--every", "1s", "--dry-run").status == 2


def test_every_mirrors_nothing_by_a_configuration_that_it_has_just_written(tmp_path: Path):
    """Or the second round would begin with all of PyPI."""
    words = [sys.executable, "-m", "fastmirror", "-c", str(tmp_path / "new.conf"), "mirror", "--every", "0.01s"]
    result = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 1
    assert "the default one was written" in result.stderr


def test_every_says_how_a_round_failed_and_goes_on(mirror: Mirror, index: FakeIndex):
    index.add_file("six", "six-1.0.tar.gz")
    index.fault("/simple/", faults.status(404), times=1)
    process = mirror.start("--every", "0.01s")
    assert process.stdout is not None
    assert next(line for line in process.stdout if line.startswith("complete"))
    end_group(process, signal.SIGTERM)
    _, stderr = process.communicate(timeout=30)
    assert "warning: a round ended with exit status 5" in stderr
