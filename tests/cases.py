"""The conformance cases: what a mirror client meets, and what a good one makes of it.

A test that shows a case bears its number: ``@pytest.mark.case(18)``. ``--tables`` makes a table of them
(tests/tables.py), and tests/test_tables.py holds that none is without a test, or a reason in UNSHOWN.
"""

from __future__ import annotations

CASES = {
    # The root index
    1: "the root index is unchanged (304): no page is asked for, the run is recorded",
    2: "one serial of many is new: one page is asked for",
    3: "a project's serial went down: fetched again and accepted",
    4: "no serials: conditional requests or comparison in their place, said so, never an empty mirror",
    5: "two spellings of one project: one project, and a line in the log",
    6: "names that are none: left out and logged, nothing written outside the mirror",
    7: "cut, not JSON, of the wrong type or an error page with status 200: the run ends before any removal",
    8: "almost every name is gone: the deletion guard stops, with an exit status of its own",
    9: "api-version 1.9 with unknown keys: works, with a warning; 2.0: refused",
    10: "the index's own serial is below a project's: harmless",
    11: "in gzip, plain or chunked: the same; a gzip bomb: ended at the limit",
    # Pages of projects
    12: "listed, and its page answers 404: the run goes on",
    13: "gone from the index, page 404: root index, page and files are removed in this order",
    14: "quarantined: links and files hidden at once",
    15: "quarantine cleared: files are back, without a transfer while they are on disk",
    16: "one release vanishes: its links are removed, the others stay",
    17: "archived without a new serial: found by the sweep, told in JSON and HTML",
    18: "a page is older than its serial once: asked for again",
    19: "a page stays old: the others finish, the project is tried again, nobody waits",
    20: "the serial is not in the header but in the body: accepted",
    21: "a page is newer than its serial: accepted, with its own serial",
    22: "a new serial and nothing else: no file is touched, the state follows",
    23: "a page without files for a project that had some: honoured for removals, under a guard",
    24: "relative URLs, also upwards: resolved against the page's, and contained",
    25: "two files of one name or one path: the first stands, the other is told",
    26: "yanked in every form: kept in JSON, escaped in HTML",
    27: "requires-python: an attribute only where there is one, escaped",
    28: "upload-time absent, or without a fraction: kept as it is",
    29: "versions that no standard knows, releases without files: filters do not fall",
    30: "thousands of files in one project: shared among the workers in pieces, each page written once",
    # Files
    31: "a stored file of the right size and hash: not asked for; a damaged one: by verify alone",
    32: "a wrong sha256: nothing is left of it; a mirror's is had from the origin, else off the page until a later run",
    33: "a large file's connection breaks: resumed; a server without ranges, or 416: begun anew; hashed whole",
    34: "more or fewer bytes than announced: not published",
    35: "a file said to be in gzip: stored as it was hashed",
    36: "core metadata that is missing or wrong: not offered, tried again; without a hash: offered with ours",
    37: "core metadata that comes late, without a new serial: found by the sweep",
    38: "no hash, or a weak one: left out, or accepted by another strong one or PyPI's path, as configured",
    39: "file names with +, !, spaces, escapes, other scripts, 240 bytes: stored and served as they are",
    40: "URLs that lead out of their place, in every encoding: refused, nothing is written outside",
    41: "redirects elsewhere, in a loop, to other protocols: within limits, else refused",
    42: "403, 404 or 410 for one file: the other files and the page are published",
    43: "429 with Retry-After, bursts of 503: everybody slows down, and recovers; no storm",
    44: "a download mirror serves wrong bytes: refused, and taken from the origin",
    45: "a file is deleted upstream: off the page at once, off the disk after its grace, with its directories",
    # Crashes, concurrency, storage
    46: "kill -9 at any point: nothing half-written is visible, the next run converges and sweeps",
    47: "power is lost at any point: what the state says is there; a torn state is recovered",
    48: "disk full, quota, no descriptors, read-only: a clean stop, old pages whole, resumable",
    49: "two runs at once: the second is refused; a dead run's lock is free",
    50: "a worker dies: its jobs are done by another",
    51: "readers during a run: every page whole, old or new, its links resolve",
    52: "a tree of bandersnatch, also un-normalised or unfinished: taken over without a transfer",
    53: "SIGTERM: drained, recorded, and an exit status of its own",
    54: "another filter, nothing new upstream: the tree follows",
    55: "pip, uv, fastmirror and bandersnatch read what is published, by nginx and by serve",
}

UNSHOWN: dict[int, str] = {}  # by case: why no test shows it
