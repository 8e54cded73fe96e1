"""What a mirror shows its readers, for tests that compare or look into it."""

from __future__ import annotations

import ctypes
import json
import os
import struct
from typing import TYPE_CHECKING, Any

from fastmirror.layout import Layout, PageFormat, Tree, page_path
from fastmirror.names import normalize
from tests.tree import check_tree

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.conftest import Mirror, Result
    from tests.fakes.index import FakeIndex

_MOVED_TO, _DELETED = 0x80, 0x200


def tree_of(mirror: Mirror) -> Tree:
    """The shape that the mirror's settings ask for; hashed unless they say."""
    return Tree(Layout(mirror.settings.get("layout", "hashed")), mirror.settings.get("hash-index") == "true")


def page_file(mirror: Mirror, project: str, page_format: PageFormat = PageFormat.JSON) -> Path:
    """Where a project's page lies, or would lie."""
    return mirror.web / page_path(tree_of(mirror), normalize(project), page_format)


def page(mirror: Mirror, project: str) -> dict[str, Any]:
    """A project's page."""
    document: dict[str, Any] = json.loads(page_file(mirror, project).read_bytes())
    return document


def filenames(mirror: Mirror, project: str) -> list[str]:
    """What a project's page lists."""
    return [entry["filename"] for entry in page(mirror, project)["files"]]


def root(mirror: Mirror) -> dict[str, Any]:
    """The root index: its meta, and the serial of each project."""
    document = json.loads((mirror.web / "simple/index.v1_json").read_bytes())
    return {
        "serial": document["meta"].get("_last-serial"),
        "projects": {entry["name"]: entry.get("_last-serial") for entry in document["projects"]},
    }


def last_run(mirror: Mirror) -> dict[str, int]:
    """What status says of the last run."""
    found: dict[str, int] = json.loads(mirror.run("--json", command="status").stdout)["last_run"]
    return found


def succeed(result: Result) -> None:
    """Nothing failed, and there was nothing to warn of."""
    assert (result.status, result.stderr) == (0, "")


def problems(mirror: Mirror, index: FakeIndex | None, **expected: Any) -> list[str]:
    """What check_tree finds in a mirror, which is to be as its settings say."""
    tree = tree_of(mirror)
    layout: Any = str(tree.layout)
    return check_tree(mirror.web, layout, index, hash_index=tree.hash_index, **expected)


def at_rest(mirror: Mirror, filename: str) -> Path:
    """Where a file lies."""
    (path,) = (mirror.web / "packages").rglob(filename)
    return path


def spoil(path: Path) -> None:
    """One bit turns; size and times stay: nothing but a hash can tell."""
    facts = path.stat()
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(bytes(body))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def stored(mirror: Mirror) -> set[str]:
    """Names of the files at rest, whether a page lists them or not."""
    return {path.name for path in (mirror.web / "packages").rglob("*") if path.is_file()}


def stamps(web: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of change of everything below web/ but last-modified: the same if nothing was written."""
    found = {}
    for path in web.rglob("*"):
        name = path.relative_to(web).as_posix()
        if name != "last-modified":
            status = path.lstat()
            found[name] = (status.st_ino, status.st_mtime_ns)
    return found


def written(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> set[str]:
    """Files that are new, other or gone; of directories only their contents count."""
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    return {name for name in changed if not any(other.startswith(f"{name}/") for other in before.keys() | after.keys())}


class Watch:
    """Sees names come and go in some directories, in their order (inotify)."""

    def __init__(self, directories: Iterable[Path]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        for directory in directories:
            assert self._libc.inotify_add_watch(self._descriptor, os.fsencode(directory), _MOVED_TO | _DELETED) >= 0

    def events(self) -> list[tuple[str, str]]:
        """What happened so far: ("put" or "gone", name)."""
        events = []
        data = os.read(self._descriptor, 1 << 16)
        while data:
            _, mask, _, length = struct.unpack_from("iIII", data)
            name = os.fsdecode(data[16 : 16 + length].rstrip(b"\0"))
            if mask & (_MOVED_TO | _DELETED):
                events.append(("put" if mask & _MOVED_TO else "gone", name))
            data = data[16 + length :]
        return events

    def close(self) -> None:
        """See no more."""
        os.close(self._descriptor)
