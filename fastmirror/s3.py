"""Requests to an object store that speaks Amazon's S3: signed by libcurl, tried again, and refused in one line.

libcurl signs (AWS Signature Version 4) and takes the sha256 of a body as given. What is stored here has been hashed
before, so no body is hashed twice; the store is told the digest with the request, and may hold the body against it.
"""

from __future__ import annotations

import random
import re
import time
from collections import deque
from contextlib import suppress
from email.utils import parsedate_to_datetime
from hashlib import sha256 as sha256_of
from typing import TYPE_CHECKING, BinaryIO, NamedTuple
from urllib.parse import quote

import pycurl

from fastmirror import __version__
from fastmirror.errors import SettingsError, StorageError
from fastmirror.masking import clean
from fastmirror.s3_bodies import Received, Section, Sent
from fastmirror.transport import ca_bundle, is_retryable_status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastmirror.settings import S3Settings

OLDEST_LIBCURL = 0x080000  # earlier ones sign queries otherwise
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 20.0
_LEAST_BYTES_PER_SECOND = 64
_SILENCE = 6  # times the time for a connection: a store may take long to put parts together
_NOTHING = sha256_of(b"").hexdigest()
_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,60})</Code>")
# Asked again whatever their status, which may be that of others: of a body read too late, of many keys removed at once.
RETRYABLE_CODES = frozenset({
    "RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable", "ConditionalRequestConflict",
})  # fmt: skip
_READING = frozenset({"GET", "HEAD"})
_IS_ERROR = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?<Error>")
_HINTS = {
    "NoSuchBucket": "there is no such bucket (hint: `directory` is /BUCKET/PREFIX; is [s3] endpoint_url right?)",
    "InvalidAccessKeyId": "the store does not know this access key (hint: [s3] aws_access_key_id)",
    "SignatureDoesNotMatch": "the store refuses the secret key (hint: [s3] aws_secret_access_key)",
    "AuthorizationHeaderMalformed": "the store refuses the signature (hint: [s3] region_name)",
    "PermanentRedirect": "the bucket is elsewhere (hint: [s3] region_name, endpoint_url)",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
    "ExpiredToken": "the credentials have expired",
    "AccessDenied": "the store denies it to these credentials (hint: the README lists the rights it takes)",
}


class Answer(NamedTuple):
    """What the store said."""

    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes
    attempts: int  # it took so many: an earlier one may have been carried out, though its answer was lost

    @property
    def code(self) -> str:
        """The store's own name of an error; "" if there is none."""
        match = _CODE.search(self.body[:4096])
        return match[1].decode() if match else ""

    @property
    def date(self) -> float:
        """The store's clock when it answered: seconds since 1970, whole; 0.0 if it did not say."""
        return http_time(self.headers.get("date", ""))


