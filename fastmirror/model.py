"""The values that travel: between functions, and between processes."""

from __future__ import annotations

from functools import reduce
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastmirror.names import NormalizedName

Status = Literal[
    "published",  # the page now stands for what upstream lists
    "unchanged",  # upstream's page is the one that is published
    "stale",  # upstream's page is the one that is published, and has been older than the root index says for long
    "partial",  # published without some file that could not be had
    "skipped",  # filters leave nothing of it, and nothing of it was published
    "gone",  # upstream answers 404
    "denied",  # published, and filters leave nothing of it any more
    "failed",  # nothing was published; the old page stays
    "intact",  # what is at rest is what the state names; nothing was asked for
    "damaged",  # something at rest is not what the state names, and could not be mended
]


class File(NamedTuple):
    """One distribution file, as the upstream's page lists it."""

    filename: str
    url: str  # absolute, http or https
    algorithm: str  # of the digest: "sha256", or another strong one where the operator accepts it
    digest: str  # lower-case hex
    size: int | None  # bytes, where upstream says
    metadata: str | None  # sha256 of its core metadata file; "" if offered without one; None if not offered
    keys: Mapping[str, Any]  # every key that upstream gave for it, as it came


class Page(NamedTuple):
    """One project's page, as the upstream gave it."""

    name: NormalizedName
    serial: int | None  # the project's last serial, where the page says
    status: str  # project-status (PEP 792): active, archived, quarantined, deprecated
    files: list[File]
    refused: list[tuple[str, str]]  # (filename, reason) of the entries that cannot be mirrored
    keys: Mapping[str, Any]  # every other top-level key, passed on as it came


class StoredFile(NamedTuple):
    """One file at rest under ``web/``, verified."""

    path: str  # below web/, e.g. "packages/0ef/six-1.17.0.tar.gz"
    size: int  # bytes
    sha256: str
    mtime: float  # seconds since the epoch: its upload time
    metadata: str | None  # sha256 of the core metadata file stored beside it


class Want(NamedTuple):
    """One file to fetch, and its core metadata file with it."""

    filename: str
    url: str
    path: str  # where it belongs, below web/
    long_path: str  # where it goes if another file has taken that name
    algorithm: str
    digest: str
    size: int | None  # bytes
    mtime: float  # seconds since the epoch; 0 if unknown
    metadata: str | None  # as in File
    stored: StoredFile | None  # the file itself is at rest already; only its core metadata is missing
    repair: bool  # what stands under `path` is known to be damaged, and may be replaced
    is_promised: bool = True  # upstream's page itself offers the core metadata: that there is none is a failure


class Known(NamedTuple):
    """What the state holds of a project."""

    serial: int | None
    etag: str  # of the upstream's page; "" if none
    upstream_digest: str  # of the upstream's page, as it came
    page_digest: str  # of the pages published; "" if none is
    settings_digest: str  # of what else shapes a page: formats, renderer, filters
    files: bytes  # packed StoredFiles, see packing.pack_files
    outcome: str  # the last Status
    tries: int  # failures in a row
    expected: int | None = None  # the serial that a project with failures is to reach


class Damage(NamedTuple):
    """Something at rest that is not what the state names."""

    path: str  # below web/
    what: Literal["missing", "corrupt", "unreadable"]
    size: int  # bytes that the state names; 0 where it does not say


class Checked(NamedTuple):
    """What came of looking at a project's files and pages at rest."""

    files: int = 0  # read, with core metadata files
    bytes: int = 0  # of those
    damage: tuple[Damage, ...] = ()
    unmended: tuple[str, ...] = ()  # paths of the damage that is still there

    def joined(self, other: Checked) -> Checked:
        """Both together."""
        return Checked(
            self.files + other.files,
            self.bytes + other.bytes,
            self.damage + other.damage,
            self.unmended + other.unmended,
        )


