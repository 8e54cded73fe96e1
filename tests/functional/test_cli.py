"""The command as an operator meets it: a process with arguments, two streams and an exit status."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastmirror import face, logs
from fastmirror.configuration import CONFIGURATION_FILES, load_settings, project_names, read_configuration
from fastmirror.errors import (
    Interrupted,
    MirrorError,
    MirrorLocked,
    SettingsError,
    StorageError,
    UpstreamError,
)
from fastmirror.settings import LogSettings
from fastmirror.settings_file import DEFAULT_CONFIGURATION, parse_settings
from tests.fakes import faults
from tests.fakes.index import FakeIndex
from tests.processes import answer_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

FASTMIRROR = [sys.executable, "-W", "error", "-m", "fastmirror"]
COMMANDS = ("mirror", "sync", "plan", "status", "nginx", "serve")


def fastmirror(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*FASTMIRROR, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, stdin=subprocess.DEVNULL)


@pytest.fixture
def index() -> Iterator[FakeIndex]:
    with FakeIndex() as index:
        index.add_file("six", "six-1.0-py3-none-any.whl", metadata=b"Metadata-Version: 2.1\nName: six\n")
        index.add_file("Flask.Admin", "flask_admin-2.0.tar.gz")
        yield index


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "mirror"


@pytest.fixture
def conf(tmp_path: Path, directory: Path, index: FakeIndex) -> Path:
    path = tmp_path / "fastmirror.conf"
    path.write_text(
        f"[mirror]\ndirectory = {directory}\nmaster = {index.url}\nallow-non-https = true\nlayout = hashed\n"
        "processes = 2\nmin-free = 0\n"
    )
    return path


# What needs no mirror


def test_no_arguments_show_the_help_and_succeed() -> None:
    done = fastmirror()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: fastmirror [OPTIONS] COMMAND")
    assert all(f"\n  {command} " in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("arguments", [["--debug"], ["nosuch"], ["mirror", "--nosuch"], ["sync"], ["plan", "extra"]])
def test_wrong_usage_is_exit_2(arguments: list[str]) -> None:
    done = fastmirror(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: fastmirror" in done.stderr or "Error: " in done.stderr


def test_the_version_is_told() -> None:
    done = fastmirror("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("fastmirror 0.")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_states_its_exit_statuses(command: str) -> None:
    done = fastmirror(command, "--help")
    assert done.returncode == 0
    assert "Exit status: 0 " in done.stdout


def test_a_missing_configuration_is_written_once_and_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "new.conf"
    done = fastmirror("-c", path, "mirror")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"the default one was written: '{path}'" in done.stderr
    assert f"fastmirror --config {path} plan" in done.stderr
    assert path.read_text() == DEFAULT_CONFIGURATION
    assert parse_settings(path.read_text()).warnings == ()


def test_a_configuration_that_cannot_be_written_is_exit_1_with_a_way_out(tmp_path: Path) -> None:
    done = fastmirror("-c", tmp_path / "no/such/directory.conf", "plan")
    assert done.returncode == 1
    assert "none can be written (No such file or directory)" in done.stderr
    assert "--directory PATH" in done.stderr


def test_a_configuration_that_cannot_be_read_is_exit_2(tmp_path: Path) -> None:
    latin = tmp_path / "latin.conf"
    latin.write_bytes(b"[mirror]\n# gr\xfc\xdfe\n")
    for path, reason in ((tmp_path, "Is a directory"), (latin, "is not UTF-8 (byte 13)")):
        done = fastmirror("-c", path, "status")
        assert (done.returncode, done.stdout) == (2, "")
        assert reason in done.stderr


def test_the_first_default_configuration_that_exists_is_read(tmp_path: Path) -> None:
    defaults = [str(tmp_path / name) for name in ("fastmirror.conf", "bandersnatch.conf")]
    assert read_configuration(None, optional=True, defaults=defaults) == (None, "settings")
    Path(defaults[1]).write_text("second")
    assert read_configuration(None, optional=False, defaults=defaults) == ("second", defaults[1])
    Path(defaults[0]).write_text("\ufefffirst")
    assert read_configuration(None, optional=True, defaults=defaults) == ("first", defaults[0])


def test_without_any_configuration_the_first_default_one_is_written(tmp_path: Path) -> None:
    defaults = [str(tmp_path / name) for name in ("fastmirror.conf", "bandersnatch.conf")]
    with pytest.raises(MirrorError, match="was written") as caught:
        read_configuration(None, optional=False, defaults=defaults)
    assert caught.value.exit_status == 1
    assert [Path(path).exists() for path in defaults] == [True, False]


def test_options_win_over_the_file_and_a_directory_may_be_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("conf").write_text("[mirror]\ndirectory = /elsewhere\nworkers = 3\n")
    settings = load_settings("conf", directory="here/../there", master="https://pypi.example/", sets=["workers = 2"])
    assert settings.storage.directory == str(tmp_path / "there")
    assert settings.upstream.master == "https://pypi.example"
    assert settings.pool.index_transfers == 8
    assert settings.from_file


@pytest.mark.parametrize("text", ["workers", "=5", ""])
def test_an_override_without_key_and_value_is_a_settings_error(text: str) -> None:
    with pytest.raises(SettingsError, match="expected KEY=VALUE"):
        load_settings(None, directory="/srv/pypi", sets=[text])


def test_project_names_come_one_by_one_or_in_lists_and_are_normalised() -> None:
    assert project_names(["Six, Foo.Bar", "six", "a_b c"]) == ("six", "foo-bar", "a-b", "c")
    assert project_names(None) == ()


@pytest.mark.parametrize("names", [["six", "nö"], ["-x"], [" , "]])
def test_what_is_no_projects_name_is_exit_2(tmp_path: Path, names: list[str]) -> None:
    done = fastmirror("plan", "--directory", tmp_path, *(f"--project={name}" for name in names))
    assert done.returncode == 2
    assert "fastmirror: error: " in done.stderr


def test_a_bad_value_is_exit_2_and_never_shows_credentials(tmp_path: Path) -> None:
    done = fastmirror("plan", "--directory", tmp_path, "--master", "ftp://me:hunter2@host/")
    assert (done.returncode, done.stdout) == (2, "")
    assert "hunter2" not in done.stderr
    assert done.stderr.startswith("fastmirror: error: ")


@pytest.mark.parametrize("command", ["status", "nginx", "serve"])
def test_where_there_is_no_mirror_is_exit_2(tmp_path: Path, command: str) -> None:
    done = fastmirror(command, "--directory", tmp_path / "empty")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no mirror here (directory): " in done.stderr
    assert not (tmp_path / "empty").exists()


def test_a_reader_who_went_away_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*FASTMIRROR, "--version"], stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def raising(error: BaseException) -> NoReturn:
    raise error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SettingsError("bad"), 2),
        (MirrorLocked("/srv/pypi", "process 1"), 3),
        (UpstreamError("away"), 5),
        (StorageError("full"), 6),
        (Interrupted(signal.SIGTERM), 143),
        (Interrupted(signal.SIGINT), 130),
        (KeyboardInterrupt(), 130),
    ],
)
def test_every_error_has_its_exit_status(error: BaseException, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(None, None, stream=sys.stderr)
    assert face.status_of(lambda: raising(error)) == status
    logs.set_up(None, None)
    expected = "" if isinstance(error, KeyboardInterrupt) else f"fastmirror: error: {error}\n"
    assert capsys.readouterr() == ("", expected)


def test_a_bug_is_exit_70_with_its_traceback_in_the_log_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.set_up(str(tmp_path), LogSettings(max_bytes=10_000, keep=1), stream=sys.stderr)
    assert face.status_of(lambda: raising(ValueError("odd"))) == 70
    logs.set_up(None, None)
    log = logs.log_path(str(tmp_path))
    told = capsys.readouterr().err
    assert told == f"fastmirror: critical: this is a bug; its traceback is in {log} (ValueError: odd)\n"
    assert "Traceback (most recent call last)" in log.read_text()


def test_a_bug_without_a_log_shows_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(None, None, stream=sys.stderr)
    assert face.status_of(lambda: raising(ValueError("odd"))) == 70
    logs.set_up(None, None)
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.skipif(any(map(os.path.exists, CONFIGURATION_FILES)), reason="this machine has a configuration")
def test_with_a_directory_no_configuration_is_needed(tmp_path: Path) -> None:
    done = fastmirror("status", "--directory", tmp_path)
    assert done.returncode == 2
    assert "there is no mirror here" in done.stderr
    assert not any(map(os.path.exists, CONFIGURATION_FILES))


@pytest.mark.parametrize("given", ["", " "])
def test_a_directory_that_is_empty_as_of_a_variable_that_is_not_set_is_refused(given: str) -> None:
    done = fastmirror("config", "--directory", given)
    assert done.returncode == 2
    assert done.stderr == f"fastmirror: error: --directory: expected a path: {given!r}\n"


# With a mirror


def test_a_run_reports_on_stdout_and_leaves_a_mirror_that_status_calls_complete(
    conf: Path, directory: Path, index: FakeIndex
) -> None:
    done = fastmirror("-c", conf, "mirror")
    assert (done.returncode, done.stderr) == (0, "")
    first, second, last = done.stdout.splitlines()
    assert first == "projects: 2 updated, 0 removed, 0 failed"
    assert second.startswith("fetched: ")
    assert last == f"complete, serial {index.serial}"
    assert logs.log_path(str(directory)).exists()
    status = fastmirror("-c", conf, "status")
    assert (status.returncode, status.stderr) == (0, "")
    assert f"mirror: {directory} (hashed layout)\nholds: 2 projects, 2 files" in status.stdout
    found = json.loads(fastmirror("-c", conf, "status", "--json").stdout)
    assert (found["projects"], found["serial"], found["complete"]) == (2, index.serial, True)


def test_a_second_run_has_nothing_to_do(conf: Path) -> None:
    fastmirror("-c", conf, "mirror")
    plan = fastmirror("-c", conf, "plan")
    assert (plan.returncode, plan.stdout.splitlines()[-1]) == (0, "nothing to do")
    done = fastmirror("-c", conf, "mirror")
    assert done.returncode == 0
    assert done.stdout.startswith("projects: 0 updated, 0 removed, 0 failed\n")


def test_a_failing_project_is_told_with_its_reason_and_exit_1(conf: Path, index: FakeIndex) -> None:
    index.fault("/simple/six/", faults.status(403))
    done = fastmirror("-c", conf, "mirror")
    assert done.returncode == 1
    assert "projects: 1 updated, 0 removed, 1 failed\n" in done.stdout
    assert "\n  six: " in done.stdout
    assert done.stdout.splitlines()[-1].startswith("not complete: 1 failed")
    status = fastmirror("-c", conf, "status")
    assert status.returncode == 1
    assert "failing: 1 project\n  six: " in status.stdout


def test_plan_and_dry_run_say_what_a_run_would_do_and_change_nothing(conf: Path, directory: Path) -> None:
    plan = fastmirror("-c", conf, "plan")
    assert (plan.returncode, plan.stderr) == (0, "")
    assert plan.stdout.startswith("to update: 2 projects\n")
    assert fastmirror("-c", conf, "mirror", "--dry-run").stdout == plan.stdout
    found = json.loads(fastmirror("-c", conf, "plan", "--files", "--json").stdout)
    assert (found["update"], found["files"]) == (2, 2)
    assert not (directory / "web/packages").exists()


def test_sync_brings_the_projects_it_is_given(conf: Path, directory: Path) -> None:
    done = fastmirror("-c", conf, "sync", "flask_admin")
    assert done.returncode == 0
    assert done.stdout.startswith("projects: 1 updated, 0 removed, 0 failed\n")
    names = {path.name for path in (directory / "web").rglob("*") if path.is_file()}
    assert "flask_admin-2.0.tar.gz" in names
    assert "six-1.0-py3-none-any.whl" not in names


def test_no_file_is_needed_with_directory_and_master(directory: Path, index: FakeIndex, tmp_path: Path) -> None:
    empty = tmp_path / "empty.conf"
    empty.write_text("")
    options = ["--directory", directory, "--master", index.url, "--set", "allow-non-https=true", "--set", "min-free=0"]
    done = fastmirror("-c", empty, "mirror", *options, "--project", "six")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("projects: 1 updated, 0 removed, 0 failed\n")


def test_warnings_of_the_configuration_are_shown_and_logged(conf: Path, directory: Path) -> None:
    conf.write_text(conf.read_text() + "hash-indx = false\n")
    done = fastmirror("-c", conf, "mirror")
    assert done.returncode == 0
    assert done.stderr.startswith("fastmirror: warning: ")
    assert "hash-indx" in done.stderr
    assert "hash-indx" in logs.log_path(str(directory)).read_text()


def test_an_upstream_that_is_away_is_exit_5(conf: Path, index: FakeIndex) -> None:
    index.fault("/simple/", faults.status(404))
    done = fastmirror("-c", conf, "mirror")
    assert done.returncode == 5
    assert "hunter2" not in done.stderr


def test_the_upstreams_credentials_are_nowhere_in_the_log_or_on_the_streams(
    conf: Path, directory: Path, index: FakeIndex
) -> None:
    index.credentials = ("me", "hunter2")
    index.fault("/simple/six/", faults.status(403))
    done = fastmirror("--debug", "-c", conf, "mirror", "--master", index.url.replace("//", "//me:hunter2@"))
    assert done.returncode == 1
    assert "hunter2" not in done.stdout + done.stderr + logs.log_path(str(directory)).read_text()


def test_on_a_terminal_there_is_a_bar_of_at_most_80_columns(conf: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    shown = bytearray()

    def drain() -> None:
        try:
            while data := os.read(ours, 65536):
                shown.extend(data)
        except OSError:
            return  # the other end is closed

    reader = threading.Thread(target=drain)
    reader.start()
    done = subprocess.run(
        [*FASTMIRROR, "-c", str(conf), "mirror"], stdout=subprocess.PIPE, stderr=theirs, timeout=100, check=False
    )
    os.close(theirs)
    reader.join()
    os.close(ours)
    text = shown.decode().replace("\r\n", "\n")
    assert done.returncode == 0
    assert "2/2 projects" in text
    assert max(len(line) for line in text.replace("\r", "\n").splitlines()) < 80
    assert done.stdout.endswith(b"\n")


def test_nginx_prints_a_configuration_for_this_tree(conf: Path, directory: Path) -> None:
    fastmirror("-c", conf, "mirror")
    done = fastmirror("-c", conf, "nginx", "--listen", "127.0.0.1:4711")
    assert (done.returncode, done.stderr) == (0, "")
    assert "listen 127.0.0.1:4711" in done.stdout
    assert str(directory) in done.stdout
    assert fastmirror("-c", conf, "nginx", "--listen", "x;y").returncode == 2


def test_serve_tells_how_to_use_it_and_serves_until_interrupted(conf: Path) -> None:
    fastmirror("-c", conf, "mirror")
    command = [*FASTMIRROR, "-c", str(conf), "serve", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert "six-1.0-py3-none-any.whl" in answer_of(server, "/simple/six/")
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=30)
    finally:
        server.kill()
        server.wait()
    assert (server.returncode, errors) == (130, "")
