"""The files for deployment, each checked by its own tool where that is there."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.nginx import free_port, running_nginx

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex

DEPLOY = ROOT / "scripts/deploy"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not there")
def test_the_units_pass_systemds_own_check(tmp_path: Path):
    for name in ("fastmirror.service", "fastmirror.timer", "fastmirror-every.service"):
        text = (DEPLOY / name).read_text().replace("/usr/local/bin/fastmirror", "/bin/true")
        (tmp_path / name).write_text(text)
    words = ["systemd-analyze", "verify", *sorted(str(path) for path in tmp_path.iterdir())]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_units_say_what_they_run_and_as_whom():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read(DEPLOY / "fastmirror.service")
    service = unit["Service"]
    assert service["ExecStart"].endswith("fastmirror mirror")
    assert service["User"] == "mirror"
    assert service["ProtectSystem"] == "strict"
    assert int(service["TimeoutStopSec"]) > 10  # a run drains within ten seconds
    timer = configparser.ConfigParser(strict=False, interpolation=None)
    timer.read(DEPLOY / "fastmirror.timer")
    assert timer["Timer"]["OnUnitInactiveSec"]


def test_stopping_the_service_is_no_failure():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read(DEPLOY / "fastmirror.service")
    assert unit["Service"]["SuccessExitStatus"].split() == ["1", "3", "143"]


def test_the_service_that_stays_is_watched_and_shut_in_as_the_other_is():
    stays, once = (configparser.ConfigParser(strict=False, interpolation=None) for _ in range(2))
    stays.read(DEPLOY / "fastmirror-every.service")
    once.read(DEPLOY / "fastmirror.service")
    service = stays["Service"]
    assert service["ExecStart"].endswith("fastmirror mirror --every 5m")
    assert (service["Type"], service["WatchdogSec"], service["Restart"]) == ("notify", "10min", "on-failure")
    assert (service["SuccessExitStatus"], once["Service"]["NotifyAccess"]) == ("143", "main")
    common = service.keys() & once["Service"].keys() - {"type", "execstart", "successexitstatus"}
    assert len(common) > 12
    assert {key: service[key] for key in common} == {key: once["Service"][key] for key in common}


def test_the_cron_line_is_one_line_that_runs_as_the_mirrors_user_and_needs_no_path():
    (line,) = [line for line in (DEPLOY / "cron").read_text().splitlines() if line and not line.startswith("#")]
    fields = line.split(None, 6)
    assert fields[5:7] == ["mirror", "/usr/local/bin/fastmirror mirror --max-time 3000 >/dev/null"]


def services() -> dict[str, dict[str, Any]]:
    """The services of the compose file."""
    document = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    found: dict[str, dict[str, Any]] = document["services"]
    for service in found.values():
        assert {volume.partition(":")[0] for volume in service["volumes"]} <= set(document["volumes"])
        assert (
            "build" not in service or (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).exists()
        )
    return found


def test_no_container_is_roots():
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    (user,) = re.findall(r"^USER (.*)$", dockerfile, re.MULTILINE)
    assert f"useradd --uid 1000 --home-dir /srv/pypi {user} " in dockerfile
    for service in services().values():
        assert "build" in service or service["user"] == "1000:1000"
        assert service.get("user", "1000:1000") == "1000:1000"


def test_what_the_image_is_made_of_is_there():
    for sources in re.findall(r"^COPY (.*) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE):
        assert all((ROOT / source).exists() for source in sources.split())


def test_the_compose_files_own_commands_make_a_configuration_that_nginx_takes_and_serves(
    mirror: Mirror, index: FakeIndex
):
    index.add_file("six", "six-1.0.tar.gz")
    assert mirror.run().status == 0
    found = services()
    home, port = mirror.directory / ".fastmirror/nginx", free_port()

    def here(text: str) -> str:
        return text.replace("/srv/pypi", str(mirror.directory)).replace("$$", "$").replace(":8080", f":{port}")

    *shell, script = found["configuration"]["command"]
    bin_directory = mirror.home / "bin"
    bin_directory.mkdir()
    (bin_directory / "fastmirror").write_text(f'#!/bin/sh\nexec {sys.executable} -m fastmirror "$@"\n')
    (bin_directory / "fastmirror").chmod(0o755)
    environment = {"PATH": f"{bin_directory}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    subprocess.run([*shell, here(script)], check=True, env=environment, timeout=60)
    for name in ("access.log", "error.log"):
        assert os.readlink(home / name) in ("/dev/stdout", "/dev/stderr")
        (home / name).unlink()  # a test's streams are no terminals that root may open
    words = shlex.split(here(found["web"]["command"]))
    executable = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    assert executable is not None
    result = subprocess.run([executable, *words[1:], "-t"], capture_output=True, text=True, check=False)
    assert (result.returncode, "test is successful" in result.stderr) == (0, True), result.stderr
    with running_nginx((home / "nginx.conf").read_text(), mirror.home / "served", port, home / "access.log") as nginx:
        body = urllib.request.urlopen(f"{nginx.url}/simple/six/", timeout=20).read()
    assert b"six-1.0.tar.gz" in body
