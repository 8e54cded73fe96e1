"""At which step a run is cut off, and how: each chosen step in each way, then steps at random."""

from __future__ import annotations

import random
from typing import NamedTuple

from tests.crashes.power import LOSSES

QUICK = 24  # so many in every run of the tests
WAYS = ("group", "worker", "parent", "SIGTERM", "SIGINT", *(f"power loss: {loss}" for loss in LOSSES))
_MOMENTS = (
    ("before", "commit", 0.0),
    ("after", "staged", 0.0),
    ("before", "file", 0.0),
    ("after", "file", 0.5),
    ("after", "metadata", 0.5),
    ("after", "partial", 0.0),
    ("before", "flush", 0.0),
    ("after", "flush", 0.0),
    ("before", "page", 0.0),
    ("after", "page", 0.5),
    ("after", "page", 1.0),
    ("after", "flush", 0.5),
    ("before", "commit", 0.7),
    ("after", "commit", 0.7),
    ("before", "unlinked page", 0.0),
    ("after", "unlinked file", 0.5),
    ("after", "hidden", 1.0),
    ("before", "root index", 0.0),
    ("after", "root index", 0.0),
    ("after", "root index", 1.0),
    ("before", "flush", 1.0),
    ("before", "status", 0.0),
    ("after", "status", 1.0),
    ("after", "last-modified", 1.0),
)
_OF_UPDATES = {"unlinked page", "unlinked file", "hidden"}


class Point(NamedTuple):
    """One moment of one kind of run, and what happens then."""

    run: str  # first, update
    layout: str
    when: str  # before, after
    what: str  # the step
    share: float  # which of the run's steps of this kind: 0 is the first, 1 the last
    way: str
    seed: int

    def __str__(self) -> str:
        which = {0.0: "first", 1.0: "last"}.get(self.share, f"{self.share:.0%} of the")
        return f"{self.way}, {self.when} the {which} {self.what}, {self.run} run, {self.layout}"


def points(count: int) -> list[Point]:
    """So many points: two of three are chosen, so that in the end every moment has met every way; others at random."""
    chance = random.Random(46)
    found = []
    for seed in range(count):
        is_chosen = seed % 3 < 2
        turn = seed - seed // 3 if is_chosen else seed // 3
        run, layout = ("update", "first")[turn // 2 % 2], ("hashed", "flat")[turn % 2]
        when, what, share = _MOMENTS[turn % len(_MOMENTS)]
        if not is_chosen:
            when, what, share = chance.choice(("before", "after")), "step", round(chance.random(), 3)
        if what in _OF_UPDATES:
            run = "update"
        found.append(Point(run, layout, when, what, share, WAYS[turn % len(WAYS)], seed))
    return found
