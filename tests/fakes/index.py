"""A whole PyPI-shaped index on loopback, in threads of this process, which can lie when told to.

    with FakeIndex() as index:
        index.add_file("six", "six-1.0-py3-none-any.whl", metadata=b"Metadata-Version: 2.1")
        index.fault("/simple/six/", faults.stale(), times=1)

Globs of ``fault`` and ``gate`` are matched against the whole path, and ``*`` matches slashes too:
``/simple/`` is the root index, ``/simple/?*`` every page, ``/packages/*/six-1.0.tar.gz`` one file.
By hand: ``python -m tests.fakes.index --help``.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
from typing import TYPE_CHECKING, Any

from tests.fakes import faults
from tests.fakes.by_hand import EPILOG, fault_argument
from tests.fakes.catalogue import FakeFile, Snapshot, content_path
from tests.fakes.faults import Fault, Rule
from tests.fakes.pages import Origin, View
from tests.fakes.site import Site
from tests.fakes.wire import Answer, Gate, Record, Server

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping


class FakeIndex(Site):
    """The index; serves from its creation until it is closed."""

    def __init__(self, *, file_host: bool = False, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self.requests: list[Record] = []  # in the order in which they came
        self._rules: list[Rule] = []
        self._gates: list[Gate] = []
        self._lock = threading.Lock()
        self._server = Server(self._answer, "index", port, tls)
        self._files = Server(self._answer, "files", tls=tls) if file_host else None

    def __enter__(self) -> FakeIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go what is held, and end all connections."""
        self.release()
        self._server.close()
        if self._files is not None:
            self._files.close()

    @property
    def url(self) -> str:
        """Of the index, without a trailing slash: what a mirror calls its master."""
        return self._server.url

    @property
    def file_host(self) -> str:
        """Scheme, host and port of the files' URLs; the index's own unless it was made with a file host."""
        return self._server.url if self._files is None else self._files.url

    def origin(self) -> Origin:
        """Where the links on its pages lead."""
        return Origin(self.url, self.file_host, self.relative_urls)

    # What it holds

    @property
    def serial(self) -> int:
        """The last serial given to any change."""
        return self.catalogue.serial

    def add_file(
        self,
        project: str,
        filename: str,
        *,
        content: bytes | None = None,
        metadata: bytes | None = None,
        requires_python: str | None = None,
        yanked: bool | str = False,
        upload_time: str | None = "",
        provenance: str | Mapping[str, Any] | None = None,
        path: str | None = None,
        version: str | None = None,
        keys: Mapping[str, Any] | None = None,
    ) -> FakeFile:
        """Add a file, and its project if it is new; the project's display name is the first one given.

        ``content`` follows from the name unless given, ``upload_time`` from the serial unless given or None,
        ``path`` from the content, ``version`` from the name. ``keys`` override those of its entry on the page:
        hashes, size, url, …
        """
        content = f"content of {filename}\n".encode() if content is None else content
        file = FakeFile(
            filename=filename,
            content=content,
            path=path or content_path(filename, content),
            metadata=metadata,
            requires_python=requires_python,
            yanked=yanked,
            upload_time=self.catalogue.next_upload_time() if upload_time == "" else upload_time,
            provenance=provenance,
            keys=dict(keys or {}),
            own_version=version,
        )
        self.catalogue.add_file(project, file)
        return file

    def add_project(self, name: str) -> Snapshot:
        """Add a project without files."""
        return self.catalogue.add_project(name)

    def remove_file(self, project: str, filename: str, *, keep_content: bool = False) -> None:
        """Take a file off its page; the server forgets its content unless told to keep it."""
        self.catalogue.remove_file(project, filename, keep_content=keep_content)

    def remove_project(self, name: str, *, keep_content: bool = False) -> None:
        """Remove a project and its files."""
        self.catalogue.remove_project(name, keep_content=keep_content)

    def quarantine(self, name: str, reason: str | None = None) -> None:
        """Out of the root index, its page empty and marked; the serial is bumped."""
        self.catalogue.set_status(name, "quarantined", reason, bump=True)

    def clear_quarantine(self, name: str) -> None:
        """Bring a project back as it was."""
        self.catalogue.set_status(name, "active", None, bump=True)

    def archive(self, name: str, reason: str | None = None) -> None:
        """Mark a project as archived; as on PyPI, no serial is bumped."""
        self.catalogue.set_status(name, "archived", reason, bump=False)

    def set_info(self, project: str, **keys: Any) -> None:
        """Add keys to `info` of the legacy API: classifiers, keywords, version, …"""
        self.catalogue.set_info(project, keys)

    def set_yanked(self, project: str, filename: str, yanked: bool | str = True) -> None:
        """Yank the files whose name begins so, or take it back."""
        self.catalogue.set_files(project, filename, yanked=yanked)

    def set_file(self, project: str, filename: str, **fields: Any) -> None:
        """Change any field of FakeFile of the files whose name begins so."""
        self.catalogue.set_files(project, filename, **fields)

    def touch(self, name: str) -> int:
        """Bump a project's serial and nothing else; the new serial."""
        return self.catalogue.touch(name)

    def set_serial(self, name: str, serial: int) -> None:
        """Give a project any serial, also a lower one."""
        self.catalogue.set_serial(name, serial)

    def projects(self) -> dict[str, Snapshot]:
        """What the root index lists, by normalised name."""
        return self.catalogue.listed()

    def project(self, name: str) -> Snapshot | None:
        """A project, listed or quarantined."""
        return self.catalogue.snapshot(name)

    def fill(self, projects: int, *, seed: int = 0, files: int = 2, file_bytes: int = 1000) -> None:
        """Add synthetic projects: ``files`` each and ``file_bytes`` a file on average, none at the least."""
        chance = random.Random(seed)
        for number in range(projects):
            name = f"{chance.choice(('py', 'django', 'flask', 'x', 'data'))}-{number:05d}"
            self.add_project(name)
            for minor in range(chance.randrange(2 * files)):
                content = chance.randbytes(chance.randrange(1, 2 * file_bytes))
                stem = f"{name.replace('-', '_')}-1.{minor}"
                if chance.random() < 0.5:
                    self.add_file(name, f"{stem}.tar.gz", content=content)
                else:
                    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.{minor}\n".encode()
                    wheel = f"{stem}-py3-none-any.whl"
                    self.add_file(name, wheel, content=content, metadata=metadata, requires_python=">=3.8")

    # What goes wrong

    def fault(
        self, glob: str, *what: Fault, times: int | None = None, skip: int = 0, packed: bool | None = None
    ) -> Rule:
        """Harm the requests whose path matches: at most ``times`` of them, after the first ``skip``.

        ``packed`` narrows it to one of the two forms that caches keep apart: to requests that take gzip, or do not.
        """
        rule = Rule(glob, what, times, skip, packed)
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear_faults(self) -> None:
        """From now on, nothing goes wrong."""
        with self._lock:
            self._rules.clear()

    def gate(self, glob: str, *, at: float | None = None, times: int | None = None, skip: int = 0) -> Gate:
        """Hold matching requests until the gate opens: before the answer, or after some bytes of its body."""
        gate = Gate()
        self._gates.append(gate)
        self.fault(glob, faults.hold(gate, at), times=times, skip=skip)
        return gate

    def release(self) -> None:
        """Open every gate."""
        for gate in self._gates:
            gate.open()

    # What was asked

    def clear_requests(self) -> None:
        """Forget the requests so far."""
        with self._lock:
            self.requests.clear()

    def paths(self, prefix: str = "/") -> list[str]:
        """Paths of the requests so far that begin so, in order."""
        with self._lock:
            return [record.path for record in self.requests if record.path.startswith(prefix)]

    # What it answers

    def _answer(self, record: Record) -> Answer:
        with self._lock:
            self.requests.append(record)
            chosen = [fault for rule in self._rules if rule.claim(record) for fault in rule.faults]
        view = View()
        for fault in chosen:
            if fault.see is not None:
                fault.see(view)
        answer = self.answer(record, view)
        for fault in chosen:
            if fault.spoil is not None:
                fault.spoil(answer, record)
        return answer


