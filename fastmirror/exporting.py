"""What has changed in a mirror, written as a bundle that `import` applies elsewhere."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
import uuid
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from fastmirror import signing
from fastmirror.bundle import (
    LAST_MODIFIED,
    MANIFEST,
    Entry,
    Header,
    Kind,
    ManifestWriter,
    copy_hashed,
    kind_of,
    object_path,
    read_header,
    signature_path,
)
from fastmirror.changes import begin_journal, changed_since, next_export
from fastmirror.descriptors import hash_descriptor, names_in
from fastmirror.errors import MirrorError, SettingsError, is_storage_failure
from fastmirror.holding import hold_mirror
from fastmirror.layout import METADATA_SUFFIX, PageFormat, index_path
from fastmirror.names import NormalizedName
from fastmirror.packing import unpack_files
from fastmirror.pages import published_paths
from fastmirror.planner import in_chunks
from fastmirror.run import Parts, open_parts
from fastmirror.unowned import owner
from fastmirror.web import target_beside

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastmirror.progress import Progress
    from fastmirror.settings import Settings

_LOG = logging.getLogger(__name__)
_PROJECTS_AT_ONCE = 500


class Exported(NamedTuple):
    """A bundle that was written."""

    number: int
    since: int  # 0: it carries everything
    written: int  # paths that it carries
    removed: int  # paths that it says are gone
    bytes: int  # of what it carries


class _Item(NamedTuple):
    """A path to be carried; and its digest, where the state says it."""

    path: str
    sha256: str = ""


def last_export(text: str) -> int:
    """The number of a bundle, given by it or as the bundle's directory. Raises SettingsError or UpstreamError."""
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    if not os.path.isdir(text):
        raise SettingsError(f"--since {text}: is neither a bundle's number nor its directory")
    return read_header(text).number


def export_mirror(
    settings: Settings, directory: str, since: int | None, sign_key: str | None, progress: Progress
) -> Exported:
    """Write what has changed since a bundle, or everything, into a directory; the mirror is held meanwhile.

    Cut off, it can be done again with the same directory: what is there already is not copied again. Raises
    MirrorError if what is at rest is not what the state says, or was left by a run that was cut off.
    """
    if sign_key is not None:
        signing.require_key(sign_key)
    _require_fit(directory, settings.storage.directory)
    with hold_mirror(settings.storage) as hold:
        parts = open_parts(settings, hold)
        try:
            if not parts.clean:
                raise MirrorError("the last run was cut off, and its pages may be behind (hint: mirror, then export)")
            progress.begin("writing the bundle")
            return _Export(parts, directory, since).write(sign_key)
        finally:
            hold.keep(parts.state, has_changed=True)
            parts.storage.close()
            parts.state.close()


def _require_fit(directory: str, mirror: str) -> None:
    """Raise SettingsError if this is no place for a new bundle."""
    if os.path.exists(os.path.join(directory, MANIFEST)):
        raise SettingsError(f"there is a bundle already: {directory!r}")
    web, wanted = os.path.join(mirror, "web"), os.path.realpath(directory)
    for served in (web, *(os.path.join(web, name) for name in names_in(web))):
        if os.path.commonpath([wanted, real := os.path.realpath(served)]) == real:
            raise SettingsError(f"a bundle within what is served would be served too: {directory!r}")


@contextlib.contextmanager
def _writing(directory: str) -> Iterator[None]:
    """Raise SettingsError, in the place of what the system says, if no bundle can be written there."""
    try:
        yield
    except OSError as error:
        if is_storage_failure(error):
            raise
        raise SettingsError(f"no bundle can be written there: {directory!r}: {error.strerror}") from error


