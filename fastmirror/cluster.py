"""The parent's side of a dask cluster's workers: batches out, answers in, shares; who is new, gone or silent.

A batch is one task, for one worker, which does it in a guest (guest.py). Which jobs are in it, and who is blamed
for a death, is the docket's to say. A worker that is gone, silent or slow loses its batches to others: the first
answer to a job counts, and what a later one has staged is discarded.
"""

from __future__ import annotations

import logging
import queue
import time
import uuid
from typing import TYPE_CHECKING

from fastmirror import __version__
from fastmirror.channel import packed, unpacked
from fastmirror.docket import Budget, Docket, Purse, key_of, key_of_answer
from fastmirror.errors import ClusterError
from fastmirror.guest import Greeting, adjust, boot_id, greet, hand_over, work
from fastmirror.marker import Marker
from fastmirror.members import Batch, Member, limits_of, staged_by, within_limits
from fastmirror.model import FilesJob, Load
from fastmirror.wire import Event, Lost, Returned, Roster, Told, Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastmirror.model import Answer, Job, Outcome, ProjectJob
    from fastmirror.pages import Context
    from fastmirror.settings import Settings
    from fastmirror.storage import Storage

_LOG = logging.getLogger(__name__)
_SLOW_LEAST_S = 60.0
_SLOW = 5  # times as long as a batch takes
_TICK_S = 0.5
_DRAIN_S = 8.0


