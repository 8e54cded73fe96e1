"""What is at rest, held against what the state names of it. Runs in a worker; nothing is asked for or written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastmirror.comparison import holds
from fastmirror.layout import METADATA_SUFFIX, PageFormat, document_paths, page_paths
from fastmirror.model import Checked, Damage, StoredFile
from fastmirror.pages import content_digest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from typing import Literal

    from fastmirror.model import Known, Outcome
    from fastmirror.names import NormalizedName
    from fastmirror.pages import Context
    from fastmirror.storage import Storage

_SHOWN = 3
REASON_LENGTH = 500


def check_files(storage: Storage, files: Iterable[StoredFile], *, compare: Literal["hash", "stat"]) -> Checked:
    """Read these files and their core metadata files, and compare their sha256 with what the state names.

    With `stat` a file of the right size and time is believed; one of another time is read, and given its time.
    Core metadata is read in any case.
    """
    count = size = 0
    damage: list[Damage] = []
    for file in files:
        count += 1
        size += file.size
        what = _compare_stamp(storage, file) if compare == "stat" else _compare(storage, file.path, file.sha256)
        if what:
            damage.append(Damage(file.path, what, file.size))
        if file.metadata:
            path = file.path + METADATA_SUFFIX
            what = _compare(storage, path, file.metadata)
            if what:
                damage.append(Damage(path, what, 0))
            count += 1
    return Checked(count, size, tuple(damage))


def _compare(storage: Storage, path: str, sha256: str) -> Literal["missing", "corrupt", "unreadable"] | None:
    try:
        at_rest = storage.digest(path)
    except OSError:
        return "unreadable"
    if at_rest is None:
        return "missing"
    return None if at_rest.sha256 == sha256 else "corrupt"


def _compare_stamp(storage: Storage, file: StoredFile) -> Literal["missing", "corrupt", "unreadable"] | None:
    try:
        if holds(storage, "stat", file.path, file.sha256, file.size, file.mtime):
            return None
        return "missing" if storage.size(file.path) is None else "corrupt"
    except OSError:
        return "unreadable"


def check_pages(
    context: Context, storage: Storage, name: NormalizedName, known: Known, settings_digest: str
) -> tuple[Damage, ...]:
    """Compare a project's pages with the digest that the state names, as `stage_pages` made it.

    Pages that were shaped by other settings cannot be compared, and pass.
    """
    if not known.page_digest or known.settings_digest != settings_digest:
        return ()
    damage: list[Damage] = []
    marks: list[bytes] = []
    forms = [form for form in (PageFormat.JSON, PageFormat.HTML) if form in context.settings.pages.formats]
    finals = [page_paths(context.tree, name, form) for form in forms]
    documents = document_paths(context.tree, name) if context.settings.pages.legacy_json else ()
    if any(storage.size(path) is not None for path in documents):
        finals.append(documents)
    for paths in finals:
        mark: bytes | None = None
        for path in paths:
            try:
                found = storage.mark_at(path)
            except OSError:
                damage.append(Damage(path, "unreadable", 0))
                continue
            if found is None:
                damage.append(Damage(path, "missing", 0))
            elif mark is None:
                mark = found
            elif found != mark:
                damage.append(Damage(path, "corrupt", 0))
        marks.append(mark or b"")
    keep = context.settings.pages.keep_versions
    if not damage and content_digest(marks, b"", keep) != known.page_digest:
        damage = [Damage(path, "corrupt", 0) for paths in finals for path in paths[:1]]
    return tuple(damage)


def judged(outcome: Outcome, checked: Checked, failed: Collection[str] = ()) -> Outcome:
    """The outcome, told what was found at rest. `failed` names the files that could not be brought."""
    if not checked.damage:
        return outcome._replace(checked=checked)
    if outcome.status in {"failed", "gone"}:
        reason = outcome.reason or "upstream has no such project"
        unmended = tuple(damage.path for damage in checked.damage)
        return outcome._replace(
            status="damaged",
            reason=f"{told(checked)}; {reason}",
            dropped=(),
            checked=checked._replace(unmended=unmended),
        )
    unmended = tuple(damage.path for damage in checked.damage if _is_among(damage.path, failed))
    unreadable = {damage.path for damage in checked.damage if damage.what == "unreadable"}
    status = "damaged" if unreadable.intersection(unmended) else outcome.status
    return outcome._replace(status=status, checked=checked._replace(unmended=unmended))


def _is_among(path: str, failed: Collection[str]) -> bool:
    filename = path.rpartition("/")[2]
    return filename in failed or filename.removesuffix(METADATA_SUFFIX) in failed


def told(checked: Checked) -> str:
    """What is damaged, for a person."""
    shown = [f"{damage.path} is {damage.what}" for damage in checked.damage[:_SHOWN]]
    more = len(checked.damage) - len(shown)
    return ", ".join([*shown, *([f"and {more} more"] if more else [])])


def with_unreadable(
    at_rest: Sequence[StoredFile], before: Iterable[StoredFile], checked: Checked, failed: Collection[str]
) -> list[StoredFile]:
    """The files that a row is to name: with those that cannot be read and could not be brought anew.

    They are on no page, but nothing is unlinked because it cannot be read.
    """
    unreadable = {
        damage.path for damage in checked.damage if damage.what == "unreadable" and _is_among(damage.path, failed)
    }
    named = {file.path: file for file in at_rest}
    for file in before:
        if file.path in unreadable:
            named.setdefault(file.path, file)
        elif file.path in named and file.path + METADATA_SUFFIX in unreadable:
            named[file.path] = named[file.path]._replace(metadata=file.metadata)
    return list(named.values())


def in_short(reasons: list[str]) -> str:
    """Why a project is not whole, for a person: the first reasons, and how many more there are."""
    more = [f"and {len(reasons) - 5} more"] if len(reasons) > 5 else []
    return "; ".join([*reasons[:5], *more])[:REASON_LENGTH]
