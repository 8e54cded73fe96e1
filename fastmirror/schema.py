"""The state's tables, and how a project's row is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from fastmirror.planner import retry_delay_s

if TYPE_CHECKING:
    from fastmirror.model import Outcome

SCHEMA_VERSION = 1

SCHEMA = """
create table meta (key text primary key, value text not null) without rowid;
create table project (
    name text primary key,          -- normalised
    serial integer,                 -- seen in the page that is published
    etag text not null,             -- of the upstream's page
    upstream_digest text not null,  -- xxh3 of the upstream's page
    page_digest text not null,      -- xxh3 of the published pages; '' if none is
    settings_digest text not null,  -- of what else shaped them
    file_count integer not null,
    byte_count integer not null,
    outcome text not null,          -- the last status
    reason text not null,
    tries integer not null,         -- failures in a row
    next_try real,                  -- epoch seconds; null if nothing is to be tried again
    expected integer,               -- the serial that a failing project is to reach
    verified_at real,               -- when every stored file was last hashed
    checked_run integer,            -- the --force-check that has seen it
    wanted_by text not null,        -- 'name' if asked for by name
    listed integer not null         -- in the root index
) without rowid;
create index retry on project (next_try) where next_try is not null;
create table stored (project text primary key, files blob not null);
create table doomed (path text primary key, project text not null, since real not null) without rowid;
create table hidden (
    project text,
    path text,                      -- below web/, where it belongs
    place text not null,            -- 'web': to be moved away; 'hidden'; 'back': a job may have moved it back
    primary key (project, path)
) without rowid;
create index unsettled on hidden (place) where place <> 'hidden';
create table shared (path text, project text, primary key (path, project)) without rowid;
create table unwanted (name text primary key, since real not null) without rowid;  -- deleted by command
create table change (path text primary key, removed integer not null) without rowid;  -- not yet in a diff-file
create table run (
    id integer primary key, started real not null, finished real, exit_status integer, summary text
);
"""
# Made by the first export: which export is to carry what was written or removed below web/.
JOURNAL = """
create table if not exists journal (path text primary key, number integer not null) without rowid
"""

# What came later: a state that was made before has nothing of it.
LATER_TABLES = {
    "held_back": "(project text primary key, due real not null) without rowid",  # files, by filters, until then
    "needs": "(project text primary key, packed blob not null)",  # what its files require
}

# What the change feed beside the root index is made of; made for a state that was made before, too. ("or ignore" would
# not hold in the triggers of an upsert.)
FEED = """
create table if not exists feed (number integer primary key, digest text not null);  -- states of the root index
create table if not exists moved (name text primary key) without rowid;  -- entries to look at for the next of them
create trigger if not exists moved_insert after insert on project
    when new.listed and exists (select 1 from feed)
    begin insert into moved select new.name where new.name not in moved; end;
create trigger if not exists moved_delete after delete on project
    when old.listed and exists (select 1 from feed)
    begin insert into moved select old.name where old.name not in moved; end;
create trigger if not exists moved_update after update of serial, listed on project
    when (old.serial is not new.serial or old.listed <> new.listed) and exists (select 1 from feed)
    begin insert into moved select new.name where new.name not in moved; end;
"""

# What `total` sums up, for a row of `project`: no count of a mirror costs more as the mirror grows.
_SUMMED = {
    "projects": "({0}.page_digest <> '')",
    "files": "{0}.file_count",
    "bytes": "{0}.byte_count",
    "kept": "({0}.outcome = 'gone' and {0}.page_digest <> '')",
    "unverified": "({0}.page_digest <> '' and {0}.verified_at is null)",
}


def _summing(event: str, added: str, taken: str) -> str:
    """The trigger that keeps `total` right: the row `added` counts from now on, the row `taken` does not."""
    changes = ", ".join(
        f"{column} = {column}" + f" + {term.format(added)}" * bool(added) + f" - {term.format(taken)}" * bool(taken)
        for column, term in _SUMMED.items()
    )
    return f"create trigger total_{event} after {event} on project begin update total set {changes}; end;\n"  # noqa: S608


# Made beside the tables above, for a state that was made before there were these as for a new one.
SUMS = f"""
create table total ({", ".join(f"{column} integer not null" for column in _SUMMED)});
insert into total select {", ".join(f"coalesce(sum({term.format('project')}), 0)" for term in _SUMMED.values())}
    from project;
create table missing (project text primary key, files integer not null, bytes integer not null) without rowid;
"""  # noqa: S608
SUMMING = f"""
{_summing("insert", "new", "")}{_summing("delete", "", "old")}{_summing("update", "new", "old")}
create index verified on project (verified_at) where verified_at is not null;
create index size on project (byte_count);
"""

RECORD = """
insert into project values (:name, :serial, :etag, :upstream_digest, :page_digest, :settings_digest,
    :file_count, :byte_count, :outcome, :reason, :tries, :next_try, :expected, :verified_at, :checked_run,
    :wanted_by, :listed)
