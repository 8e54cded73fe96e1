"""The workers of a cluster as a run's parent sees them, and the batches of jobs that are with them."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from fastmirror.guest import Greeting
from fastmirror.model import FilesJob, Load, Outcome, Split

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fastmirror.model import Answer, Job, Share


class Batch:
    """Jobs that are with a worker."""

    def __init__(self, jobs: list[Job], holder: Member, *, is_alone: bool) -> None:
        self.jobs = jobs
        self.holder = holder
        self.is_alone = is_alone  # suspects: the worker has nothing else
        self.sent_at = time.monotonic()
        self.has_double = False  # with somebody else


class Member:
    """One worker."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.greeting: Greeting | None = None  # None: it has not answered yet
        self.batches: dict[int, Batch] = {}
        self.share: Share | None = None
        self.load = Load()
        self.heard_at = time.monotonic()
        self.is_named = False  # as one that says nothing

    def heard(self) -> None:
        """It said something."""
        self.heard_at = time.monotonic()
        self.is_named = False

    @property
    def in_hand(self) -> tuple[int, int]:
        """Its batches: of pieces, and of projects."""
        pieces = sum(isinstance(batch.jobs[0], FilesJob) for batch in self.batches.values())
        return pieces, len(self.batches) - pieces

    @property
    def takes_part(self) -> bool:
        """Whether it has answered, and was not refused."""
        return self.greeting is not None and not self.greeting.refusal

    @property
    def is_alone(self) -> bool:
        """Whether it is at suspects."""
        return any(batch.is_alone for batch in self.batches.values())

    def is_silent(self, seconds: float) -> bool:
        """Whether it has work, and has said nothing for so long."""
        return bool(self.batches) and time.monotonic() - self.heard_at > seconds


def within_limits(members: Iterable[Member]) -> list[Member]:
    """Of each host no more than its limit has transfers for, those first that have work already."""
    on_host: Counter[str] = Counter()
    found = []
    for member in sorted(members, key=lambda member: not member.batches):
        greeting = member.greeting or Greeting()
        if not greeting.limit or on_host[greeting.host] < greeting.limit:
            on_host[greeting.host] += 1
            found.append(member)
    return found


def limits_of(members: Sequence[Member]) -> list[int | None]:
    """What each may have of its host's limit, where that has one."""
    greetings = [member.greeting or Greeting() for member in members]
    on_host = Counter(greeting.host for greeting in greetings)
    return [g.limit and max(1, g.limit // on_host[g.host]) for g in greetings]


def staged_by(answer: Answer) -> list[str]:
    """Paths in staging of what an answer that does not count would have published."""
    if isinstance(answer, Outcome):
        return [path for page in answer.pages for path in page.staged]
    if isinstance(answer, Split):
        return answer.held.staged
    return []
