"""What the fake index answers when nothing goes wrong."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import threading
from typing import TYPE_CHECKING, Any

from tests.fakes.catalogue import Catalogue, normalize
from tests.fakes.pages import (
    HTML_TYPE,
    Dialect,
    Origin,
    View,
    legacy_document,
    negotiate,
    project_document,
    render_json,
    render_project_html,
    render_root_html,
    root_document,
)
from tests.fakes.wire import Answer, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_PAGE_MAX_AGE = "max-age=600, public"
_FILE_MAX_AGE = "max-age=365000000, immutable, public"
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Site:
    """A catalogue behind HTTP. The settings may be changed at any time."""

    def __init__(self) -> None:
        self.dialect: Dialect = "json"
        self.legacy = True  # whether /pypi/<name>/json answers
        self.relative_urls = False
        self.credentials: tuple[str, str] | None = None  # the index asks for them; its file host never does
        self.catalogue = Catalogue()
        self._cache: dict[tuple[Any, ...], tuple[bytes, str]] = {}
        self._cache_lock = threading.Lock()

    def origin(self) -> Origin:
        """Where the links on its pages lead."""
        raise NotImplementedError

    def answer(self, record: Record, view: View) -> Answer:
        """The right answer to a request, as seen through a view."""
        if record.method not in {"GET", "HEAD"}:
            return Answer(405, {"Allow": "GET, HEAD"})
        if self.credentials is not None and record.side == "index":
            expected = base64.b64encode(":".join(self.credentials).encode()).decode()
            if record.headers.get("authorization") != f"Basic {expected}":
                return Answer(401, {"WWW-Authenticate": 'Basic realm="fake"'})
        first, _, rest = record.decoded_path[1:].partition("/")
        if first == "packages":
            return self._file(record, view)
        if record.side == "index":
            if first == "simple":
                return self._simple(record, rest, view)
            if first == "pypi" and self.legacy:
                return self._legacy(record, rest, view)
            if first == "integrity":
                return self._provenance(rest)
        return _not_found()

    def _simple(self, record: Record, rest: str, view: View) -> Answer:
        if not record.path.endswith("/") or normalize(rest) != rest:
            target = normalize(rest.rstrip("/"))
            return Answer(301, {"Location": f"/simple/{target}/" if target else "/simple/"})
        kind = HTML_TYPE if self.dialect == "html" else negotiate(record.headers.get("accept"))
        if not rest:
            if view.previous:
                view.as_of = self.catalogue.serial - 1
            serial = self.catalogue.serial if view.as_of is None else view.as_of
            return self._page(record, view, kind, serial, lambda: self._root(view, serial), render_root_html)
        name = rest[:-1]
        state = self.catalogue.snapshot(name, view.as_of, previous=view.previous)
        if state is None or "/" in name:
            return _not_found()
        serials = self.dialect == "json"
        return self._page(
            record,
            view,
            kind,
            state.serial,
            lambda: project_document(state, self.origin(), serials=serials),
            render_project_html,
        )

    def _root(self, view: View, serial: int) -> dict[str, Any]:
        listed = self.catalogue.listed(view.as_of)
        return root_document(listed, serial if self.dialect == "json" else None)

    def _legacy(self, record: Record, rest: str, view: View) -> Answer:
        name, _, last = rest.partition("/")
        if last == "json/":
            return Answer(301, {"Location": record.path.rstrip("/")})
        state = self.catalogue.snapshot(name, view.as_of, previous=view.previous)
        if last != "json" or state is None or not state.visible_files:
            return _not_found()
        origin = self.origin()
        answer = self._page(
            record, view, "application/json", state.serial, lambda: legacy_document(state, origin), render_json
        )
        answer.headers["X-PyPI-Last-Serial"] = str(state.serial)
        return answer

    def _provenance(self, rest: str) -> Answer:
        project, _, tail = rest.partition("/")
        state = self.catalogue.snapshot(project)
        for file in state.visible_files if state is not None else ():
            served = file.provenance
            if tail != f"{file.version}/{file.filename}/provenance" or isinstance(served, str | None):
                continue
            return Answer(200, {"Content-Type": "application/vnd.pypi.integrity.v1+json"}, render_json(served))
        return _not_found()

    def _page(
        self,
        record: Record,
        view: View,
        kind: str,
        serial: int,
        make: Callable[[], dict[str, Any]],
        to_html: Callable[[Mapping[str, Any]], bytes],
    ) -> Answer:
        """Render a document, or take it from the cache; answer it, or that it has not changed."""
        packed = "gzip" in record.headers.get("accept-encoding", "")
        key = (record.path, kind, packed, self.dialect, self.relative_urls)
        version = self.catalogue.version
        rendered = self._cache.get((*key, version)) if view.plain else None
        if rendered is None:
            document = make()
            for change in view.alterations:
                document = change(document) or document
            body = to_html(document) if kind.endswith("html") else render_json(document)
            body = gzip.compress(body, 1, mtime=0) if packed else body
            digest = hashlib.md5(body, usedforsecurity=False).digest()
            rendered = body, f'"{base64.b64encode(digest).decode().rstrip("=")}"'
            if view.plain:
                self._remember((*key, version), rendered)
        body, etag = rendered
        headers = {"Content-Type": f"{kind}; charset=UTF-8" if kind == HTML_TYPE else kind, "ETag": etag}
        headers |= {"Cache-Control": _PAGE_MAX_AGE, "Vary": "Accept, Accept-Encoding"}
        if self.dialect == "json":
            headers["X-PyPI-Last-Serial"] = str(serial)
        if packed:
            headers["Content-Encoding"] = "gzip"
        known = record.headers.get("if-none-match", "")
        if etag in known or known == "*":
            return Answer(304, headers)
        return Answer(200, headers, body)

    def _remember(self, key: tuple[Any, ...], rendered: tuple[bytes, str]) -> None:
        with self._cache_lock:
            if self._cache and next(iter(self._cache))[-1] != key[-1]:
                self._cache.clear()
            self._cache[key] = rendered

    def _file(self, record: Record, view: View) -> Answer:
        file = self.catalogue.stored(record.decoded_path)
        if file is not None:
            return _file_answer(record, view, file.content)
        if record.decoded_path.endswith(".metadata"):
            file = self.catalogue.stored(record.decoded_path.removesuffix(".metadata"))
            if file is not None and file.metadata is not None:
                return _metadata_answer(record, file.metadata)
        return _not_found()


def _not_found() -> Answer:
    return Answer(404, {"Content-Type": "text/plain"}, b"404 Not Found")


def _file_answer(record: Record, view: View, content: bytes) -> Answer:
    headers = {
        "Content-Type": "application/octet-stream",
        "Cache-Control": _FILE_MAX_AGE,
        "Accept-Ranges": "bytes",
    }
    match = _RANGE.fullmatch(record.headers.get("range", "")) if view.ranges else None
    if match is None or match.groups() == ("", ""):
        return Answer(200, headers, content)
    size = len(content)
    first = int(match[1]) if match[1] else max(size - int(match[2]), 0)
    last = min(int(match[2]), size - 1) if match[1] and match[2] else size - 1
    if first > last:
        return Answer(416, {"Content-Range": f"bytes */{size}"})
    return Answer(206, headers | {"Content-Range": f"bytes {first}-{last}/{size}"}, content[first : last + 1])


def _metadata_answer(record: Record, metadata: bytes) -> Answer:
    """As PyPI's file host sends it: packed on the fly if the client takes that, and then without a length."""
    headers = {
        "Content-Type": "application/octet-stream",
        "Cache-Control": _FILE_MAX_AGE,
        "Vary": "Accept-Encoding",
    }
    if "gzip" not in record.headers.get("accept-encoding", ""):
        return Answer(200, headers, metadata)
    packed = gzip.compress(metadata, 1, mtime=0)
    return Answer(200, headers | {"Content-Encoding": "gzip"}, packed, framing="chunked")