on conflict (name) do update set serial = excluded.serial, etag = excluded.etag,
    upstream_digest = excluded.upstream_digest, page_digest = excluded.page_digest,
    settings_digest = excluded.settings_digest, file_count = excluded.file_count,
    byte_count = excluded.byte_count, outcome = excluded.outcome, reason = excluded.reason,
    tries = excluded.tries, next_try = excluded.next_try, expected = excluded.expected,
    verified_at = coalesce(excluded.verified_at, verified_at),
    checked_run = coalesce(excluded.checked_run, checked_run),
    wanted_by = max(wanted_by, excluded.wanted_by), listed = excluded.listed
"""
_RECORD_FAILURE = """
insert into project values (:name, null, '', '', '', '', 0, 0, 'failed', :reason, 1, :next_try, :expected, null,
    :checked_run, :wanted_by, 0)
on conflict (name) do update set outcome = case outcome when 'damaged' then outcome else :outcome end,
    reason = excluded.reason, tries = :tries, next_try = excluded.next_try, expected = excluded.expected,
    checked_run = coalesce(excluded.checked_run, checked_run),
    wanted_by = max(wanted_by, excluded.wanted_by)
"""
_RECORD_INTACT = "update project set verified_at = :verified_at where name = :name"
_RECORD_UNCHANGED = """
update project set serial = coalesce(:serial, serial), etag = :etag, outcome = 'published', reason = '', tries = 0,
    next_try = null, expected = null, wanted_by = max(wanted_by, :wanted_by) where name = :name
"""
_RECORD_STALE = """
update project set outcome = 'stale', reason = :reason, tries = :tries, next_try = :next_try, expected = :expected,
    wanted_by = max(wanted_by, :wanted_by) where name = :name
"""
RECORD_WITHOUT_PAGE = {
    "failed": _RECORD_FAILURE,
    "damaged": _RECORD_FAILURE,
    "unchanged": _RECORD_UNCHANGED,
    "stale": _RECORD_STALE,
    "intact": _RECORD_INTACT,
}
DOOM = """
insert into doomed (path, project, since) values (?, ?, ?)
on conflict do update set since = min(since, excluded.since)
"""
# A clock that was ahead for a while must put off nothing for ever: what it dated later than can be counts from now.
SET_RIGHT = (
    "update project set next_try = :now where next_try > :now + :longest_s",
    "update doomed set since = :now where since > :now",
)
HIDE = "insert or replace into hidden (path, project, place) values (?, ?, 'web')"
# Files that filters hold back come due without a word from upstream: then its page counts as one not seen yet.
KNOWN = """
select name, serial, case when due <= now() then '' else etag end,
    case when due <= now() then '' else upstream_digest end, page_digest, settings_digest, files, outcome,
    tries, expected
from project left join stored on stored.project = name left join held_back on held_back.project = name
where name in ({})
"""
# A cross join keeps this order: the few that are due, each looked up; else every project would be.
COME_DUE = "select name, serial from held_back cross join project on name = project where due <= now()"


class RecordedJob(NamedTuple):
    """What the parent knows of a job beside its outcome."""

    wanted: bool
    forced: bool  # every stored file was hashed
    tries: int  # failures in a row before this one
    expected: int | None  # the serial that it was to reach


def project_row(outcome: Outcome, job: RecordedJob, now: float, check_id: int) -> dict[str, Any]:
    """The columns of a project whose job came to this."""
    is_whole = outcome.status in {"published", "unchanged", "skipped"}
    tries = 0 if is_whole else job.tries + 1
    return {
        "name": outcome.name,
        "serial": outcome.serial,
        "etag": outcome.etag,
        "upstream_digest": outcome.upstream_digest,
        "page_digest": outcome.page_digest,
        "settings_digest": outcome.settings_digest,
        "file_count": outcome.file_count,
        "byte_count": outcome.byte_count,
        "outcome": outcome.status,
        "reason": outcome.reason,
        "tries": tries,
        "next_try": None if is_whole else now + retry_delay_s(tries),
        "expected": None if is_whole else job.expected,
        "verified_at": now if job.forced and outcome.status in {"published", "intact"} else None,
        "checked_run": check_id if job.forced else None,
        "wanted_by": "name" if job.wanted else "",
        "listed": int(bool(outcome.page_digest) and not outcome.hidden),
    }


class Notes(NamedTuple):
    """For whom it is noted what is written and removed."""

    diff: bool = False  # for a diff-file
    export: int | None = None  # for the export of this number; None: there never was one

    @property
    def are_wanted(self) -> bool:
        """Whether anything is noted at all."""
        return self.diff or self.export is not None


class Totals(NamedTuple):
    """What a mirror holds."""

    projects: int  # with a published page
    files: int
    bytes: int
    failing: int
    doomed: int
    hidden: int = 0  # files kept out of web/
    kept: int = 0  # projects that are served though upstream removed them
    unverified: int = 0  # projects whose files were not hashed since they were fetched
    missing: int = 0  # projects that should have a page, and have none
    missing_files: int = 0  # of published projects, that could not be had
    missing_bytes: int = 0  # of these, where upstream says


class FailingProject(NamedTuple):
    """A project whose last outcome was not whole."""

    name: str
    outcome: str
    reason: str
    next_try: float | None
