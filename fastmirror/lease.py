"""One machine at a time: a lease in the bucket, taken and renewed by conditional writes.

The lease is one object. Who writes it names the version that he has seen, so that of two only one succeeds. It is
renewed by a process beside the run, and has expired if it was not: for those who wait for it by the store's own clock,
which dates both the object and each answer; for who holds it by the time since its last renewal began, on a clock that
runs on while the machine sleeps, and a sixth of its length earlier. What it says beside the holder is for the next one
to know: which copy of the state is the last, and whether the last run ended in order.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import select
import socket
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fastmirror.errors import MirrorLocked, StorageError
from fastmirror.objects import Bucket, ObjectHeaders
from fastmirror.processes import reap, start_beside

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastmirror.objects import Version
    from fastmirror.processes import Beside
    from fastmirror.settings import S3Settings

LEASE_KEY = ".fastmirror/lease"
OWN = ObjectHeaders("application/json", "no-store", "", "")
_PROBE_KEY = ".fastmirror/probe/"
_WHOLE_SECONDS = 2.0  # by which the store's dates may be wrong
_RENEWED = 3  # times within its length
_SAFETY = 6  # the last such part of its length is not used
_END_S = 30.0


class Copy(NamedTuple):
    """A copy of the state in the store."""

    number: int = 0  # 0: there is none
    token: str = ""  # differs with each copy
    sha256: str = ""  # of its bytes


class Entry(NamedTuple):
    """What the lease's object says."""

    holder: str = ""  # for a person; "": nobody
    home: str = ""  # the holder's directory, on one boot of one machine
    turn: str = ""  # differs with each who takes it
    renewal: int = 0
    term_s: float = 0.0
    copy: Copy = Copy()  # the last one
    clean: bool = True  # the run before ended in order


class LeaseLost(StorageError):
    """The lease is another's, or nobody's, by now: nothing more may be published."""


class Lease:
    """The lease of one bucket's prefix, for one run in one process."""

    def __init__(self, settings: S3Settings, descriptor: int, term_s: float = 120.0) -> None:
        """`descriptor` is that of the local lock, which is held already."""
        self._settings = settings
        self._bucket = Bucket(settings)
        self._lock = descriptor
        self._term_s = term_s
        self._entry = Entry()
        self._tag: str | None = None
        self._until = 0.0
        self._lost = ""
        self._keeper: Beside | None = None
        self._told = b""
        self._guard = threading.Lock()

    def take(self) -> Entry:
        """Take it, and return what the last holder left. Raises MirrorLocked, which names the holder, at once.

        Raises StorageError if the store does not keep to conditions.
        """
        if not self._settings.lease:
            left = _read(self._bucket.read(LEASE_KEY))
            self._bucket.put(LEASE_KEY, _body(left._replace(clean=False)), headers=OWN)
            return left
        if refusal := conditions_refused(self._bucket):
            raise StorageError(refusal)
        version = self._bucket.read(LEASE_KEY)
        found = _read(version)
        home = _home(self._lock)
        if version is not None and found.holder and not self._is_over(version, found, home):
            raise self._locked(found)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        holder = f"process {os.getpid()} on {socket.gethostname()}, since {since}"
        entry = found._replace(holder=holder, home=home, turn=secrets.token_hex(8), renewal=0, term_s=self._term_s)
        begun = _now()
        tag = self._bucket.put_if(
            LEASE_KEY, _body(entry._replace(clean=False)), tag=version.tag if version else None, headers=OWN
        )
        if tag is None:
            raise self._locked(_read(self._bucket.read(LEASE_KEY)))
        self._entry, self._tag, self._until = entry, tag, begun + self._term_s
        self._keeper = start_beside(self._keep, [self._lock])
        return found

    def check(self) -> None:
        """Raises LeaseLost unless it is held, and will be for a while. To be called before each thing that shows."""
        if self._keeper is None:
            return
        with self._guard:
            self._hear(self._keeper.end)
            if not self._lost and _now() > self._until - self._term_s / _SAFETY:
                self._lost = "it could not be renewed in time"
            if self._lost:
                raise LeaseLost(f"the lease of {self.name} is lost, and nothing more is published: {self._lost}")

    def release(self, copy: Copy, *, clean: bool) -> None:
        """Leave it to the next, with what he has to know. Raises StorageError; then it expires by itself."""
        entry = Entry(copy=copy, clean=clean)
        if self._keeper is None:
            self._bucket.put(LEASE_KEY, _body(entry), headers=OWN)
            return
        self.check()
        self._end_keeper()
        if self._lost or self._bucket.put_if(LEASE_KEY, _body(entry), tag=self._tag, headers=OWN) is None:
            raise LeaseLost(f"the lease of {self.name} was lost before it was given back")

    def close(self) -> None:
        """End the process beside this one; what is not released expires."""
        self._end_keeper()
        self._bucket.close()

    @property
    def name(self) -> str:
        """What is leased, for messages."""
        return f"s3://{self._settings.bucket}/{self._settings.prefix}".rstrip("/")

    def _locked(self, entry: Entry) -> MirrorLocked:
        return MirrorLocked(self.name, entry.holder or "it was taken this moment")

    def _is_over(self, version: Version, entry: Entry, home: str) -> bool:
        """Whether its holder has lost it: it has expired, or he ran here and is dead, as the local lock is ours."""
        if home and entry.home == home:
            return True
        if not version.modified or not version.now:
            raise StorageError(f"object store: {self.name} does not date what it stores, nor its answers: no lease")
        return version.now - version.modified > entry.term_s + _WHOLE_SECONDS

    def _keep(self, end: socket.socket) -> None:
        """In the process beside the run: renew the lease until the run closes its end, and tell it how that goes."""
        quick = replace(self._settings, attempts=2, timeout_s=self._term_s / 24)
        bucket, entry, tag = Bucket(quick), self._entry._replace(clean=False), self._tag
        wait = self._term_s / _RENEWED
        entry = entry._replace(renewal=1)
        while not select.select([end], [], [], wait)[0]:
            begun = _now()
            try:
                tag = bucket.put_if(LEASE_KEY, _body(entry), tag=tag, headers=OWN)
            except StorageError:
                wait = self._term_s / (_RENEWED * 4)
                continue
            wait = self._term_s / _RENEWED
            entry = entry._replace(renewal=entry.renewal + 1)
            line = f"{begun + self._term_s} {tag}\n" if tag else "lost\n"
            end.sendall(line.encode())
            if not tag:
                return

    def _hear(self, end: socket.socket, wait_s: float = 0.0) -> None:
        """Take in what the process beside this one has said; with `wait_s`, until it has ended."""
        deadline = time.monotonic() + wait_s
        while select.select([end], [], [], max(0.0, deadline - time.monotonic()) if wait_s else 0.0)[0]:
            data = end.recv(4096)
            self._told += data
            *lines, self._told = self._told.split(b"\n")
            for line in lines:
                until, _, tag = line.decode().partition(" ")
                if until == "lost":
                    self._lost = "another has taken it"
                else:
                    self._until, self._tag = float(until), tag
            if not data:
                if not wait_s:
                    self._lost = self._lost or "the process that renews it is gone"
                return

    def _end_keeper(self) -> None:
        if self._keeper is None:
            return
        keeper, self._keeper = self._keeper, None
        with keeper.end as end:
            end.shutdown(socket.SHUT_WR)
            self._hear(end, _END_S)
        reap(keeper.process, time.monotonic() + 1.0)


