"""The way to a dask cluster: its scheduler's client, in a thread and an event loop of its own.

What is asked for comes back as events, in the order in which it happens; nothing here waits for a worker.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import warnings
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from distributed import Client
from distributed.versions import VersionMismatchWarning

from fastmirror.errors import ClusterError
from fastmirror.guest import TOPIC

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_ROSTER_S = 1.0
_GOODBYE_S = 3.0


class Roster(NamedTuple):
    """The workers that the scheduler has now, by their addresses."""

    addresses: frozenset[str]


class Returned(NamedTuple):
    """What came of something asked for."""

    number: int
    value: Any  # None where there is an error
    error: str


class Told(NamedTuple):
    """What a worker said by itself."""

    message: dict[str, Any]


class Lost(NamedTuple):
    """The scheduler does not answer any more."""

    reason: str


Event = Roster | Returned | Told | Lost


class Wire:
    """One client. `post` is called with each event, in this client's own thread."""

    def __init__(self, address: str, timeout_s: float, run: str, post: Callable[[Event], None]) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._run_id = run
        self._post = post
        self._asked: dict[int, asyncio.Task[None]] = {}
        self._number = 0
        self._opened: Future[None] = Future()
        self._loop = asyncio.new_event_loop()
        self._is_over = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="dask")

    def open(self) -> None:
        """Connect. Raises ClusterError if no scheduler answers there in time."""
        _hush()
        self._thread.start()
        self._opened.result()

    def ask(self, address: str, key: str, function: Callable[..., Any], *arguments: object) -> int:
        """Have one worker call a function; the number that its Returned will have. The dashboard shows the key."""
        self._number += 1
        self._soon(self._asking, self._number, address, f"{key}-{self._run_id}-{self._number}", function, arguments)
        return self._number

    def drop(self, number: int) -> None:
        """Nobody waits for this any more; nothing is Returned."""
        self._soon(self._dropping, number)

    def close(self) -> None:
        """Let go of the cluster."""
        if self._thread.is_alive():
            self._soon(self._is_over.set)
            self._thread.join(2 * _GOODBYE_S)

    def _soon(self, act: Callable[..., object], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop has ended: Lost was posted
            self._loop.call_soon_threadsafe(act, *arguments)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        client = None
        try:
            client = Client(self._address, asynchronous=True, set_as_default=False, timeout=self._timeout_s)
            await client
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the way to the scheduler that fails
            self._opened.set_exception(_unreachable(self._address, error))
            if client is not None:
                await _within(client.close(), _GOODBYE_S)
            return
        self._client = client
        client.subscribe_topic(TOPIC, self._pass_on)
        self._opened.set_result(None)
        try:
            await self._watch(client)
        finally:
            for task in self._asked.values():
                task.cancel()
            await _within(client.close(), _GOODBYE_S)

    def _pass_on(self, event: tuple[float, dict[str, Any]]) -> None:
        _, message = event
        if message["run"] == self._run_id:
            self._post(Told(message))

    async def _watch(self, client: Client) -> None:
        """Look who is there, again and again, until it is over or the scheduler is gone."""
        answered = self._loop.time()
        while not self._is_over.is_set():
            try:
                facts = await asyncio.wait_for(_identity(client), self._timeout_s)
            except Exception as error:  # noqa: BLE001 - it may be on its way back
                if self._loop.time() - answered > self._timeout_s:
                    self._post(Lost(f"the scheduler {self._address} is gone ({_short(error)})"))
                    return
            else:
                answered = self._loop.time()
                self._post(Roster(frozenset(facts["workers"])))
            await _within(self._is_over.wait(), _ROSTER_S)

    def _asking(self, number: int, *order: Any) -> None:  # noqa: ANN401 - passed on
        self._asked[number] = self._loop.create_task(self._ask(number, *order))

    async def _ask(
        self, number: int, address: str, key: str, function: Callable[..., Any], arguments: tuple[object, ...]
    ) -> None:
        future = self._client.submit(function, *arguments, key=key, workers=[address], pure=False)
        try:
            returned = Returned(number, await future, "")
        except Exception as error:  # noqa: BLE001 - whatever the worker, or the way to it, raises
            if self._client.status != "running":
                self._post(Lost(f"the scheduler {self._address} is gone"))
                return
            returned = Returned(number, None, _short(error))
        finally:
            future.release()
            self._asked.pop(number, None)
        self._post(returned)

    def _dropping(self, number: int) -> None:
        if task := self._asked.get(number):
            task.cancel()


async def _identity(client: Client) -> dict[str, Any]:
    if client.scheduler is None:
        raise ClusterError("the connection is closed")
    return dict(await client.scheduler.identity(n_workers=-1))


async def _within(wait: Coroutine[Any, Any, object], seconds: float) -> None:
    with suppress(TimeoutError, asyncio.TimeoutError, OSError):
        await asyncio.wait_for(wait, seconds)


def _unreachable(address: str, error: Exception) -> ClusterError:
    return ClusterError(f"no dask scheduler answers at {address} ({_short(error)})")


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:200]


def _hush() -> None:
    """What dask logs of itself is not for the person who runs a mirror: what matters is said by events."""
    warnings.simplefilter("ignore", VersionMismatchWarning)
    for name, logger in logging.root.manager.loggerDict.items():
        if name.partition(".")[0] in {"distributed", "tornado", "asyncio", "bokeh"} and isinstance(
            logger, logging.Logger
        ):
            logger.handlers[:] = [logging.NullHandler()]
            logger.propagate = False
