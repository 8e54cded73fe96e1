"""What a run tells while it goes on: events for scripts, and what a person sees at a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from tests.conftest import ROOT
from tests.fakes import faults

if TYPE_CHECKING:
    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex


def test_a_script_reads_every_step_every_failure_and_the_end_as_json(mirror: Mirror, index: FakeIndex):
    index.fill(20, files=2)
    index.add_file("bad", "bad-1.0.tar.gz")
    index.fault("/simple/bad/", faults.status(404))
    index.fault("/packages/*/bad-1.0.tar.gz", faults.status(404))
    index.add_file("worse", "worse-1.0.tar.gz")
    index.fault("/packages/*worse-1.0.tar.gz", faults.status(404))
    result = mirror.run("--json")
    assert result.status == 1
    assert result.stderr == ""
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["what"] for event in events if event["event"] == "begin"] == [
        "asking upstream what there is",
        "planning",
        "writing the root index",
        "finishing",
    ]
    assert [event["projects"] for event in events if event["event"] == "plan"] == [22]
    (partial,) = (event for event in events if event["event"] == "partial")
    assert (partial["project"], partial["reason"]) == ("worse", "worse-1.0.tar.gz: HTTP status 404")
    progress = [event for event in events if event["event"] == "progress"][-1]
    assert (progress["projects"], progress["planned"], progress["seconds_left"]) == (22, 22, None)
    assert events[-1]["event"] == "summary"
    assert (events[-1]["exit_status"], events[-1]["updated"], events[-1]["partial"]) == (1, 20, 1)
    assert events[-1]["failures"][0]["name"] == "worse"
    assert [event["time"] for event in events] == sorted(event["time"] for event in events)


def test_what_the_workers_have_in_hand_is_told_before_any_project_is_done(mirror: Mirror, index: FakeIndex):
    index.add_file("six", "six-1.0.tar.gz", content=b"6" * 1000)
    gate = index.gate("/packages/*", at=500)
    process = mirror.start("--json")
    assert process.stdout is not None
    gate.wait()
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "progress" and event["files_in_flight"]:
            break
    else:
        raise AssertionError("no event told of the file in flight")
    assert event["projects"] == 0
    gate.open()
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_person_at_a_terminal_sees_the_steps_the_failures_and_the_bar(mirror: Mirror, index: FakeIndex):
    index.fill(20, files=2)
    index.add_file("worse", "worse-1.0.tar.gz")
    index.fault("/packages/*worse-1.0.tar.gz", faults.status(404))
    ours, theirs = pty.openpty()
    shown = bytearray()

    def read() -> None:
        while True:
            try:
                shown.extend(os.read(ours, 65536))
            except OSError:  # the other end is closed
                return

    reader = threading.Thread(target=read)
    reader.start()
    words = [sys.executable, "-m", "fastmirror", "mirror", "--directory", str(mirror.directory)]
    words += ["--master", mirror.master, "--set", "min-free=0"]
    environment = {"LANG": "C.UTF-8", "PATH": os.environ["PATH"], "HOME": str(mirror.home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=theirs, env=environment, timeout=60, check=False)
    os.close(theirs)
    reader.join()
    os.close(ours)
    text = shown.decode()
    assert done.returncode == 1
    assert "asking upstream what there is …" in text
    assert "worse: partial: worse-1.0.tar.gz: HTTP status 404" in text
    assert re.search(r"100%\|█+\| 21/21 projects, \d+ files, .*1 failed", text)