def http_time(text: str) -> float:
    """Seconds since 1970 of a date as HTTP has it; 0.0 if it is none."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except ValueError:
        return 0.0


def wait_after(attempt: int) -> None:
    """Between a try that failed and the next one; `attempt` counts from 1."""
    time.sleep(random.uniform(0, min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**attempt)))  # noqa: S311


class S3:
    """A bucket. Thread-safe; a process that was forked must not use its parent's."""

    def __init__(self, settings: S3Settings) -> None:
        if pycurl.version_info()[2] < OLDEST_LIBCURL:
            raise StorageError(f"libcurl 8.0 or later is needed for an object store, and this is {pycurl.version}")
        self._settings = settings
        self._base = _base(settings)
        self._idle: deque[pycurl.Curl] = deque()
        self._ca_bundle = ca_bundle(settings.ca_bundle)
        self._user_agent = f"fastmirror/{__version__}"
        self._keys = _keys(settings)
        self._fence: Callable[[], None] = unguarded

    def guard(self, check: Callable[[], None]) -> None:
        """Ask this before each try of a request that changes something; it raises StorageError."""
        self._fence = check

    def send(
        self, method: str, key: str, *, query: str = "", headers: Sequence[str] = (), body: bytes | Section = b"",
        sha256: str | None = None, fine: Sequence[int] = (), into: BinaryIO | None = None, is_fenced: bool = True,
    ) -> Answer:  # fmt: skip
        """Do one request, again where another try may fare better.

        key: within the bucket; "": the bucket itself. query: encoded, in the order of its names. sha256: of the body,
        in hex digits, where it is known. fine: statuses of 300 and above that are an answer. into: takes the body of
        a good answer, from its beginning. is_fenced: False for what may be done by who has lost the mirror.
        Raises StorageError for all other statuses, and where no try was answered, and OSError where `into` does not
        take the body, or a section cannot be read: no other try would fare better.
        """
        url = f"{self._base}/{quote(key, safe='/-_.~')}" + (f"?{query}" if query else "")
        if sha256 is None:
            sha256 = sha256_of(body).hexdigest() if body and isinstance(body, bytes) else _NOTHING
        lines = [*headers, f"x-amz-content-sha256: {sha256}", "Expect:"]
        if not any(line.startswith("Content-Type:") for line in headers):
            lines.append("Content-Type:")  # else libcurl says that a body is a form
        failure = ""
        fence = self._fence if is_fenced and method not in _READING else unguarded
        for attempt in range(1, self._settings.attempts + 1):
            fence()  # before each: the tries may go on for longer than a lease lives
            answer, failure = self._once(method, url, lines, body, attempt, into)
            if answer is not None:
                if _is_fine(answer, fine):
                    return answer
                failure = _wording(answer)
                if not (is_retryable_status(answer.status) or answer.code in RETRYABLE_CODES):
                    break
            if attempt < self._settings.attempts:
                wait_after(attempt)
        tries = f" ({attempt} attempts)" if attempt > 1 else ""
        raise StorageError(f"object store: {method} {self.name(key)}: {failure}{tries}")

    def name(self, key: str) -> str:
        """The key as messages name it."""
        return clean(f"s3://{self._settings.bucket}/{key}")

    def close(self) -> None:
        """End all connections."""
        while self._idle:
            self._idle.pop().close()

    def _once(
        self, method: str, url: str, headers: list[str], body: bytes | Section, attempt: int, into: BinaryIO | None
    ) -> tuple[Answer | None, str]:
        """One try: (the answer, "") or (None, why there was none)."""
        used = self._taken()
        handle = used or pycurl.Curl()
        lines: list[bytes] = []
        received = Received(into, lines)
        sent = Sent(body) if isinstance(body, Section) else None
        try:
            self._prepare(handle, url, headers)
            handle.setopt(pycurl.HEADERFUNCTION, lines.append)
            handle.setopt(pycurl.WRITEFUNCTION, received.write)
            if sent is not None:
                sent.give_to(handle)
            elif method == "HEAD":
                handle.setopt(pycurl.NOBODY, 1)
            elif method in {"PUT", "POST"}:
                handle.setopt(pycurl.POSTFIELDS, body)
                handle.setopt(pycurl.CUSTOMREQUEST, method)
            elif method != "GET":
                handle.setopt(pycurl.CUSTOMREQUEST, method)
            handle.perform()
            status = handle.getinfo(pycurl.RESPONSE_CODE)
            if used is not None and handle.getinfo(pycurl.NUM_CONNECTS):
                attempt += 1  # libcurl's own, as the connection that it had was closed
        except pycurl.error as error:
            handle.close()
            if failure := received.failure or (sent and sent.failure):
                raise failure from None
            return None, clean(str(error.args[-1]))
        finally:
            if sent is not None:
                sent.close()
        self._idle.append(handle)
        return Answer(status, _headers(lines), b"".join(received.chunks), attempt), ""

    def _taken(self) -> pycurl.Curl | None:
        """A handle that has a connection, if one is idle."""
        with suppress(IndexError):
            return self._idle.pop()
        return None

    def _prepare(self, handle: pycurl.Curl, url: str, headers: list[str]) -> None:
        access_key, secret_key, token = self._keys()
        handle.reset()
        handle.setopt(pycurl.URL, url)
        handle.setopt(pycurl.AWS_SIGV4, f"aws:amz:{self._settings.region}:s3")
        handle.setopt(pycurl.USERPWD, f"{access_key}:{secret_key}")
        handle.setopt(pycurl.HTTPHEADER, [*headers, f"x-amz-security-token: {token}"] if token else headers)
        handle.setopt(pycurl.USERAGENT, self._user_agent)
        handle.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.CONNECTTIMEOUT_MS, int(self._settings.timeout_s * 1000))
        handle.setopt(pycurl.LOW_SPEED_LIMIT, _LEAST_BYTES_PER_SECOND)
        handle.setopt(pycurl.LOW_SPEED_TIME, max(1, int(self._settings.timeout_s * _SILENCE)))
        if self._ca_bundle:
            handle.setopt(pycurl.CAINFO, self._ca_bundle)


