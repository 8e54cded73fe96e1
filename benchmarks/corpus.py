"""What a synthetic index holds: names, projects and files, drawn from stated distributions by a seed. Pure.

Files per project
    1 + floor(X), X log-normal with median 1.75 and sigma 1.45, at most 600: mean about 5.7; half of the
    projects have one or two files, one in a hundred over 50.
File sizes
    log-normal with median 5,000 bytes and sigma 1.8, at least 400 bytes and at most 32 MB: mean about 25 kB,
    so 17,000 files weigh about 430 MB; half of them are under 5 kB, one in a hundred is over 300 kB.
Kinds of release
    of the projects, 60 % have a source distribution and a wheel a release, 16 % source only, 14 % wheels
    only, 10 % a source distribution and five wheels for platforms: about half of all files are wheels, and
    each wheel is a zip that holds its core metadata, and offers it, as on PyPI.
Descriptions
    log-normal with median 2,000 and sigma 1.0 characters: the legacy JSON is larger than the simple page.

A project depends on the seed and on its own name only.
"""

from __future__ import annotations

import io
import math
import random
import re
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

WORDS = Path(__file__).with_name("words.txt").read_text().split()
SYLLABLES = [consonant + vowel for consonant in "bcdfghklmnprstvxz" for vowel in "aeiou"]
SEPARATORS = ("-", "-", "-", "-", "-", "-", "_", "_", ".", "", "")
PLATFORMS = (
    "cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64",
    "cp312-cp312-macosx_11_0_arm64",
    "cp312-cp312-win_amd64",
    "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64",
    "cp311-cp311-win_amd64",
)
KINDS = ("pair",) * 30 + ("source",) * 8 + ("wheel",) * 7 + ("platforms",) * 5
_ZIP_OVERHEAD = 350  # bytes of a zip of two members, beside what they hold
FIRST_SERIAL, LAST_SERIAL = 1_000_000, 40_000_000
FIRST_UPLOAD, LAST_UPLOAD = 1_420_070_400, 1_767_225_600  # 2015 to 2026, seconds since the epoch


class Distribution(NamedTuple):
    """One file to be served."""

    filename: str
    version: str
    wheel: bool  # wheels offer core metadata
    size: int  # bytes
    uploaded_us: int  # microseconds since the epoch
    requires_python: str | None
    yanked: bool


class Project(NamedTuple):
    """One project to be served."""

    name: str  # as its owner writes it
    normal: str  # as the index asks for it
    serial: int
    description: str
    distributions: tuple[Distribution, ...]  # by version


