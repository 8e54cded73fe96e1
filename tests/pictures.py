"""A mirror with a past, and pictures of its status page and of a run at a terminal: `-m tests.pictures DIRECTORY`.

The runs are real ones, of the command against the fake index. They take seconds where a mirror's take months, so the
dates of the earlier ones are moved back, a day and a half each.
"""

from __future__ import annotations

import fcntl
import os
import pty
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from contextlib import suppress
from html import escape
from pathlib import Path

from fastmirror.state import State
from tests.chromium import picture
from tests.conftest import Mirror
from tests.fakes import faults
from tests.fakes.index import FakeIndex

RUNS = 24
APART_S = 1.5 * 86_400
COLUMNS = 112
SHOWN = re.compile(r" [45]\d%\|.*left\b")
TERMINAL = (
    '<!doctype html><meta charset="utf-8"><style>html {{ background: #16191d; color: #d8dee4 }}'
    "pre {{ margin: 16px; font: 16px/1.6 monospace }}</style><pre>{}</pre>"
)
PROJECTS = [
    *("attrs", "boto3", "botocore", "certifi", "cffi", "click", "cryptography", "fsspec", "grpcio", "idna", "jinja2"),
    *("markupsafe", "numpy", "packaging", "pandas", "pip", "pluggy", "protobuf", "pyarrow", "pydantic", "pygments"),
    *("pytest", "pyyaml", "requests", "rich", "s3fs", "scipy", "setuptools", "six", "sqlalchemy", "tomli", "tqdm"),
    *("typing-extensions", "urllib3", "virtualenv", "wheel"),
]


def make_mirror(home: Path, index: FakeIndex) -> Mirror:
    """A mirror that has been kept for a while, in which two projects are not whole."""
    chance = random.Random(7)
    mirror = Mirror(home, index.url)
    mirror.settings["status-page"] = "true"
    mirror.settings["public-url"] = "https://pypi.example.com"
    released = 0
    for run in range(RUNS):
        for name in PROJECTS if run == 0 else chance.sample(PROJECTS, chance.randrange(3, 12)):
            released += 1
            size = int(chance.lognormvariate(11.5 + PROJECTS.index(name) % 7 / 3, 1.2))
            index.add_file(name, f"{name}-1.{released}.tar.gz", content=chance.randbytes(min(size, 4_000_000)))
        if run == RUNS - 1:
            broken = index.add_file("grpcio", "grpcio-1.99.0.tar.gz", content=bytes(80_000))
            index.fault(broken.path, faults.status(403))
            index.fault("/simple/pyarrow/", faults.status(502))
            index.add_file("pyarrow", "pyarrow-19.0.0.tar.gz")
        mirror.run()
        if run < RUNS - 1:
            age_runs(mirror)
    return mirror


def age_runs(mirror: Mirror) -> None:
    """Let every run that there was have been earlier."""
    state = State(str(mirror.directory / ".fastmirror/state.sqlite"))
    with state.transaction():
        state.change("update run set started = started - ?, finished = finished - ?", [(APART_S, APART_S)])
        state.change("update project set verified_at = ? where name = 'six'", [(time.time() - 40 * 86_400,)])
    state.close()


def terminal_of(home: Path, index: FakeIndex) -> str:
    """What a terminal shows in the middle of a first run, in which one project is not there and one file is bad."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    words = [sys.executable, "-m", "fastmirror", "mirror", "--directory", str(home), "--master", index.url]
    process = subprocess.Popen([*words, "--set", "max-rate=6M"], stdout=subprocess.DEVNULL, stderr=theirs)
    shown = bytearray()
    while not SHOWN.search(shown.decode(errors="ignore")):
        shown += os.read(ours, 65536)
    process.send_signal(signal.SIGINT)
    with suppress(OSError):  # the other end is closed
        os.close(theirs)
        while os.read(ours, 65536):
            pass
    process.wait()
    os.close(ours)
    lines = shown.decode(errors="ignore").split("\n")
    return "\n".join(["$ fastmirror mirror", *(line.rstrip("\r").rpartition("\r")[2].rstrip() for line in lines)])


def main(directory: Path) -> None:
    """Make the mirror, and the pictures."""
    with tempfile.TemporaryDirectory() as home, FakeIndex() as index:
        mirror = make_mirror(Path(home), index)
        page = (mirror.web / "status/index.html").as_uri()
        for theme in ("light", "dark"):
            picture(page, directory / f"status-{theme}.png", width=1100, height=860, theme=theme)
        mirror.close()
        terminal = Path(home, "terminal.html")
        terminal.write_text(TERMINAL.format(escape(terminal_of(Path(home, "other"), index))), encoding="utf-8")
        picture(terminal.as_uri(), directory / "progress.png", width=1140, height=200, theme="dark")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
