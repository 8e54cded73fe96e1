"""The README is true: its commands are run, and what it lists is what the program has."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from fastmirror import errors
from tests.conftest import ROOT
from tests.nginx import free_port
from tests.reference import commands, help_of, reference
from tests.wheels import make_wheel

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.index import FakeIndex

README = (ROOT / "README.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_OUTSIDE = re.compile(r"(?<![\w./$])(?=/(?:etc|srv|opt|usr/local|media)/)")
# What stands for the programs that a person has: the same ones, kept within the test's directory.
_SHIMS = {
    "fastmirror": '[ -e "$ROOT/etc/fastmirror.conf" ] && set -- -c "$ROOT/etc/fastmirror.conf" "$@"\n'
    'exec "$PYTHON" -m fastmirror "$@"',
    "pip": 'exec "$PYTHON" -m pip --isolated "$@" --no-cache-dir --target "$ROOT/by-pip"',
    "uv": 'exec "$UV" "$@" --no-cache --no-config --python "$PYTHON" --target "$ROOT/by-uv"',
    "nginx": 'exec "$NGINX_PROGRAM" -g "$NGINX_USER" "$@"',
    # Installing is tested by every run of scripts/test: here an environment has the program at once.
    "python3": 'mkdir -p "$3/bin"; printf "#!/bin/sh\\n" > "$3/bin/pip"\n'
    'chmod +x "$3/bin/pip"; cp "$SHIMS/fastmirror" "$3/bin"',
    "mirror": 'mkdir -p .venv/bin; cp "$SHIMS/fastmirror" .venv/bin/\n'
    'exec fastmirror mirror --directory mirror --master "$MASTER" --project six --project requests --project idna',
}


def section(title: str) -> str:
    """The text between this heading and the next one of its level."""
    rest = README.partition(f"\n{title}\n")[2]
    assert rest, title
    marks = title.split(" ")[0]
    return re.split(rf"^{marks} ", rest, flags=re.MULTILINE)[0]


def run_as_written(home: Path, script: str, index: FakeIndex) -> subprocess.CompletedProcess[str]:
    """Run a section's commands one after the other, with the paths and ports of this test, until one fails."""
    from uv import find_uv_bin

    shims = home / "shims"
    (home / "scripts").mkdir(parents=True)
    shims.mkdir()
    for directory in ("etc", "srv", "opt", "usr/local/bin", "media/disk"):
        (home / directory).mkdir(parents=True)
    for name, text in _SHIMS.items():
        shim = (home / "scripts" if name == "mirror" else shims) / name
        shim.write_text(f"#!/bin/sh\n{text}\n")
        shim.chmod(0o755)
    script = _OUTSIDE.sub(str(home), script).replace("8080", str(free_port())).replace("8081", str(free_port()))
    upstream = f"master = {index.url}\nallow-non-https = true"
    script = script.replace("[mirror]\n", f"[mirror]\n{upstream}\n")
    environment = {
        "PATH": f"{shims}:{home}/usr/local/bin:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8",
        "HOME": str(home), "ROOT": str(home), "SHIMS": str(shims), "PYTHON": sys.executable, "UV": str(find_uv_bin()),
        "MASTER": index.url, "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "NGINX_PROGRAM": str(shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")),
        "NGINX_USER": "user root;" if os.geteuid() == 0 else "",
    }  # fmt: skip
    told = home / "told"
    with told.open("w") as stream:
        process = subprocess.Popen(
            ["bash", "-eux", "-c", script], cwd=home, env=environment, stdin=subprocess.DEVNULL, stdout=stream,
            stderr=stream, start_new_session=True,
        )  # fmt: skip
    try:
        status = process.wait(timeout=110)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for pid_file in home.rglob("nginx.pid"):
            os.kill(int(pid_file.read_text()), signal.SIGTERM)
    return subprocess.CompletedProcess([], status, told.read_text())


@pytest.fixture
def upstream(index: FakeIndex) -> FakeIndex:
    """What the README's examples ask for."""
    for name, requires in (("requests", ("idna",)), ("idna", ()), ("six", ())):
        made = make_wheel(name, "1.0", requires)
        index.add_file(name, made.filename, content=made.content, metadata=made.metadata)
    return index


def test_every_command_of_the_tour_does_what_it_says(tmp_path: Path, upstream: FakeIndex):
    blocks = _BLOCK.findall(section("## The 30-second tour"))
    assert len(blocks) == 2
    done = run_as_written(tmp_path / "home", "\n".join(blocks), upstream)
    assert done.returncode == 0, done.stdout
    for target in ("by-pip", "by-uv"):
        assert (tmp_path / "home" / target / "idna-1.0.dist-info").is_dir(), done.stdout


