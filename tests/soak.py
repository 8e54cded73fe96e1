"""Runs again and again against an upstream that changes, fails and lies at random; some runs are killed.

    python -m tests.soak --minutes 20 --layout flat --out tests/results/soak-flat.json

Two mirrors follow one upstream: one by a new command each time, which faults meet and kills end, and one by
a single process that stays, ``mirror --every 1s``. After every round both trees are held against upstream.
What the processes use, and what they leave on the disk, is recorded; the soak fails unless all of it is flat:
the median of the last third of the rounds is at most a tenth, and a little, above that of the first third.
Outside CI; bounded in time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shlex
import signal
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.measure import descendants
from benchmarks.report import machine_facts
from tests.conftest import Mirror, Result, end_group
from tests.fakes import faults
from tests.fakes.index import FakeIndex
from tests.processes import descriptors_of, group_lives, memory_kb, threads_of, until, workers_of
from tests.published import problems

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Sequence

_FAULTS: tuple[Callable[[], faults.Fault], ...] = (
    lambda: faults.status(503, 1),
    lambda: faults.reset(None),
    lambda: faults.truncate(0.5),
    faults.wrong_content,
    faults.extra,
    lambda: faults.throttle(0.1),
    faults.html_instead,
)
_LONGEST_S = 120.0
_LOOK_S = 0.03
_GROWTH = 1.1
_ROUNDS_LEAST = 30  # fewer tell nothing about growth
_PROJECTS = range(50, 70)  # upstream stays about as large as it was
_FAN = re.compile(r"[0-9a-f]{2,3}")
# What must be flat, and what is a little of it: from noise, or because it fills up to a bound.
_FLAT = {
    "peak_memory_kb": 3_000,
    "descriptors": 2,
    "resident_memory_kb": 3_000,
    "resident_descriptors": 2,
    "resident_threads": 1,
    "state_kb": 64,
    "resident_state_kb": 64,
    "staged": 1,
    "empty_directories": 1,
}


class Vitals(threading.Thread):
    """Watches a command while it runs: the most that any one of its processes used."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._over = threading.Event()
        self.memory_kb = 0
        self.descriptors = 0

    def __enter__(self) -> Vitals:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        """Look until the command has ended."""
        while not self._over.wait(_LOOK_S):
            for pid in (self._pid, *descendants(self._pid)):
                self.memory_kb = max(self.memory_kb, memory_kb(pid, peak=True))
                self.descriptors = max(self.descriptors, descriptors_of(pid))


class Resident:
    """A mirror that is followed by one process, which stays."""

    def __init__(self, mirror: Mirror) -> None:
        self.mirror = mirror
        self._process = mirror.start("--every", "1s", "--retry-failed")
        self._reader = threading.Thread(target=self._process.communicate, daemon=True)
        self._reader.start()

    def catch_up(self, index: FakeIndex) -> str:
        """Wait until its tree is upstream's; what is wrong if it never is."""
        last: list[str] = ["nothing was looked at"]

        def is_equal() -> bool:
            with contextlib.suppress(OSError):  # a run is under way
                last[:] = problems(self.mirror, index, leftovers=True)
            return not last or self._process.poll() is not None

        with contextlib.suppress(TimeoutError):
            until(is_equal, "a tree like upstream's", _LONGEST_S)
        if self._process.poll() is not None:
            return f"the resident ended with exit status {self._process.returncode}"
        return "; ".join(f"resident: {problem}" for problem in last[:3])

    def figures(self) -> dict[str, int]:
        """What it uses between two runs."""
        pid = self._process.pid
        with contextlib.suppress(TimeoutError):
            until(lambda: not workers_of(pid), "no run under way", 5.0)
        return {
            "resident_memory_kb": memory_kb(pid, peak=False),
            "resident_descriptors": descriptors_of(pid),
            "resident_threads": threads_of(pid),
            "resident_state_kb": _state_kb(self.mirror),
        }

    def end(self) -> str:
        """End it in order; what is wrong if it did not."""
        end_group(self._process, signal.SIGTERM)
        self._reader.join(_LONGEST_S)
        status = self._process.poll()
        return "" if status in {0, 128 + signal.SIGTERM} else f"the resident ended with exit status {status}"


