"""Which projects a run touches, and which files a project needs. Pure: mappings in, plans out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol, TypeVar

from fastmirror.filters.uploads import uploaded_at
from fastmirror.layout import Layout, file_paths, metadata_path
from fastmirror.model import File, Page, ProjectPlan, StoredFile, SyncPlan, Want

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence

    from fastmirror.names import NormalizedName
    from fastmirror.settings import Portion

# A project's files go out in pieces from here on, so that no worker ends long after the others.
PIECE_FILES = 64
PIECE_BYTES = 256 << 20

_SWEEP_PERCENT = 0.1
_SWEPT_ABOVE = 10_000  # projects

_RETRY_FIRST_S = 15 * 60.0
RETRY_LONGEST_S = 24 * 3600.0


def plan_sync(
    upstream: Mapping[NormalizedName, int | None], published: Iterable[tuple[NormalizedName, int | None]]
) -> SyncPlan:
    """Return which projects to bring up to date and which are no longer listed.

    Both say projects and their serials; `published` may be a stream, so that a million projects are held in
    memory once. A serial that differs in either direction is a change; where upstream knows no serials
    (None), every project has to be asked for.
    """
    update = dict(upstream)
    remove = []
    for name, serial in published:
        if name not in upstream:
            remove.append(name)
        elif serial is not None and upstream[name] == serial:
            del update[name]
    return SyncPlan(update, remove)


def is_over_limit(count: int, *, least: int, chosen: int | None, total: Callable[[], int]) -> bool:
    """Whether so many removals are more than a run may make: as chosen, else max(least, 1 % of the total).

    The total is counted only where it matters.
    """
    if chosen is not None:
        return count > chosen
    return count > least and count > total() // 100


def sweep_size(held: int, chosen: Portion | None) -> int:
    """Of so many projects that are held, how many a run asks for though nothing says that they have changed.

    As chosen, parts rounded up; else 0.1 % of a mirror of more than 10,000 projects.
    """
    number, percent = chosen or (0, _SWEEP_PERCENT if held > _SWEPT_ABOVE else 0.0)
    return min(held, number + math.ceil(round(held * percent / 100, 6)))


def retry_delay_s(failures_in_a_row: int) -> float:
    """Seconds to wait before a failed project is tried again.

    The next run tries again at once, later ones less and less often, once a day at the least.
    """
    if failures_in_a_row <= 1:
        return 0.0
    return float(min(_RETRY_FIRST_S * 2.0 ** min(failures_in_a_row - 2, 32), RETRY_LONGEST_S))


def upload_timestamp(file: File) -> float:
    """A file's upload time (PEP 700) in seconds since the epoch; 0 where upstream does not say."""
    return uploaded_at(file) or 0.0


def plan_project(
    page: Page,
    stored: Mapping[str, StoredFile],
    *,
    layout: Layout,
    core_metadata: bool,
    unpromised: Container[str] = (),
    damaged: Collection[str] = (),
) -> ProjectPlan:
    """Return what to fetch, what stays and what goes, so that the tree holds what the page lists.

    ``stored`` maps paths below ``web/`` to the project's files at rest. ``damaged`` names paths whose bytes
    are known not to be what they should be: they are fetched again, and may be replaced. ``unpromised``
    names the files whose core metadata only the upstream's legacy API offers, not its page.
    """
    fetch: list[Want] = []
    keep: list[StoredFile] = []
    named: set[str] = set()
    for file in page.files:
        metadata = file.metadata if core_metadata else None
        is_promised = file.filename not in unpromised
        paths = file_paths(layout, file.url, file.filename, file.digest)
        at_rest = _stored_copy(stored, paths, file)
        if at_rest is None:
            fetch.append(_want(file, paths, metadata, is_promised, None, repair=False))
            continue
        if at_rest.path in damaged:
            fetch.append(_want(file, (at_rest.path, paths.long_path), metadata, is_promised, None, repair=True))
            continue
        named.add(at_rest.path)
        if metadata is None:
            keep.append(at_rest._replace(metadata=None) if at_rest.metadata else at_rest)
        elif _has_metadata(at_rest, metadata, damaged):
            keep.append(at_rest)
        else:
            repair = f"{at_rest.path}.metadata" in damaged
            fetch.append(_want(file, paths, metadata, is_promised, at_rest, repair=repair))
    wanted_paths = {want.path for want in fetch} | {want.long_path for want in fetch} if fetch else set()
    drop = [at_rest for path, at_rest in stored.items() if path not in named and path not in wanted_paths]
    return ProjectPlan(fetch, keep, drop)


def _stored_copy(stored: Mapping[str, StoredFile], paths: Sequence[str], file: File) -> StoredFile | None:
    for path in paths:
        at_rest = stored.get(path)
        if at_rest is not None and (file.algorithm != "sha256" or at_rest.sha256 == file.digest):
            return at_rest
    return None


def _has_metadata(at_rest: StoredFile, metadata: str, damaged: Collection[str]) -> bool:
    if metadata_path(at_rest.path) is None:
        return True
    held = at_rest.metadata
    return held is not None and metadata in ("", held) and f"{at_rest.path}.metadata" not in damaged


def _want(
    file: File,
    paths: Sequence[str],
    metadata: str | None,
    is_promised: bool,
    stored: StoredFile | None,
    *,
    repair: bool,
) -> Want:
    return Want(
        file.filename,
        file.url,
        paths[0],
        paths[1],
        file.algorithm,
        file.digest,
        file.size,
        upload_timestamp(file),
        metadata,
        stored,
        repair,
        is_promised,
    )


class Sized(Protocol):
    """What has a size in bytes, perhaps."""

    @property
    def size(self) -> int | None:
        """As the upstream or the state says."""


S = TypeVar("S", bound=Sized)
T = TypeVar("T")


def in_chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut items into lists of at most `size`."""
    chunk: list[T] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def needs_pieces(wants: Sequence[Sized]) -> bool:
    """Whether a project's files are to be shared among workers."""
    return len(wants) > PIECE_FILES or sum(want.size or 0 for want in wants) > PIECE_BYTES


def in_pieces(wants: Iterable[S]) -> Iterator[tuple[S, ...]]:
    """Cut files to fetch or to check into pieces of at most PIECE_FILES files and about PIECE_BYTES bytes.

    A single file is never cut; large files come first, so that none is begun last.
    """
    piece: list[S] = []
    total = 0
    for want in sorted(wants, key=lambda want: -(want.size or 0)):
        size = want.size or 0
        if piece and (len(piece) == PIECE_FILES or total + size > PIECE_BYTES):
            yield tuple(piece)
            piece, total = [], 0
        piece.append(want)
        total += size
    if piece:
        yield tuple(piece)
