"""The change feed beside the root index: what differs between one state of it and the next, for mirrors of this mirror.

| path below ``web/`` | what |
|---|---|
| changes/head.json | ``{"version":1,"states":[…]}``: digests of the root index in JSON, the oldest first |
| changes/<digest>-<digest>.json | the step from one to the next: the root index that it leads to, with those entries |
|  | alone that are new or others; and ``removed``, the names that left |

A digest is the XXH3, 128 bits, of the whole root index. Who holds one of these states makes the last one of it,
byte for byte, and knows by the digest whether that is so.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import orjson

from fastmirror.errors import PageError
from fastmirror.simple import FEED_VERSION, index_entry, read_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HEAD_PATH = "changes/head.json"
STEP_PATHS = r"changes/[0-9a-f]{32}-[0-9a-f]{32}\.json"
STATES_MOST = 300  # in a head: two days of changes every ten minutes, in 11 kB
CHANGES_MOST = 20_000  # in a step; reading the whole index costs little more
HEAD_BYTES = 64 << 10  # no head has more
STEP_BYTES = 4 << 20  # no step has more
BEGINNING_BYTES = 4096  # enough for what stands before the first project
_PROJECTS = b'"projects":['
_DIGEST = re.compile(r"[0-9a-f]{32}", re.ASCII)


def step_path(before: str, after: str) -> str:
    """Path below ``web/`` of the step from one state to the next; it never stands for another step."""
    return f"changes/{before}-{after}.json"


def render_head(states: Sequence[str]) -> str:
    """The head that names these states."""
    return orjson.dumps({"version": FEED_VERSION, "states": states}).decode()


def render_step(beginning: bytes, entries: Iterable[tuple[str, int | None]], removed: Iterable[str]) -> str:
    """A step; `beginning` is that of the root index that it leads to. Normalised names need no quoting."""
    listed = ",".join(index_entry(name, serial) for name, serial in entries)
    gone = ",".join(f'"{name}"' for name in removed)
    return f'{beginning.decode()}{listed}],"removed":[{gone}]}}\n'


def beginning_of(body: bytes) -> bytes:
    """What stands before the first project of a root index, or of a step. Raises PageError if nothing does."""
    end = body.find(_PROJECTS, 0, BEGINNING_BYTES)
    if end < 0:
        raise PageError("`projects` is not where it belongs")
    return body[: end + len(_PROJECTS)]


def offers_feed(body: bytes) -> bool:
    """Whether there is a feed beside this root index."""
    try:
        meta = orjson.loads(beginning_of(body) + b"]}")["meta"]
        return type(meta) is dict and meta.get("_changes") == FEED_VERSION
    except (PageError, orjson.JSONDecodeError, KeyError, TypeError):
        return False


def read_head(body: bytes) -> list[str]:
    """The states that a head names. Raises PageError for what is no head."""
    head = read_object(body)
    states = head.get("states")
    if head.get("version") != FEED_VERSION or type(states) is not list or not states:
        raise PageError("not the head of a feed")
    if not all(type(state) is str and _DIGEST.fullmatch(state) for state in states):
        raise PageError("a state that is no digest")
    return states


def rebuilt(body: bytes, steps: Iterable[bytes]) -> bytes:
    """The root index that these steps, one or more, make of this one. Raises PageError where they do not fit.

    Entries stand by name: each that changes is found by halving, so that the cost is that of copying.
    """
    beginning = beginning_of(body)
    end = body.rfind(b"]")
    changes: dict[bytes, bytes] = {}
    after = beginning
    for step in steps:
        after = beginning_of(step)
        changes |= _changes(step)
    text = body[len(beginning) : end] + b","  # so that each entry ends alike
    if text == b",":
        text = b""
    pieces = [after]
    done = 0
    for name in sorted(changes):
        first, last = _place(text, done, name)
        pieces += text[done:first], changes[name]
        done = last
    pieces.append(text[done:])
    return b"".join(pieces).removesuffix(b",") + body[end:]


def _changes(step: bytes) -> dict[bytes, bytes]:
    """Name -> its entry in the root index, with the comma after it; empty if it has none any more."""
    document = read_object(step)
    try:
        changes = {name.encode(): b"" for name in document["removed"]}
        return changes | {entry["name"].encode(): orjson.dumps(entry) + b"," for entry in document["projects"]}
    except (KeyError, TypeError, AttributeError) as error:
        raise PageError(f"not a step of a feed: {error!r:.80}") from error


def _place(text: bytes, low: int, name: bytes) -> tuple[int, int]:
    """Where the entry of this name begins and ends; where there is none, twice the place that it would have."""
    high = len(text)
    while low < high:
        first = text.rfind(b"{", low, (low + high) // 2 + 1)
        named = text.find(b'"name":"', first, high) + len(b'"name":"')
        last = text.find(b'"},', named, high) + len(b'"},')
        if not low <= first < named < last:
            raise PageError("an entry of the root index is of another form")
        found = text[named : last - len(b'"},')]
        if found == name:
            return first, last
        low, high = (last, high) if found < name else (low, first)
    return low, low
