"""Where a file is asked for: at the download mirrors, in their order, then at its own address."""

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


class Source(NamedTuple):
    """One address to ask for a body."""

    url: str
    mirror: str  # the download mirror that it belongs to; "" for upstream's own address


class Sources:
    """The addresses that the operator allows. One for all of a worker's files: it knows which mirrors are of use."""

    def __init__(self, settings: UpstreamSettings) -> None:
        self._is_https_only = not settings.allow_non_https
        self._hosts = settings.file_hosts
        self._marks = dict.fromkeys(settings.download_mirrors, 0)
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
        sources = [Source(mirror + path, mirror) for mirror in self._marks if self._is_of_use(mirror)]
        return [*sources, Source(url, "")] if self._has_fallback else sources

    def note(self, source: Source, *, good: bool, absent: bool, reason: str) -> None:
        """How an address answered; a mirror that only fails is not asked for ever."""
        marks = self._marks.get(source.mirror)
        if marks is None:
            return
        was_of_use = self._is_of_use(source.mirror)
        self._marks[source.mirror] = 0 if good else marks + (1 if absent else _MARKS_OF_A_FAILURE)
        if was_of_use and not self._is_of_use(source.mirror):
            _LOG.warning("download mirror not asked any more in this run, it only fails: %s: %s", source.mirror, reason)

    def _is_of_use(self, mirror: str) -> bool:
        """Whether it is to be asked: where there is no other way, always."""
        return not self._has_fallback or self._marks[mirror] < _MARKS_MOST


def place(source: Source) -> str:
    """The host of an address, for a person."""
    return urlsplit(source.url).netloc.rpartition("@")[2]
