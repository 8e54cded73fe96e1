"""What an index says as a whole: its root index, its dialect, its serials. Asked once a run."""

from __future__ import annotations

import logging
import netrc
import re
from dataclasses import replace
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import orjson

from fastmirror.errors import InvalidName, PageError, SettingsError, UpstreamError
from fastmirror.names import NormalizedName, normalize
from fastmirror.simple import ACCEPT_ANY, ACCEPT_HTML, ACCEPT_JSON, API_VERSION, JSON_TYPE
from fastmirror.simple_entry import MAX_INTEGER
from fastmirror.simple_html import parse_html_index
from fastmirror.transport import Reply, Request
from fastmirror.weight import index_weight

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fastmirror.settings import UpstreamSettings
    from fastmirror.state import State

_LOG = logging.getLogger(__name__)


class Dialect(StrEnum):
    """How an upstream speaks; settled at first contact, kept in the state, never changed by a page."""

    JSON = "json"
    HTML = "html"

    @property
    def accept(self) -> str:
        """What to ask for."""
        return ACCEPT_HTML if self is Dialect.HTML else ACCEPT_JSON


def accept(dialect: Dialect | None) -> str:
    """What to ask an upstream for; None: its dialect is not settled yet."""
    return dialect.accept if dialect is not None else ACCEPT_ANY


def dialect_of(reply: Reply, settled: Dialect | None) -> Dialect | None:
    """The dialect of a reply; None if it is not the one that was settled."""
    spoken = Dialect.JSON if is_json(reply) else Dialect.HTML
    return spoken if settled in (None, spoken) else None


def settled_dialect(state: State | None, master: str) -> Dialect | None:
    """How this upstream speaks, if an earlier run has found out; another one may speak otherwise."""
    if state is None or state.get("master") not in (None, master) or not (text := state.get("dialect")):
        return None
    return Dialect(text)


class RootIndex(NamedTuple):
    """Every project that upstream lists."""

    projects: dict[NormalizedName, int | None]  # serials, where upstream gives them
    serial: int | None  # the greatest seen
    skipped: list[str]  # why entries were left out


class RootChange(NamedTuple):
    """What differs between two root indexes of PyPI's form."""

    changed: dict[NormalizedName, int | None]
    removed: list[NormalizedName]
    serial: int | None
    skipped: list[str]


def with_netrc(settings: UpstreamSettings) -> UpstreamSettings:
    """Take the upstream's credentials from the netrc file, where it names the host and the URL gave none."""
    if settings.credentials is not None or not settings.netrc:
        return settings
    try:
        found = netrc.netrc(settings.netrc).authenticators(urlsplit(settings.master).hostname or "")
    except (OSError, netrc.NetrcParseError) as error:
        raise SettingsError(f"netrc cannot be read: {error}") from error
    return replace(settings, credentials=(found[0], found[2] or "")) if found else settings


def project_url(master: str, name: str) -> str:
    """A project's page at this upstream."""
    return f"{master}/simple/{name}/"


def legacy_url(master: str, name: str) -> str:
    """A project's document of the legacy JSON API at this upstream."""
    return f"{master}/pypi/{name}/json"


def root_request(master: str, dialect: Dialect | None, etag: str, limit: int) -> Request:
    """The root index, if it is another than the one with this ETag; `limit` in bytes, decoded."""
    headers = [f"Accept: {accept(dialect)}"]
    if etag:
        headers.append(f"If-None-Match: {etag}")
    return Request(0, f"{master}/simple/", tuple(headers), limit, compressed=True, sink=None)


def require_usable(reply: Reply, what: str) -> None:
    """Raise UpstreamError unless the reply is a 200 or a 304."""
    if reply.error:
        raise UpstreamError(f"{what} cannot be read: {reply.error}")
    if reply.status not in (200, 304):
        raise UpstreamError(f"{what} cannot be read: HTTP status {reply.status}")


def etag_of(reply: Reply) -> str:
    """The ETag of a reply, as it is to be sent back; empty if there is none that can be."""
    etag = reply.headers.get("etag", "")
    return etag if etag.isascii() and etag.isprintable() else ""


def is_json(reply: Reply) -> bool:
    """Whether a reply is JSON by its Content-Type."""
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind in (JSON_TYPE, "application/json", "application/vnd.pypi.simple.latest+json")


