"""What all commands that work on a mirror have in common: its parts, signals, the clean mark, the root index."""

from __future__ import annotations

import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Self

from fastmirror.adoption import open_state
from fastmirror.backend import open_storage
from fastmirror.changes import next_export
from fastmirror.errors import ClusterError, Interrupted, StorageError, is_storage_failure
from fastmirror.execution import Execution
from fastmirror.filetree import FileTree
from fastmirror.hidden import holds_hidden
from fastmirror.lastserial import show_serial
from fastmirror.pages import Context
from fastmirror.removal import free_disputed
from fastmirror.rootindex import write_root_index
from fastmirror.schema import Notes
from fastmirror.settings import Settings, fingerprint
from fastmirror.shadowmire import move_below_web
from fastmirror.simple import RENDERER_VERSION
from fastmirror.state import State
from fastmirror.tree import settle_tree, state_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fastmirror.execution import Terms
    from fastmirror.holding import Hold
    from fastmirror.layout import Tree
    from fastmirror.names import NormalizedName
    from fastmirror.progress import Progress
    from fastmirror.storage import Storage
    from fastmirror.summary import Counts
    from fastmirror.upstream import Dialect


class Parts(NamedTuple):
    """A mirror's parts, opened."""

    settings: Settings
    storage: Storage
    state: State
    tree: Tree
    clean: bool  # the last run ended in order, or there was none
    settings_digest: str
    hold: Hold


def open_parts(settings: Settings, hold: Hold, *, writes: bool = True) -> Parts:
    """Open a mirror that is held; without `writes` nothing is made or swept."""
    directory = settings.storage.directory
    storage = open_storage(settings.storage)
    storage.guard(hold.check)
    if writes:
        storage.prepare()
        storage.make_room(settings.storage.min_free)
        if isinstance(storage, FileTree):
            move_below_web(directory, storage.web)
        storage.open_desk()
    path = state_path(directory)
    state = open_state(path) if writes else State(path, read_only=True)
    state.notes = Notes(settings.run.diff_file is not None, next_export(state))
    tree = settle_tree(settings, state, storage)
    clean = state.get("clean") == "1" or (writes and _is_new(state, storage))
    return Parts(settings, storage, state, tree, clean, fingerprint(settings, RENDERER_VERSION), hold)


def _is_new(state: State, storage: Storage) -> bool:
    """Whether no run has begun to write here: then there is nothing that could be out of order."""
    return state.get("clean") is None and not state.has_projects() and storage.is_empty()


class Run:
    """One command at work. What it has to do is its subclass's; how it begins, is interrupted and ends is here."""

    def __init__(self, parts: Parts, terms: Terms, progress: Progress, counts: Counts) -> None:
        self._settings, self._storage, self._state, self._tree = parts[:4]
        self._clean = parts.clean
        self._settings_digest = parts.settings_digest
        self._progress = progress
        self._started = time.time()
        self._counts = counts
        self._serial: int | None = None
        self._marked = False
        self._is_cut_short = False  # in order: what is done is recorded
        self._hold = parts.hold
        self._only_looks = terms.dry_run
        self._execution = Execution(terms, self._state, self._storage, parts.hold.descriptor, counts, progress)
        self._execution.every_hour = self._write_index

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._execution.close()
        self._hold.keep(self._state, has_changed=self._marked and not self._only_looks)
        self._storage.close()
        self._state.close()

    def _context(self, dialect: Dialect | None, *, debug: bool, plan_only: bool = False) -> Context:
        """What the workers are told."""
        fresh = self._storage.is_empty() and not holds_hidden(self._state)
        digest = self._settings_digest
        return Context(self._settings, dialect, self._tree, digest, self._clean, debug, plan_only, fresh, self._started)

    def _mark_unclean(self, facts: dict[str, str | None]) -> None:
        """Before anything is renamed: until the run ends in order, rows may be behind the pages."""
        facts |= {"clean": "0", "layout": str(self._tree.layout), "hash_index": "1" if self._tree.hash_index else None}
        facts["whereabouts"] = self._storage.whereabouts
        with self._state.transaction():
            self._state.put(facts)
        self._marked = True

    def _trust_rows_again(self) -> None:
        """What this run did is recorded: the next may trust the rows if this one might."""
        if self._clean:
            with self._state.transaction():
                self._state.put({"clean": "1"})

    def _free_disputed(self, update: Mapping[NormalizedName, int | None]) -> None:
        """Unlink what holds the names of projects' files and is named by none; do those again that lack them."""
        disputed = self._execution.take_disputed()
        freed = free_disputed({path for paths in disputed.values() for path in paths}, self._state, self._storage)
        again = {
            name: update.get(name)
            for name, paths in disputed.items()
            if name in self._counts.failures and freed.intersection(paths)
        }
        if again:
            for name in again:
                self._counts.take_back(name, "partial")
            self._counts.planned -= len(again)
            self._execution.do(again)

    def _show_serial(self) -> None:
        if self._settings.pages.legacy_json and not self._storage.is_remote:
            show_serial(self._storage.own, self._state.greatest_serial())

    def _write_index(self) -> None:
        self._show_serial()
        serial = self._serial or self._state.greatest_serial()
        pages = self._settings.pages
        write_root_index(self._state, self._storage, pages.formats, serial, local=pages.local_json)

    def _cut_short(self, work: Callable[[], None]) -> tuple[int, str]:
        """Do it; returns the exit status and the reason if it was cut short in order, else (0, "")."""
        try:
            work()
        except Interrupted as interruption:
            self._is_cut_short = True
            return interruption.signal_status, str(interruption)
        except ClusterError as failure:
            self._is_cut_short = True
            return failure.exit_status, str(failure)
        except StorageError as failure:
            return failure.exit_status, str(failure)
        except OSError as failure:
            if not is_storage_failure(failure):
                raise
            return StorageError.exit_status, str(failure)
        return 0, ""

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM end the run in order; before there is anything to drain, at once."""

        def handle(number: int, _frame: object) -> None:
            if not self._marked:
                raise Interrupted(number)
            self._execution.interrupt(number)

        kept = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)
