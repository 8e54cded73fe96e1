"""Our work as a guest in a dask worker's process: a Workshop as in a process of our own, in a thread, for each run.

The scheduler has dask workers call the functions below, which the parent sends (cluster.py). Nothing of a run
outlives it for long: a guest leaves when the run's marker is gone or its parent has not been heard of for a while.
"""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import queue
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from distributed import get_worker, secede

from fastmirror import __version__, logs
from fastmirror.backend import open_storage
from fastmirror.channel import packed, unpacked
from fastmirror.docket import Key, key_of, key_of_answer
from fastmirror.errors import MirrorError
from fastmirror.settings_upstream import as_host_has_it
from fastmirror.worker import GC_THRESHOLDS, Workshop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributed import Worker

    from fastmirror.model import Answer, Job, Share
    from fastmirror.pages import Context

TOPIC = "fastmirror"  # of the events by which workers say how far they are; the scheduler keeps a bounded number
LIMIT_VARIABLE = "FASTMIRROR_MAX_TRANSFERS"  # of this host's workers together, pages and files each
_LOG = logging.getLogger(__name__)
_WATCH_S = 2.0
_LEASE_S = 120.0  # without a word from the parent
_TOLD_S = 1.0
_BOOT = "/proc/sys/kernel/random/boot_id"


class Greeting(NamedTuple):
    """What a worker says to a run's parent."""

    refusal: str = ""  # why it cannot take part
    host: str = ""
    limit: int | None = None  # transfers of either kind, of all of this host's workers


class _Batch:
    """Jobs that came together, and go back together."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = jobs
        self.answers: list[Answer] = []
        self.is_over = threading.Event()
        self.is_flushed = threading.Event()

    def take(self, answer: Answer) -> None:
        self.answers.append(answer)
        if len(self.answers) == len(self.jobs):
            self.is_over.set()


class _Guest:
    """One run's work in this process. All but `do`, `share` and `leave` happens in its thread."""

    def __init__(self, context: Context, run: str, marker: str, *, flushes: bool) -> None:
        self._worker: Worker = get_worker()
        self._run = run
        self._marker = marker
        self._thresholds = gc.get_threshold()
        self._umask = os.umask(0o022) if context.settings.storage.manage_permissions else None
        gc.set_threshold(*GC_THRESHOLDS)
        self._workshop = Workshop(context)
        self._storage = open_storage(context.settings.storage)
        if flushes:
            self._storage.prepare_flush()
        self._flushes = flushes
        self._inbox: queue.SimpleQueue[_Batch | Share | None] = queue.SimpleQueue()
        self._awaiting: dict[Key, deque[_Batch]] = {}
        self._open: set[_Batch] = set()
        self._is_open = True
        self._heard_at = time.monotonic()
        threading.Thread(target=self._serve, daemon=True, name="fastmirror").start()

    def do(self, jobs: Sequence[Job], share: Share) -> list[Answer]:
        """Have these jobs done; what the guest leaves undone is not among the answers."""
        batch = _Batch(jobs)
        self.share(share)
        self._put(batch)
        batch.is_over.wait()
        try:
            if self._flushes:
                self._storage.flush()  # of what is written here the parent's host knows nothing
        finally:
            self._open.discard(batch)
            batch.is_flushed.set()
        return batch.answers

    def share(self, share: Share) -> None:
        """Work within this part of the budgets from now on."""
        self._put(share)

    def leave(self) -> None:
        """Hand over what is done, and end."""
        self._put(None)

    def _put(self, message: _Batch | Share | None) -> None:
        self._inbox.put(message)
        if self._is_open:
            with suppress(OSError):  # it ends just now
                self._workshop.transport.wake()
        elif isinstance(message, _Batch):
            message.is_over.set()

    def _serve(self) -> None:
        watched = told = 0.0
        beat = b""
        try:
            while self._take_messages():
                for answer in self._workshop.poll(_TOLD_S):
                    self._pass_on(answer)
                now = time.monotonic()
                throttled, self._workshop.lanes.throttled_s = self._workshop.lanes.throttled_s, None
                if throttled is not None or (self._open and now - told >= _TOLD_S):
                    told = now
                    message = {
                        "run": self._run,
                        "from": self._worker.address,
                        "load": list(self._workshop.load()),
                        "throttled": throttled,
                    }
                    self._worker.log_event(TOPIC, message)
                if now - watched >= _WATCH_S:
                    watched, last = now, beat
                    beat = Path(self._marker).read_bytes()
                    if beat != last:
                        self._heard_at = now
                    elif now - self._heard_at > _LEASE_S:
                        break
        except FileNotFoundError:
            _LOG.info("the run is over: %s", self._run)
        except Exception:  # noqa: BLE001 - its jobs are blamed by the parent
            _LOG.exception("this is a bug")
        finally:
            self._end()

    def _take_messages(self) -> bool:
        while not self._inbox.empty():
            message = self._inbox.get()
            if message is None:
                return False
            if isinstance(message, _Batch):
                self._open.add(message)
                for job in message.jobs:
                    self._awaiting.setdefault(key_of(job), deque()).append(message)
                self._workshop.accept(message.jobs)
            else:
                self._workshop.set_share(message)
            self._heard_at = time.monotonic()
        return True

    def _pass_on(self, answer: Answer) -> None:
        key = key_of_answer(answer)
        batches = self._awaiting[key]
        batch = batches.popleft()
        if not batches:
            del self._awaiting[key]
        batch.take(answer)

    def _end(self) -> None:
        with _DOOR:
            _GUESTS.pop(self._run, None)
            is_last = not _GUESTS
        self._is_open = False
        leaving = list(self._open)
        while not self._inbox.empty():
            if isinstance(message := self._inbox.get(), _Batch):
                leaving.append(message)
        for batch in leaving:
            batch.is_over.set()
        for batch in leaving:
            batch.is_flushed.wait()
        self._workshop.close()
        self._storage.close()
        if is_last:
            logs.set_up(None, None)
            gc.set_threshold(*self._thresholds)
            if self._umask is not None:
                os.umask(self._umask)


