"""The log is one file for all processes, its lines are whole, and no secret is in them."""

from __future__ import annotations

import io
import logging
import re
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from fastmirror import logs
from fastmirror.errors import StorageError
from fastmirror.masking import clean, mask
from fastmirror.settings import LogSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROOMY = LogSettings(max_bytes=1 << 20, keep=3)
logger = logging.getLogger("fastmirror.tests")


@pytest.fixture(autouse=True)
def _closed_logs() -> Iterator[None]:
    yield
    logs.set_up(None, None)


def written(directory: Path) -> str:
    return logs.log_path(str(directory)).read_text(encoding="utf-8")


def run_python(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)


def test_a_line_holds_time_in_utc_level_process_and_text(tmp_path: Path) -> None:
    logs.set_up(str(tmp_path), ROOMY)
    logger.info("fetched %d files", 3)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO \d+ fetched 3 files\n", written(tmp_path))


def test_debug_records_are_written_only_with_debug(tmp_path: Path) -> None:
    logs.set_up(str(tmp_path), ROOMY)
    logger.debug("first")
    logs.set_up(str(tmp_path), ROOMY, debug=True)
    logger.debug("second")
    assert "first" not in written(tmp_path)
    assert "second" in written(tmp_path)


def test_a_person_is_shown_warnings_and_with_debug_more() -> None:
    stream = io.StringIO()
    logs.set_up(None, None, stream=stream)
    logger.info("hidden")
    logger.warning("shown")
    logs.set_up(None, None, debug=True, stream=stream)
    logger.info("talk")
    logger.debug("detail")
    assert stream.getvalue() == "fastmirror: warning: shown\nfastmirror: info: talk\n"


def test_the_hook_is_given_the_lines_in_the_streams_stead() -> None:
    stream, lines = io.StringIO(), list[str]()
    logs.set_up(None, None, stream=stream, emit=lines.append)
    logger.warning("one")
    assert (stream.getvalue(), lines) == ("", ["fastmirror: warning: one"])


def test_a_traceback_is_for_the_file_and_for_debug(tmp_path: Path) -> None:
    for debug in (False, True):
        stream = io.StringIO()
        logs.set_up(str(tmp_path), ROOMY, debug=debug, stream=stream)
        try:
            raise ValueError("odd")
        except ValueError:
            logger.exception("failed")
        assert ("ValueError: odd" in stream.getvalue()) is debug
    assert written(tmp_path).count("ValueError: odd") == 2


@pytest.mark.parametrize(
    ("raw", "masked"),
    [
        ("GET https://user:secret@host/simple/", "GET https://***@host/simple/"),
        ("socks5h://user:p@ss:w0rd@10.0.0.1:1080 refused", "socks5h://***@10.0.0.1:1080 refused"),
        ("https://token@host and https://u:p@other/x", "https://***@host and https://***@other/x"),
        ("https://host/@scope/x?mail=a@b", "https://host/@scope/x?mail=a@b"),
        ("mail a@b", "mail a@b"),
    ],
)
def test_credentials_in_urls_are_masked_and_nothing_else(raw: str, masked: str) -> None:
    assert mask(raw) == masked


def test_no_secret_reaches_the_file_or_a_person(tmp_path: Path) -> None:
    stream = io.StringIO()
    logs.set_up(str(tmp_path), ROOMY, debug=True, stream=stream)
    url = "https://me:hunter2@host/simple/"
    logger.warning("in the message %s", url)
    try:
        raise OSError(url)
    except OSError:
        logger.exception("failed")
    for shown in (written(tmp_path), stream.getvalue()):
        assert "OSError: https://***@host/simple/" in shown
        assert "hunter2" not in shown


def test_text_from_upstream_cannot_forge_a_line_or_speak_to_the_terminal(tmp_path: Path) -> None:
    stream = io.StringIO()
    logs.set_up(str(tmp_path), ROOMY, stream=stream)
    logger.warning("name %s", "a\n2026-01-01T00:00:00.000Z INFO 1 forged \x1b[2J \u202e \udc80")
    for shown in (written(tmp_path), stream.getvalue()):
        assert shown.count("\n") == 1
        assert "\\n2026-01-01T00:00:00.000Z INFO 1 forged \\x1b[2J \\u202e \\udc80" in shown


def test_letters_of_any_language_stay() -> None:
    assert clean("Grüße, 世界") == "Grüße, 世界"


