"""The objects of a mirror: one prefix of one bucket.

A PUT is the atomic step: an object is whole or not there, and a large one, sent in parts, appears when it is completed.
With each body goes its sha256, in the signature and as ``x-amz-checksum-sha256``, so that the store refuses a body that
has changed on its way. Pages are sent with an MD5 as well, and files are where the store was seen to look at neither:
it costs another hash. What a mirror has to know of an object without reading it is in its metadata,
under bandersnatch's names: ``sha256`` and ``uploaded-at``.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import threading
from base64 import b64encode
from contextlib import suppress
from html import escape, unescape
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote_plus

from fastmirror.errors import StorageError
from fastmirror.s3 import RETRYABLE_CODES, S3, http_time, wait_after
from fastmirror.s3_bodies import Section

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from fastmirror.s3 import Answer
    from fastmirror.settings import S3Settings

_DELETED_AT_ONCE = 1000  # more are refused by the protocol
_ENTRY = re.compile(r"<Contents>(.*?)</Contents>", re.DOTALL)
_UPLOAD_ID = re.compile(rb"<UploadId>([^<]+)</UploadId>")
_FAILED_DELETE = re.compile(r"<Error>.*?</Error>", re.DOTALL)


class ObjectHeaders(NamedTuple):
    """What is kept with an object: two headers for its readers, two facts for us ("": not stated)."""

    content_type: str
    cache_control: str
    sha256: str  # hex digits, of the object
    uploaded_at: str  # upstream's upload time, as it states it


class ObjectFacts(NamedTuple):
    """What is known of an object without reading it; a listing knows key, size, tag and time alone."""

    key: str  # below the prefix
    size: int  # bytes
    sha256: str | None = None  # hex digits, as said when it was stored
    uploaded_at: str | None = None
    etag: str = ""  # the store's tag of this version
    content_type: str = ""
    modified: float = 0.0  # seconds since 1970, by the store's clock; 0.0 in a listing


class Version(NamedTuple):
    """An object as it was read, and when, by the store's clock (seconds since 1970, whole)."""

    body: bytes
    tag: str
    modified: float
    now: float


