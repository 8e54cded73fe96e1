"""How a worker process starts and ends."""

from __future__ import annotations

import logging
import multiprocessing
import os
import selectors
import signal
import socket
import threading
import time
from multiprocessing.reduction import DupFd
from typing import TYPE_CHECKING, Any, NamedTuple

from fastmirror.channel import Channel
from fastmirror.errors import MirrorError, StorageError
from fastmirror.worker import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.process import BaseProcess

_LOG = logging.getLogger(__name__)


def start_process(lock: int, others: Sequence[int]) -> tuple[BaseProcess, socket.socket]:
    """Start a worker; returns it and our end of its socket.

    It inherits the lock's descriptor, and none of `others`, our ends of the other workers' sockets. It is
    forked; where threads run already it starts afresh, as a fork would copy the locks that they hold.
    """
    ours, theirs = socket.socketpair()
    process: BaseProcess
    if threading.active_count() == 1 and "fork" in multiprocessing.get_all_start_methods():
        process = multiprocessing.get_context("fork").Process(
            target=_run_forked, args=(theirs, [*others, ours.fileno()]), daemon=True
        )
    else:
        process = multiprocessing.get_context("spawn").Process(
            target=_run_spawned, args=(theirs, _InheritedDescriptor(lock)), daemon=True
        )
    held = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))  # until it ignores them
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
    theirs.close()
    return process, ours


class Beside(NamedTuple):
    """A process beside the run, and our end of its socket."""

    process: BaseProcess
    end: socket.socket


def start_beside(work: Callable[[socket.socket], None], not_its_own: Sequence[int]) -> Beside:
    """Fork a process that does `work`, which is given one end of a socket, and ends.

    It ignores SIGINT and SIGTERM, and holds none of the descriptors that are not its own.
    """
    ours, theirs = socket.socketpair()
    process: BaseProcess = multiprocessing.get_context("fork").Process(
        target=_run_beside, args=(work, theirs, [*not_its_own, ours.fileno()]), daemon=True
    )
    process.start()
    theirs.close()
    return Beside(process, ours)


def _run_beside(work: Callable[[socket.socket], None], end: socket.socket, others: Sequence[int]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for descriptor in others:
        os.close(descriptor)
    work(end)
    os._exit(0)


def in_stripes(work: Callable[[int, int], Iterator[Any]], count: int) -> Iterator[Any]:
    """What `work(stripe, stripes)` yields in each of `count` forked processes, as it comes.

    There must be no other thread. Raises StorageError if one of them cannot end its part; none outlives this one.
    """
    ends: list[socket.socket] = []
    started: list[BaseProcess] = []
    selector = selectors.DefaultSelector()
    try:
        for stripe in range(count):
            ours, theirs = socket.socketpair()
            others = [end.fileno() for end in (*ends, ours)]
            process: BaseProcess = multiprocessing.get_context("fork").Process(
                target=_run_stripe, args=(work, stripe, count, theirs, others), daemon=True
            )
            process.start()
            theirs.close()
            ends.append(ours)
            started.append(process)
            selector.register(ours, selectors.EVENT_READ, (Channel(ours), process))
        while selector.get_map():
            for key, _ in selector.select():
                channel, process = key.data
                yield from channel.receive()
                if not channel.is_open:
                    selector.unregister(key.fileobj)
                    _require_whole(process)
    finally:
        selector.close()
        for end in ends:
            end.close()
        for each in started:
            reap(each, time.monotonic() + 1.0)


def _run_stripe(
    work: Callable[[int, int], Iterator[Any]], stripe: int, stripes: int, end: socket.socket, others: Sequence[int]
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for descriptor in others:
        os.close(descriptor)
    channel = Channel(end)
    try:
        for value in work(stripe, stripes):
            channel.send(value)
            channel.drain()
            if not channel.is_open:
                os._exit(1)
    except MirrorError as error:
        _LOG.error("%s", error)
        os._exit(error.exit_status)
    os._exit(0)


def _require_whole(process: BaseProcess) -> None:
    """Its end of the socket is closed: whether it did all that it had to do."""
    process.join()
    if process.exitcode != 0:
        raise StorageError(f"a part of the work is not done: its process ended by {cause_of_death(process)}")


def reap(process: BaseProcess, deadline: float) -> None:
    """Wait for a process until this moment of the monotonic clock, then kill it."""
    process.join(max(0.0, deadline - time.monotonic()))
    if process.is_alive():
        process.kill()
        process.join()


def cause_of_death(process: BaseProcess) -> str:
    """How a process that is gone ended."""
    code = process.exitcode
    if code is not None and code < 0:
        return f"signal {-code}"
    return f"exit status {code}"


def _run_forked(end: socket.socket, others: Sequence[int]) -> None:
    """In the new process: the parent's ends of the sockets are not ours to hold open."""
    for descriptor in others:
        os.close(descriptor)
    serve(end)


def _run_spawned(end: socket.socket, lock: int) -> None:
    os.set_inheritable(lock, False)
    serve(end)


class _InheritedDescriptor:
    """A descriptor on its way to a spawned process; it is duplicated while that process is being started."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __reduce__(self) -> tuple[object, ...]:
        return _detach, (DupFd(self._descriptor),)


def _detach(duplicate: Any) -> int:  # noqa: ANN401 - multiprocessing's own, untyped
    """Held open: the mirror is free when the last of its processes is gone."""
    return int(duplicate.detach())
