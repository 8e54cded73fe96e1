"""One entry of a project's page, checked: into a File, or a reason why it cannot be mirrored."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote, urljoin

from fastmirror.errors import PageError
from fastmirror.layout import BLAKE2B_256, digest_in_path, unsafe_filename
from fastmirror.model import File

MAX_INTEGER = 2**63 - 1  # of sizes and serials: what the state can hold


def shown(value: object) -> str:
    """A parsed JSON value as an error shows it: bounded, and of a list or an object only its kind."""
    if type(value) is str:
        return repr(value[:120])
    return _KINDS.get(type(value)) or repr(value)[:120]


_KINDS: dict[type, str] = {list: "a list", dict: "an object", type(None): "nothing"}


_REFUSED_MOST = 10_000


class _Refused(Exception):
    """One entry of a page cannot be mirrored: (reason)."""


def read_entries(listed: list[Any], base_url: str, accept_unhashed: bool) -> tuple[list[File], list[tuple[str, str]]]:
    """Read the entries of one page: (the files, (filename, reason) of each entry that cannot be mirrored).

    The first of several entries with one file name stands. Relative urls are resolved against ``base_url``;
    ``accept_unhashed`` takes a file without a sha256 if another strong digest is given. An accepted entry
    becomes its file's keys, and what is unusable among them is taken out of it.
    """
    files: list[File] = []
    refused: list[tuple[str, str]] = []
    seen: set[str] = set()
    for entry in listed:
        try:
            file = _file(entry, base_url, accept_unhashed)
            if file.filename in seen:
                raise _Refused("listed twice")
        except _Refused as refusal:
            if len(refused) == _REFUSED_MOST:
                raise PageError(f"more than {_REFUSED_MOST} entries that cannot be mirrored") from refusal
            refused.append((_label(entry), str(refusal)))
        else:
            seen.add(file.filename)
            files.append(file)
    return files, refused


def _label(entry: object) -> str:
    """What a refused entry is called in reports: its file name, in printable characters and bounded."""
    filename = entry.get("filename") if type(entry) is dict else None
    if type(filename) is not str or not filename:
        return "?"
    return filename[:255] if filename.isprintable() else ascii(filename[:255])[1:-1]


METADATA_KEYS = ("core-metadata", "dist-info-metadata", "data-dist-info-metadata")
# An optional key with a value of another type is dropped; the file stands.
_OPTIONAL_KEYS: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("requires-python", (str, type(None))),
    ("yanked", (bool, str)),
    ("upload-time", (str,)),
    ("provenance", (str, type(None))),
    ("gpg-sig", (bool,)),
    *((key, (bool, dict)) for key in METADATA_KEYS),
)


def _file(entry: Any, base_url: str, accept_unhashed: bool) -> File:  # noqa: ANN401 - any JSON value
    """Make a file of one entry of a page, or raise _Refused. The entry itself becomes the file's keys."""
    if type(entry) is not dict:
        raise _Refused("not an object")
    filename: Any = entry.get("filename")
    if reason := unsafe_filename(filename):
        raise _Refused(reason)
    url = _safe_url(entry.get("url"), base_url)
    algorithm, digest = _digest(entry, url if accept_unhashed else "")
    size = entry.get("size")
    if size is None:
        entry.pop("size", None)
    elif type(size) is not int or not 0 <= size <= MAX_INTEGER:
        raise _Refused(f"size that is no number of bytes: {shown(size)}")
    for key, types in _OPTIONAL_KEYS:
        if key in entry and type(entry[key]) not in types:
            del entry[key]
    if entry.get("yanked") == "":
        entry["yanked"] = True
    if entry.get("upload-time") == "":
        del entry["upload-time"]
    return File(filename, url, algorithm, digest, size, offered_metadata(entry), entry)


_SHA256 = re.compile(r"[0-9a-fA-F]{64}").fullmatch
_HEX = re.compile(r"[0-9a-fA-F]+").fullmatch
# Other strong digests as hashlib names them, the best first, with their lengths in hexadecimal digits.
_STRONG_DIGESTS = (
    ("sha512", 128),
    ("sha384", 96),
    ("sha3_512", 128),
    ("sha3_384", 96),
    ("sha3_256", 64),
    ("blake2b", 128),
)


