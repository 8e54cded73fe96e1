"""What must hold of a mirror after a run was cut off, whatever cut it off."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from fastmirror.packing import paths_of, unpack_files
from tests.published import page, problems

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex


def broken_promises(mirror: Mirror) -> list[str]:
    """What of promises 1 to 3 does not hold: of what is published, and of what the state says is."""
    found = problems(mirror, None, settled=False)
    path = mirror.directory / ".fastmirror/state.sqlite"
    if path.exists():
        with closing(sqlite3.connect(path)) as state:
            found += [f"state: {line}" for (line,) in state.execute("pragma integrity_check") if line != "ok"]
            if state.execute("select 1 from sqlite_master where name = 'project'").fetchone():
                found += _false_rows(mirror, state)
    for name, form in (("status", str.isdecimal), ("generation", str.isdecimal), ("web/last-modified", bool)):
        fact = mirror.directory / name
        if fact.exists() and not form(fact.read_text()):
            found.append(f"{name}: {fact.read_text()!r}")
    return found


def _false_rows(mirror: Mirror, state: sqlite3.Connection) -> Iterator[str]:
    """Rows that say more than what is there."""
    rows = "select name, serial, files from project join stored on project = name where page_digest <> ''"
    for name, serial, packed in state.execute(rows):
        files = unpack_files(packed)
        if serial is not None and page(mirror, name)["meta"]["_last-serial"] < serial:
            yield f"{name}: its row has the serial {serial}, its page an older one"
        for file in files:
            at_rest = mirror.web / file.path
            if not at_rest.exists() or hashlib.sha256(at_rest.read_bytes()).hexdigest() != file.sha256:
                yield f"{name}: its row names {file.path}, which is not there whole"
        yield from (f"{name}: not there: {path}" for path in paths_of(files) if not (mirror.web / path).exists())


def unfinished_business(mirror: Mirror, index: FakeIndex) -> list[str]:
    """What is wrong after two more runs: the next one does what is left and nothing that was done.

    The one after it has nothing to do, and leaves no trace of what happened.
    """
    whole, misled = _whole_files(mirror, index), _misled(mirror, index)
    index.clear_requests()
    result = mirror.run()
    assert result.status == 0, result
    asked = [path.rpartition("/")[2] for path in index.paths("/packages/")]
    found = problems(mirror, index, leftovers=True)
    found += [f"was whole, and asked for: {name}" for name in sorted(whole.intersection(asked))]
    found += [f"asked for twice: {name}" for name in sorted(set(asked) - misled) if asked.count(name) > 1]
    staging = mirror.directory / ".fastmirror/staging"
    found += [f"left in staging: {path.name}" for path in staging.rglob("*") if path.is_file()]
    index.clear_requests()
    result = mirror.run()
    assert result.status == 0, result
    found += [f"asked for by a run with nothing to do: {path}" for path in index.paths() if path != "/simple/"]
    return found + problems(mirror, index) + broken_promises(mirror)


def _whole_files(mirror: Mirror, index: FakeIndex) -> set[str]:
    """Names of the files at rest whose bytes are upstream's."""
    contents = {
        name: content
        for state in index.projects().values()
        for file in state.files
        for name, content in ((file.filename, file.content), (f"{file.filename}.metadata", file.metadata))
    }
    paths = [path for path in (mirror.web / "packages").rglob("*") if path.is_file()]
    return {path.name for path in paths if path.read_bytes() == contents.get(path.name)}


def _misled(mirror: Mirror, index: FakeIndex) -> set[str]:
    """Names of the files whose partials do not hold their beginning: they are asked for the rest first, in vain."""
    partials = mirror.directory / ".fastmirror/staging/partial"
    return {
        file.filename
        for state in index.projects().values()
        for file in state.files
        if (partials / file.sha256).exists() and not file.content.startswith((partials / file.sha256).read_bytes())
    }
