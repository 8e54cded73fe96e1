"""A mirror over HTTP: what each URL stands for, and a small server that answers as nginx does.

| URL | below ``web/`` |
|---|---|
| /simple/, /simple/<project>/ | the page, in the form that the Accept header prefers; without the last slash: 301 |
| /simple/<project>/index.v1_json | the page in JSON, whatever the Accept header says |
| /packages/… | the file; the hashed layout also answers PyPI's path, packages/aa/bb/<60 hex>/<filename> |
| /json/<project>, /pypi/<project>/json | the project's metadata, where the mirror keeps it |
| /local.json, /local.db.serial | all projects as shadowmire reads them, where the mirror writes it |
| /changes/… | what has changed in the list of all projects, for mirrors of this mirror |
| /last-modified, /status/… | plain files; /status/ itself is the status page |
| /metrics | nothing: how the mirror stands, for Prometheus; of this server alone |

Everything else is 404: names that are not normalised, the buckets' own files, names that begin with a dot.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import stat
from typing import TYPE_CHECKING, NamedTuple

from fastmirror import layout
from fastmirror.errors import SettingsError
from fastmirror.feed import HEAD_PATH, STEP_PATHS
from fastmirror.layout import Layout, PageFormat, Tree
from fastmirror.names import NormalizedName
from fastmirror.nginx import FILE_CACHE, HEAD_CACHE, PAGE_CACHE, PROJECT, PYPI_PATH, nginx_configuration

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["Found", "Moved", "Telling", "application", "negotiate", "nginx_configuration", "resolve", "serve"]

_logger = logging.getLogger("fastmirror.serving")

_CONTENT_TYPES = {
    PageFormat.HTML: "text/html; charset=utf-8",
    PageFormat.V1_HTML: "application/vnd.pypi.simple.v1+html; charset=utf-8",
    PageFormat.JSON: "application/vnd.pypi.simple.v1+json",
}
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # Prometheus' text format
_STATUS_TYPES = {".html": "text/html; charset=utf-8", ".json": "application/json"}


class Found(NamedTuple):
    """What a URL stands for: the first of the candidates that is a file."""

    candidates: tuple[tuple[str, str], ...]  # (path below web/, content type), best first
    cache: str  # Cache-Control
    negotiated: bool  # whether the Accept header chose
    document_of: NormalizedName | None = None  # the project whose JSON document it is


class Telling(NamedTuple):
    """What a server is told beside the tree."""

    metrics: Callable[[], bytes] | None = None  # what /metrics answers, for Prometheus
    serial_of: Callable[[NormalizedName], int | None] = lambda _: None  # of what is published of a project


NOTHING_TOLD = Telling()


class Moved(NamedTuple):
    """A page's URL that lacks its last slash."""

    location: str


_ACCEPTED = {
    "application/vnd.pypi.simple.v1+json": PageFormat.JSON,
    "application/vnd.pypi.simple.latest+json": PageFormat.JSON,
    "application/vnd.pypi.simple.v1+html": PageFormat.V1_HTML,
    "application/vnd.pypi.simple.latest+html": PageFormat.V1_HTML,
    "text/html": PageFormat.HTML,
}
_PREFERENCE = (PageFormat.JSON, PageFormat.V1_HTML, PageFormat.HTML)
_WEIGHT = re.compile(r"q\s*=\s*(0(?:\.[0-9]*)?|1(?:\.0*)?)", re.ASCII)


def negotiate(accept: str) -> PageFormat:
    """The serialisation of the highest weight that an Accept header names.

    Of equal weights JSON comes first, then v1+html. HTML where the header names none of them.
    """
    weights: dict[PageFormat, float] = {}
    for listed in accept.lower().split(","):
        media_type, *parameters = (part.strip() for part in listed.split(";"))
        page_format = _ACCEPTED.get(media_type)
        if page_format is None:
            continue
        weight = 1.0
        if parameters:
            match = _WEIGHT.fullmatch(parameters[0])
            weight = float(match[1]) if match else 0.0
        weights[page_format] = max(weight, weights.get(page_format, 0.0))
    best = max(_PREFERENCE, key=lambda page_format: weights.get(page_format, 0.0))
    return best if weights.get(best) else PageFormat.HTML