def _digest(entry: dict[str, Any], unhashed_url: str) -> tuple[str, str]:
    """The digest to check a file by: (algorithm, lower-case hex). Without a sha256 it may only be at the given URL."""
    hashes = entry.get("hashes")
    if type(hashes) is not dict:
        hashes = entry["hashes"] = {}
    elif len(hashes) > 1 or "sha256" not in hashes:
        hashes = entry["hashes"] = {key: value for key, value in hashes.items() if type(value) is str}
    sha256 = hashes.get("sha256")
    if sha256 is not None:
        if type(sha256) is str and _SHA256(sha256):
            return "sha256", sha256.lower()
        raise _Refused(f"sha256 that is none: {shown(sha256)}")
    if unhashed_url:
        for algorithm, digits in _STRONG_DIGESTS:
            digest = hashes.get(algorithm, "")
            if len(digest) == digits and _HEX(digest):
                return algorithm, digest.lower()
        if digest := digest_in_path(unhashed_url, entry["filename"]):
            return BLAKE2B_256, digest
    raise _Refused("no sha256")


def offered_metadata(entry: dict[str, Any]) -> str | None:
    """What File.metadata says, from the first of the key's three names that is given."""
    for key in METADATA_KEYS:
        offered = entry.get(key)
        if type(offered) is dict:
            sha256 = offered.get("sha256", "")
            return sha256.lower() if sha256 == "" or (type(sha256) is str and _SHA256(sha256)) else None
        if offered is not None:
            return "" if offered else None
    return None


# A url that needs no second look, if no segment of its path begins with a dot; and one below or beside the
# page, which is added to the directory that its first part leads to.
_PLAIN_URL = re.compile(
    r"https?://[A-Za-z0-9][A-Za-z0-9._-]*(?::[0-9]{1,5})?/[A-Za-z0-9._~+!=,@/-]+", re.ASCII
).fullmatch
_PLAIN_RELATIVE = re.compile(
    r"((?:\.\./)*)([A-Za-z0-9_~+!=,@-][A-Za-z0-9._~+!=,@-]*(?:/[A-Za-z0-9_~+!=,@-][A-Za-z0-9._~+!=,@-]*)*)",
    re.ASCII,
).fullmatch
_MAX_URL = 8192
_URL = re.compile(
    r"https?://(?:[a-z0-9][a-z0-9._-]*|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?(/[^?#]*)(?:\?[^#]*)?",
    re.IGNORECASE | re.ASCII,
).fullmatch
_AUTHORITY = re.compile(r"(https?)://([^/?#]*)", re.IGNORECASE | re.ASCII).match
_BLANK = re.compile(r"[\x00-\x20\x7f-\xa0]").search
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\\]").search
_URL_CHARACTERS = "".join(map(chr, range(0x21, 0x7F)))


def _safe_url(raw: object, base_url: str) -> str:
    """The absolute url of a file, in ASCII and without its fragment, or raise _Refused."""
    if type(raw) is not str or not raw:
        raise _Refused(f"url that is none: {shown(raw)}")
    if len(raw) > _MAX_URL:
        raise _Refused(f"url of more than {_MAX_URL} characters")
    if _PLAIN_URL(raw) and "/." not in raw:
        return raw
    if _BLANK(raw):
        raise _Refused("url with a space or a control character")
    try:
        if _AUTHORITY(raw):
            url = raw
        elif relative := _PLAIN_RELATIVE(raw):
            url = _directory(base_url, relative[1]) + relative[2]
        else:
            url = urljoin(base_url, raw)
    except ValueError as error:
        raise _Refused("url that cannot be resolved") from error
    return _checked_url(url.partition("#")[0])


@lru_cache(maxsize=64)
def _directory(base_url: str, upwards: str) -> str:
    """The directory that the relative url ``upwards`` ("", "../", "../../", …) leads to."""
    return urljoin(base_url, upwards or ".")


def _checked_url(url: str) -> str:
    if _PLAIN_URL(url) and "/." not in url and len(url) <= _MAX_URL:
        return url
    if not url.isascii():
        url = quote(url, safe=_URL_CHARACTERS, errors="replace")
    if len(url) > _MAX_URL:
        raise _Refused(f"url of more than {_MAX_URL} characters")
    authority = _AUTHORITY(url)
    if not authority:
        raise _Refused(f"url that is not http or https: {shown(url)}")
    if "@" in authority[2]:
        raise _Refused("url with a user or a password")
    parts = _URL(url)
    if not parts or "\\" in url:
        raise _Refused(f"url without a proper host or path: {shown(url)}")
    path = unquote(parts[1])
    if _CONTROL(path) or "%2f" in parts[1].lower() or {".", ".."} & set(path.split("/")):
        raise _Refused(f"url whose path leaves its place: {shown(url)}")
    return url