def read_root(
    body: bytes, dialect: Dialect, page_url: str, displays: dict[NormalizedName, str] | None = None
) -> RootIndex:
    """Parse a root index. Raises UpstreamError for one that is no index, or an empty one.

    `displays` is filled with the names as upstream writes them, where those are others than the normalised ones.
    """
    try:
        is_json_root = dialect is Dialect.JSON
        index = parse_json_root(body, displays) if is_json_root else _parse_html_root(body, page_url, displays)
    except PageError as error:
        raise UpstreamError(f"root index cannot be used: {error}") from error
    if not index.projects:
        raise UpstreamError("root index cannot be used: it lists no project")
    return index


_PROJECTS = b'"projects":['
_BETWEEN = b"},{"
_CHUNK_BYTES = 256 << 10
_CHANGES_MOST = 50_000
_REMOVED_MOST = 500
_PIECE_BYTES = 150  # of memory for an entry that is compared, beside its bytes: an object, a place in a set


def parse_json_root(body: bytes, displays: dict[NormalizedName, str] | None = None) -> RootIndex:
    """Parse a root index in JSON; PyPI's form piece by piece, so that its 40 MB never become one tree of objects."""
    try:
        try:
            return _collect(*_pypi_form(body), displays)
        except (ValueError, orjson.JSONDecodeError):
            document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise PageError(f"invalid JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("projects"), list):
        raise PageError("`projects` is no list")
    return _collect(document.get("meta"), iter([document["projects"]]), displays)


def _array(body: bytes) -> tuple[int, int]:
    """Where PyPI's form of the root index begins and ends its list of projects; ValueError for another form."""
    start = body.index(_PROJECTS) + len(_PROJECTS)
    end = body.rindex(b"]")
    if body[end:].strip() != b"]}" or body[end - 1 : end] != b"}":
        raise ValueError
    return start, end


def _pypi_form(body: bytes) -> tuple[Any, Iterator[list[Any]]]:
    start, end = _array(body)
    head = orjson.loads(body[:start] + b"]}")
    return head.get("meta"), _chunks(body, start, end)


def _chunks(body: bytes, start: int, end: int) -> Iterator[list[Any]]:
    while start < end:
        cut = body.find(_BETWEEN, start + _CHUNK_BYTES, end)
        stop = end if cut < 0 else cut + 1
        yield orjson.loads(b"[" + body[start:stop] + b"]")
        start = stop + 1


def _collect(
    meta: Any,  # noqa: ANN401 - JSON of any shape
    chunks: Iterator[list[Any]],
    displays: dict[NormalizedName, str] | None = None,
) -> RootIndex:
    meta = meta if isinstance(meta, dict) else {}
    _check_version(str(meta.get("api-version", "1.0")))
    projects: dict[NormalizedName, int | None] = {}
    skipped: list[str] = []
    greatest = _serial(meta) or 0
    for chunk in chunks:
        for entry in chunk:
            try:
                name = normalize(entry["name"])
            except (InvalidName, TypeError, KeyError):
                skipped.append(f"entry without a valid name: {_told(entry)}")
                continue
            if name in projects:
                skipped.append(f"name listed twice: {entry['name']!r:.80}")
                continue
            serial = _serial(entry)
            projects[name] = serial
            if displays is not None and entry["name"] != name:
                displays[name] = entry["name"]
            if serial is not None and serial > greatest:
                greatest = serial
    return RootIndex(projects, greatest or None, skipped)


def _told(entry: Any) -> str:  # noqa: ANN401 - JSON of any shape
    """An entry for a person: it may be too large, and nested too deeply, to be shown whole."""
    name = entry.get("name") if isinstance(entry, dict) else None
    return f"{name[:80]!r}" if isinstance(name, str) else f"a {type(entry).__name__}"


_DIGITS = re.compile(r"[0-9]{1,18}", re.ASCII)


def _check_version(version: str) -> None:
    """Refuse another major version; of a newer minor one, say that what is new about it is not known here."""
    major, _, minor = version.partition(".")
    if major != "1":
        raise PageError(f"unknown major api-version {version!r:.80}")
    if _DIGITS.fullmatch(minor) and int(minor) > int(API_VERSION.partition(".")[2]):
        _LOG.warning("root index: api-version %s is newer than %s: unknown keys are passed on", version, API_VERSION)


def _serial(entry: dict[str, Any]) -> int | None:
    serial = entry.get("_last-serial")
    if type(serial) is str and _DIGITS.fullmatch(serial):
        serial = int(serial)
    return serial if type(serial) is int and 0 < serial <= MAX_INTEGER else None


def _parse_html_root(body: bytes, page_url: str, displays: dict[NormalizedName, str] | None) -> RootIndex:
    projects: dict[NormalizedName, int | None] = {}
    skipped: list[str] = []
    for label in parse_html_index(body, page_url):
        try:
            name = normalize(label)
        except InvalidName as error:
            skipped.append(str(error))
            continue
        if name in projects:
            skipped.append(f"name listed twice: {label!r:.80}")
        projects[name] = None
        if displays is not None and label != name:
            displays.setdefault(name, label)
    return RootIndex(projects, None, skipped)


def root_change(
    old: bytes, new: bytes, displays: dict[NormalizedName, str] | None = None, *, memory: int = 1 << 30
) -> RootChange | None:
    """What changed between two root indexes of PyPI's form, at the cost of comparing bytes.

    None if one is of another form or unusable, if so much changed that reading the whole costs less, or if comparing
    might take more than `memory` bytes. `displays` is filled as by read_root, of what changed.
    """
    try:
        (old_start, old_end, _), (start, end, entries) = _flat_array(old), _flat_array(new)
        if entries * _PIECE_BYTES + 2 * len(new) > memory:
            return None
        fresh = set(chain.from_iterable(_pieces(new, start + 1, end - 1)))
        gone = _without(old, old_start + 1, old_end - 1, fresh)
        if len(fresh) + len(gone) > _CHANGES_MOST:
            return None
        head = _loads(new[:start] + b"]}", memory)
        changed = _collect(head.get("meta"), iter([_entries(list(fresh), memory)]), displays)
        listed_no_more = _collect({}, iter([_entries(gone, memory)])).projects
    except (ValueError, AttributeError, PageError):
        return None
    removed = [name for name in listed_no_more if name not in changed.projects]
    if removed and (len(removed) > _REMOVED_MOST or _may_list(new, removed)):
        return None
    return RootChange(changed.projects, removed, changed.serial, changed.skipped)


def _may_list(body: bytes, names: Iterable[NormalizedName]) -> bool:
    """Whether an index of PyPI's form may list one of these, in any spelling: what was listed twice, and is once."""
    spelled = "|".join(name.replace("-", "[-_.]+") for name in names)
    return b"\\" in body or re.search(rf'"name"\s*:\s*"(?i:{spelled})"'.encode(), body) is not None


def _flat_array(body: bytes) -> tuple[int, int, int]:
    """As _array, with the number of entries, which hold no objects: only there is each piece between two seams one."""
    start, end = _array(body)
    entries = body.count(_BETWEEN, start, end) + 1
    if body[start : start + 1] != b"{" or body.count(b"{", start, end) != entries:
        raise ValueError
    return start, end, entries


def _pieces(body: bytes, start: int, end: int) -> Iterator[list[bytes]]:
    """What stands between seams, some at a time: a copy of all would be as large as the index."""
    while start < end:
        cut = body.find(_BETWEEN, start + _CHUNK_BYTES, end)
        stop = end if cut < 0 else cut
        yield body[start:stop].split(_BETWEEN)
        start = stop + len(_BETWEEN)


def _without(body: bytes, start: int, end: int, fresh: set[bytes]) -> list[bytes]:
    """Take this body's pieces out of `fresh`; return those that were not in it."""
    gone: list[bytes] = []
    for some in _pieces(body, start, end):
        pieces = set(some)
        gone += pieces - fresh
        fresh -= pieces
    return gone


def _loads(text: bytes, memory: int) -> Any:  # noqa: ANN401 - JSON of any shape
    """Raises ValueError for what is no JSON, and for what might take more than `memory` bytes."""
    if index_weight(text, html=False) > memory:
        raise ValueError
    return orjson.loads(text)


def _entries(pieces: Sequence[bytes], memory: int) -> list[Any]:
    entries: list[Any] = _loads(b"[{" + _BETWEEN.join(pieces) + b"}]", memory) if pieces else []
    if len(entries) != len(pieces):
        raise ValueError  # a seam stood within a text
    return entries


def save_root(path: str, body: bytes) -> None:
    """Keep the root index that has been applied in full, for the next plan; its loss is harmless."""
    staged = Path(f"{path}.new")
    staged.write_bytes(body)
    staged.replace(path)


def load_root(path: str) -> bytes:
    """The root index that was applied last; empty if there is none."""
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""
