"""What filters cost: an allowlist of 100,000 names over PyPI's 886,000 projects, and pages of 3,000 versions.

CPU seconds of one process, the best of some repeats. Run it: ``python -m benchmarks.filters``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fastmirror.filters import Filters, Listing
from fastmirror.filters.versions import short_version
from fastmirror.model import File
from fastmirror.names import NormalizedName
from fastmirror.settings_file import parse_settings

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECTS = 886_000
ALLOWED = 100_000
VERSIONS = 3_000
REPEATS = 5
NAMES = [NormalizedName(f"project-{number}") for number in range(PROJECTS)]
ALLOWLIST = "\n".join(f"  {name}" for name in NAMES[:: PROJECTS // ALLOWED][:ALLOWED])


def filters(plugin: str, section: str) -> Filters:
    text = f"[mirror]\ndirectory = /srv/pypi\n[plugins]\nenabled = {plugin}\n{section}\n"
    return Filters(parse_settings(text).filters)


def best(call: Callable[[], object], repeats: int = REPEATS) -> float:
    """CPU seconds of the fastest call; no version is known from the one before."""
    times = []
    for _ in range(repeats):
        short_version.cache_clear()
        begin = time.process_time()
        call()
        times.append(time.process_time() - begin)
    return min(times)


def page(ending: str) -> Listing:
    """A page with one file of each version."""
    versions = [f"{number // 100}.{number // 10 % 10}.{number % 10}" for number in range(VERSIONS)]
    names = [f"six-{version}{ending}" for version in versions]
    files = [File(name, f"https://files.example/{name}", "sha256", "0" * 64, 1, None, {}) for name in names]
    return Listing(NormalizedName("six"), files, versions)


def main() -> None:
    allowing = filters("allowlist_project", f"[allowlist]\npackages =\n{ALLOWLIST}")
    reading = best(lambda: filters("allowlist_project", f"[allowlist]\npackages =\n{ALLOWLIST}"), 1)
    seconds = best(lambda: sum(map(allowing.keeps, NAMES)))
    print(f"allowlist_project: {ALLOWED:,} names read: {reading:.2f} s, over {PROJECTS:,} projects: {seconds:.2f} s")
    releasing = filters("allowlist_release", f"[allowlist]\npackages =\n{ALLOWLIST}")
    seconds = best(lambda: [releasing.digest(name) for name in NAMES], 1)
    print(f"allowlist_release: digests of {PROJECTS:,} projects: {seconds:.2f} s")
    for ending in ("-py3-none-any.whl", ".tar.gz", "-py2.7.egg"):
        listing = page(ending)
        for sort_by in ("version", "time"):
            latest = filters("latest_release", f"[latest_release]\nkeep = 3\nsort_by = {sort_by}")
            seconds = best(lambda latest=latest, listing=listing: latest.narrow(listing))  # type: ignore[misc]
            print(f"latest_release: {VERSIONS:,} versions, *{ending}, by {sort_by}: {seconds * 1000:.0f} ms")


if __name__ == "__main__":
    main()
