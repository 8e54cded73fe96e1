"""The whole of PyPI, imagined: how many files each project has, and how large they are, drawn by a seed. Pure.

What is known, and what follows from it by assumption:

Projects
    886,000 names, of which 736,000 have files (stated for 2026).
Files
    20 million, so 27 for each project that has any: 1 + floor(X), X log-normal with sigma 2.0 and the median that
    gives this mean (3.6), at most 50,000. The shape is assumed.
Sizes
    60 TB in all. Log-normal with a median of 54 kB and sigma 2.9, so that a quarter is below 10 kB and a sixth above
    1 MB, which fits what a mirror of all has counted with its pages and core metadata (half below 10 KiB, nine in ten
    below 1 MiB); 2.4 of sigma lies between projects and 1.7 within one. At most 1 GiB, PyPI's own limit. At last all
    are multiplied by what the sum of this draw lacks, or has too much.

A project's files are cut into pieces by the planner itself.
"""

from __future__ import annotations

import math
import random
from typing import NamedTuple

from fastmirror.planner import in_pieces, needs_pieces

PROJECTS = 886_000
FILES = 20_000_000
BYTES = 60e12
_WITH_FILES = 736 / 886
_COUNT_MEDIAN, _COUNT_SIGMA, _COUNT_MOST = 3.6, 2.0, 50_000
_SIZE_MEDIAN, _SIZE_BETWEEN, _SIZE_WITHIN = 54_000, 2.4, 1.7
_SIZE_LEAST, _SIZE_MOST = 400, 1 << 30


class Sized(NamedTuple):
    """A file, as far as the planner cuts by it."""

    size: int | None  # bytes


class Piece(NamedTuple):
    """Files that one worker fetches together."""

    files: int
    bytes: float
    largest: float  # bytes


class Project(NamedTuple):
    """What is to be fetched of one project."""

    name: str
    pieces: tuple[Piece, ...]  # none: it has no files
    is_split: bool  # its pieces go out by themselves


class Whole(NamedTuple):
    """A sample of all projects."""

    projects: tuple[Project, ...]
    share: float  # of all projects that are in it

    @property
    def files(self) -> int:
        """In the sample."""
        return sum(piece.files for project in self.projects for piece in project.pieces)

    @property
    def bytes(self) -> float:
        """In the sample."""
        return sum(piece.bytes for project in self.projects for piece in project.pieces)


def draw_whole(share: float, seed: int) -> Whole:
    """Draw so large a share of all projects, in the order of the root index, with that share of all bytes."""
    source = random.Random(seed)
    drawn = [_sizes(source) for _ in range(round(PROJECTS * share))]
    factor = BYTES * share / sum(map(sum, drawn))
    return Whole(tuple(_project(f"project-{i}", sizes, factor) for i, sizes in enumerate(drawn)), share)


def _sizes(source: random.Random) -> list[int]:
    if source.random() > _WITH_FILES:
        return []
    count = min(_COUNT_MOST, 1 + math.floor(source.lognormvariate(math.log(_COUNT_MEDIAN), _COUNT_SIGMA)))
    middle = source.gauss(math.log(_SIZE_MEDIAN), _SIZE_BETWEEN)
    draw = source.lognormvariate
    return [min(_SIZE_MOST, max(_SIZE_LEAST, int(draw(middle, _SIZE_WITHIN)))) for _ in range(count)]


def _project(name: str, sizes: list[int], factor: float) -> Project:
    files = [Sized(int(size * factor)) for size in sizes]
    if not needs_pieces(files):
        return Project(name, (_piece(files),) if files else (), is_split=False)
    return Project(name, tuple(map(_piece, in_pieces(files))), is_split=True)


def _piece(files: list[Sized] | tuple[Sized, ...]) -> Piece:
    sizes = [file.size or 0 for file in files]
    return Piece(len(sizes), sum(sizes), max(sizes))