def unguarded() -> None:
    """Nothing prevents it."""


def _is_fine(answer: Answer, fine: Sequence[int]) -> bool:
    if answer.status < 300:
        return not _IS_ERROR.match(answer.body)  # what takes long may fail after its status was sent
    return answer.status in fine and answer.code != "NoSuchBucket"


def _keys(settings: S3Settings) -> Callable[[], tuple[str, str, str]]:
    """Gives (access key, secret key, session token or "") for each request: what a role lends is lent anew in time."""
    given = settings.credentials
    if given is not None:
        return lambda: given
    hint = "(hint: [s3] aws_access_key_id and aws_secret_access_key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    try:
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.session import get_session
    except ImportError as error:
        more = "; for profiles and roles: pip install 'fastmirror[s3]')"
        raise SettingsError(f"object store: no keys are given {hint}{more}") from error
    # Its own two, and what it lets through of a token's file or of what a program of the operator's prints.
    failures = (BotoCoreError, ClientError, OSError, ValueError, KeyError)
    try:
        found = get_session().get_credentials()
    except failures as error:
        raise SettingsError(f"object store: the keys cannot be found: {_said(error)}") from error
    if found is None:
        raise SettingsError(f"object store: no keys are given, nor does this machine have any {hint})")

    def keys() -> tuple[str, str, str]:
        try:
            frozen = found.get_frozen_credentials()
        except failures as error:
            raise StorageError(f"object store: the keys cannot be had: {_said(error)}") from error
        return frozen.access_key, frozen.secret_key, frozen.token or ""

    return keys


def _said(error: Exception) -> str:
    return clean(f"{type(error).__name__}: {error}")


def _headers(lines: list[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if line[:5] == b"HTTP/":
            headers.clear()
        elif colon:
            headers[name.strip().lower().decode("latin-1")] = value.strip().decode("latin-1")
    return headers


def _wording(answer: Answer) -> str:
    """An error in one line, of which nothing is the store's own but its code and region: it quotes what it was sent."""
    code = answer.code
    text = _HINTS.get(code) or ("denied (hint: [s3] keys and rights)" if answer.status in (401, 403) else "")
    text = ": ".join(part for part in (f"{answer.status} {code}".strip(), text) if part)
    region = answer.headers.get("x-amz-bucket-region", "")
    return text + (f"; the bucket is in {region!r:.40}" if region and answer.status in (301, 400) else "")


def _base(settings: S3Settings) -> str:
    """The bucket's address: by its path at an endpoint of one's own, by its name at Amazon, as botocore has it."""
    if settings.endpoint:
        return f"{settings.endpoint}/{settings.bucket}"
    suffix = "amazonaws.com" + ".cn" * settings.region.startswith("cn-")
    host = f"s3.{settings.region}.{suffix}"
    if "." in settings.bucket:  # Amazon's certificate would not cover its name
        return f"https://{host}/{settings.bucket}"
    return f"https://{settings.bucket}.{host}"
