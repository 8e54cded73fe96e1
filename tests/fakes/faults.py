"""What the fake index can do wrong. Faults compose: several may apply to one request, in their order.

A fault changes the view before the answer is made, or the answer before it is sent; it is bounded in time.
"""

from __future__ import annotations

import fnmatch
import gzip
import json
import random
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from tests.fakes.pages import HTML_TYPE, View
from tests.fakes.wire import Answer, Gate, Record

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_PAUSE_S = 1.0
_OTHER_BYTES = bytes(byte ^ 0x55 for byte in range(256))


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong."""

    see: Callable[[View], None] | None = None  # before the answer is made
    spoil: Callable[[Answer, Record], None] | None = None  # after it is made


@dataclass(eq=False)
class Rule:
    """Which requests a few faults apply to."""

    glob: str
    faults: tuple[Fault, ...]
    times: int | None  # how many requests they apply to; None: all
    skip: int  # how many matching requests pass unharmed before
    packed: bool | None = None  # only requests that take gzip, or only those that do not
    hits: int = 0  # requests that were harmed
    seen: int = field(default=0, repr=False)

    def claim(self, record: Record) -> bool:
        """Whether this request is to be harmed; counts it. The caller holds a lock."""
        if not any(fnmatch.fnmatchcase(path, self.glob) for path in {record.path, record.decoded_path}):
            return False
        if self.packed not in (None, "gzip" in record.headers.get("accept-encoding", "")):
            return False
        self.seen += 1
        if self.seen <= self.skip or (self.times is not None and self.hits >= self.times):
            return False
        self.hits += 1
        return True


def _become(answer: Answer, other: Answer) -> None:
    for name in Answer.__slots__:
        setattr(answer, name, getattr(other, name))


def status(code: int, retry_after: int | str | None = None, body: bytes = b"") -> Fault:
    """Answer with a status and little else."""
    headers = {"Content-Type": "text/plain"} | ({} if retry_after is None else {"Retry-After": str(retry_after)})
    return Fault(spoil=lambda answer, _: _become(answer, Answer(code, dict(headers), body)))


def reset(after: int | None = None) -> Fault:
    """Reset the connection: before anything is answered, or after some bytes of the body."""

    def spoil(answer: Answer, _: Record) -> None:
        answer.reset, answer.mute, answer.stop_at = True, after is None, after

    return Fault(spoil=spoil)


def hang_up() -> Fault:
    """Close the connection without an answer."""
    return Fault(spoil=lambda answer, _: setattr(answer, "mute", True))


def truncate(at: float) -> Fault:
    """Announce the whole body, send so many bytes (below 1: that part of it), and close."""

    def spoil(answer: Answer, _: Record) -> None:
        answer.stop_at = int(len(answer.body) * at) if at < 1 else int(at)

    return Fault(spoil=spoil)


def no_length(extra: bytes = b"") -> Fault:
    """Leave Content-Length out, end the body by closing, and add bytes to it."""

    def spoil(answer: Answer, _: Record) -> None:
        answer.framing, answer.body = "close", answer.body + extra

    return Fault(spoil=spoil)


def extra(more: bytes = b"extra") -> Fault:
    """A body longer than the index says, with its true Content-Length."""
    return Fault(spoil=lambda answer, _: setattr(answer, "body", answer.body + more))


def chunked(piece: int = 1024) -> Fault:
    """The right bytes in Transfer-Encoding chunked."""

    def spoil(answer: Answer, _: Record) -> None:
        answer.framing, answer.piece = "chunked", piece

    return Fault(spoil=spoil)


def wrong_content() -> Fault:
    """Other bytes of the same length."""

    def spoil(answer: Answer, _: Record) -> None:
        answer.body = answer.body.translate(_OTHER_BYTES)

    return Fault(spoil=spoil)


def encoded() -> Fault:
    """The right content with Content-Encoding gzip, whatever was asked."""

    def spoil(answer: Answer, _: Record) -> None:
        answer.body = gzip.compress(answer.body, 1, mtime=0)
        answer.headers["Content-Encoding"] = "gzip"

    return Fault(spoil=spoil)


def plain() -> Fault:
    """The right content without any Content-Encoding, whatever was asked."""

    def spoil(answer: Answer, _: Record) -> None:
        if answer.headers.pop("Content-Encoding", None) is not None:
            answer.body = gzip.decompress(answer.body)

    return Fault(spoil=spoil)


def body(content: bytes, content_type: str | None = None) -> Fault:
    """Any other body, with status 200."""

    def spoil(answer: Answer, _: Record) -> None:
        answer.status, answer.body = 200, content
        answer.headers.pop("Content-Encoding", None)
        if content_type is not None:
            answer.headers["Content-Type"] = content_type

    return Fault(spoil=spoil)


def html_instead() -> Fault:
    """A friendly page that says nothing of use, with status 200, as captive portals and caches send."""
    page = b"<!DOCTYPE html>\n<html><head><title>Sorry</title></head><body>Back soon.</body></html>"
    answer = Answer(200, {"Content-Type": HTML_TYPE}, page)
    return Fault(spoil=lambda spoilt, _: _become(spoilt, replace(answer, headers=dict(answer.headers))))


def no_header(name: str) -> Fault:
    """Leave a header out."""
    return header(name, None)


def header(name: str, value: str | None) -> Fault:
    """Set a header; None: leave it out."""

    def spoil(answer: Answer, _: Record) -> None:
        answer.headers = {key: old for key, old in answer.headers.items() if key.lower() != name.lower()}
        if value is not None:
            answer.headers[name] = value

    return Fault(spoil=spoil)


def redirect(to: str, code: int = 302) -> Fault:
    """Send elsewhere: a URL or a path."""
    return Fault(spoil=lambda answer, _: _become(answer, Answer(code, {"Location": to})))


def redirect_loop() -> Fault:
    """Send to itself, for ever."""
    return Fault(spoil=lambda answer, record: _become(answer, Answer(302, {"Location": record.path})))


def drip(piece: int = 1, pause_s: float = 0.05) -> Fault:
    """Send the body in small pieces with pauses between; it ends when the index closes."""

    def spoil(answer: Answer, _: Record) -> None:
        answer.piece, answer.pause_s = piece, min(pause_s, LONGEST_PAUSE_S)

    return Fault(spoil=spoil)


def hold(gate: Gate, at: float | None = None) -> Fault:
    """Hold the answer at a gate: before its first byte, or after some of its body (below 1: that part)."""

    def spoil(answer: Answer, _: Record) -> None:
        answer.gate = gate
        answer.hold_at = None if at is None else int(len(answer.body) * at) if 0 < at < 1 else int(at)

    return Fault(spoil=spoil)


def no_range() -> Fault:
    """Answer a request for a part with the whole."""
    return Fault(see=lambda view: setattr(view, "ranges", False))


def wrong_content_range(shift: int = 1) -> Fault:
    """Answer a request for a part with a Content-Range of some other part."""

    def spoil(answer: Answer, _: Record) -> None:
        if "Content-Range" in answer.headers:
            span, total = answer.headers["Content-Range"].removeprefix("bytes ").split("/")
            first, last = (int(number) + shift for number in span.split("-"))
            answer.headers["Content-Range"] = f"bytes {first}-{last}/{total}"

    return Fault(spoil=spoil)


def stale(as_of: int | None = None) -> Fault:
    """The page as of an older serial, or as it was before the project's last change."""

    def see(view: View) -> None:
        view.as_of, view.previous = as_of, as_of is None

    return Fault(see=see)