def test_from_the_readme_alone_a_filtered_mirror_is_served_with_its_status_page_and_carried_on(
    tmp_path: Path, upstream: FakeIndex
):
    first = _BLOCK.findall(section("## A first mirror"))
    beyond = _BLOCK.findall(section("### Across the air gap"))
    assert (len(first), len(beyond)) == (3, 1)
    carried = beyond[0].replace("/srv/mirror", "/srv/other")
    done = run_as_written(tmp_path / "home", "\n".join([*first, carried]), upstream)
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "home/by-pip/idna-1.0.dist-info").is_dir()
    status = json.loads((tmp_path / "home/srv/pypi/web/status/status.json").read_text())
    assert (status["projects"], status["complete"]) == (2, True)  # six is not asked for


def test_every_other_block_of_commands_is_of_scripts_alone():
    told = {*_BLOCK.findall(section("## The 30-second tour")), *_BLOCK.findall(section("## A first mirror"))}
    told |= set(_BLOCK.findall(section("### Across the air gap")))
    told |= set(_BLOCK.findall(section("### Many machines")))  # test_cluster.py has a cluster
    for block in _BLOCK.findall(README):
        for line in block.splitlines() if block not in told else ():
            assert re.match(r"scripts/[a-z]+", line), line
            assert (ROOT / line.split()[0]).exists(), line


def test_the_reference_of_the_commands_is_what_they_say_of_themselves():
    written = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    assert words_of(written) == words_of(reference()), "scripts/docs writes it again"


def words_of(text: str) -> list[str]:
    """A text's words; how they are laid out is the libraries' business."""
    return [word for line in text.splitlines() if not line.startswith("Usage:") for word in line.split()]


def test_every_command_has_its_row_and_every_option_that_is_named_is_there():
    table = section("## Commands")
    for name in commands():
        assert re.search(rf"^\| .*`{name}\b", table, re.MULTILINE), name
    offered = set(re.findall(r"--[a-z][a-z-]+", help_of() + "".join(map(help_of, commands()))))
    ours = re.findall(r"`(?:fastmirror |mirror |sync |plan |verify |export |import |status )?[^`\n]*`", README)
    named = {option for text in ours for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)}
    theirs = {
        "--parallel",
        "--compare",
        "--keep",
        "--help",
        "--runs",
        "--minutes",
        "--layout",
        "--kill-points",
        "--tables",
        "--tools",
        "--dist",
        "--hash",
    }
    assert named - theirs - {"--hash"} <= offered


def test_the_exit_statuses_are_those_of_the_errors_and_what_help_says():
    rows = re.findall(r"^\| ([\d, ]+) \|", section("## Exit status"), re.MULTILINE)
    told = {int(number) for row in rows for number in row.split(", ")}
    raised = {
        thing.exit_status
        for thing in vars(errors).values()
        if isinstance(thing, type) and issubclass(thing, errors.MirrorError)
    }
    assert told == raised | {0, 1, 4, 70, 130, 143}
    for name in commands():
        said = " ".join(help_of(name).partition("Exit status:")[2].split())
        assert set(map(int, re.findall(r"(?:^|[;,] )(\d+)\b", said))) <= told, name


def test_every_setting_has_its_row_and_every_row_its_setting(tmp_path: Path):
    command = [sys.executable, "-m", "fastmirror", "config", "--json", "--directory", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    settings = {entry["key"] for entry in json.loads(done.stdout)["settings"] if entry["section"] == "mirror"}
    cells = re.findall(r"^\| (`[^|]+`) \|", section("## Settings").partition("### Filters")[0], re.MULTILINE)
    listed = {key for cell in cells for key in re.findall(r"`([^`]+)`", cell)}
    assert listed == settings


def test_every_link_leads_somewhere():
    anchors = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)\s]+)\)|srcset=\"([^\"]+)\"|src=\"([^\"]+)\"", README):
        path, _, anchor = next(filter(None, target)).partition("#")
        if path.startswith("https:"):
            continue
        assert not path or (ROOT / path).exists(), path
        assert path or anchor in anchors, anchor


def test_a_shell_completes_commands():
    environment = {
        **os.environ,
        "_FASTMIRROR_COMPLETE": "complete_bash",
        "COMP_WORDS": "fastmirror ver",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "fastmirror"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["verify"], done.stderr
