"""A project's document in the legacy JSON API (``/pypi/<name>/json``): read, to complete a page by, and saved."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from fastmirror.errors import PageError
from fastmirror.simple import read_object, read_serial, require_name
from fastmirror.simple_entry import MAX_INTEGER, METADATA_KEYS, offered_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastmirror.model import File, Page
    from fastmirror.names import NormalizedName


def read_document(body: bytes, name: NormalizedName) -> dict[str, Any]:
    """Parse a document. Raises PageError for one that cannot be used: not of this project, without lists of files."""
    document = read_object(body)
    info = document.get("info")
    if type(info) is dict and "name" in info:
        require_name(info["name"], name)
    releases = document.get("releases", {})
    lists = [document.get("urls", []), *(releases.values() if type(releases) is dict else [None])]
    if not document.keys() & {"releases", "urls"} or not all(type(listed) is list for listed in lists):
        raise PageError("legacy JSON without lists of files (releases, urls)")
    return document


def serial_of(document: Mapping[str, Any]) -> int | None:
    """The project's last serial, where the document says."""
    return read_serial(document.get("last_serial"))


def complete(page: Page, document: Mapping[str, Any], digest_name: str = "sha256") -> Page:
    """Complete a page by a document from read_document, where the two agree.

    A file is the same if its name and its sha256 are. What the page said is kept; only a bare ``yanked`` gets
    its reason, a bare ``core-metadata`` its digest, and the hashes the one of this name.
    """
    known: dict[tuple[str, str], dict[str, Any]] = {}
    for listed in (document.get("urls", []), *document.get("releases", {}).values()):
        for entry in listed:
            if type(entry) is dict and type(digests := entry.get("digests")) is dict:
                filename, sha256 = entry.get("filename"), digests.get("sha256")
                if type(filename) is str and type(sha256) is str:
                    known[filename, sha256.lower()] = entry
    files = [
        _completed(file, known[file.filename, file.digest], digest_name)
        if file.algorithm == "sha256" and (file.filename, file.digest) in known
        else file
        for file in page.files
    ]
    return page._replace(files=files, serial=serial_of(document) if page.serial is None else page.serial)


_HEX = re.compile(r"[0-9a-fA-F]{8,128}").fullmatch


def _completed(file: File, legacy: dict[str, Any], digest_name: str) -> File:
    """The file with what only its legacy entry says."""
    keys = dict(file.keys)
    size = file.size
    if size is None and type(given := legacy.get("size")) is int and 0 <= given <= MAX_INTEGER:
        size = keys["size"] = given
    for key, legacy_key in (("upload-time", "upload_time_iso_8601"), ("requires-python", "requires_python")):
        if key not in keys and type(text := legacy.get(legacy_key)) is str and text:
            keys[key] = text
    if keys.get("yanked", True) is True and legacy.get("yanked") is True:
        reason = legacy.get("yanked_reason")
        keys["yanked"] = reason if type(reason) is str and reason else True
    metadata = file.metadata
    if metadata == "" or not any(keys.get(key) is not None for key in METADATA_KEYS):
        offered = offered_metadata(legacy)
        if offered or (offered == "" and metadata is None):
            metadata, keys["core-metadata"] = offered, {"sha256": offered} if offered else True
    if digest_name not in (hashes := keys.get("hashes", {})):
        digest = legacy["digests"].get(digest_name)
        if type(digest) is str and _HEX(digest):
            keys["hashes"] = {**hashes, digest_name: digest.lower()}
    return file._replace(size=size, metadata=metadata, keys=keys)


def saved(document: Mapping[str, Any], most: int) -> bytes:
    """The document as bandersnatch saves it: unfiltered, keys sorted, indented by 4, in ASCII.

    Raises PageError if it is nested too deeply to be written again, or takes more than `most` bytes: indented, a
    hundred thousand values in a thousand lists are half a gigabyte.
    """
    body = bytearray()
    try:
        for piece in json.JSONEncoder(indent=4, sort_keys=True).iterencode(document):
            body += piece.encode("ascii")
            if len(body) > most:
                raise PageError(f"legacy JSON that takes more than allowed, indented ({most} bytes)")
        return bytes(body)
    except RecursionError as error:
        raise PageError("legacy JSON that cannot be written: nested too deeply") from error
