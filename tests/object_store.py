"""Real object stores on loopback, for the length of a test: rclone's server, and moto's.

rclone's keeps what it is given in a directory and verifies keys and signatures, but knows no conditions;
moto's keeps all in memory, believes every key, and honours conditions as Amazon's does.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fastmirror.s3 import S3
from fastmirror.settings import S3Settings
from tests.nginx import free_port
from tests.processes import until

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
BUCKET = "packages"


class ObjectStore(NamedTuple):
    """A server that answers on 127.0.0.1, with one bucket."""

    port: int
    process: subprocess.Popen[bytes]
    home: Path  # of all that it keeps on the disk

    @property
    def url(self) -> str:
        """Its root, without a final slash."""
        return f"http://127.0.0.1:{self.port}"

    def settings(self, prefix: str = "", **changed: object) -> S3Settings:
        """How the bucket is reached, but for what is said otherwise."""
        usual = settings_of(self.url, prefix)
        return replace(usual, **changed)  # type: ignore[arg-type] # named as the fields are


def settings_of(url: str, prefix: str = "") -> S3Settings:
    """How the bucket of a store at this address is reached."""
    return S3Settings(
        bucket=BUCKET,
        prefix=prefix,
        endpoint=url,
        region="us-east-1",
        credentials=(ACCESS_KEY, SECRET_KEY, ""),
        headers=(),
        attempts=4,
        verify_concurrency=10,
        ca_bundle=None,
        timeout_s=10.0,
    )


@contextmanager
def rclone_server(home: Path) -> Iterator[ObjectStore]:
    """rclone's server; the bucket is a directory below `home`."""
    (home / "store" / BUCKET).mkdir(parents=True)
    port = free_port()
    program = [str(Path(sys.executable).with_name("rclone")), "serve", "s3", str(home / "store")]
    options = ["--addr", f"127.0.0.1:{port}", "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--config", os.devnull]
    with _running([*program, *options, "--vfs-cache-mode", "off"], port, home / "rclone.log") as store:
        yield store


@contextmanager
def moto_server(home: Path) -> Iterator[ObjectStore]:
    """moto's server, with an empty bucket."""
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    program = [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)]
    with _running(program, port, home / "moto.log") as store:
        S3(store.settings()).send("PUT", "")
        yield store


@contextmanager
def _running(words: list[str], port: int, messages: Path) -> Iterator[ObjectStore]:
    with messages.open("wb") as file:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        until(lambda: process.poll() is not None or _answers(port), f"{words[0]} answers")
        assert process.poll() is None, messages.read_text()
        yield ObjectStore(port, process, messages.parent)
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
    except OSError:
        return False
    return True
