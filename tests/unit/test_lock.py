from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastmirror.errors import MirrorLocked
from fastmirror.lock import hold_lock

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
HOLDER = (
    "import sys\n"
    "from fastmirror.lock import hold_lock\n"
    "with hold_lock(sys.argv[1]):\n"
    "    print('held', flush=True)\n"
    "    sys.stdin.read()\n"
)


@contextmanager
def another_run(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the mirror."""
    command = [sys.executable, "-c", HOLDER, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def refusal(directory: Path) -> str:
    with pytest.raises(MirrorLocked) as caught, hold_lock(str(directory)):
        pass
    return str(caught.value)


def test_a_mirror_that_another_run_holds_is_refused_with_its_process_and_since_when(tmp_path):
    with another_run(tmp_path) as other:
        said = refusal(tmp_path)
        assert re.fullmatch(
            rf"another run holds {tmp_path}: process {other.pid}, since \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", said
        )


def test_the_lock_goes_with_its_process(tmp_path):
    with another_run(tmp_path) as other:
        other.kill()
        other.wait()
        with hold_lock(str(tmp_path)):
            assert str(os.getpid()) in refusal(tmp_path)


def test_the_lock_can_be_taken_again_when_it_was_given_back(tmp_path):
    for _ in range(2):
        with hold_lock(str(tmp_path)):
            pass


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_the_lock_is_given_back_whatever_ends_the_run(tmp_path, error):
    with pytest.raises(error), hold_lock(str(tmp_path)):
        raise error
    with hold_lock(str(tmp_path)):
        pass


def test_a_run_that_is_over_names_itself_no_more(tmp_path):
    with hold_lock(str(tmp_path)):
        pass
    assert (tmp_path / ".lock").read_bytes() == b""


def test_a_lock_that_another_program_holds_is_respected(tmp_path):
    """bandersnatch locks the same file, and writes nothing into it."""
    with open(tmp_path / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert refusal(tmp_path) == f"another run holds {tmp_path}: another program"


def test_a_worker_that_outlives_its_run_keeps_the_mirror(tmp_path):
    """It inherits the descriptor."""
    with hold_lock(str(tmp_path)) as descriptor:
        worker = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, pass_fds=[descriptor]
        )
    with worker:
        assert "another run holds" in refusal(tmp_path)
        worker.kill()
        worker.wait()
        with hold_lock(str(tmp_path)):
            pass


def test_a_process_that_is_started_without_the_descriptor_has_no_part_in_the_lock(tmp_path):
    command = [sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"]
    with hold_lock(str(tmp_path)):
        other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False)
        assert other.stdout is not None
        assert other.stdout.readline() == b"up\n"
    with other, hold_lock(str(tmp_path)):
        other.kill()


def test_the_mirrors_directory_is_made(tmp_path):
    directory = tmp_path / "srv" / "pypi"
    with hold_lock(str(directory)):
        assert (directory / ".lock").is_file()


def test_a_refusal_leaves_the_holders_name_in_place(tmp_path):
    with another_run(tmp_path):
        assert refusal(tmp_path) == refusal(tmp_path)