class Brought(NamedTuple):
    """What came of a set of files to fetch."""

    stored: tuple[StoredFile, ...] = ()
    failures: tuple[tuple[str, str], ...] = ()  # (filename, reason)
    shared: tuple[str, ...] = ()  # as in Outcome
    disputed: tuple[str, ...] = ()  # as in Outcome
    fetched_files: int = 0
    fetched_bytes: int = 0
    storage_failure: bool = False
    checked: Checked | None = None

    def with_stored(self, file: StoredFile) -> Brought:
        """The same, and this file."""
        return Brought((*self.stored, file), *self[1:])

    def joined(self, *others: Brought) -> Brought:
        """All of them together."""
        stored, failures, shared, disputed, files, sizes, troubles, checks = zip(self, *others, strict=True)
        checked: tuple[Checked, ...] = tuple(filter(None, checks))
        return Brought(
            tuple(chain.from_iterable(stored)),
            tuple(chain.from_iterable(failures)),
            tuple(chain.from_iterable(shared)),
            tuple(chain.from_iterable(disputed)),
            sum(files),
            sum(sizes),
            any(troubles),
            reduce(Checked.joined, checked) if checked else None,
        )


class Held(NamedTuple):
    """A project whose files were handed out in pieces, on its way to its page."""

    page: str  # path in staging of what upstream answered; "" if the pieces were only checked
    legacy: str  # path in staging of the legacy JSON document; "" if there is none
    etag: str
    dialect: str  # that the page is in
    damaged: tuple[str, ...]  # as plan_project takes them
    brought: Brought  # by the pieces that are back
    trouble: str = ""  # what kept the page from being whole before
    checked: Checked | None = None  # what was found at rest before
    begun: float = 0.0  # when its job was, epoch seconds: hosts share no other clock

    @property
    def staged(self) -> list[str]:
        """What it keeps in staging, for whoever settles its project to discard."""
        return [path for path in (self.page, self.legacy) if path]


class ProjectJob(NamedTuple):
    """Bring one project up to date."""

    name: NormalizedName
    serial: int | None  # at least this new; None: whatever upstream has
    known: Known | None
    wanted: bool  # asked for by name: survives filters, and its absence upstream is a failure
    force: bool  # trust nothing: plan anew and hash every stored file
    held: Held | None = None
    hidden: tuple[str, ...] = ()  # paths below web/ of its files that are kept out of it
    check: bool = False  # look at what is at rest first; upstream is asked only if something is wrong, or by `force`
    demand: Demand | None = None  # None: it is mirrored for itself, and nothing is asked of others
    sweep: bool = False  # nothing says that it has changed: a page that cannot be had, or is older, leaves all as it is


class FilesJob(NamedTuple):
    """Fetch some of a project's files, or check some; the project follows when all pieces are back."""

    name: NormalizedName
    piece: int
    wants: tuple[Want, ...]
    check: tuple[StoredFile, ...] = ()


Job = ProjectJob | FilesJob


class Need(NamedTuple):
    """One requirement of a project's files."""

    extra: str  # that asks for it; "" if it is always required
    name: NormalizedName
    extras: tuple[str, ...]  # of the project required
    specifier: str  # "" if every version will do
    targets: tuple[str, ...]  # environments where it is required, as `str` gives a Target


class Needs(NamedTuple):
    """What a project's files require."""

    requires: tuple[Need, ...] = ()
    troubles: tuple[str, ...] = ()  # what keeps this from being all, or from being satisfied


class Demand(NamedTuple):
    """What others require of a project."""

    is_root: bool  # it is mirrored for itself too
    specifiers: tuple[tuple[str, tuple[str, ...]], ...]  # each with the environments where it is required


class LeftOut(NamedTuple):
    """What a filter leaves out of a project by itself, whatever others leave out."""

    filter: str  # its name in the configuration; "" stands for all of them together
    files: int
    bytes: int  # as upstream says