class Soak:
    """One upstream, two mirrors, and what happens to them."""

    def __init__(self, home: Path, index: FakeIndex, seed: int, layout: str) -> None:
        self.chance = random.Random(seed)
        self.index = index
        self.mirror, follower = (self._mirror(home / name, layout) for name in ("commands", "resident"))
        self.resident = Resident(follower)
        self.rounds: list[dict[str, Any]] = []
        self._quarantined: set[str] = set()
        self._made = 0

    def _mirror(self, home: Path, layout: str) -> Mirror:
        home.mkdir()
        mirror = Mirror(home, self.index.url)
        mirror.settings |= {"layout": layout, "delete-grace": "0", "max-removals": "1000"}
        return mirror

    def close(self) -> None:
        """End all processes."""
        self.mirror.close()
        self.resident.mirror.close()

    # What happens

    def change(self) -> None:
        """Some changes of what upstream holds."""
        for _ in range(self.chance.randrange(1, 12)):
            names = sorted(self.index.projects())
            name = self.chance.choice(names)
            state = self.index.projects()[name]
            acts: list[Callable[[], object]] = [
                partial(self._add, name),
                partial(self.index.touch, name),
                partial(self._quarantine, name),
            ]
            if len(names) < _PROJECTS.stop:
                acts.append(partial(self._add, f"new-{self._made}"))
            if len(names) > _PROJECTS.start:
                acts.append(partial(self.index.remove_project, name))
            if state.files:
                file = self.chance.choice(state.files)
                acts.append(partial(self.index.set_yanked, name, file.filename, not file.yanked))
                acts.append(partial(self.index.remove_file, name, file.filename))
            self.chance.choice(acts)()
        for name in sorted(self._quarantined):
            if self.chance.random() < 0.5:
                self.index.clear_quarantine(name)
                self._quarantined.discard(name)

    def _quarantine(self, name: str) -> None:
        self.index.quarantine(name, "soak")
        self._quarantined.add(name)

    def _add(self, name: str) -> None:
        self._made += 1
        content = self.chance.randbytes(self.chance.choice((10, 5_000, 5_000, 60_000, 60_000, 1_500_000)))
        wheel = f"{name.replace('-', '_')}-2.{self._made}-py3-none-any.whl"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.{self._made}\n".encode()
        self.index.add_file(name, wheel, content=content, metadata=metadata)

    def harm(self) -> None:
        """Some requests from now on go wrong."""
        for _ in range(self.chance.randrange(1, 4)):
            glob = self.chance.choice(("/simple/?*", "/packages/*"))
            self.index.fault(glob, self.chance.choice(_FAULTS)(), times=self.chance.randrange(1, 6))

    # What the mirrors do

    def cut_off(self) -> str:
        """A run that is killed, or ended by a signal, after some requests; then what is published must be whole."""
        number = self.chance.choice((signal.SIGKILL, signal.SIGTERM))
        gate = self.index.gate("/*", skip=self.chance.randrange(1, 40), times=1)
        process = self.mirror.start()
        while process.poll() is None:
            with contextlib.suppress(TimeoutError):
                gate.wait(timeout_s=0.05)
                break
        end_group(process, number)
        self.index.release()
        process.communicate()
        return "; ".join(problems(self.mirror, None, settled=False, leftovers=True)[:3])

    def catch_up(self, *, leftovers: bool) -> tuple[str, Vitals]:
        """A run without faults; then the tree must be upstream's. After a kill, what was dropped goes a run later."""
        self.index.clear_faults()
        result, vitals = self._run("--retry-failed")
        if result.status:
            return f"exit status {result.status}: {result.stdout[-300:]} {result.stderr[-300:]}", vitals
        return "; ".join(problems(self.mirror, self.index, leftovers=leftovers)[:3]), vitals

    def _run(self, *arguments: str) -> tuple[Result, Vitals]:
        process: subprocess.Popen[str] = self.mirror.start(*arguments)
        with Vitals(process.pid) as vitals:
            stdout, stderr = process.communicate(timeout=_LONGEST_S)
        if group_lives(process.pid):
            stderr += "a process outlived the command"
            return Result(process.returncode or -1, stdout, stderr), vitals
        return Result(process.returncode, stdout, stderr), vitals

    def round(self) -> dict[str, Any]:
        """One round: changes, a run with faults or a killed one, and one that catches up."""
        self.change()
        kind = self.chance.choice(("killed", "faults", "plain"))
        problem = ""
        if kind == "killed":
            problem = self.resident.catch_up(self.index)  # so that it is the other one whom the gate holds
            problem = problem or self.cut_off()
        elif kind == "faults":
            self.harm()
            self._run()
        caught_up, vitals = self.catch_up(leftovers=kind == "killed")
        problem = problem or caught_up or self.resident.catch_up(self.index)
        own = self.mirror.directory / ".fastmirror"
        held = self.index.projects().values()
        return {
            "kind": kind,
            "problem": problem,
            "projects": len(held),
            "files": sum(len(state.files) for state in held),
            "peak_memory_kb": vitals.memory_kb,
            "descriptors": vitals.descriptors,
            **self.resident.figures(),
            "state_kb": _state_kb(self.mirror),
            "staged": sum(path.is_file() for path in (own / "staging").rglob("*")),
            "empty_directories": _count_empty(self.mirror.web),
        }

    def end(self) -> str:
        """The last look: both trees are upstream's, nothing is left over, and every stored file has its hash."""
        problem, _ = self.catch_up(leftovers=False)
        problem = problem or self.resident.catch_up(self.index) or self.resident.end()
        for mirror in (self.mirror, self.resident.mirror):
            verified = mirror.run("--dry-run", command="verify", timeout_s=_LONGEST_S)
            problem = problem or (
                f"verify: exit status {verified.status}: {verified.stdout}" if verified.status else ""
            )
        return problem