def _page(tree: Tree, name: NormalizedName | None, accept: str) -> Found:
    """A page's candidates (without a name: the root index's); a form that is not kept gives way to one that is."""
    order = dict.fromkeys((negotiate(accept), PageFormat.V1_HTML, PageFormat.HTML, PageFormat.JSON))
    candidates = []
    for page_format in order:
        if name is None:
            path = layout.index_path(page_format)
        elif tree.layout is Layout.HASHED and page_format is PageFormat.V1_HTML:
            path = layout.page_path(tree, name, PageFormat.HTML)  # one file is both
        else:
            path = layout.page_path(tree, name, page_format)
        candidates.append((path, _CONTENT_TYPES[page_format]))
    return Found(tuple(candidates), PAGE_CACHE, negotiated=True)


_PAGE_URL = re.compile(f"/simple(?:/{PROJECT})?(?P<slash>/?)", re.ASCII)
_JSON_PAGE_URL = re.compile(f"/simple/{PROJECT}/index[.]v1_json", re.ASCII)
_LOCAL_TYPES = {"/local.json": "application/json", "/local.db.serial": "text/plain; charset=utf-8"}
_JSON_URL = re.compile(f"/json/{PROJECT}|/pypi/{PROJECT.replace('project', 'pypi_project')}/json", re.ASCII)
_PYPI_URL = re.compile(f"/{PYPI_PATH}", re.ASCII)
_STEP_URL = re.compile(f"/{STEP_PATHS}", re.ASCII)
_UNSAFE_PATH = re.compile(r"//|/\.|/\Z|[\x00-\x1f\x7f\\]")


def resolve(tree: Tree, url_path: str, accept: str) -> Found | Moved | None:
    """What a URL's path, its escapes decoded, stands for; None for nothing.

    No candidate holds ``..``, an empty part or a control character. Links are the caller's concern.
    """
    if match := _PAGE_URL.fullmatch(url_path):
        if not match["slash"]:
            return Moved(url_path + "/")
        project = match["project"]
        return _page(tree, NormalizedName(project) if project else None, accept)
    if match := _JSON_PAGE_URL.fullmatch(url_path):
        path = layout.page_path(tree, NormalizedName(match["project"]), PageFormat.JSON)
        return Found(((path, _CONTENT_TYPES[PageFormat.JSON]),), PAGE_CACHE, negotiated=False)
    if match := _JSON_URL.fullmatch(url_path):
        name = NormalizedName(match["project"] or match["pypi_project"])
        path = layout.document_paths(tree, name)[0]
        return Found(((path, "application/json"),), PAGE_CACHE, negotiated=False, document_of=name)
    if url_path in _LOCAL_TYPES:
        return Found(((url_path[1:], _LOCAL_TYPES[url_path]),), PAGE_CACHE, negotiated=False)
    if url_path == f"/{HEAD_PATH}" or _STEP_URL.fullmatch(url_path):
        cache = HEAD_CACHE if url_path == f"/{HEAD_PATH}" else FILE_CACHE
        return Found(((url_path[1:], "application/json"),), cache, negotiated=False)
    if url_path == "/status/":
        url_path = "/status/index.html"
    if _UNSAFE_PATH.search(url_path):
        return None
    path = url_path[1:]
    if url_path == "/status":
        return Moved("/status/")
    if url_path == "/last-modified":
        return Found(((path, "text/plain; charset=utf-8"),), "no-cache", negotiated=False)
    if url_path.startswith("/status/"):
        ending = os.path.splitext(path)[1].lower()
        content_type = _STATUS_TYPES.get(ending, "text/plain; charset=utf-8")
        return Found(((path, content_type),), "no-cache", negotiated=False)
    if url_path.startswith("/packages/"):
        paths = [path]
        if tree.layout is Layout.HASHED and (match := _PYPI_URL.fullmatch(url_path)):
            paths.append(f"packages/{match['aa']}{match['b']}/{match['filename']}")
        return Found(tuple((p, "application/octet-stream") for p in paths), FILE_CACHE, negotiated=False)
    return None


