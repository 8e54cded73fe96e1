"""A project's files and pages at rest, looked at beside the loop: by many threads where they are remote."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fastmirror.checking import check_files
from fastmirror.model import Checked
from fastmirror.planner import in_chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastmirror.model import StoredFile
    from fastmirror.reading import Bench

_AT_ONCE = 32  # files that one thread looks at, one after the other


def look_at(
    bench: Bench,
    files: Sequence[StoredFile],
    then: Callable[[Callable[[], Checked]], None],
    more: Callable[[], Checked] | None = None,
) -> None:
    """Look at these files, and do `more`; `then` is called in the loop, with what returns the findings, or raises."""
    look = partial(check_files, bench.storage, compare=bench.context.compare)
    parts = [files] if bench.hands is None else in_chunks(files, _AT_ONCE)
    steps = [partial(look, part) for part in parts] + ([more] if more is not None else [])
    findings = _Findings(len(steps), then)
    by = bench.side if bench.hands is None else bench.hands
    for step in steps:
        by.submit(partial(findings.take, step), findings.ended)


class _Findings:
    """What comes of some steps that are done in threads."""

    def __init__(self, steps: int, then: Callable[[Callable[[], Checked]], None]) -> None:
        self._left = steps
        self._then = then
        self._parts: list[Checked] = []
        self._error: Exception | None = None

    def take(self, step: Callable[[], Checked]) -> None:
        """In a thread."""
        try:
            self._parts.append(step())
        except Exception as error:  # noqa: BLE001 - it is raised in the loop
            self._error = error

    def ended(self) -> None:
        """In the loop, after each step."""
        self._left -= 1
        if not self._left:
            self._then(self._joined)

    def _joined(self) -> Checked:
        if self._error is not None:
            raise self._error
        found = Checked()
        for part in self._parts:
            found = found.joined(part)
        return found