def conditions_refused(bucket: Bucket) -> str:
    """Why the store cannot keep two machines apart, in one line; "" if it can."""
    key = _PROBE_KEY + secrets.token_hex(8)
    try:
        tag = bucket.put_if(key, b"1", tag=None, headers=OWN)
        if tag and bucket.put_if(key, b"2", tag=None, headers=OWN) is None:
            newer = bucket.put_if(key, b"3", tag=tag, headers=OWN)
            if newer and bucket.put_if(key, b"4", tag=tag, headers=OWN) is None:
                return ""
    finally:
        bucket.delete([key])
    return (
        "object store: it does not honour conditional writes (If-Match, If-None-Match), so that nothing would keep two"
        " machines apart (hint: [s3] lease = false, if no other machine ever writes here)"
    )


def holder(bucket: Bucket) -> str:
    """Who has taken the lease, which may have expired since; "nobody" if it was given back."""
    return _read(bucket.read(LEASE_KEY)).holder or "nobody"


def _now() -> float:
    """Seconds, on a clock that goes on while the machine sleeps, and that all processes share."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.time()


def _home(descriptor: int) -> str:
    """This directory on this boot of this machine; "" where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    status = os.fstat(descriptor)
    text = f"{boot} {socket.gethostname()} {status.st_dev} {status.st_ino}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _body(entry: Entry) -> bytes:
    return json.dumps({**entry._asdict(), "copy": entry.copy._asdict()}).encode()


def _read(version: Version | None) -> Entry:
    """What the object says; one that cannot be read is nobody's, and speaks of nothing that can be trusted."""
    if version is None:
        return Entry()
    try:
        stated = json.loads(version.body)
        _require(Entry(), stated)
        _require(Copy(), stated["copy"])
        return Entry(**{**stated, "copy": Copy(**stated["copy"])})
    except (ValueError, TypeError, KeyError):
        return Entry(clean=False)


def _require(usual: Copy | Entry, stated: Mapping[str, object]) -> None:
    """Raises KeyError for a field that is missing, and TypeError for one of another type."""
    for name, value in usual._asdict().items():
        if type(stated[name]) is not type(value) and name != "copy":
            raise TypeError(name)