def _state_kb(mirror: Mirror) -> int:
    """Without the history of the runs, which grows to a bound of its own, in more runs than a soak has."""
    path = mirror.directory / ".fastmirror/state.sqlite"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as state:
        ((size,),) = state.execute("select sum(pgsize) from dbstat where name <> 'run'")
    return int(size) // 1024


def _count_empty(web: Path) -> int:
    """Directories with nothing in them, but for those of the layout, named by two or three digits of a hash."""
    empty = [path for path, inner, files in os.walk(web) if not inner and not files]
    return sum(_FAN.fullmatch(os.path.basename(path)) is None for path in empty)


class Growth(NamedTuple):
    """How one figure went."""

    first: float  # the median of the first third of the rounds
    last: float  # that of the last third
    most: int
    flat: bool


def growth(values: Sequence[int], little: int) -> Growth:
    """Whether a figure stayed as it was; too few values are no evidence of the contrary."""
    third = max(len(values) // 3, 1)
    first, last = statistics.median(values[:third]), statistics.median(values[-third:])
    return Growth(first, last, max(values), len(values) < _ROUNDS_LEAST or last <= first * _GROWTH + little)


def _record(rounds: list[dict[str, Any]], problem: str, facts: dict[str, Any]) -> dict[str, Any]:
    grown = {name: growth([one[name] for one in rounds], little) for name, little in _FLAT.items()}
    return {
        "command": shlex.join(["python", "-m", "tests.soak", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **facts,
        "rounds": len(rounds),
        "kinds": Counter(one["kind"] for one in rounds),
        "problem": problem,
        "not flat": [name for name, figure in grown.items() if not figure.flat],
        "figures": {name: figure._asdict() for name, figure in grown.items()},
        "by round": {name: " ".join(str(one[name]) for one in rounds) for name in ("projects", "files", *_FLAT)},
    }


def main() -> None:
    """Go on for so many minutes or to the first problem, print a line a round, write the record."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--layout", choices=("hashed", "flat"), default="hashed")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # no process is left behind
    begun = time.monotonic()
    problem = ""
    with tempfile.TemporaryDirectory(prefix="soak-") as home, FakeIndex() as index, contextlib.ExitStack() as ending:
        index.fill(60, seed=given.seed)
        soak = Soak(Path(home), index, given.seed, given.layout)
        ending.callback(soak.close)
        while not problem and time.monotonic() - begun < given.minutes * 60:
            index.clear_requests()
            soak.rounds.append(soak.round())
            problem = soak.rounds[-1]["problem"]
            print(len(soak.rounds), *soak.rounds[-1].values(), flush=True)
        problem = problem or soak.end()
        facts = {"minutes": round((time.monotonic() - begun) / 60, 1), **machine_facts(Path(home))}
    record = _record(soak.rounds, problem, facts)
    text = json.dumps(record, indent=1)
    if given.out:
        given.out.write_text(text + "\n")
    print(text)
    sys.exit(bool(problem or record["not flat"]))


if __name__ == "__main__":
    main()