class _Export:
    """One export under way.

    The number is used up before the manifest has its name: cut off between the two, no bundle has this number, and
    the next one carries what it was to carry.
    """

    def __init__(self, parts: Parts, directory: str, since: int | None) -> None:
        self._state, self._storage, self._tree = parts.state, parts.storage, parts.tree
        self._directory = directory
        self._changed = None if since is None else changed_since(self._state, since)
        self._since = since or 0
        self._bytes = 0

    def write(self, sign_key: str | None) -> Exported:
        number = next_export(self._state) or 1
        header = Header(
            self._mirror_id(), number, self._since, str(self._tree.layout), self._tree.hash_index, time.time()
        )
        with _writing(self._directory):
            os.makedirs(self._directory, exist_ok=True)
            manifest = ManifestWriter(self._directory, header)
        written, gone = 0, []
        with manifest:
            for item in self._items():
                entry = self._entry(item)
                if not entry.is_gone:
                    manifest.add(entry)
                    written += 1
                elif self._changed is not None:
                    gone.append(entry)
            for entry in sorted(gone, key=lambda entry: -kind_of(entry.path)):
                manifest.add(entry)
            os.sync()
        self._sign(manifest.path, sign_key)
        with self._state.transaction():
            begin_journal(self._state, number + 1)
        manifest.publish()
        _LOG.info(
            "bundle %d, since %d: %d paths, %d gone: %s", number, self._since, written, len(gone), self._directory
        )
        return Exported(number, self._since, written, len(gone), self._bytes)

    def _sign(self, manifest: str, sign_key: str | None) -> None:
        """Put the manifest's signature beside it; what another try has left there is of another manifest."""
        signature = signature_path(self._directory)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(signature)
        if sign_key is not None:
            signing.sign(manifest, sign_key, signature)

    def _mirror_id(self) -> str:
        """What tells bundles of this mirror from another's."""
        known = self._state.get("mirror_id")
        if known is None:
            known = uuid.uuid4().hex
            with self._state.transaction():
                self._state.put({"mirror_id": known})
        return known

    def _items(self) -> Iterator[_Item]:
        """Files, then pages, then the root index; what is gone stands among them."""
        if self._changed is None:
            names = [name for name, _ in self._state.every_serial()]
            yield from self._files(names)
            for name in names:
                yield from map(_Item, published_paths(self._storage, self._tree, name))
            yield from map(_Item, (*map(index_path, PageFormat), LAST_MODIFIED))
            return
        changed = dict.fromkeys([*self._changed, LAST_MODIFIED])
        owners = {owner(path, self._tree) for path in changed if kind_of(path) is Kind.PAGE}
        digests = {item.path: item for item in self._files(map(NormalizedName, owners)) if item.path in changed}
        for kind in Kind:
            yield from (digests.get(path) or _Item(path) for path in changed if kind_of(path) is kind)

    def _files(self, names: Iterable[NormalizedName]) -> Iterator[_Item]:
        """The files of these projects, with the digests that the state has of them."""
        for some in in_chunks(names, _PROJECTS_AT_ONCE):
            for known in self._state.known(some).values():
                for file in unpack_files(known.files):
                    yield _Item(file.path, file.sha256)
                    if file.metadata:
                        yield _Item(file.path + METADATA_SUFFIX, file.metadata)

    def _entry(self, item: _Item) -> Entry:
        """What a path holds, and its content in the bundle."""
        try:
            full = self._storage.final(item.path)
            if not item.sha256 and os.path.islink(full):
                return Entry(item.path, link=target_beside(full))
            stream = open(self._storage.open_file(item.path), "rb", buffering=0)  # noqa: SIM115 - closed below
        except (FileNotFoundError, NotADirectoryError):
            if item.sha256:
                raise MirrorError(f"missing, though the state names it (hint: verify): {item.path}") from None
            return Entry(item.path)
        with stream:
            digest = hashlib.sha256()
            size, sha256 = hash_descriptor(stream.fileno(), [digest]), digest.hexdigest()
            if item.sha256 not in ("", sha256):
                raise MirrorError(f"damaged, it is not what the state names (hint: verify): {item.path}")
            with _writing(self._directory):
                self._carry(item, stream, sha256, size)
            mtime_ns = os.fstat(stream.fileno()).st_mtime_ns if kind_of(item.path) is Kind.FILE else 0
        self._bytes += size
        return Entry(item.path, sha256, size, mtime_ns)

    def _carry(self, item: _Item, stream: BinaryIO, sha256: str, size: int) -> None:
        """Put a content into the bundle, unless it is there."""
        final = object_path(self._directory, sha256)
        if os.path.isfile(final) and os.stat(final).st_size == size:
            return
        os.makedirs(os.path.dirname(final), exist_ok=True)
        stream.seek(0)
        with open(f"{final}.new", "wb") as target:
            if copy_hashed(stream, target, size) != (sha256, size):
                raise MirrorError(f"changed while it was read: {item.path}")
        os.replace(f"{final}.new", final)