class Bucket:
    """One prefix of one bucket. Thread-safe; every process opens its own.

    Every method raises StorageError where the store refuses or, tried again, does not answer.
    """

    part_size = 64 << 20  # bytes of one part of an object
    single_size = 256 << 20  # an object up to this size is sent in one piece
    listed_at_once = 1000  # more are not named in one answer

    def __init__(self, settings: S3Settings) -> None:
        self._s3 = S3(settings)
        self._prefix = f"{settings.prefix}/" if settings.prefix else ""
        self._always = settings.headers
        self._attempts = settings.attempts
        self._honours_conditions = settings.lease
        self._asked = threading.Lock()
        self._failed: StorageError | None = None  # the last question whether it is credulous
        self.is_credulous: bool | None = None  # whether it takes a body that is not what its sha256 says

    def guard(self, check: Callable[[], None]) -> None:
        """Ask this before each try of a request that changes something; it raises StorageError."""
        self._s3.guard(check)

    def close(self) -> None:
        """End all connections."""
        self._s3.close()

    def put(self, key: str, body: bytes, *, headers: ObjectHeaders, only_new: bool = False) -> bool:
        """Store an object whole. False if it was to be `only_new` and the key is taken: then it is as it was."""
        if only_new and self._is_taken(key):
            return False
        digest = hashlib.sha256(body).hexdigest()
        lines = [*self._described(headers), *_checksums(digest, body), *["If-None-Match: *"] * only_new]
        answer = self._s3.send("PUT", self._prefix + key, headers=lines, body=body, sha256=digest, fine=_TAKEN)
        return answer.status < 300 or self._was_us(answer, key, digest)

    def put_file(self, key: str, path: str, *, headers: ObjectHeaders, sha256: str, only_new: bool = False) -> bool:
        """Store a file, whose sha256 is known, as an object; else as `put`. Its content must not change meanwhile."""
        if only_new and self._is_taken(key):
            return False
        size = os.stat(path).st_size
        if size > self.single_size:
            return self._put_in_parts(key, path, size, headers, sha256, only_new=only_new)
        body = Section(path, 0, size)
        lines = [*self._described(headers), *self._sums(sha256, body), *["If-None-Match: *"] * only_new]
        answer = self._s3.send("PUT", self._prefix + key, headers=lines, body=body, sha256=sha256, fine=_TAKEN)
        return answer.status < 300 or self._was_us(answer, key, sha256)

    def head(self, key: str) -> ObjectFacts | None:
        """What is known of an object; None if it is not there."""
        answer = self._s3.send("HEAD", self._prefix + key, fine=(404,))
        return None if answer.status == 404 else _facts(key, answer.headers)

    def get(self, key: str, most: int | None = None) -> bytes | None:
        """An object's bytes, or the first `most` of them; None if it is not there."""
        headers = () if most is None else (f"Range: bytes=0-{most - 1}",)
        answer = self._s3.send("GET", self._prefix + key, headers=headers, fine=(404, 416))
        if answer.status == 404:
            return None
        return b"" if answer.status == 416 else answer.body  # an empty one has no first byte

    def get_file(self, key: str, path: str) -> bool:
        """Write an object's bytes to a file; False if it is not there, and the file is empty then."""
        with open(path, "wb") as file:
            return self._s3.send("GET", self._prefix + key, fine=(404,), into=file).status != 404

    def get_with_tag(self, key: str) -> tuple[bytes, str] | None:
        """An object's bytes and the tag of this version; None if it is not there."""
        version = self.read(key)
        return None if version is None else (version.body, version.tag)

    def read(self, key: str) -> Version | None:
        """An object with all that is known of this version; None if it is not there."""
        answer = self._s3.send("GET", self._prefix + key, fine=(404,))
        if answer.status == 404:
            return None
        modified = http_time(answer.headers.get("last-modified", ""))
        return Version(answer.body, answer.headers.get("etag", ""), modified, answer.date)

    def put_if(self, key: str, body: bytes, *, tag: str | None, headers: ObjectHeaders) -> str | None:
        """Store an object if the version there is the one of `tag` (None: if there is none); returns the new tag.

        None if it is another: then it is as it was. Two bodies that are stored under one key must differ.
        """
        digest = hashlib.sha256(body).hexdigest()
        condition = "If-None-Match: *" if tag is None else f"If-Match: {tag}"
        lines = [*self._described(headers), *_checksums(digest, body), condition]
        answer = self._s3.send("PUT", self._prefix + key, headers=lines, body=body, sha256=digest, fine=(404, *_TAKEN))
        if answer.status < 300:
            return answer.headers.get("etag", "")
        stored = self.read(key)  # perhaps by an earlier attempt, whose answer was lost
        return stored.tag if stored is not None and stored.body == body else None

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are not there count as removed."""
        names = [self._prefix + key for key in keys]
        if len(names) == 1:
            self._s3.send("DELETE", names[0], fine=(404,))
            return
        for start in range(0, len(names), _DELETED_AT_ONCE):
            self._delete_some(names[start : start + _DELETED_AT_ONCE])

    def _delete_some(self, names: Sequence[str]) -> None:
        """In one request; what the store does not remove at the moment is named to it again."""
        for attempt in range(1, self._attempts + 1):
            listed = "".join(f"<Object><Key>{escape(name)}</Key></Object>" for name in names)
            body = f"<Delete><Quiet>true</Quiet>{listed}</Delete>".encode()
            lines = (*_checksums(hashlib.sha256(body).hexdigest(), body), "Content-Type: text/xml")
            answer = self._s3.send("POST", "", query="delete=", headers=lines, body=body)
            failed = _FAILED_DELETE.findall(answer.body.decode("utf-8", "replace"))
            left = {_field(error, "Key"): _field(error, "Code") for error in failed}
            if not left:
                return
            lasting = [name for name, code in left.items() if code not in RETRYABLE_CODES]
            if lasting or attempt == self._attempts:
                break
            names = [name for name in names if name in left] or names
            wait_after(attempt)
        name = next(iter(lasting or left))
        tries = f" ({attempt} attempts)" if attempt > 1 else ""
        raise StorageError(f"object store: DELETE {self._s3.name(name)}: {left[name]}{tries}")

    def list(self, prefix: str) -> Iterator[ObjectFacts]:
        """The objects whose keys begin so, by key, with key, size and tag."""
        token = ""
        while True:
            parts = {"continuation-token": token} if token else {}
            parts |= {"encoding-type": "url", "list-type": "2", "max-keys": str(self.listed_at_once)}
            parts["prefix"] = self._prefix + prefix
            query = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in parts.items())
            answer = self._s3.send("GET", "", query=query)
            text = answer.body.decode("utf-8", "replace")
            is_quoted = _field(text, "EncodingType") == "url"
            for entry in _ENTRY.findall(text):
                name = _field(entry, "Key")
                key = (unquote_plus(name) if is_quoted else name).removeprefix(self._prefix)
                yield ObjectFacts(key, int(_field(entry, "Size") or 0), etag=_field(entry, "ETag"))
            token = _field(text, "NextContinuationToken")
            if not token:
                return

    def check(self) -> None:
        """Raises StorageError, in one line, if the bucket, the keys or the address are wrong."""
        query = f"list-type=2&max-keys=1&prefix={quote(self._prefix, safe='-_.~')}"
        self._s3.send("GET", "", query=query)

    def _described(self, headers: ObjectHeaders) -> Sequence[str]:
        lines = [*self._always, f"Content-Type: {headers.content_type}"]
        if headers.cache_control:
            lines.append(f"Cache-Control: {headers.cache_control}")
        if headers.sha256:
            lines.append(f"x-amz-meta-sha256: {headers.sha256}")
        if headers.uploaded_at:
            lines.append(f"x-amz-meta-uploaded-at: {headers.uploaded_at}")
        return lines

    def _sums(self, sha256: str, section: Section) -> Sequence[str]:
        """The headers that let the store verify a section of a file."""
        md5 = [_content_md5(section.hashed_with(hashlib.md5(usedforsecurity=False)))] if self._probed() else []
        return [_checksum(sha256), *md5]

    def _probed(self) -> bool:
        """Whether the store is credulous. Who waited for another's question that failed does not ask as long again."""
        failed_before = self._failed
        with self._asked:
            if self.is_credulous is None:
                if self._failed is not None and self._failed is not failed_before:
                    raise self._failed
                try:
                    self.is_credulous = self._takes_anything()
                except StorageError as error:
                    self._failed = error
                    raise
            return self.is_credulous

    def _takes_anything(self) -> bool:
        name = f"{self._prefix}.fastmirror/probe/{secrets.token_hex(8)}"
        false = hashlib.sha256(b"1").hexdigest()
        lines = (_checksum(false), "Content-Type: text/plain")
        is_taken = self._s3.send("PUT", name, headers=lines, body=b"0", sha256=false, fine=(400, 403, 422)).status < 300
        if is_taken:
            self._s3.send("DELETE", name, fine=(404,))
        return is_taken

    def _is_taken(self, key: str) -> bool:
        """Whether a key is taken, as far as that has to be asked: without a lease, the store may know no conditions."""
        return not self._honours_conditions and self.head(key) is not None

    def _was_us(self, answer: Answer, key: str, sha256: str) -> bool:
        """Whether the key is taken by an earlier attempt of the same request, whose answer was lost."""
        facts = self.head(key) if answer.attempts > 1 else None
        return facts is not None and facts.sha256 == sha256

    def _put_in_parts(
        self, key: str, path: str, size: int, headers: ObjectHeaders, sha256: str, *, only_new: bool
    ) -> bool:
        """Parts are hashed one by one, and the whole on the way: what is completed is what the sha256 names."""
        name = self._prefix + key
        lines = [*self._described(headers), "x-amz-checksum-algorithm: SHA256"]
        match = _UPLOAD_ID.search(self._s3.send("POST", name, query="uploads=", headers=lines).body)
        if match is None:
            raise StorageError(f"object store: POST {self._s3.name(name)}: the store names no upload")
        upload = quote(unescape(match[1].decode()), safe="-_.~")
        try:
            whole, parts = hashlib.sha256(), []
            for number, start in enumerate(range(0, size, self.part_size), 1):
                section = Section(path, start, min(self.part_size, size - start))
                digest = section.hashed_with(hashlib.sha256(), whole).hex()
                query = f"partNumber={number}&uploadId={upload}"
                answer = self._s3.send(
                    "PUT", name, query=query, headers=[_checksum(digest)], body=section, sha256=digest
                )
                tag = escape(answer.headers.get("etag", ""))
                sum_ = f"<ChecksumSHA256>{_base64(digest)}</ChecksumSHA256>"
                parts.append(f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag>{sum_}</Part>")
            if whole.hexdigest() != sha256:
                raise StorageError(f"{path!r} has changed since it was hashed")
            body = f"<CompleteMultipartUpload>{''.join(parts)}</CompleteMultipartUpload>".encode()
            lines = ["Content-Type: text/xml", *["If-None-Match: *"] * only_new]
            answer = self._s3.send(
                "POST", name, query=f"uploadId={upload}", headers=lines, body=body, fine=(404, *_TAKEN)
            )
        except BaseException:
            with suppress(StorageError):
                self._s3.send("DELETE", name, query=f"uploadId={upload}", fine=(404,), is_fenced=False)
            raise
        if answer.status == 404 and not self._was_us(answer, key, sha256):
            raise StorageError(f"object store: POST {self._s3.name(name)}: the upload is gone")
        if answer.status in _TAKEN and not self._was_us(answer, key, sha256):
            self._s3.send("DELETE", name, query=f"uploadId={upload}", fine=(404,))
            return False
        return True


_TAKEN = (412,)


def _base64(sha256: str) -> str:
    return b64encode(bytes.fromhex(sha256)).decode()


def _checksum(sha256: str) -> str:
    return f"x-amz-checksum-sha256: {_base64(sha256)}"


def _content_md5(digest: bytes) -> str:
    return f"Content-MD5: {b64encode(digest).decode()}"


def _checksums(sha256: str, body: bytes) -> tuple[str, str]:
    return _checksum(sha256), _content_md5(hashlib.md5(body, usedforsecurity=False).digest())


def _facts(key: str, headers: dict[str, str]) -> ObjectFacts:
    return ObjectFacts(
        key=key,
        size=int(headers.get("content-length", "0")),
        sha256=headers.get("x-amz-meta-sha256"),
        uploaded_at=headers.get("x-amz-meta-uploaded-at"),
        etag=headers.get("etag", ""),
        content_type=headers.get("content-type", ""),
        modified=http_time(headers.get("last-modified", "")),
    )


def _field(text: str, name: str) -> str:
    """What stands in the first such element of a document without nested ones; "" if there is none."""
    match = re.search(f"<{name}>([^<]*)</{name}>", text)
    return unescape(match[1]) if match else ""
