"""A real nginx on loopback, for the length of a test."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DEADLINE_S = 20.0
_POLL_S = 0.01
_LISTENING_PORTS = (10_000, 32_000)


class Nginx(NamedTuple):
    """An nginx that answers on 127.0.0.1."""

    port: int
    process: subprocess.Popen[bytes]
    access_log: Path

    @property
    def url(self) -> str:
        """Its root, without a final slash."""
        return f"http://127.0.0.1:{self.port}"

    def log_lines(self, at_least: int = 0) -> list[str]:
        """The access log's lines; waits until there are so many (nginx writes a line after its answer)."""
        deadline = time.monotonic() + _DEADLINE_S
        while True:
            lines = self.access_log.read_text().splitlines()
            if len(lines) >= at_least:
                return lines
            if time.monotonic() > deadline:
                raise AssertionError(f"{len(lines)} lines in the access log, not {at_least}: {lines}")
            _pause(self.process)


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on, nor is given to what connects: those are higher."""
    while True:
        port = random.randint(*_LISTENING_PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def around(server: str, home: Path) -> str:
    """A whole configuration around the text of ``http``'s blocks, with every path below ``home``."""
    temporary = "\n".join(
        f'{kind}_temp_path "{home}/{kind}";' for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f'pid "{home}/nginx.pid"; error_log stderr; events {{ }}\n'
        f'http {{ access_log "{home}/access.log";\n{temporary}\n{server}\n}}\n'
    )


@contextlib.contextmanager
def running_nginx(configuration: str, home: Path, port: int, access_log: Path | None = None) -> Iterator[Nginx]:
    """Start nginx as this user with a whole configuration that listens on ``port``; stop it at the end.

    ``home`` holds the configuration's file and nginx's messages, and the access log unless another is named.
    """
    executable = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    assert executable, "nginx is not installed"
    home.mkdir(parents=True, exist_ok=True)
    configuration_file = home / "nginx.conf"
    configuration_file.write_text(configuration)
    # Workers of a root's nginx would be nobody, who may not enter a test's directory.
    globally = "daemon off;" + (" user root;" if os.geteuid() == 0 else "")
    with (home / "stderr").open("wb") as messages:
        process = subprocess.Popen(
            [executable, "-p", f"{home}/", "-c", str(configuration_file), "-g", globally],
            stdin=subprocess.DEVNULL,
            stdout=messages,
            stderr=messages,
            start_new_session=True,
        )
    try:
        wait_until_it_answers(process, port, home / "stderr")
        yield Nginx(port, process, access_log or home / "access.log")
    finally:
        _stop(process)


def _pause(process: subprocess.Popen[Any]) -> bool:
    """Wait a moment for the process to end; whether it has."""
    try:
        process.wait(_POLL_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def wait_until_it_answers(process: subprocess.Popen[Any], port: int, messages: Path | None = None) -> None:
    """Wait for what this process is to listen on, whatever it is; `messages` holds what it says."""
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=_DEADLINE_S).close()
        except OSError:
            ended = _pause(process)
            if ended or time.monotonic() > deadline:
                said = messages.read_text() if messages else ""
                raise AssertionError(f"nobody answers on port {port}: {said}") from None
        else:
            return


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_DEADLINE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the group is the process's own: its workers go too
        process.wait()
