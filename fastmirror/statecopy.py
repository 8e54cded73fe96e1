"""A mirror's state in the bucket too, so that another machine can go on where this one ended."""

from __future__ import annotations

import gzip
import logging
import os
import secrets
import shutil
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from fastmirror.damage import is_marked, unmark
from fastmirror.descriptors import sha256_of
from fastmirror.errors import StateDamaged
from fastmirror.lease import Copy
from fastmirror.objects import ObjectHeaders
from fastmirror.state import State

if TYPE_CHECKING:
    from fastmirror.lease import Entry
    from fastmirror.objects import Bucket

_LOG = logging.getLogger(__name__)
# Facts of the state: which copy it was at last, and which one before, as that is what the lease names until it is
# given back with the newer one.
_BASE, _BEFORE = "copy_in_store", "copy_before"
_PLACE = ".fastmirror/state/"
_PIECE = 1 << 20


def take_state(bucket: Bucket, left: Entry, path: str) -> None:
    """Make the state at `path` fit for a run, by what the last run left: the store's copy, unless it is that one.

    What this machine recorded after that copy, in a run that was cut off, stays, unless a run found it damaged. Where
    the last run was cut off, whoever did it, rows may be behind what is published: the state is marked so. Raises
    StorageError.
    """
    is_current = left.copy.token in _tokens(path) or _fetch(bucket, left.copy, path)
    if not is_current:
        _LOG.warning(
            "the store has no copy of the last run's state: what this machine knows of the mirror is not trusted"
        )
    if not (is_current and left.clean) and os.path.exists(path) and not is_marked(path):
        # A damaged one says nothing that could be trusted: whoever opens it moves it aside.
        with suppress(StateDamaged), closing(State(path)) as state:
            if state.get("clean") is not None:
                with state.transaction():
                    state.put({"clean": "0"})


def put_state(bucket: Bucket, state: State, before: Copy, workspace: str) -> Copy:
    """Store a copy of the state, the next one, and return it. `workspace` is a directory for temporary files."""
    number, token = before.number + 1, secrets.token_hex(8)
    copy, packed = (os.path.join(workspace, f"state-copy{ending}") for ending in ("", ".gz"))
    try:
        _discard(copy)
        state.select("vacuum into ?", (copy,))
        with closing(State(copy)) as copied, copied.transaction():
            copied.put({_BASE: token, _BEFORE: None})
        with open(copy, "rb") as whole, gzip.open(packed, "wb", compresslevel=1) as small:
            shutil.copyfileobj(whole, small, _PIECE)
        sha256 = sha256_of(packed)
        headers = ObjectHeaders("application/gzip", "no-store", sha256, "")
        bucket.put_file(_key(Copy(number, token)), packed, headers=headers, sha256=sha256)
    finally:
        _discard(copy)
        _discard(packed)
    with state.transaction():
        state.put({_BASE: token, _BEFORE: before.token or None})
    return Copy(number, token, sha256)


def forget_others(bucket: Bucket, kept: Copy, before: Copy) -> None:
    """Remove all copies of the state but this one and the one before it, which somebody may be reading."""
    names = {_key(kept), _key(before)}
    bucket.delete([found.key for found in bucket.list(_PLACE) if found.key not in names])


def _key(copy: Copy) -> str:
    return f"{_PLACE}{copy.number}-{copy.token}.sqlite.gz"


def _fetch(bucket: Bucket, copy: Copy, path: str) -> bool:
    """Put a copy into the place of the local state; False if it is not there, or not what it was."""
    key = _key(copy)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    packed, new = f"{path}.gz", f"{path}.new"
    try:
        if not (copy.token and bucket.get_file(key, packed) and sha256_of(packed) == copy.sha256):
            return False
        with gzip.open(packed) as small, open(new, "wb") as whole:
            shutil.copyfileobj(small, whole, _PIECE)
            whole.flush()
            os.fsync(whole.fileno())
        for ending in ("-wal", "-shm"):
            _discard(path + ending)
        os.replace(new, path)
        unmark(path)
    finally:
        _discard(packed)
        _discard(new)
    _LOG.info("the state is the store's copy %d", copy.number)
    return True


def _tokens(path: str) -> set[str]:
    """Which of the store's copies the local state is made on; {""} if on none, or if it cannot be trusted."""
    if is_marked(path) or not os.path.exists(path):
        return {""}
    try:
        with closing(State(path)) as state:
            base = state.get(_BASE) or ""
            return {base, state.get(_BEFORE) or base}
    except StateDamaged:
        return {""}


def _discard(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
