"""How an upstream is treated that serves nothing: left alone for longer and longer, tried by one request at a time.

What one lane asks for is refused now and then by any upstream. Where much is refused for the first time and nothing
is served in between, more requests would mend nothing: the lane rests. After about a minute of nothing but refusals
it is given up, until one of the trials that go on is served.
"""

from __future__ import annotations

import random

MUCH = 6  # requests that are refused, and from which on it is upstream's trouble and not theirs
_REST_FIRST_S = 0.5
_REST_LONGEST_S = 30.0
_RESTS_MOST = 7  # 0.5, 1, 2, 4, 8, 16 and 30 s


def backoff_s(failures: int) -> float:
    """How long to wait after so many failures in a row, with jitter."""
    mean = min(_REST_FIRST_S * 2.0 ** (failures - 1), _REST_LONGEST_S)
    return mean * random.uniform(0.5, 1.5)  # noqa: S311 - spreads load, hides nothing


class Patience:
    """What one lane knows of its upstream's state."""

    def __init__(self) -> None:
        self._refused = 0  # requests, since something was served
        self._rests = 0
        self._until = 0.0

    @property
    def is_tested(self) -> bool:
        """Whether one request at a time is enough, until one is served."""
        return self._rests > 0

    @property
    def is_over(self) -> bool:
        """Whether nothing is to be expected of this upstream any more."""
        return self._rests > _RESTS_MOST

    def rests(self, now: float) -> bool:
        """Whether nothing is to be asked for now."""
        return now < self._until

    def served(self) -> None:
        """Something came, be it a 404."""
        self._refused = self._rests = 0
        self._until = 0.0

    def refused(self, now: float, *, is_first: bool) -> float:
        """Nothing came; returns for how many seconds from now on the lane rests, 0 if that is not new.

        Only the first refusal of a request (`is_first`) tells of upstream: what fails again and again, while
        others were served, does so for reasons of its own.
        """
        self._refused += is_first
        if self._refused < MUCH or self.rests(now):
            return 0.0
        self._rests += 1
        rest_s = backoff_s(self._rests)
        self._until = now + rest_s
        return rest_s