class StagedPage(NamedTuple):
    """One page in staging, to be renamed to each of its names."""

    staged: tuple[str, ...]  # paths in staging, all one file; or one link
    final: tuple[str, ...]  # paths below web/, as many


class Outcome(NamedTuple):
    """What became of a ProjectJob."""

    name: NormalizedName
    status: Status
    reason: str = ""  # why it failed or is partial
    serial: int | None = None  # the serial seen, not the one hoped for
    etag: str = ""
    upstream_digest: str = ""
    page_digest: str = ""
    settings_digest: str = ""  # of what else shaped the pages
    files: bytes | None = None  # packed StoredFiles; None: as they were
    file_count: int = 0
    byte_count: int = 0  # of those files
    pages: tuple[StagedPage, ...] = ()
    dropped: tuple[str, ...] = ()  # paths below web/ that the page no longer names
    hidden: bool = False  # quarantined: what is dropped goes at once
    shared: tuple[str, ...] = ()  # paths below web/ that were in place already, with the right bytes
    disputed: tuple[str, ...] = ()  # paths below web/ that other bytes hold
    fetched_files: int = 0
    fetched_bytes: int = 0
    storage_failure: bool = False  # the disk refused: the run must stop
    dialect: str = ""  # that upstream's page was in
    unreachable: bool = False  # upstream did not answer at all
    retired: tuple[str, ...] = ()  # paths below web/ to be removed once the pages are in place
    checked: Checked | None = None  # what was found at rest, where it was looked at
    due: float | None = None  # epoch seconds when time alone lets in a file that filters hold back
    needs: bytes | None = None  # packed Needs, where dependencies are mirrored; None: as they were
    left_out: tuple[LeftOut, ...] = ()  # by filters, where only a plan is made
    filtered_out: bool = False  # upstream lists files, and filters leave none
    missing_files: int = 0  # that upstream lists, and that could not be had
    missing_bytes: int = 0  # of these, where upstream says
    seconds: float = 0.0  # from the beginning of its job


class Split(NamedTuple):
    """A ProjectJob's answer where its plan is too large for one worker."""

    job: ProjectJob
    held: Held
    pieces: tuple[FilesJob, ...]


class FilesOutcome(NamedTuple):
    """What became of a FilesJob."""

    name: NormalizedName
    piece: int
    brought: Brought


Answer = Outcome | Split | FilesOutcome


class Jobs(NamedTuple):
    """From the parent: more to do."""

    jobs: tuple[Job, ...]


class Share(NamedTuple):
    """From the parent: this worker's part of the budgets."""

    index_transfers: int
    file_transfers: int
    bytes_per_second: float | None
    hold_s: float  # begin nothing for so long: upstream asked for less


class Drain(NamedTuple):
    """From the parent: answer what is done, drop the rest, and leave."""


class Load(NamedTuple):
    """What a worker, or all of them, has in hand."""

    pages: int = 0  # in flight
    files: int = 0  # in flight
    read: int = 0  # projects whose files are planned, so far
    wanted_bytes: int = 0  # of those files
    done_files: int = 0  # of them
    done_bytes: int = 0  # of them, with what has come of those in flight

    def joined(self, *others: Load) -> Load:
        """All together."""
        return Load(*map(sum, zip(self, *others, strict=True)))


class Report(NamedTuple):
    """From a worker: what became of its jobs."""

    answers: tuple[Answer, ...]
    throttled_s: float | None  # upstream asked for less: seconds to wait
    load: Load | None = None


class SyncPlan(NamedTuple):
    """Which projects a run touches."""

    update: dict[NormalizedName, int | None]  # project -> serial to reach
    remove: list[NormalizedName]  # published, and no longer listed upstream


class ProjectPlan(NamedTuple):
    """What one project needs."""

    fetch: list[Want]
    keep: list[StoredFile]
    drop: list[StoredFile]  # stored, and no longer listed