def application(directory: str, tree: Tree, telling: Telling = NOTHING_TOLD) -> Starlette:
    """An ASGI application that serves the mirror in ``directory`` (absolute), for a small office at most.

    Nothing is sent from outside ``web/``, nor from one of its sections into another, by any link; a section
    itself (``web/packages``) may be a link to another disk. Pages are not compressed.
    Each request is logged as information, which a person sees with --debug.
    """
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    web = os.path.join(directory, "web")

    def answer(request: Request) -> Response:
        response = _answer(web, tree, request, telling)
        _logger.info("%s %s: %d", request.method, request.scope["path"], response.status_code)
        return response

    routes = [Route("/{path:path}", answer, methods=["GET", "HEAD"])]
    metrics = telling.metrics
    if metrics is not None:
        routes.insert(0, Route("/metrics", lambda _: Response(metrics(), media_type=_METRICS_TYPE)))
    return Starlette(routes=routes)


def _answer(web: str, tree: Tree, request: Request, telling: Telling) -> Response:
    from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse
    from starlette.staticfiles import NotModifiedResponse, StaticFiles

    resolved = resolve(tree, request.scope["path"], request.headers.get("accept", ""))
    if isinstance(resolved, Moved):
        return RedirectResponse(resolved.location, status_code=301)
    if resolved is None:
        return PlainTextResponse("not found\n", status_code=404)
    # Asked before the document is looked at, which may only become newer meanwhile.
    serial = telling.serial_of(resolved.document_of) if resolved.document_of else None
    for path, content_type in resolved.candidates:
        stored = _contained_file(web, path)
        if stored is None:
            continue
        headers = {"cache-control": resolved.cache, "content-type": content_type}
        if resolved.negotiated:
            headers["vary"] = "Accept"
        if serial is not None:
            headers["x-pypi-last-serial"] = str(serial)
        response = FileResponse(stored[0], stat_result=stored[1], headers=headers)
        if StaticFiles(directory=web, check_dir=False).is_not_modified(response.headers, request.headers):
            return NotModifiedResponse(response.headers)
        return response
    return PlainTextResponse("not found\n", status_code=404)


def _contained_file(web: str, path: str) -> tuple[str, os.stat_result] | None:
    """A file's real path and its stat; None if there is no such file, or a link leaves its part of ``web/``."""
    section, _, below = path.partition("/")
    root = os.path.realpath(os.path.join(web, section) if below else web)
    try:
        real = os.path.realpath(os.path.join(web, path), strict=True)
        status = os.stat(real)
    except (OSError, ValueError):  # not there, or no name that a file could have
        return None
    if not real.startswith(root + os.sep) or not stat.S_ISREG(status.st_mode):
        return None
    return real, status


def serve(
    directory: str,
    tree: Tree,
    host: str,
    port: int,
    listening: Callable[[int], None],
    telling: Telling = NOTHING_TOLD,
) -> None:
    """Serve the mirror until SIGINT or SIGTERM. Raises SettingsError if it cannot listen.

    `listening` is told the port when clients may connect: the one asked for, or a free one for 0.
    """
    import uvicorn

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise SettingsError(f"cannot listen on {host!r}, port {port}: {error}") from error
    config = uvicorn.Config(
        application(directory, tree, telling), log_level="warning", lifespan="off", timeout_graceful_shutdown=5
    )
    with listener:
        listening(listener.getsockname()[1])
        uvicorn.Server(config).run(sockets=[listener])
