"""The HTML form (PEP 503): a project's page read into the shape of the JSON form (PEP 691), and the root index.

A tokenizer of its own, for three reasons: html.parser takes three times as long, takes quadratic time on some
hostile pages (in the Pythons that fastmirror supports), and decodes ``&section=`` in a link as an entity.
Here every character is passed a bounded number of times: what is not ended ends the document.
"""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urljoin

from fastmirror.errors import PageError

if TYPE_CHECKING:
    from collections.abc import Iterator


class HtmlPage(NamedTuple):
    """An HTML page in the shape of the JSON form."""

    document: dict[str, Any]  # meta, files and, where given, project-status; no name
    base_url: str  # what the files' urls are relative to


def read_html(body: bytes, page_url: str) -> HtmlPage:
    """Read a page. Nothing in it is checked yet but that it is a page: raises PageError if it is none."""
    text = _text(body)
    files: list[dict[str, Any]] = []
    properties: dict[str, str] = {}
    meta: dict[str, Any] = {}
    base_url = None
    has_anchor = False
    for tag, attributes in _tokens(text):
        if tag == "a":
            has_anchor = True
            if entry := _entry_of(attributes):
                files.append(entry)
        elif tag == "meta" and (name := attributes.get("name", "").lower()) in _PROPERTIES:
            properties.setdefault(name, attributes.get("content", ""))
        elif tag == "base" and base_url is None and "href" in attributes:
            base_url = _base_url(page_url, attributes["href"].strip(_SPACES))
        elif tag == "!--" and (serial := _SERIAL.fullmatch(attributes[""])):
            meta["_last-serial"] = serial[1]
    if not has_anchor:
        _require_document(text, page_url)
    if version := properties.get("pypi:repository-version"):
        meta["api-version"] = version
    document: dict[str, Any] = {"meta": meta, "files": files}
    if status := properties.get("pypi:project-status"):
        document["project-status"] = {"status": status}
        if reason := properties.get("pypi:project-status-reason"):
            document["project-status"]["reason"] = reason
    return HtmlPage(document, base_url or page_url)


def parse_html_index(body: bytes, page_url: str) -> list[str]:
    """Read the root index: the last segment of each link, which is a project's name, as it stands there.

    Raises PageError if the body is no HTML page.
    """
    text = _text(body)
    names = []
    has_anchor = False
    for tag, attributes in _tokens(text):
        if tag == "a":
            has_anchor = True
            path = attributes.get("href", "").strip(_SPACES).partition("#")[0].partition("?")[0]
            if name := path.rstrip("/").rpartition("/")[2]:
                names.append(unquote(name) if "%" in name else name)
    if not has_anchor:
        _require_document(text, page_url)
    return names


def _text(body: bytes) -> str:
    text = body.decode("utf-8", "replace").lstrip("\ufeff" + _SPACES)
    if text.startswith(("{", "[")):
        raise PageError(f"no link in the page, but JSON: {text[:60]!r}")
    return text


def _require_document(text: str, page_url: str) -> None:
    if not _DOCUMENT.search(text):
        raise PageError(f"no link in the page, and no HTML page ({page_url}): {text[:60]!r}")


_SPACES = " \t\n\f\r"
_SERIAL = re.compile(r"\s*SERIAL ([0-9]+)\s*", re.ASCII)
_DOCUMENT = re.compile(r"<(?:!doctype|html)\b", re.IGNORECASE)
_MAX_URL = 8192  # longer ones are refused by who reads the entry
_ATTRIBUTES_MOST = 64  # of one tag; further ones are passed over
_PROPERTIES = frozenset({"pypi:repository-version", "pypi:project-status", "pypi:project-status-reason"})

_OPENING = re.compile(r"<(!--|[a-z][^ \t\n\f\r/>]*)", re.IGNORECASE | re.ASCII)
# One attribute, or the tag's end. No two parts can match the same characters, so nothing is tried twice.
_ATTRIBUTE = re.compile(
    r"""[ \t\n\f\r/]*+
        (?: (>)
          | ([^ \t\n\f\r/>][^ \t\n\f\r/>=]*+)
            (?: [ \t\n\f\r]*+ = [ \t\n\f\r]*+
                (?: "([^"]*+)"?+ | '([^']*+)'?+ | ([^ \t\n\f\r>"'][^ \t\n\f\r>]*+) ) )?+
        )""",
    re.VERBOSE,
)
# Elements whose content is text up to their end, whatever stands in it.
_RAW_TEXT = {
    name: re.compile(f"</{name}", re.IGNORECASE | re.ASCII) for name in ("script", "style", "textarea", "title")
}