WRITERS = """
import os, sys
from fastmirror import logs
from fastmirror.settings import LogSettings
import logging, threading

directory, again, lines = sys.argv[1], sys.argv[2] == "again", int(sys.argv[3])
settings = LogSettings(max_bytes=20_000, keep=1000)
logs.set_up(directory, settings, stream=sys.stderr)
logger = logging.getLogger("fastmirror.writer")
logger.info("parent 0")
assert threading.active_count() == 1
children = []
for child in range(4):
    pid = os.fork()
    if not pid:
        if again:
            logs.set_up(directory, settings)
        for i in range(lines):
            logger.info("child %d line %d %s", child, i, "x" * (i % 100))
        os._exit(0)
    children.append(pid)
for i in range(1, lines):
    logger.info("parent %d", i)
assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
assert threading.active_count() == 1
"""


@pytest.mark.parametrize("in_the_child", ["inherited", "again"])
def test_forked_processes_share_the_file_and_rotate_it_without_losing_a_line(tmp_path: Path, in_the_child: str) -> None:
    lines = 300
    done = run_python(WRITERS, tmp_path, in_the_child, lines)
    assert (done.stdout, done.stderr) == ("", "")
    files = list((tmp_path / ".fastmirror/log").glob("fastmirror.log*"))
    texts = [line.split(" ", 3)[3] for file in files for line in file.read_text().splitlines()]
    expected = [f"child {child} line {i} {'x' * (i % 100)}" for child in range(4) for i in range(lines)]
    expected += [f"parent {i}" for i in range(lines)]
    assert Counter(text.strip() for text in texts) == Counter(text.strip() for text in expected)
    assert len(files) > 4
    assert max(file.stat().st_size for file in files) <= 20_000 + len(max(texts, key=len)) + 60


SPAWNED = """
import logging, sys
from fastmirror import logs
from fastmirror.settings import LogSettings
logs.set_up(sys.argv[1], LogSettings(max_bytes=5_000, keep=1000))
for i in range(200):
    logging.getLogger("fastmirror.writer").warning("%s line %d", sys.argv[2], i)
"""


def test_processes_that_share_nothing_but_the_directory_lose_no_line(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", SPAWNED, str(tmp_path)]
    writers = [subprocess.Popen([*command, f"writer{i}"]) for i in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    files = list((tmp_path / ".fastmirror/log").glob("fastmirror.log*"))
    texts = {line.split(" ", 3)[3] for file in files for line in file.read_text().splitlines()}
    assert texts == {f"writer{i} line {j}" for i in range(4) for j in range(200)}
    assert len(files) > 4


def test_no_more_old_logs_are_kept_than_asked_for(tmp_path: Path) -> None:
    logs.set_up(str(tmp_path), LogSettings(max_bytes=1_000, keep=2))
    for i in range(200):
        logger.info("line %d", i)
    names = {path.name for path in (tmp_path / ".fastmirror/log").glob("fastmirror.log*")}
    assert names == {"fastmirror.log", "fastmirror.log.1", "fastmirror.log.2"}
    assert "line 199" in written(tmp_path)


def test_a_log_that_cannot_have_its_directory_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / ".fastmirror").write_text("a file in the way")
    with pytest.raises(StorageError, match=r"cannot make the log's directory"):
        logs.set_up(str(tmp_path), ROOMY)


def test_a_log_that_cannot_be_written_is_told_once_and_stops_nothing(tmp_path: Path) -> None:
    path = logs.log_path(str(tmp_path))
    path.mkdir(parents=True)  # a directory in the file's place
    stream = io.StringIO()
    logs.set_up(str(tmp_path), ROOMY, stream=stream)
    logger.info("one")
    logger.info("two")
    assert stream.getvalue().count("fastmirror: warning: cannot write the log: ") == 1


def test_a_person_who_went_away_stops_nothing(tmp_path: Path) -> None:
    def broken(_: str) -> None:
        raise BrokenPipeError

    logs.set_up(str(tmp_path), ROOMY, emit=broken)
    logger.warning("still in the file")
    assert "still in the file" in written(tmp_path)


def test_the_current_log_is_named(tmp_path: Path) -> None:
    assert logs.current_log() is None
    logs.set_up(str(tmp_path), ROOMY)
    assert logs.current_log() == tmp_path / ".fastmirror/log/fastmirror.log"
