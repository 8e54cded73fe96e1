"""Files on their way into a storage that is another machine's: whatever waits for it is done beside the loop."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fastmirror.bodies import Arrival
from fastmirror.errors import is_storage_failure
from fastmirror.fetcher import Fetcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastmirror.bodies import Desk
    from fastmirror.comparison import Method
    from fastmirror.hands import Hands
    from fastmirror.model import Brought, Want
    from fastmirror.settings import UpstreamSettings
    from fastmirror.sink import Goal


def _nothing() -> None:
    """Nothing follows."""


class RemoteFetcher(Fetcher):
    """Brings wanted files to rest as any Fetcher does, in threads; bodies come, and callers are told, in the loop."""

    def __init__(
        self, desk: Desk, settings: UpstreamSettings, hands: Hands, *, fresh: bool, clean: bool, compare: Method
    ) -> None:
        super().__init__(desk, settings, fresh=fresh, clean=clean, compare=compare)
        self._hands = hands

    def fetch(self, want: Want, done: Callable[[Brought], None]) -> None:
        """Bring one file, and its core metadata file where upstream offers one."""

        def tell(brought: Brought) -> None:
            self._hands.in_loop(lambda: done(brought))

        self._hands.submit(lambda: super(RemoteFetcher, self).fetch(want, tell), _nothing)

    def _check(self, check_each: Callable[[], None], then: Callable[[], None]) -> None:
        check_each()
        then()

    def _fetch_body(self, goal: Goal, arrived: Callable[[Arrival], None]) -> None:
        def begin() -> None:
            super(RemoteFetcher, self)._fetch_body(goal, back)

        def back(arrival: Arrival) -> None:
            """The loop's side lets go of what was staged when this returns."""
            if arrival.staged:
                arrival = self._claimed(arrival)
            self._hands.submit(lambda: finish(arrival), _nothing)

        def finish(arrival: Arrival) -> None:
            try:
                arrived(arrival)
            finally:
                if arrival.descriptor >= 0:
                    os.close(arrival.descriptor)

        self._hands.in_loop(lambda: self._hands.when_room(begin))

    def _claimed(self, arrival: Arrival) -> Arrival:
        try:
            staged = self._storage.claim(arrival.staged)
        except OSError as error:
            return Arrival("", "", arrival.size, f"storage: {error}", is_storage_failure(error))
        return arrival._replace(staged=staged, descriptor=os.dup(arrival.descriptor) if arrival.descriptor >= 0 else -1)
