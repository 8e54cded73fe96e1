"""A body on its way into staging: gathered, hashed, written.

Small bodies are hashed and written in one go when they are whole. Larger ones gather in buffers of 1 MiB,
which a side thread hashes and writes (both free the GIL) while the loop goes on; a transfer waits while two
of its buffers do.
"""

from __future__ import annotations

import errno
import hashlib
import os
import queue
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from fastmirror.descriptors import hash_descriptor, stamp_ns, write_chunks
from fastmirror.layout import BLAKE2B_256

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastmirror.storage import Storage

BUFFER_BYTES = 1 << 20
_BUFFERS_WAITING = 2
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", re.ASCII)


class Goal(NamedTuple):
    """What one body must be."""

    url: str
    algorithm: str
    digest: str  # "" if upstream did not say
    size: int | None
    limit: int
    mtime: float


class SideThread:
    """One thread that hashes and writes; what follows is called back in the loop."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hash-and-write")
        self._done: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def submit(self, work: Callable[[], None], then: Callable[[], None]) -> None:
        """Do `work` after all that was submitted before; `then` is called by `settle`. `work` never raises."""

        def run() -> None:
            work()
            self._done.put(then)
            self._wake()

        self._thread.submit(run)

    def settle(self) -> None:
        """Call back for the work that is done; in the loop."""
        while not self._done.empty():
            self._done.get()()

    def close(self) -> None:
        """End the thread when its work is done."""
        self._thread.shutdown()


class FileSink:
    """A body on its way into staging; its digest is made as it passes.

    A large body goes to a file named by its digest, so that whatever ends this try, the next one, in this
    run or a later one, resumes it.
    """

    def __init__(self, goal: Goal, storage: Storage, side: SideThread, on_room: Callable[[], None]) -> None:
        self._goal = goal
        self._storage = storage
        self._side = side
        self._on_room = on_room
        self._hashes: list[hashlib._Hash | hashlib.blake2b] = [hashlib.sha256()]
        if goal.algorithm != "sha256":
            self._hashes.append(
                hashlib.blake2b(digest_size=32) if goal.algorithm == BLAKE2B_256 else hashlib.new(goal.algorithm)
            )
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._busy = 0  # buffers with the side thread
        self._refused_room = False
        self.descriptor = -1  # of what is staged, while it is open
        self.path = ""
        self.resumed_at = 0  # bytes that an earlier try brought
        self.is_other_range = False  # the answer was not the rest that was asked for
        self.size = 0  # bytes so far
        self.error: OSError | None = None
        if goal.digest and (goal.size is None or goal.size > BUFFER_BYTES):
            try:
                self.descriptor, self.resumed_at = storage.open_partial(goal.digest)
            except OSError as error:
                self.error = error

    def begin(self, status: int, headers: Mapping[str, str]) -> str | None:
        """Check that the body is what was asked for: the rest of a partial, or the whole."""
        if not self.resumed_at:
            return None
        self.path = self._storage.partial(self._goal.digest)
        if status == 206:
            match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
            if match is None or int(match[1]) != self.resumed_at:
                self.discard()
                self.is_other_range = True
                return "answered another range than asked for"
            self.resume()
        else:
            self.resumed_at = 0
            try:
                os.ftruncate(self.descriptor, 0)
            except OSError as error:
                self.error = error
                return f"storage: {error}"
        return None

    def resume(self) -> None:
        """Go on from where the partial ends."""
        self.path = self._storage.partial(self._goal.digest)
        self._side.submit(self._hash_partial, lambda: None)
        self.size = self.resumed_at

    def feed(self, chunk: bytes) -> bool:
        """Take a chunk, unless two buffers wait for the disk already."""
        if self._buffered >= BUFFER_BYTES:
            if self._busy >= _BUFFERS_WAITING:
                self._refused_room = True
                return False
            self._spill(seal=False, then=self._written)
        self._chunks.append(chunk)
        self._buffered += len(chunk)
        self.size += len(chunk)
        return True

    def finish(self, then: Callable[[], None]) -> None:
        """The body is whole: have the rest on disk, then call `then`; at once where nothing is with the thread.

        A partial stays this transfer's own until `close`, which follows when it has its final name.
        """
        if self.path:
            self._spill(seal=True, then=then)
        else:
            self._write(self._take_chunks())
            self._seal()
            then()

    def break_off(self, then: Callable[[], None], *, keep: bool = True) -> None:
        """The transfer broke: what came stays for the next try, or does not; `then` is called when that is done."""

        def let_go() -> None:
            if keep:
                self.close()
            else:
                self.discard()
            then()

        if self.path:
            self._spill(seal=False, then=let_go)  # its time stays that of its last byte: it ages by it
        else:
            let_go()

    def hexdigests(self) -> list[str]:
        """sha256 first, then the digest that upstream gave, if it is another. After finish."""
        return [digest.hexdigest() for digest in self._hashes]

    def discard(self) -> None:
        """Remove what came from staging: its bytes are not to be trusted."""
        if self.resumed_at:
            self._storage.discard(self._storage.partial(self._goal.digest))
        if self.path:
            self._storage.discard(self.path)
            self.path = ""
        self.close()

    def close(self) -> None:
        """Let go of the file: another transfer may have what is still a partial."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _written(self) -> None:
        self._busy -= 1
        if self._refused_room:
            self._refused_room = False
            self._on_room()

    def _spill(self, *, seal: bool, then: Callable[[], None]) -> None:
        # As one: each step of hashing gives up the interpreter, and has to wait for it while the loop is busy.
        buffer = b"".join(self._take_chunks())
        self._busy += 1
        if not self.path:
            self._open_large()

        def work() -> None:
            self._write([buffer])
            if seal:
                self._seal()

        self._side.submit(work, then)

    def _open_large(self) -> None:
        try:
            self.path = self._storage.new_staged()
            if self._goal.digest:
                self.descriptor, _ = self._storage.open_partial(self._goal.digest, create=True)
                if self.descriptor >= 0:
                    self.path = self._storage.partial(self._goal.digest)
        except OSError as error:
            self.error = self.error or error

    def _take_chunks(self) -> list[bytes]:
        chunks = self._chunks
        self._chunks, self._buffered = [], 0
        return chunks

    def _write(self, chunks: list[bytes]) -> None:
        if self.error is not None:
            return
        for digest in self._hashes:
            for chunk in chunks:
                digest.update(chunk)
        try:
            if self.descriptor < 0:
                self.path = self.path or self._storage.new_staged()
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                self.descriptor = os.open(self.path, flags, self._storage.file_mode)
            write_chunks(self.descriptor, chunks)
        except OSError as error:
            self.error = error

    def _seal(self) -> None:
        try:
            if self._goal.mtime > 0 and self.descriptor >= 0:
                stamp = stamp_ns(self._goal.mtime)
                os.utime(self.descriptor, ns=(stamp, stamp))
        except OSError as error:
            self.error = self.error or error

    def _hash_partial(self) -> None:
        """In the side thread, before the rest: hash what an earlier try brought, and stand at its end."""
        try:
            if hash_descriptor(self.descriptor, self._hashes) != self.resumed_at:
                raise OSError(errno.EAGAIN, "partial changed meanwhile")
        except OSError as error:
            self.error = error
