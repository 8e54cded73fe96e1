"""The root index of an upstream that offers a change feed: made of the one applied last and of what has changed.

What is made is believed if its digest is the one that the feed names. Whatever does not fit is no failure: then the
whole root index is read, and so it is once a week, as a feed may be left behind by whoever else writes that index.
"""

from __future__ import annotations

import logging
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import xxhash

from fastmirror.errors import PageError, UpstreamError
from fastmirror.feed import HEAD_BYTES, HEAD_PATH, STEP_BYTES, offers_feed, read_head, rebuilt, step_path
from fastmirror.simple import JSON_TYPE
from fastmirror.transport import Reply, Request
from fastmirror.upstream import etag_of, load_root, require_usable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastmirror.state import State

_LOG = logging.getLogger(__name__)
_FOLLOWED_S = 7 * 24 * 3600.0
_STEPS_BYTES = 16 << 20  # of all steps together: more is not worth it
_READ = "root_read"  # the fact: when the root index was last read whole; only of an upstream that offers a feed


def facts_of_whole(reply: Reply, state: State | None) -> dict[str, str | None]:
    """What the state is to say of a root index that was read whole, whether it was another or not."""
    if reply.status == 304:
        return {_READ: str(time.time())} if state is not None and state.get(_READ) else {}
    return {_READ: str(time.time()) if offers_feed(reply.body) else None, "root_etag": etag_of(reply) or None}


def follow(get: Callable[[Request], Reply], master: str, cache: str, applied: Mapping[str, str]) -> Reply | None:
    """The root index as if it had been asked for: 304 if it is the one that was `applied` last, kept in `cache`.

    None if it is to be read whole: there is no feed, or it is behind, torn or gone, or it was followed for a week.
    """
    read = applied.get(_READ)
    if not read or abs(time.time() - float(read)) > _FOLLOWED_S:
        return None
    try:
        body = _made(get, master, cache, applied["root_digest"])
    except (UpstreamError, PageError) as reason:
        _LOG.info("change feed: %s; the whole root index is read", reason)
        return None
    return Reply(0, 200 if body else 304, {"content-type": JSON_TYPE}, body, "", retryable=False)


def _made(get: Callable[[Request], Reply], master: str, cache: str, digest: str) -> bytes:
    """The root index that the feed leads to; empty if that is the one with this digest."""
    states = read_head(_body(get, f"{master}/{HEAD_PATH}", HEAD_BYTES))
    if digest not in states:
        raise UpstreamError("the root index that was applied last is none of its states")
    later = states[states.index(digest) :]
    steps: list[bytes] = []
    for before, after in pairwise(later):
        steps.append(_body(get, f"{master}/{step_path(before, after)}", STEP_BYTES))
        if sum(map(len, steps)) > _STEPS_BYTES:
            raise UpstreamError("its steps are too large")
    if not steps:
        return b""
    body = rebuilt(load_root(cache), steps)
    if xxhash.xxh3_128_hexdigest(body) != states[-1]:
        raise UpstreamError("its steps do not lead to what it names")
    return body


def _body(get: Callable[[Request], Reply], url: str, limit: int) -> bytes:
    reply = get(Request(0, url, ("Accept: application/json",), limit, compressed=True, sink=None))
    require_usable(reply, url)
    return reply.body
