"""Commands forked from a process that has imported the program: a start costs a tenth of what it costs otherwise.

    Command(["fastmirror", "mirror", "--directory", …], …)   # as subprocess.Popen, with `python -m` left out

A command is a process like any other: of its own session, with its own descriptors and environment, a child
of ours. That the program starts from nothing, too, is for the tests of its command line to show.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import gc
import importlib
import json
import os
import runpy
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, NoReturn

_ROOT: Final = Path(__file__).parents[1]
_IMPORTED: Final = ("cli", "events", "inquiry", "mirror", "reports", "telling", "worker")
_PR_SET_CHILD_SUBREAPER: Final = 36
_LONGEST_ORDER: Final = 1 << 20


class Command(subprocess.Popen[str]):
    """A command in a session of its own, forked and not executed; streams, signals and status as ever."""

    def _execute_child(self, args: list[str], executable: Any, *how: Any) -> None:
        """Where Popen forks and executes; what comes first of what it passes is the same in Python 3.11 and since."""
        _, _, _, cwd, env, _, _, _, stdin, ours_0, ours_1, stdout, ours_2, stderr = how[:14]
        order = {"arguments": args, "cwd": os.fspath(cwd), "environment": env, "umask": _umask()}
        try:
            self.pid = _seed().fork(order, [stdin, stdout, stderr])
            self._child_created = True
        finally:
            self._close_pipe_fds(stdin, ours_0, ours_1, stdout, ours_2, stderr)  # type: ignore[attr-defined]


class _Seed:
    """The process that has imported the program, seen from here."""

    def __init__(self) -> None:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1)  # grandchildren become children
        self._end, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm", str(theirs.fileno())],
            cwd=_ROOT,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,  # as the commands' will be: what was found out about it stays true
            stderr=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        atexit.register(self._close)

    def fork(self, order: dict[str, Any], descriptors: list[int]) -> int:
        """Process id of a new child of ours."""
        socket.send_fds(self._end, [json.dumps(order).encode()], descriptors)
        return int(self._end.recv(64))

    def _close(self) -> None:
        self._end.close()
        self._process.communicate()


_seed = functools.cache(_Seed)


def _umask() -> int:
    before = os.umask(0)
    os.umask(before)
    return before


def _serve(end: socket.socket) -> None:
    """Fork a command for every order, until the other end is closed."""
    for name in _IMPORTED:
        importlib.import_module(f"fastmirror.{name}")
    gc.freeze()
    while True:
        order, descriptors, _, _ = socket.recv_fds(end, _LONGEST_ORDER, 3)
        if not order:
            os._exit(0)
        read, write = os.pipe()
        between = os.fork()
        if between == 0:
            command = os.fork()
            if command == 0:
                end.detach()
                _run(descriptors, **json.loads(order))
            os.write(write, str(command).encode())
            os._exit(0)
        os.waitpid(between, 0)  # from here on the command is a child of who gave the order
        end.send(os.read(read, 64))
        for descriptor in (read, write, *descriptors):
            os.close(descriptor)


def _run(descriptors: list[int], arguments: list[str], cwd: str, environment: dict[str, str], umask: int) -> NoReturn:
    os.setsid()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(cwd)
    os.umask(umask)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.argv[1:] = arguments[1:]
    runpy.run_module("fastmirror", run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
