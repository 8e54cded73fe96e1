"""Work that is done in stripes, each by a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os
from fastmirror.errors import StorageError
from fastmirror.processes import in_stripes

def work(stripe, stripes):
    yield f"{stripe} of {stripes}"
    if stripe == 1:
        TROUBLE
    yield "all"

found = []
try:
    for value in in_stripes(work, 3):
        found.append(value)
except StorageError as error:
    print(error)
print(*sorted(found))
"""


def stripes(trouble: str) -> tuple[list[str], str]:
    """Lines of standard output, and standard error."""
    command = [sys.executable, "-W", "error", "-c", PROGRAM.replace("TROUBLE", trouble)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.splitlines(), done.stderr


def test_what_all_stripes_yield_comes() -> None:
    assert stripes("pass") == (["0 of 3 1 of 3 2 of 3 all all all"], "")


@pytest.mark.parametrize(
    ("trouble", "told"),
    [("raise StorageError('throttled')", "exit status 6"), ("os.kill(os.getpid(), 9)", "signal 9")],
)
def test_a_stripe_that_ends_before_its_work_is_no_end_of_all_work(trouble: str, told: str) -> None:
    """It was: what it had not yielded was taken for nothing."""
    (error, _), stderr = stripes(trouble)
    assert told in error
    assert "Traceback" not in stderr