class Cluster:
    """The workers of a dask scheduler, and the jobs that are with them. Its face is docket.Crew."""

    def __init__(self, settings: Settings, budget: Budget, storage: Storage) -> None:
        self._scheduler = settings.pool.scheduler
        self._silent_s = 2 * settings.upstream.timeout_s  # after which a worker that has jobs counts as silent
        self._patience_s = 3 * settings.upstream.timeout_s  # for a worker to come
        self._purse = Purse(budget)
        self._discard = storage.discard
        self._run = uuid.uuid4().hex
        self._marker = Marker(storage.own, self._run)
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._wire = Wire(self._scheduler, settings.upstream.timeout_s, self._run, self._events.put)
        self._briefing = b""
        self._members: dict[str, Member] = {}
        self._greeted: dict[int, Member] = {}  # by the number of the question
        self._batches: dict[int, Batch] = {}
        self._docket: Docket | None = None
        self._alone_since: float | None = None  # when there was last somebody
        self._mean_s = 0.0  # that a batch takes
        self._gone = Load()  # what those that are gone had done
        self._heard = False
        self._lost = ""  # why the scheduler is
        self._is_draining = False

    def start(self) -> None:
        """Connect, and wait a while for a first worker. Raises ClusterError."""
        self._wire.open()
        self._marker.set()
        self._wait()
        while not self._members:
            self._require_somebody(is_there=False)
            self._wait()
        self._alone_since = None

    def brief(self, context: Context) -> None:
        """Tell the workers what all jobs share; before the first job. Those that come later are told then."""
        self._briefing = packed(context)
        for member in self._members.values():
            self._greet(member)

    def load(self) -> Load:
        """What all workers have in hand, by their last word."""
        return self._gone.joined(*(member.load for member in self._members.values()))

    def was_heard(self) -> bool:
        """Whether a worker has said anything since this was asked last."""
        heard, self._heard = self._heard, False
        return heard

    def wake(self) -> None:
        """Let a run that waits look again; from any thread."""
        self._events.put(None)

    def run(
        self,
        jobs: Iterator[ProjectJob],
        total: int,
        take: Callable[[ProjectJob, Outcome], None],
        tick: Callable[[], bool],
    ) -> bool:
        """As docket.Crew has it. Raises ClusterError when no worker is left: what is answered is taken then."""
        self._docket = docket = Docket(jobs, total, take)
        while tick():
            self._marker.beat()
            self._require_somebody(is_there=any(member.takes_part for member in self._members.values()))
            self._purse.recover()
            self._share_out()
            active = self._active()
            for member in active:
                self._top_up(member, active, docket)
            if docket.is_done:
                return True
            self._wait()
        self._drain()
        return False

    def close(self) -> None:
        """Let go of the workers: they leave the run by themselves."""
        self._marker.clear()
        self._wire.close()

    def _require_somebody(self, *, is_there: bool) -> None:
        if self._lost:
            raise ClusterError(self._lost)
        now = time.monotonic()
        if is_there:
            self._alone_since = None
            return
        refusals = [f"{m.address}: {m.greeting.refusal}" for m in self._members.values() if m.greeting]
        if refusals and len(refusals) == len(self._members):
            raise ClusterError(f"no worker of {self._scheduler} can take part: {refusals[0]}")
        if self._alone_since is None:
            self._alone_since = now
            if not self._members:
                _LOG.warning("no worker at %s: waiting for one, %.0f s at most", self._scheduler, self._patience_s)
        elif now - self._alone_since > self._patience_s:
            what = "answers" if self._members else "is there"
            raise ClusterError(f"no worker of {self._scheduler} {what} (hint: dask worker {self._scheduler})")

    # Jobs out ---------------------------------------------------------------------------------------------

    def _active(self) -> list[Member]:
        """Who is given work: no more than there are transfers for, here and on each host, and nobody who is silent."""
        present = (
            member for member in self._members.values() if member.takes_part and not member.is_silent(self._silent_s)
        )
        return within_limits(present)[: self._purse.budget.most_workers]

    def _to_come(self) -> int:
        """How many are there, and have not answered the greeting."""
        return sum(member.greeting is None for member in self._members.values())

    def _top_up(self, member: Member, active: list[Member], docket: Docket) -> None:
        if member.is_alone:
            return
        hands = len(active) + self._to_come()
        if docket.has_suspects and (not member.batches or member is active[-1]):
            if not member.batches:
                self._send(member, docket.next_suspects(), is_alone=True)
            return
        while batch := docket.batch(*member.in_hand, hands):
            self._send(member, batch)
        if not member.batches and not docket.has_more and (batch := self._overdue(docket)):
            self._send(member, batch)

    def _overdue(self, docket: Docket) -> list[Job]:
        """What somebody is too long at, to be given to somebody else too."""
        now = time.monotonic()
        for batch in self._batches.values():
            is_slow = now - batch.sent_at > max(_SLOW_LEAST_S, _SLOW * self._mean_s)
            if not batch.has_double and (is_slow or batch.holder.is_silent(self._silent_s)):
                batch.has_double = True
                if jobs := [job for job in batch.jobs if docket.is_out(job)]:
                    self._name(batch.holder, "slow" if is_slow else "silent", docket)
                    return jobs
        return []

    def _name(self, member: Member, what: str, docket: Docket) -> None:
        """Tell of a worker whose batches go to others one by one: once for as long as nothing is heard of it."""
        if not member.is_named:
            member.is_named = True
            jobs = sum(docket.is_out(job) for batch in member.batches.values() for job in batch.jobs)
            _LOG.warning("%s is %s: others are given what it has, %d jobs", member.address, what, jobs)

    def _send(self, member: Member, jobs: list[Job], *, is_alone: bool = False) -> None:
        if not member.batches:
            member.heard()
        kind = "checks" if jobs[0].check else "files" if isinstance(jobs[0], FilesJob) else "projects"
        share = member.share or self._purse.share_of(len(self._active()))
        number = self._wire.ask(member.address, f"fastmirror-{kind}", work, self._run, packed(tuple(jobs)), share)
        member.batches[number] = self._batches[number] = Batch(jobs, member, is_alone=is_alone)

    # Answers in -------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Take what has come, and wait for something to come."""
        try:
            event = self._events.get(timeout=_TICK_S)
            while True:
                self._take(event)
                event = self._events.get_nowait()
        except queue.Empty:
            pass

    def _take(self, event: Event | None) -> None:
        if isinstance(event, Roster):
            self._compare(event.addresses)
        elif isinstance(event, Lost):
            self._lost = event.reason
        elif isinstance(event, Told):
            self._hear(event)
        elif isinstance(event, Returned):
            if member := self._greeted.pop(event.number, None):
                self._take_greeting(member, event)
            elif event.number in self._batches:
                self._take_batch(event)

    def _compare(self, addresses: frozenset[str]) -> None:
        for address in addresses - self._members.keys():
            member = self._members[address] = Member(address)
            if self._briefing:
                self._greet(member)
        for address in self._members.keys() - addresses:
            self._bury(self._members[address])

    def _greet(self, member: Member) -> None:
        facts = (__version__, self._run, self._marker.path, boot_id(), self._briefing)
        self._greeted[self._wire.ask(member.address, "fastmirror-hello", greet, *facts)] = member

    def _take_greeting(self, member: Member, event: Returned) -> None:
        member.greeting = Greeting(f"it cannot: {event.error}") if event.error else unpacked(event.value)
        if member.greeting.refusal:
            _LOG.warning("%s does not take part: %s", member.address, member.greeting.refusal)
        else:
            _LOG.info("%s takes part, on %s", member.address, member.greeting.host)

    def _hear(self, event: Told) -> None:
        member = self._members.get(event.message["from"])
        if member is None:
            return
        self._heard = True
        member.heard()
        member.load = Load(*event.message["load"])
        if event.message["throttled"] is not None:
            hold_s = self._purse.lower(event.message["throttled"])
            self._share_out(hold_s)

    def _take_batch(self, event: Returned) -> None:
        batch = self._batches.pop(event.number)
        member = batch.holder
        del member.batches[event.number]
        member.heard()
        self._heard = True
        jobs = {key_of(job): job for job in batch.jobs}
        answers: list[Answer] = unpacked(event.value) if event.value is not None else []
        for answer in answers:
            if self._docket is None or not self._docket.settle(jobs.pop(key_of_answer(answer)), answer):
                for path in staged_by(answer):
                    self._discard(path)
        if not jobs:
            self._mean_s += (member.heard_at - batch.sent_at - self._mean_s) / 8
        else:
            self._send_back(batch, list(jobs.values()), event)

    def _send_back(self, batch: Batch, jobs: list[Job], event: Returned) -> None:
        """What a worker has left undone."""
        docket, member = self._docket, batch.holder
        if docket is None or self._is_draining:
            return
        if event.error:
            member.greeting = Greeting(f"it fails: {event.error}")
            _LOG.error("%s is given nothing more: %s", member.address, event.error)
            docket.bury([jobs], event.error)
            return
        if event.value is None:
            docket.take_back(jobs)
        else:
            docket.bury([jobs], "it left the run")
        if member.takes_part:
            member.greeting = None
            self._greet(member)

    # Budgets ----------------------------------------------------------------------------------------------

    def _share_out(self, hold_s: float = 0.0) -> None:
        """Divide the budget anew; what those that have nothing to do would have is lent to those that have."""
        active = self._active()
        if self._docket is not None and not self._docket.has_more:
            active = [member for member in active if member.batches] or active
        limits = limits_of(active)
        room = max(0, self._purse.budget.most_workers - len(active))
        shares = self._purse.shares([*limits, *[None] * min(self._to_come(), room)])
        for member, share in zip(active, shares, strict=False):
            if member.share != share or hold_s:
                member.share = share
                if member.batches:  # else it is told with the next one
                    told = share._replace(hold_s=hold_s)
                    self._wire.ask(member.address, "fastmirror-share", adjust, self._run, told)

    # Ends -------------------------------------------------------------------------------------------------

    def _bury(self, member: Member) -> None:
        """A worker is gone: what only it had is for others, alone at first."""
        del self._members[member.address]
        self._gone = self._gone.joined(member.load._replace(pages=0, files=0))
        for number in (*member.batches, *(number for number, asked in self._greeted.items() if asked is member)):
            self._wire.drop(number)
            self._batches.pop(number, None)
            self._greeted.pop(number, None)
        elsewhere = {id(job): batch for batch in self._batches.values() for job in batch.jobs}
        lost = [[job for job in batch.jobs if id(job) not in elsewhere] for batch in member.batches.values()]
        for job in (job for batch in member.batches.values() for job in batch.jobs):
            if id(job) in elsewhere:
                elsewhere[id(job)].has_double = False
        if member.takes_part and not self._is_draining:
            _LOG.warning("%s is gone, with %d jobs", member.address, sum(map(len, lost)))
        if self._docket is not None and not self._is_draining:
            self._docket.bury(lost, f"{member.address} is gone", together=not member.is_alone)

    def _drain(self) -> None:
        """Have the workers hand over what is done, and leave."""
        self._is_draining = True
        deadline = time.monotonic() + _DRAIN_S
        for member in self._members.values():
            if member.batches:
                self._wire.ask(member.address, "fastmirror-end", hand_over, self._run)
        while time.monotonic() < deadline and any(
            not b.holder.is_silent(self._silent_s) for b in self._batches.values()
        ):
            self._wait()