_DOOR = threading.Lock()
_GUESTS: dict[str, _Guest] = {}


def greet(version: str, run: str, marker: str, boot: str, briefing: bytes) -> bytes:
    """Take part in a run, or say why not; a packed Greeting.

    version: of the parent's program. marker: a file that the parent has made and holds with flock. boot: what
    tells its host's kernel from others. briefing: a packed Context, which only the same version can read.
    """
    if version != __version__:
        return packed(Greeting(f"it has fastmirror {__version__}, and the run is {version}"))
    try:
        return packed(_take_part(run, marker, boot, briefing))
    except (MirrorError, OSError) as error:
        return packed(Greeting(str(error)))


def _take_part(run: str, marker: str, boot: str, briefing: bytes) -> Greeting:
    if refusal := _refusal(marker):
        return Greeting(refusal)
    context: Context = unpacked(briefing)
    settings, warnings = context.settings, list[str]()
    upstream = as_host_has_it(settings.upstream, os.environ, warnings)
    limit = os.environ.get(LIMIT_VARIABLE, "").strip()
    if limit and not (limit.isascii() and limit.isdecimal() and int(limit)):
        return Greeting(f"{LIMIT_VARIABLE}: expected a whole number above 0: {limit!r}")
    host = socket.gethostname()
    for warning in warnings:
        _LOG.warning("%s", warning)
    with _DOOR:
        if run not in _GUESTS:
            logs.set_up(settings.storage.directory, settings.log, debug=context.debug, host=host)
            context = context._replace(settings=replace(settings, upstream=upstream))
            _GUESTS[run] = _Guest(context, run, marker, flushes=boot != boot_id() and not context.plan_only)
    return Greeting(host=host, limit=int(limit) if limit else None)


def _refusal(marker: str) -> str:
    """Why the directory that this process sees is not the run's, or cannot be shared safely; "" if it can."""
    directory = marker.partition("/.fastmirror/")[0]
    try:
        descriptor = os.open(marker, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return f"it does not see the mirror's directory ({error.strerror}): {directory!r} (hint: mount it there)"
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            return f"it is user {os.geteuid()}, and {directory!r} is user {os.fstat(descriptor).st_uid}'s"
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return ""
    finally:
        os.close(descriptor)
    return f"locks do not hold between hosts in {directory!r} (hint: mount it without nolock and local_lock)"


def work(run: str, jobs: bytes, share: Share) -> bytes | None:
    """Do packed jobs; the answers, packed, or None where this process takes no part in the run, or not any more."""
    guest = _GUESTS.get(run)
    if guest is None:
        return None
    secede()  # how much is done at once is the parent's to say
    return packed(guest.do(unpacked(jobs), share))


def adjust(run: str, share: Share) -> None:
    """Another part of the budgets."""
    if guest := _GUESTS.get(run):
        guest.share(share)


def hand_over(run: str) -> None:
    """Answer with what is done, and leave the run."""
    if guest := _GUESTS.get(run):
        guest.leave()


def boot_id() -> str:
    """What tells this kernel from others; "" if nothing does."""
    try:
        return Path(_BOOT).read_text(encoding="ascii").strip()
    except OSError:
        return ""
