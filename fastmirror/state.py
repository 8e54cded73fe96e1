"""What is published, in SQLite: written by the parent alone, after what it says is durable.

A project's files are kept packed in a table of their own, so that planning reads names and serials alone.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fastmirror.damage import told
from fastmirror.errors import StateDamaged, StorageError
from fastmirror.model import Known, Outcome
from fastmirror.names import NormalizedName
from fastmirror.packing import unpack_files
from fastmirror.schema import (
    DOOM,
    FEED,
    HIDE,
    KNOWN,
    LATER_TABLES,
    RECORD,
    RECORD_WITHOUT_PAGE,
    SCHEMA,
    SCHEMA_VERSION,
    SUMMING,
    SUMS,
    FailingProject,
    Notes,
    RecordedJob,
    Totals,
    project_row,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

_FAILING = "from project where next_try is not null and outcome not in ('gone', 'stale')"


def _read_only(path: str) -> str:
    """The URI of a state that others may write meanwhile; on a read-only disk, of one that never changes."""
    frozen = not os.access(os.path.dirname(path), os.W_OK) and not os.path.exists(f"{path}-wal")
    return f"file:{quote(path)}?mode=ro" + "&immutable=1" * frozen


class State:
    """One mirror's state. Readers may open it while a run writes."""

    def __init__(self, path: str, *, read_only: bool = False) -> None:
        self._path = path
        self._is_held = not read_only  # only who holds the mirror writes
        self.notes = Notes()
        with self._translated():
            address = _read_only(path) if read_only else path
            self._db = sqlite3.connect(address, uri=read_only, isolation_level=None)
            try:
                self._prepare(read_only=read_only)
            except BaseException:
                self._db.close()
                raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if type(error) is sqlite3.DatabaseError or "decode to UTF-8" in str(error):  # malformed, or no database
                raise StateDamaged(told(self._path, str(error), is_held=self._is_held)) from error
            # SQLite tells a full disk, but not a quota.
            hint = " (hint: is a quota used up?)" * (getattr(error, "sqlite_errorname", "") == "SQLITE_IOERR_WRITE")
            raise StorageError(f"state cannot be used ({self._path}): {error}{hint}") from error

    def _prepare(self, *, read_only: bool) -> None:
        if not read_only:
            self._db.executescript("pragma journal_mode = wal; pragma synchronous = full")
        self._db.create_function("now", 0, time.time)
        if not self._db.execute("select 1 from sqlite_master where name = 'meta'").fetchone():
            if read_only:
                raise StorageError(f"state is empty ({self._path})")
            self._db.executescript(f"begin; {SCHEMA} commit;")
            self.put({"schema": str(SCHEMA_VERSION)})
        for table, columns in LATER_TABLES.items():
            if not self._db.execute("select 1 from sqlite_master where name = ?", (table,)).fetchone():
                self._db.execute(f"create {'temp ' * read_only}table {table} {columns}")
        schema = self.get("schema") or str(SCHEMA_VERSION)
        if schema != str(SCHEMA_VERSION):
            raise StorageError(f"state is of another version ({self._path}): {schema!r}, expected {SCHEMA_VERSION}")
        if not self._db.execute("select 1 from sqlite_master where name = 'total'").fetchone():
            if read_only:
                self._db.executescript(SUMS.replace("table", "temp table"))
            else:
                self._db.executescript(f"begin; {SUMS} {SUMMING} commit;")
        if not read_only:
            self._db.executescript(f"begin; {FEED} commit;")

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside is committed at once, durable when this returns."""
        with self._translated():
            self._db.execute("begin immediate")
            try:
                yield
                self._db.execute("commit")
            except BaseException:
                if self._db.in_transaction:  # on a full disk SQLite has rolled back by itself
                    self._db.execute("rollback")
                raise

    def get(self, key: str) -> str | None:
        """One fact about the mirror as a whole."""
        with self._translated():
            row = self._db.execute("select value from meta where key = ?", (key,)).fetchone()
            return row[0] if row else None

    def put(self, facts: Mapping[str, str | None]) -> None:
        """Keep facts about the mirror as a whole; None forgets one."""
        with self._translated():
            for key, value in facts.items():
                if value is None:
                    self._db.execute("delete from meta where key = ?", (key,))
                else:
                    self._db.execute("insert or replace into meta values (?, ?)", (key, value))

    def known(self, names: Sequence[NormalizedName]) -> dict[NormalizedName, Known]:
        """What is held of each of these projects, some hundred at the most; names not held are left out."""
        with self._translated():
            rows = self._db.execute(KNOWN.format(",".join("?" * len(names))), names)
            return {
                NormalizedName(name): Known(serial, etag, upstream, page, settings, files or b"", *last)
                for name, serial, etag, upstream, page, settings, files, *last in rows
            }

    def select(self, query: str, parameters: Sequence[object] = ()) -> list[Any]:
        """The rows of a query."""
        with self._translated():
            return self._db.execute(query, parameters).fetchall()

    def change(self, statement: str, rows: Iterable[Sequence[object] | Mapping[str, object]]) -> None:
        """Run a statement for each of these rows, within a transaction."""
        self._db.executemany(statement, rows)

    def every_serial(self) -> Iterator[tuple[NormalizedName, int | None]]:
        """Every project held, with its serial, by name."""
        with self._translated():
            yield from self._db.execute("select name, serial from project order by name")

    def serials(self, names: Iterable[NormalizedName]) -> dict[NormalizedName, int | None]:
        """Serials of those of these projects that are held."""
        with self._translated():
            found: dict[NormalizedName, int | None] = {}
            for name in names:
                found.update(self._db.execute("select name, serial from project where name = ?", (name,)))
            return found

    def has_projects(self) -> bool:
        """Whether any project is held."""
        return bool(self.select("select 1 from project limit 1"))

    def listed(self) -> Iterator[tuple[NormalizedName, int | None]]:
        """Projects of the root index with their serials, by name."""
        with self._translated():
            yield from self._db.execute("select name, serial from project where listed order by name")

    def due(self, now: float | None) -> dict[NormalizedName, int | None]:
        """Projects to be tried again, with the serials to reach; None: all that are failing, due or not."""
        with self._translated():
            moment = float("inf") if now is None else now
            return dict(self._db.execute("select name, expected from project where next_try <= ?", (moment,)))

    def unchecked(self, run: int) -> list[NormalizedName]:
        """Projects that this --force-check has not seen yet."""
        with self._translated():
            rows = self._db.execute("select name from project where checked_run is not ?", (run,))
            return [name for (name,) in rows]

    def every_files(self) -> Iterator[tuple[NormalizedName, bytes]]:
        """The packed files of every project."""
        with self._translated():
            yield from self._db.execute("select project, files from stored")

    def wanted_by_name(self) -> set[NormalizedName]:
        """Projects that were asked for by name: they survive filters."""
        with self._translated():
            return {name for (name,) in self._db.execute("select name from project where wanted_by = 'name'")}

    def doom(self, outcomes: Iterable[Outcome], now: float) -> None:
        """Note the files that a project's page no longer names, before that page is published.

        Those of a quarantined project are to be hidden, and what it dropped before is to go at once. What stood in the
        way of its files is noted without a project: it goes if nobody names it, though the run may be cut off before.
        """
        for outcome in outcomes:
            self._db.executemany(DOOM, [(path, "", now) for path in outcome.disputed])
            if not outcome.hidden:
                self._db.executemany(DOOM, [(path, outcome.name, now) for path in outcome.dropped])
            else:
                self._db.executemany(HIDE, [(path, outcome.name) for path in outcome.dropped])
                self._db.execute("update doomed set since = 0 where project = ?", (outcome.name,))

    def record(self, done: Iterable[tuple[Outcome, RecordedJob]], now: float, check_id: int) -> None:
        """Keep what became of projects whose pages are durable."""
        for outcome, job in done:
            if outcome.status == "gone":
                self.forget(outcome.name)
                continue
            row = project_row(outcome, job, now, check_id)
            if outcome.status in {"published", "partial", "unchanged"}:
                self._note_missing(outcome)
            if outcome.files is None and outcome.status in RECORD_WITHOUT_PAGE:
                self._db.execute(RECORD_WITHOUT_PAGE[outcome.status], row)
                continue
            self._db.execute(RECORD, row)
            if outcome.files is not None:
                self._db.execute("insert or replace into stored values (?, ?)", (outcome.name, outcome.files))
            self._db.execute("delete from held_back where project = ?", (outcome.name,))
            if outcome.due is not None:
                self._db.execute("insert into held_back values (?, ?)", (outcome.name, outcome.due))
            if outcome.needs is not None:
                self._db.execute("insert or replace into needs values (?, ?)", (outcome.name, outcome.needs))
            if outcome.shared:
                self._db.executemany(
                    "insert or ignore into shared values (?, ?)",
                    [(path, outcome.name) for path in outcome.shared],
                )

    def _note_missing(self, outcome: Outcome) -> None:
        if outcome.missing_files:
            row = (outcome.name, outcome.missing_files, outcome.missing_bytes)
            self._db.execute("insert or replace into missing values (?, ?, ?)", row)
        else:
            self._db.execute("delete from missing where project = ?", (outcome.name,))

    def forget(self, name: str) -> None:
        """Hold nothing of this project any more."""
        self._db.execute("delete from project where name = ?", (name,))
        for table in ("stored", "missing", *LATER_TABLES):
            self._db.execute(f"delete from {table} where project = ?", (name,))  # noqa: S608 - names of ours

    def unlist(self, names: Iterable[str]) -> None:
        """Leave projects out of the root index from now on; whoever wants one again has to plan it anew."""
        unlist = "update project set listed = 0, serial = null, settings_digest = '' where name = ?"
        self._db.executemany(unlist, [(name,) for name in names])

    def doomed_before(self, moment: float) -> list[tuple[str, str]]:
        """Files whose grace is over, with the project that dropped each: (path, project)."""
        with self._translated():
            return list(self._db.execute("select path, project from doomed where since <= ?", (moment,)))

    def doomed_after(self, moment: float) -> Iterator[str]:
        """Files that are doomed and in their grace still."""
        with self._translated():
            for (path,) in self._db.execute("select path from doomed where since > ?", (moment,)):
                yield path

    def spare(self, paths: Iterable[str]) -> None:
        """These are no longer to be removed: they are gone, or a page names them again."""
        self._db.executemany("delete from doomed where path = ?", [(path,) for path in paths])

    def unshare(self, paths: Iterable[str]) -> None:
        """These are gone: no project can have found them in place."""
        self._db.executemany("delete from shared where path = ?", [(path,) for path in paths])

    def shared_paths(self, paths: Iterable[str]) -> set[str]:
        """Those of these files that a project found in place when it came to store them."""
        with self._translated():
            return {
                path
                for path in paths
                if self._db.execute("select 1 from shared where path = ?", (path,)).fetchone() is not None
            }

    def named(self, paths: Collection[str], *, by: Collection[str] | None = None) -> set[str]:
        """Those of these files that some project names; `by` says which projects to look at, None means all."""
        found: set[str] = set()
        with self._translated():
            if by is None:
                blobs = self._db.execute("select files from stored")
            else:
                marks = ",".join("?" * len(by))
                blobs = self._db.execute(f"select files from stored where project in ({marks})", tuple(by))  # noqa: S608
            for (packed,) in blobs:
                try:
                    files = unpack_files(packed)
                except StorageError:  # it may name any of them
                    return set(paths)
                for file in files:
                    if file.path in paths:
                        found.add(file.path)
                    if file.metadata and f"{file.path}.metadata" in paths:
                        found.add(f"{file.path}.metadata")
        return found

    def greatest_serial(self) -> int | None:
        """The greatest serial of a published page."""
        with self._translated():
            row = self._db.execute("select max(serial) from project").fetchone()
            return int(row[0]) if row[0] is not None else None

    def count_listed(self, names: Iterable[NormalizedName]) -> int:
        """How many of these projects stand in the root index."""
        with self._translated():
            query = "select 1 from project where name = ? and listed"
            return sum(self._db.execute(query, (name,)).fetchone() is not None for name in names)

    def count_published(self) -> int:
        """How many projects have a page."""
        return int(self.select("select projects from total")[0][0])

    def count_failing(self) -> int:
        """How many projects are to be tried again."""
        return int(self.select(f"select count(*) {_FAILING}")[0][0])

    def totals(self) -> Totals:
        """What the mirror holds, and what it lacks; looks at no more projects than are failing."""
        [(projects, files, size, kept, unverified)] = self.select(
            "select projects, files, bytes, kept, unverified from total"
        )
        [(failing, missing)] = self.select(f"select count(*), count(nullif(page_digest <> '', true)) {_FAILING}")
        [(doomed,)] = self.select("select count(*) from doomed")
        [(hidden,)] = self.select("select count(distinct path) from hidden")
        [(lacking, lacked)] = self.select("select coalesce(sum(files), 0), coalesce(sum(bytes), 0) from missing")
        return Totals(projects, files, size, failing, doomed, hidden, kept, unverified, missing, lacking, lacked)

    def largest(self, most: int) -> list[tuple[str, int, int]]:
        """The projects that take the most room: (name, files, bytes)."""
        return self.select("select name, file_count, byte_count from project order by byte_count desc limit ?", (most,))

    def oldest_verification(self) -> float | None:
        """The longest time ago that a project's files were hashed where they lie, in epoch seconds."""
        query = "select verified_at from project where verified_at is not null and page_digest <> ''"
        rows = self.select(f"{query} order by verified_at limit 1")
        return float(rows[0][0]) if rows else None

    def failing(self, most: int) -> list[FailingProject]:
        """Projects whose last outcome was not whole, those tried next first."""
        with self._translated():
            rows = self._db.execute(
                f"select name, outcome, reason, next_try {_FAILING} order by next_try, name limit ?",
                (most,),
            )
            return [FailingProject(*row) for row in rows]