def normal_name(name: str) -> str:
    """The normalised form of a project's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def draw_names(count: int, seed: int) -> list[tuple[str, str]]:
    """Draw ``count`` pairs of (normalised name, name), sorted, no two of them alike; mean length about 13."""
    source = random.Random(f"names {seed}")
    names: dict[str, str] = {}
    while len(names) < count:
        parts = [_word(source) for _ in range(source.choice((1, 2, 2, 2, 3, 3)))]
        name = source.choice(SEPARATORS).join(parts)
        if source.random() < 0.08:
            name = name.title()
        names.setdefault(normal_name(name), name)
    return sorted(names.items())


def _word(source: random.Random) -> str:
    if source.random() < 0.55:
        return source.choice(WORDS)
    word = "".join(source.choices(SYLLABLES, k=source.choice((2, 2, 3, 3, 4))))
    return f"{word}{source.randrange(2, 100)}" if source.random() < 0.08 else word


def draw_serial(normal: str, seed: int) -> int:
    """The last serial of a project."""
    return random.Random(f"serial {seed} {normal}").randrange(FIRST_SERIAL, LAST_SERIAL)


def draw_projects(count: int, seed: int) -> Iterator[Project]:
    """Draw so many projects, in the order of their names."""
    return (draw_project(name, normal, seed) for normal, name in draw_names(count, seed))


def draw_alike(name: str, *, files: int, size: int) -> Project:
    """One project of so many source distributions, each a release, all of one size in bytes."""
    distributions = (
        Distribution(f"{name}-{i}.tar.gz", str(i), False, size, (FIRST_UPLOAD + i) * 1_000_000, None, False)
        for i in range(1, files + 1)
    )
    return Project(name, name, FIRST_SERIAL, "", tuple(distributions))


def draw_project(name: str, normal: str, seed: int) -> Project:
    """Draw one project and all its files."""
    source = random.Random(f"project {seed} {normal}")
    count = min(600, 1 + math.floor(source.lognormvariate(math.log(1.75), 1.45)))
    kind = source.choice(KINDS)
    requires_python = source.choice((None, ">=3.7", ">=3.8", ">=3.9", ">=3.10", "<4.0,>=3.8"))
    uploaded_us = source.randrange(FIRST_UPLOAD, LAST_UPLOAD - 86_400 * 365) * 1_000_000
    distributions: list[Distribution] = []
    release = 0
    while len(distributions) < count:
        version = f"{release // 30}.{release // 5 % 6}.{release % 5 + 1}"
        yanked = source.random() < 0.02
        endings = _endings(kind, source)[: count - len(distributions)]
        for ending in endings:
            uploaded_us += source.randrange(500_000, 90_000_000)
            size = min(32_000_000, max(400, int(source.lognormvariate(math.log(5_000), 1.8))))
            filename = f"{normal.replace('-', '_')}-{version}{ending}"
            distributions.append(
                Distribution(filename, version, ending.endswith(".whl"), size, uploaded_us, requires_python, yanked)
            )
        uploaded_us += source.randrange(3_600, 86_400 * 20) * 1_000_000
        release += 1
    length = int(source.lognormvariate(math.log(2_000), 1.0))
    words = source.choices(WORDS, k=min(length, 60_000) // 6)
    return Project(name, normal, draw_serial(normal, seed), " ".join(words), tuple(distributions))


def _endings(kind: str, source: random.Random) -> list[str]:
    """What follows the version in the names of one release's files."""
    if kind == "source":
        return [".tar.gz"]
    if kind == "wheel":
        return ["-py3-none-any.whl"]
    if kind == "platforms":
        return [*(f"-{platform}.whl" for platform in PLATFORMS), ".tar.gz"]
    pair = ["-py3-none-any.whl", ".tar.gz"]
    return pair if source.random() < 0.5 else pair[::-1]


class Contents:
    """The bytes of files: incompressible, different for every file name, cheap to make."""

    def __init__(self, seed: int) -> None:
        self._pool = random.Random(f"contents {seed}").randbytes(8 << 20)

    def distribution(self, distribution: Distribution) -> bytes:
        """The bytes of a file: its own name, then a stretch of one random pool, repeated for large ones."""
        return self._stretch(distribution.filename, distribution.size)

    def wheel(self, distribution: Distribution, metadata: bytes) -> bytes:
        """The bytes of a wheel: a zip of its core metadata and of a module that fills it up to its size."""
        packed = io.BytesIO()
        directory = "-".join(distribution.filename.split("-")[:2]) + ".dist-info"
        filling = max(0, distribution.size - len(zlib.compress(metadata)) - _ZIP_OVERHEAD)
        with zipfile.ZipFile(packed, "w") as archive:
            for name, body, method in (
                ("module.py", self._stretch(distribution.filename, filling), zipfile.ZIP_STORED),
                (f"{directory}/METADATA", metadata, zipfile.ZIP_DEFLATED),
            ):
                archive.writestr(zipfile.ZipInfo(name), body, method)
        return packed.getvalue()

    def _stretch(self, name: str, size: int) -> bytes:
        head = f"{name}\n".encode()[:size]
        missing = size - len(head)
        start = int.from_bytes(random.Random(name).randbytes(4), "big") % len(self._pool)
        stretch = self._pool[start : start + missing]
        while len(stretch) < missing:
            stretch += self._pool[: missing - len(stretch)]
        return head + stretch

    def metadata(self, project: Project, distribution: Distribution) -> bytes:
        """The core metadata of a wheel; its description is cut at 4,000 characters."""
        lines = [
            "Metadata-Version: 2.1",
            f"Name: {project.name}",
            f"Version: {distribution.version}",
            "Summary: a synthetic project",
            f"Requires-Python: {distribution.requires_python or '>=3'}",
            f"X-File: {distribution.filename}",
            "",
            project.description[:4_000],
        ]
        return "\n".join(lines).encode()
