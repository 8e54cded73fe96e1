"""The faults of the fake index by name, as ``python -m tests.fakes.index`` takes them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.fakes import faults

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes.faults import Fault


class Kind(NamedTuple):
    """One way to go wrong."""

    make: Callable[[str], Fault]  # of the text behind its name, which may be empty
    says: str


_OTHER_HASHES = {"sha256": "0" * 64}
_ODD_NAMES = (None, 5, "", "..", "../x", "x" * 300, "nö")


def _projects(change: Callable[[list[Any]], list[Any]]) -> Fault:
    """Change what the root index lists; pages stay as they are."""

    def see(document: dict[str, Any]) -> None:
        if "projects" in document:
            document["projects"] = change(document["projects"])

    return faults.alter(see)


def _first_projects(count: str) -> Fault:
    return _projects(lambda listed: listed[: int(count or 0)])


def _odd_entries(_: str) -> Fault:
    odd: list[Any] = [None, 5, [], {}, *({"name": name} for name in _ODD_NAMES)]
    return _projects(lambda listed: [*odd, *listed, *listed[:1]])


def _api_version(version: str) -> Fault:
    return faults.alter(lambda document: document["meta"].update({"api-version": version or "2.0"}))


KINDS = {
    "status": Kind(lambda value: faults.status(int(value or 503), 1), "CODE, 503 unless given, and Retry-After: 1"),
    "throttle": Kind(lambda value: faults.throttle(float(value or 0.1)), "429 for a share of the requests, 0.1"),
    "reset": Kind(lambda value: faults.reset(int(value) if value else None), "reset at once, or after BYTES of body"),
    "hang-up": Kind(lambda _: faults.hang_up(), "close without an answer"),
    "truncate": Kind(lambda value: faults.truncate(float(value or 0.5)), "announce all, send BYTES, or a part below 1"),
    "drip": Kind(lambda value: faults.drip(int(value or 1024)), "BYTES at a time, with pauses"),
    "extra": Kind(lambda _: faults.extra(), "more bytes than the page says"),
    "no-length": Kind(lambda _: faults.no_length(), "no Content-Length, ended by closing"),
    "chunked": Kind(lambda value: faults.chunked(int(value or 1024)), "Transfer-Encoding chunked, BYTES a chunk"),
    "gzip": Kind(lambda _: faults.encoded(), "Content-Encoding gzip, whatever was asked"),
    "plain": Kind(lambda _: faults.plain(), "no Content-Encoding, whatever was asked"),
    "gzip-bomb": Kind(lambda value: faults.gzip_bomb(int(value or 1 << 30)), "unpacks to BYTES of zeros, 1 GiB"),
    "wrong-content": Kind(lambda _: faults.wrong_content(), "other bytes of the same length"),
    "body": Kind(lambda value: faults.body(value.encode()), "TEXT as the body, nothing unless given"),
    "html-instead": Kind(lambda _: faults.html_instead(), "a friendly page with status 200"),
    "no-header": Kind(lambda value: faults.no_header(value or "ETag"), "leave out a header: NAME, ETag"),
    "redirect": Kind(lambda value: faults.redirect(value or "file:///etc/hostname"), "to URL, file:///etc/hostname"),
    "redirect-loop": Kind(lambda _: faults.redirect_loop(), "to itself, for ever"),
    "no-range": Kind(lambda _: faults.no_range(), "the whole where a part was asked for"),
    "wrong-content-range": Kind(lambda _: faults.wrong_content_range(), "another part than was asked for"),
    "stale": Kind(lambda value: faults.stale(int(value or 0) or None), "the page before its last change, or of SERIAL"),
    "api-version": Kind(_api_version, "VERSION in meta, 2.0"),
    "first-projects": Kind(_first_projects, "a root index of the first N projects, none unless given"),
    "odd-entries": Kind(_odd_entries, "a root index with nulls, names that are none, one name twice; JSON"),
    "unhashed": Kind(lambda _: faults.alter_files(hashes={}), "a page whose files have no hash"),
    "wrong-hash": Kind(lambda _: faults.alter_files(hashes=_OTHER_HASHES), "a page whose files have another sha256"),
    "size": Kind(lambda value: faults.alter_files(size=int(value or 1)), "a page whose files have N bytes, 1"),
    "filename": Kind(
        lambda value: faults.alter_files(filename=value or "../evil-1.0.tar.gz"), "a page whose files are called NAME"
    ),
    "url": Kind(
        lambda value: faults.alter_files(url=value or "/packages/%2e%2e/%2e%2e/etc/hostname"),
        "a page whose files are at URL, a way up unless given",
    ),
}

EPILOG = "\n".join(
    [
        "GLOB is matched against the whole path, and * matches slashes too: /simple/ is the root index,",
        "/simple/?* every page, /packages/* every file. KIND[:VALUE] is one of:",
        "",
        *(f"  {name:20} {kind.says}" for name, kind in KINDS.items()),
        "",
        "The address is the first line printed; all else is up to the mirror, for instance:",
        "",
        "  python -m tests.fakes.index --port 8000 --fault '/simple/?*=throttle:0.3' --fault '/packages/*=truncate'",
        "  fastmirror mirror --directory /tmp/mirror --master http://127.0.0.1:8000 --set allow-non-https=true",
    ]
)


def fault_argument(text: str) -> tuple[str, Fault]:
    """``GLOB=KIND[:VALUE]``: which paths, and what goes wrong there."""
    glob, separator, spelling = text.partition("=")
    kind, _, value = spelling.partition(":")
    if not separator or kind not in KINDS:
        raise argparse.ArgumentTypeError(f"not GLOB=KIND[:VALUE] with a kind of {', '.join(KINDS)}: {text!r}")
    return glob, KINDS[kind].make(value)