def alter(change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> Fault:
    """Change the page's document, in place or by returning another, before it is rendered as JSON or HTML."""
    return Fault(see=lambda view: view.alterations.append(change))


def alter_files(**keys: Any) -> Fault:
    """Set keys of every file on the page; an underscore stands for a hyphen."""

    def change(document: dict[str, Any]) -> None:
        for entry in document.get("files", ()):
            entry.update({key.replace("_", "-"): value for key, value in keys.items()})

    return alter(change)


def alter_json(change: Callable[[Any], Any]) -> Fault:
    """Change any JSON body after it is rendered, also to what is no page at all."""

    def spoil(answer: Answer, _: Record) -> None:
        packed = answer.headers.pop("Content-Encoding", None) is not None
        document = json.loads(gzip.decompress(answer.body) if packed else answer.body)
        answer.body = json.dumps(change(document)).encode()

    return Fault(spoil=spoil)


def throttle(share: float, seed: int = 0, retry_after: int | None = 1, most: int | None = None) -> Fault:
    """429 for a share of the requests, chosen by a seeded generator; for one path ``most`` times, if given."""
    chance = random.Random(seed)
    refused: Counter[str] = Counter()
    refuse = status(429, retry_after)

    def spoil(answer: Answer, record: Record) -> None:
        if chance.random() < share and refused[record.path] != most and refuse.spoil is not None:
            refused[record.path] += 1
            refuse.spoil(answer, record)

    return Fault(spoil=spoil)


def overload(seconds: float, *refusals: Fault, share: float = 1.0, seed: int = 0) -> Fault:
    """From its first request on, for so long, refuse a share of them, each time in one of these ways; then recover."""
    chance = random.Random(seed)
    ends: list[float] = []

    def spoil(answer: Answer, record: Record) -> None:
        now = time.monotonic()
        if not ends:
            ends.append(now + seconds)
        chosen = chance.choice(refusals)
        if now < ends[0] and chance.random() < share and chosen.spoil is not None:
            chosen.spoil(answer, record)

    return Fault(spoil=spoil)


def gzip_bomb(size: int = 1 << 30) -> Fault:
    """A body that unpacks to ``size`` zero bytes (in whole MiB)."""

    def spoil(answer: Answer, _: Record) -> None:
        answer.status, answer.body = 200, _zeros(max(size >> 20, 1))
        answer.headers["Content-Encoding"] = "gzip"

    return Fault(spoil=spoil)


@cache
def _zeros(mebibytes: int) -> bytes:
    """That many MiB of zeros in gzip: one flushed block, which needs nothing before it, over and over."""
    block = bytes(1 << 20)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = 0
    for _ in range(mebibytes):
        checksum = zlib.crc32(block, checksum)
    trailer = checksum.to_bytes(4, "little") + ((mebibytes << 20) & 0xFFFFFFFF).to_bytes(4, "little")
    return b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff" + packed * mebibytes + packer.flush() + trailer
