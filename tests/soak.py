"""Runs again and again against an upstream that changes, fails and lies at random; some runs are killed.

    python -m tests.soak --minutes 20 --out soak.json

After every round the tree is held against what is promised; after every whole run, against upstream. Each
round records peak memory, open state and disk use: they are to stay flat. Outside CI; bounded in time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import resource
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.conftest import Mirror, end_group
from tests.fakes import faults
from tests.fakes.index import FakeIndex
from tests.tree import check_tree

if TYPE_CHECKING:
    from collections.abc import Callable

_FAULTS: tuple[Callable[[], faults.Fault], ...] = (
    lambda: faults.status(503, 1),
    lambda: faults.reset(None),
    lambda: faults.truncate(0.5),
    faults.wrong_content,
    faults.extra,
    lambda: faults.throttle(0.1),
    faults.html_instead,
)


class Soak:
    """One upstream, one mirror, and what happens to them."""

    def __init__(self, home: Path, index: FakeIndex, seed: int, layout: str) -> None:
        self.chance = random.Random(seed)
        self.index = index
        self.layout = layout
        self.mirror = Mirror(home, index.url)
        self.mirror.settings |= {"layout": layout, "delete-grace": "0", "max-removals": "1000"}
        self.rounds: list[dict[str, Any]] = []
        self._made = 0

    def change(self) -> None:
        """Some changes of what upstream holds."""
        names = sorted(self.index.projects())
        for _ in range(self.chance.randrange(1, 12)):
            name = self.chance.choice(names)
            state = self.index.project(name)
            if state is None:
                continue
            acts: list[Callable[[], object]] = [
                partial(self._add, name),
                partial(self._add, f"new-{self._made}"),
                partial(self.index.touch, name),
                partial(self.index.quarantine, name, "soak"),
            ]
            if state.listed:
                acts.append(partial(self.index.remove_project, name))
            if state.files:
                file = self.chance.choice(state.files)
                acts.append(partial(self.index.set_yanked, name, file.filename, not file.yanked))
                acts.append(partial(self.index.remove_file, name, file.filename))
            self.chance.choice(acts)()
        for name in list(names):
            state = self.index.project(name)
            if state is not None and state.status == "quarantined" and self.chance.random() < 0.5:
                self.index.clear_quarantine(name)

    def _add(self, name: str) -> None:
        self._made += 1
        content = self.chance.randbytes(self.chance.choice((10, 5_000, 60_000, 3_000_000)))
        wheel = f"{name.replace('-', '_')}-2.{self._made}-py3-none-any.whl"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.{self._made}\n".encode()
        self.index.add_file(name, wheel, content=content, metadata=metadata)

    def harm(self) -> None:
        """Some requests of the next run go wrong."""
        for _ in range(self.chance.randrange(4)):
            glob = self.chance.choice(("/simple/?*", "/packages/*"))
            self.index.fault(glob, self.chance.choice(_FAULTS)(), times=self.chance.randrange(1, 6))

    def cut_off(self) -> str:
        """A run that is killed, or ended by a signal, after some requests; then what is published must be whole."""
        number = self.chance.choice((signal.SIGKILL, signal.SIGTERM))
        gate = self.index.gate("/*", skip=self.chance.randrange(1, 60), times=1)
        process = self.mirror.start()
        while process.poll() is None:
            with contextlib.suppress(TimeoutError):
                gate.wait(timeout_s=0.05)
                break
        end_group(process, number)
        self.index.release()
        process.communicate()
        problems = check_tree(self.mirror.web, self.layout, settled=False, leftovers=True)  # type: ignore[arg-type]
        return "; ".join(problems[:3])

    def catch_up(self, *, leftovers: bool) -> str:
        """A run without faults; then the tree must be upstream's. After a kill, what was dropped goes a run later."""
        self.index.clear_faults()
        result = self.mirror.run("--retry-failed", timeout_s=120)
        if result.status:
            return f"exit status {result.status}: {result.stdout[-300:]} {result.stderr[-300:]}"
        return "; ".join(check_tree(self.mirror.web, self.layout, self.index, leftovers=leftovers)[:3])  # type: ignore[arg-type]

    def round(self) -> dict[str, Any]:
        """One round: changes, a run with faults or a killed one, and one that catches up."""
        self.change()
        self.harm()
        kind = self.chance.choice(("killed", "faults", "plain"))
        problem = ""
        if kind == "killed":
            problem = self.cut_off()
        elif kind == "faults":
            self.mirror.run(timeout_s=120)
        problem = problem or self.catch_up(leftovers=kind == "killed")
        own = self.mirror.directory / ".fastmirror"
        status = self.mirror.status()
        return {
            "kind": kind,
            "problem": problem,
            "projects": status["projects"],
            "files": status["files"],
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
            "state_kb": (own / "state.sqlite").stat().st_size // 1024,
            "staged": sum(path.is_file() for path in (own / "staging").rglob("*")),
        }


def main() -> None:
    """Go on for so many minutes, print a line a round, write the record, exit 1 on the first problem."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--layout", choices=("hashed", "flat"), default="hashed")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as home, FakeIndex() as index:
        index.fill(60, seed=given.seed)
        soak = Soak(Path(home), index, given.seed, given.layout)
        while time.monotonic() - begun < given.minutes * 60:
            index.clear_requests()
            soak.rounds.append(soak.round())
            print(len(soak.rounds), *soak.rounds[-1].values(), flush=True)
            if soak.rounds[-1]["problem"]:
                break
        soak.mirror.close()
    if given.out:
        facts = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "seed": given.seed, "layout": given.layout}
        given.out.write_text(json.dumps({**facts, "rounds": soak.rounds}, indent=1) + "\n")
    sys.exit(bool(soak.rounds[-1]["problem"]))


if __name__ == "__main__":
    main()