def main() -> None:
    """Serve a synthetic index until interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fakes.index",
        description="A package index on loopback, with made-up projects, which lies where it is told to.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="of the index; any free one unless given")
    parser.add_argument("--projects", type=int, default=100, metavar="N", help="synthetic projects")
    parser.add_argument("--files", type=int, default=2, metavar="N", help="mean number of files a project")
    parser.add_argument("--file-bytes", type=int, default=1000, metavar="N", help="mean size of a file")
    parser.add_argument("--seed", type=int, default=0, help="another one makes other projects")
    parser.add_argument("--dialect", choices=("json", "json-no-serials", "html"), default="json", help="json is PyPI's")
    parser.add_argument("--no-legacy", action="store_true", help="no /pypi/<name>/json")
    parser.add_argument("--file-host", action="store_true", help="serve the files from a port of their own")
    parser.add_argument("--relative-urls", action="store_true", help="of the files, on the pages")
    parser.add_argument(
        "--fault", type=fault_argument, action="append", default=[], metavar="GLOB=KIND[:VALUE]", help="see below"
    )
    options = parser.parse_args()
    with FakeIndex(file_host=options.file_host, port=options.port) as index:
        index.dialect, index.legacy = options.dialect, not options.no_legacy
        index.relative_urls = options.relative_urls
        index.fill(options.projects, seed=options.seed, files=options.files, file_bytes=options.file_bytes)
        for glob, fault in options.fault:
            index.fault(glob, fault)
        sys.stdout.write(f"{index.url}\n")
        sys.stdout.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