def _tokens(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (tag, its attributes) of each start tag, and ("!--", {"": its text}) of each comment."""
    find_opening, match_attribute = _OPENING.search, _ATTRIBUTE.match
    position = 0
    while opening := find_opening(text, position):
        position = opening.end()
        tag = opening[1].lower()
        if tag == "!--":
            end = text.find("-->", position - 2)  # "<!-->" is a whole comment
            if end < 0:
                return
            yield tag, {"": text[position:end]}
            position = end + 3
            continue
        attributes: dict[str, str] = {}
        while attribute := match_attribute(text, position):
            position = attribute.end()
            ended, name, quoted, single_quoted, bare = attribute.groups()
            if ended:
                break
            value = quoted or single_quoted or bare or ""
            if len(attributes) < _ATTRIBUTES_MOST:
                attributes.setdefault(name.lower(), _decoded(value) if "&" in value else value)
        else:
            return  # the document ends within a tag
        yield tag, attributes
        if tag in _RAW_TEXT:
            closing = _RAW_TEXT[tag].search(text, position)
            if not closing:
                return
            position = closing.end()


# Numbers are bounded: int() refuses thousands of digits. A name without ";" counts as in the HTML standard:
# not where a letter, a digit or "=" follows, as in "?a=1&section=2".
_REFERENCE = re.compile(
    r"&(?:#[0-9]{1,7};?|#x[0-9a-f]{1,6};?|[a-z][a-z0-9]{1,31}(?:;|(?![a-z0-9=])))", re.IGNORECASE | re.ASCII
)


def _decoded(value: str) -> str:
    return _REFERENCE.sub(lambda reference: unescape(reference[0]), value)


# The digests that a link's fragment may give, as hashlib names them.
_ALGORITHM = re.compile(r"md5|sha(?:1|224|256|384|512)|sha3_(?:224|256|384|512)|blake2[bs]").fullmatch


def _hashes(fragment: str) -> dict[str, str]:
    """The digests in a fragment: "sha256=…", perhaps among other parameters."""
    hashes: dict[str, str] = {}
    for parameter in fragment.split("&"):
        algorithm, _, digest = parameter.partition("=")
        if _ALGORITHM(algorithm := algorithm.lower()):
            hashes.setdefault(algorithm, digest)
    return hashes


def _entry_of(attributes: dict[str, str]) -> dict[str, Any] | None:
    """The JSON form's entry for one link; None for a link that names no file, as to a directory.

    The file's name is the url's last segment: the link's text is only a label.
    """
    url, _, fragment = attributes.get("href", "").strip(_SPACES).partition("#")
    filename = url.partition("?")[0].rpartition("/")[2]
    if not filename:
        return None
    entry: dict[str, Any] = {
        "filename": unquote(filename) if "%" in filename and len(url) <= _MAX_URL else filename,
        "url": url,
        "hashes": _hashes(fragment[:_MAX_URL]) if fragment else {},
        "yanked": (attributes["data-yanked"] or True) if "data-yanked" in attributes else False,
    }
    if requires_python := attributes.get("data-requires-python"):
        entry["requires-python"] = requires_python
    offered = attributes.get("data-core-metadata") or attributes.get("data-dist-info-metadata")
    if offered:
        algorithm, equals, digest = offered.partition("=")
        if equals:
            entry["core-metadata"] = {algorithm.strip().lower(): digest.strip()}
        elif offered.lower() == "true":
            entry["core-metadata"] = True
    if provenance := attributes.get("data-provenance"):
        entry["provenance"] = provenance
    if (signed := attributes.get("data-gpg-sig", "").lower()) in ("true", "false"):
        entry["gpg-sig"] = signed == "true"
    return entry


def _base_url(page_url: str, reference: str) -> str:
    try:
        if len(reference) <= _MAX_URL:
            return urljoin(page_url, reference)
    except ValueError:
        pass
    raise PageError(f"page with an invalid base: {reference[:120]!r}")
