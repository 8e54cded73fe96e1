"""Where a file is asked for: at the download mirrors, the quickest first, then at its own address."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from fastmirror.settings import UpstreamSettings

_LOG = logging.getLogger(__name__)
# A mirror is given up when its marks, since it last was of use, come to so many: after 20 failures in a row,
# or 200 files that it does not have.
_MARKS_MOST = 200
_MARKS_OF_A_FAILURE = 10
_PROBED_EACH = 8  # one file in so many is asked for at another mirror than the quickest first
_PROBE_BYTES = 8 << 20  # and none that is larger, as it may take long there
_KEPT_OF_EARLIER = 0.9  # of what earlier files told, with each one
_BYTES_OF_A_REQUEST = 64 << 10  # that each counts for beside its own, so that small files tell of the latency


class Source(NamedTuple):
    """One address to ask for a body."""

    url: str
    mirror: str  # the download mirror that it belongs to; "" for upstream's own address


class _Standing:
    """What one worker knows of a download mirror."""

    __slots__ = ("_bytes", "_seconds", "marks", "probed")

    def __init__(self) -> None:
        self.marks = 0
        self.probed = 0  # the number of the file that it was last probed with
        self._bytes = self._seconds = 0.0

    @property
    def speed(self) -> float:
        """Bytes a second; 0 before it was ever asked."""
        return self._bytes / self._seconds if self._seconds else 0.0

    def measure(self, came: int, seconds: float) -> None:
        """A request took so long, and so many bytes of it are of use: of one that is answered with none, 0."""
        self._bytes = self._bytes * _KEPT_OF_EARLIER + (came + _BYTES_OF_A_REQUEST if came else 0)
        self._seconds = self._seconds * _KEPT_OF_EARLIER + seconds


class Sources:
    """The addresses that the operator allows. One for all of a worker's files: it knows which mirrors are of use.

    Mirrors are asked in the order of their measured speed, those not measured yet last and in the operator's order.
    One file at a time, and one in eight, goes to another one first, in turn, as what was slow may be quick now.
    """

    def __init__(self, settings: UpstreamSettings) -> None:
        self._is_https_only = not settings.allow_non_https
        self._hosts = settings.file_hosts
        self._standing = {mirror: _Standing() for mirror in settings.download_mirrors}
        self._asked = 0  # files
        self._probe: Source | None = None  # the one under way
        self._has_fallback = settings.download_fallback or not settings.download_mirrors
        self.are_plain = not settings.download_mirrors  # upstream's own address is all there is

    def refusal(self, url: str) -> str:
        """Why an address that upstream gives is not asked; "" if it may be."""
        if self._is_https_only and url[:6].lower() != "https:":
            return "http address refused (hint: allow-non-https = true)"
        if self._hosts:
            host = urlsplit(url).hostname or ""
            if host not in self._hosts:
                return f"host refused, not among file-hosts: {host}"
        return ""

    def of(self, url: str) -> list[Source]:
        """Where to ask for what upstream offers at this address, in order."""
        path = urlsplit(url).path
        mirrors = [mirror for mirror in self._standing if self._is_of_use(mirror)]
        mirrors.sort(key=lambda mirror: -self._standing[mirror].speed)
        sources = [Source(mirror + path, mirror) for mirror in mirrors]
        return [*sources, Source(url, "")] if self._has_fallback else sources

    def at_once(self, url: str, size: int | None) -> list[Source]:
        """The same for what is asked for now, so many bytes: now and then another mirror comes first."""
        sources = self.of(url)
        self._asked += 1
        others = [source for source in sources[1:] if source.mirror]
        if others and self._may_probe(size):
            self._probe = min(others, key=lambda source: self._standing[source.mirror].probed)
            self._standing[self._probe.mirror].probed = self._asked
            sources.remove(self._probe)
            sources.insert(0, self._probe)
        return sources

    def _may_probe(self, size: int | None) -> bool:
        is_small = size is not None and size <= _PROBE_BYTES
        return is_small and self._probe is None and self._asked % _PROBED_EACH == 0

    def note(self, source: Source, *, came: int, seconds: float, absent: bool, reason: str) -> None:
        """How an address answered, within how many seconds, and what came that is of use, in bytes; -1: nothing is.

        A mirror that only fails is not asked for ever.
        """
        standing = self._standing.get(source.mirror)
        if standing is None:
            return
        if source is self._probe:
            self._probe = None
        was_of_use, good = self._is_of_use(source.mirror), came >= 0
        standing.measure(max(came, 1) if good else 0, seconds)
        standing.marks = 0 if good else standing.marks + (1 if absent else _MARKS_OF_A_FAILURE)
        if was_of_use and not self._is_of_use(source.mirror):
            _LOG.warning("download mirror not asked any more in this run, it only fails: %s: %s", source.mirror, reason)

    def _is_of_use(self, mirror: str) -> bool:
        """Whether it is to be asked: where there is no other way, always."""
        return not self._has_fallback or self._standing[mirror].marks < _MARKS_MOST


def place(source: Source) -> str:
    """The host of an address, for a person."""
    return urlsplit(source.url).netloc.rpartition("@")[2]
