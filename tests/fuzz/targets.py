"""What is fuzzed: each reader of what others wrote, with samples of it. A target raises only where a promise is broken.

Readers may refuse, with their own error. What they accept must survive what is done with it next: rendering, reading
again, being given a path.
"""

from __future__ import annotations

import contextlib
import json
import posixpath
import re
import tempfile
import zipfile
import zlib
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from fastmirror.dependencies import closure, read_needs
from fastmirror.errors import InvalidName, PageError, SettingsError, StorageError, UpstreamError
from fastmirror.feed import offers_feed, read_head, rebuilt, step_path
from fastmirror.filters import Filters, Listing
from fastmirror.filters.advisories import read_advisories
from fastmirror.filters.environments import Target as Environment
from fastmirror.filters.locks import Locks
from fastmirror.filters.releases import demanded, unlisted
from fastmirror.filters.requirements import Files, locks_by_name, read_requirements
from fastmirror.filters.versions import Versions
from fastmirror.interval import parse_duration, parse_hours, parse_size
from fastmirror.lanes import RETRY_AFTER_LONGEST_S, retry_after_s
from fastmirror.layout import Layout, file_paths, metadata_path, unsafe_filename, url_path
from fastmirror.legacy import complete, read_document, saved, serial_of
from fastmirror.names import NormalizedName, normalize
from fastmirror.packing import pack_files, pack_needs, unpack_files, unpack_needs
from fastmirror.planner import plan_project, upload_timestamp
from fastmirror.settings_file import DEFAULT_CONFIGURATION, parse_settings
from fastmirror.simple import Entry, parse_html_page, parse_json_page, render_html, render_json
from fastmirror.transport import Reply
from fastmirror.transport.headers import parse_headers
from fastmirror.upstream import Dialect, etag_of, is_json, parse_json_root, read_root, root_change
from fastmirror.wheel import core_metadata

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fastmirror.model import Page

SIX = NormalizedName("six")
URL = "https://index.example/simple/six/"
SHA256 = "ab" * 32
LIMIT = 1 << 16
_WORD_MOST = 60


class Target(NamedTuple):
    """One reader, and what it reads."""

    check: Callable[[bytes], None]
    samples: tuple[bytes, ...]
    words: tuple[str, ...]  # of its language


def _use(page: Page) -> None:
    """What is done with a page that was accepted: filtered, planned, given paths, rendered, and read again."""
    files = page.files
    assert len({file.filename for file in files}) == len(files)
    for file in files:
        assert unsafe_filename(file.filename) is None
        assert urlsplit(file.url).scheme in {"http", "https"}
        assert isinstance(upload_timestamp(file), float)
        for layout in Layout:
            for path in file_paths(layout, file.url, file.filename, file.digest):
                assert posixpath.normpath(path) == path
                assert path.startswith("packages/")
    plan = plan_project(page, {}, layout=Layout.HASHED, core_metadata=True)
    assert len(plan.fetch) == len(files)
    _FILTERS.narrow(Listing(SIX, files, page.keys.get("versions"), {"info": page.keys, "releases": {}}))
    entries = [
        Entry(file, f"../../packages/{number}", file.digest[:64], file.size or 0, file.metadata or None)
        for number, file in enumerate(files)
    ]
    rendered = render_json(page, SIX, page.serial, entries)
    again = parse_json_page(rendered, SIX, URL, accept_unhashed=False)
    assert not again.refused
    assert [file.filename for file in again.files] == [file.filename for file in files]
    as_html = parse_html_page(render_html(page, SIX, page.serial, entries), SIX, URL, accept_unhashed=False)
    assert [file.digest for file in as_html.files] == [file.digest[:64] for file in files]


def _page(parse: Callable[..., Page], body: bytes) -> None:
    with contextlib.suppress(PageError):
        parse(body, SIX, URL, accept_unhashed=True)
    with contextlib.suppress(PageError):
        page = parse(body, SIX, URL, accept_unhashed=False)
        _use(page)


def _legacy(body: bytes) -> None:
    page = parse_json_page(_PAGE, SIX, URL, accept_unhashed=False)
    with contextlib.suppress(PageError):
        document = read_document(body, SIX)
        serial_of(document)
        _use(complete(page, document, "sha256"))
        saved(document, 1 << 24)
        _FILTERS.narrow(Listing(SIX, page.files, None, document))


def _root(body: bytes) -> None:
    for dialect in Dialect:
        with contextlib.suppress(UpstreamError):
            index = read_root(body, dialect, "https://index.example/simple/", {})
            assert all(normalize(name) == name for name in index.projects)


def _root_change(body: bytes) -> None:
    old, _, new = body.partition(b"\n")
    try:
        before = parse_json_root(old).projects
    except PageError:
        return  # never applied, and so never kept
    change = root_change(old, new)
    if change is None:
        return
    after = parse_json_root(new).projects
    differs = {name for name, serial in after.items() if before.get(name, -1) != serial}
    assert differs <= change.changed.keys()
    assert set(change.removed) == before.keys() - after.keys()


def _feed(body: bytes) -> None:
    offers_feed(body)
    with contextlib.suppress(PageError):
        states = read_head(body)
        assert re.fullmatch(r"changes/[0-9a-f]{32}-[0-9a-f]{32}\.json", step_path(states[0], states[-1]))
    old, _, step = body.partition(b"\n")
    with contextlib.suppress(PageError):
        assert rebuilt(old, [step]).startswith(step.partition(b'"projects":[')[0])


def _name(body: bytes) -> None:
    text = body.decode("utf-8", "replace")
    with contextlib.suppress(InvalidName):
        name = normalize(text)
        assert normalize(name) == name
        assert posixpath.normpath(f"simple/{name}") == f"simple/{name}"


def _path(body: bytes) -> None:
    url, _, filename = body.decode("utf-8", "replace").partition(" ")
    if unsafe_filename(filename) is not None:
        return
    for layout in Layout:
        for path in file_paths(layout, url, filename, SHA256):
            assert posixpath.normpath(path) == path
            assert path.startswith("packages/")
            assert posixpath.basename(path) == filename
            assert metadata_path(path) in {None, f"{path}.metadata"}
            assert url_path(path).isascii()


def _settings(body: bytes) -> None:
    text = body.decode("utf-8", "replace")
    with contextlib.suppress(SettingsError):
        settings = parse_settings(text, overrides={"directory": "/srv/pypi"}, files=_FILES)
        Filters(settings.filters)


def _requirements(body: bytes) -> None:
    """The first line is the file's name."""
    name, _, content = body.partition(b"\n")
    path = {b"uv.lock": "uv.lock", b"pylock.toml": "pylock.toml"}.get(name, "requirements.txt")
    files = Files(lambda asked: content if asked == path else b"six<2", lambda asked: [asked])
    with contextlib.suppress(SettingsError):
        found = read_requirements(path, files, "settings:1", [])
        assert all(normalize(listed.name) == listed.name for listed in found)
        for _, locks in locks_by_name(found):
            Locks(locks).refusals(parse_json_page(_PAGE, SIX, URL, accept_unhashed=False).files)


def _advisory(body: bytes) -> None:
    with contextlib.suppress(SettingsError):
        for listed in read_advisories("osv.json", Files(lambda _: body, lambda asked: [asked]), "settings:1", []):
            unlisted([listed.specifier])({"1.0": []})


def _needs(body: bytes) -> None:
    target = Environment("cp312", "manylinux_2_28_x86_64")
    found = read_needs(body, [target])
    assert unpack_needs(pack_needs(found)) == found
    for name, demand in closure({SIX: ()}, {SIX: found.requires}, [str(target)]).items():
        assert normalize(name) == name
        demanded(demand, [target], Versions(name, None), None, [])({"1.0": []})


def _wheel(body: bytes) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(body)
        file.flush()
        found = core_metadata(file.fileno(), len(body), LIMIT)
    assert found is None or len(found) <= LIMIT


def _headers(body: bytes) -> None:
    status, headers = parse_headers(body.splitlines(keepends=True))
    for code in (status, 429):
        reply = Reply(1, code, headers, b"", "", retryable=False)
        assert 0 <= retry_after_s(reply) <= RETRY_AFTER_LONGEST_S
        is_json(reply)
        assert etag_of(reply).isprintable()


def _packed(body: bytes) -> None:
    for packed in (body, zlib.compress(body, 0)):
        with contextlib.suppress(StorageError):
            pack_files(unpack_files(packed))


def _interval(body: bytes) -> None:
    text = body.decode("utf-8", "replace")
    with contextlib.suppress(SettingsError):
        assert parse_duration("--every", text) > 0
    with contextlib.suppress(SettingsError):
        assert parse_size("--budget", text) >= 0
    with contextlib.suppress(SettingsError):
        assert parse_hours(text)


def _wheel_sample() -> bytes:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("six.py", "x = 1\n")
        archive.writestr("six-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: six\nVersion: 1.0\n")
    return packed.getvalue()


_PAGE = json.dumps(
    {
        "meta": {"api-version": "1.4", "_last-serial": 7},
        "name": "six",
        "versions": ["1.0", "2.0rc1"],
        "project-status": {"status": "archived", "reason": "<b>"},
        "files": [
            {
                "filename": "six-1.0-py3-none-any.whl",
                "url": "https://files.example/packages/aa/bb/six-1.0-py3-none-any.whl",
                "hashes": {"sha256": SHA256},
                "size": 5,
                "core-metadata": {"sha256": SHA256},
                "requires-python": ">=3.8",
                "upload-time": "2026-01-02T03:04:05.678901Z",
                "yanked": "a reason",
                "provenance": "https://index.example/p",
            },
            {"filename": "six-2.0rc1.tar.gz", "url": "../../six-2.0rc1.tar.gz", "hashes": {"sha256": SHA256}},
        ],
    }
).encode()
_HTML = f"""<!DOCTYPE html><html><head><meta name="pypi:repository-version" content="1.4">
<meta name="pypi:project-status" content="archived"><base href="https://files.example/"></head><body>
<a href="six-1.0.tar.gz#sha256={SHA256}" data-requires-python="&gt;=3.8" data-yanked="">six</a><br>
<a href='a/six-1.1-py3-none-any.whl#sha256={SHA256}' data-core-metadata="sha256={SHA256}">six &amp; co</a>
</body></html><!--SERIAL 7-->""".encode()
_ROOT = b'{"meta":{"_last-serial":9,"api-version":"1.4"},"projects":[{"_last-serial":3,"name":"a"},{"name":"B_c"}]}'
_LEGACY = json.dumps(
    {
        "info": {"name": "six", "version": "1.0", "classifiers": ["A :: B"], "requires_python": ">=3"},
        "last_serial": 8,
        "releases": {"1.0": [{"filename": "six-1.0-py3-none-any.whl", "digests": {"sha256": SHA256}, "size": 5}]},
        "urls": [],
    }
).encode()
_SETTINGS = """[mirror]
directory = /srv/pypi
workers = 3
max-rate = 50M
timeout = 10.5
[plugins]
enabled =
    all
[allowlist]
packages =
    six>=1,<2
    # a comment
requirements = pins.txt
[blocklist]
platforms = windows py2.7
[filter_regex]
packages = .+-evil$
[size_project_metadata]
max_package_size = 1G
[regex_project_metadata]
any:info.license = %(x)s 100%%
[latest_release]
keep = 3
"""
_FILES = Files(lambda _: b"six<9\n", lambda path: [path])
_FILTERS = Filters(
    parse_settings(
        "[mirror]\ndirectory = /srv/pypi\n[plugins]\nenabled = all\n[allowlist]\npackages = six\nrequirements = pins\n"
        "[latest_release]\nkeep = 3\n[blocklist]\nplatforms = windows py2\n[version_range_release_file_metadata]\n"
        "any:release_file.requires_python = 3.12\n[size_project_metadata]\nmax_package_size = 1G\n",
        files=_FILES,
    ).filters
)
_BIG = "9" * 5000
_JSON_WORDS = (
    *('"filename":', '"url":', '"hashes":', '"sha256":', '"size":', '"yanked":', '"upload-time":', '"versions":'),
    *('"core-metadata":', '"requires-python":', '"provenance":', '"name":', '"meta":', '"_last-serial":'),
    *(
        "null",
        "true",
        "-1",
        "1e400",
        "18446744073709551616",
        "[[[[",
        "{}",
        "\\ud800",
        "\\u0000",
        "../",
        "%2e%2e",
        "},{",
    ),
)
_TEXT_WORDS = ("%(", ")s", "%%", "\\\n", "==", ">=", "~=", "===", " ; ", "[a]", "-r ", "-c ", "--hash=", "-e ", " @ ")

_HEAD = b'{"version":1,"states":["%s","%s"]}' % (b"a" * 32, b"b" * 32)
_STEP = b'{"meta":{"_changes":1},"projects":[{"_last-serial":4,"name":"B_c"},{"name":"d"}],"removed":["a"]}'
TARGETS = {
    "json-page": Target(partial(_page, parse_json_page), (_PAGE,), _JSON_WORDS),
    "feed": Target(_feed, (_HEAD, _ROOT + b"\n" + _STEP), _JSON_WORDS),
    "html-page": Target(
        partial(_page, parse_html_page),
        (_HTML,),
        (
            "<a ",
            "href=",
            "#sha256=",
            "<!--",
            "-->",
            "&#x",
            "&lt",
            "<base ",
            "<meta ",
            "</a>",
            "<script>",
            "data-yanked",
        ),
    ),
    "legacy": Target(_legacy, (_LEGACY,), (*_JSON_WORDS, '"digests":', '"releases":', '"urls":', '"info":')),
    "root": Target(_root, (_ROOT, b'<a href="/simple/six/">Six</a>'), (*_JSON_WORDS, '"projects":[', "<a href=")),
    "root-change": Target(_root_change, (_ROOT + b"\n" + _ROOT.replace(b":3", b":4"),), (*_JSON_WORDS, '"projects":[')),
    "name": Target(_name, (b"Flask_SQL.Alchemy",), ("-", "_", ".", "\u017f")),
    "path": Target(
        _path, (b"https://files.example/packages/aa/bb/cc/six-1.0.whl six-1.0.whl",), ("..", "%2f", "\\", "//")
    ),
    "settings": Target(
        _settings, (_SETTINGS.encode(), DEFAULT_CONFIGURATION.encode()), (*_TEXT_WORDS, _BIG, "[mirror]")
    ),
    "requirements": Target(
        _requirements,
        (
            b"requirements.txt\nsix>=1,<2 ; python_version < '4' --hash=sha256:ab\n-c more.txt\nruff[x]==1.*  # why\n",
            b'uv.lock\nversion = 1\n[[package]]\nname = "six"\nversion = "1.0"\nsource = { registry = "https://x" }\n',
            b'pylock.toml\nlock-version = "1.0"\n[[packages]]\nname = "six"\nversion = "1.0"\nwheels = [{size = 5}]\n',
        ),
        (*_TEXT_WORDS, _BIG, "[[package]]", "[[packages]]", "0x", "1979-05-27T07:32:00Z", '"""', "# coding: "),
    ),
    "wheel": Target(_wheel, (_wheel_sample(),), ("PK\x05\x06", "PK\x01\x02", ".dist-info/METADATA")),
    "headers": Target(
        _headers,
        (b'HTTP/1.1 100 Go on\r\n\r\nHTTP/2 429\r\nretry-after: 7\r\nETag: "x"\r\nContent-Range: bytes 1-2/3\r\n\r\n',),
        (
            "HTTP/",
            "Retry-After: ",
            "Wed, 21 Oct 2015 07:28:00 GMT",
            "+9999",
            _BIG,
            "Content-Type: ",
            "application/json",
        ),
    ),
    "core-metadata": Target(
        _needs,
        (
            (
                b"Metadata-Version: 2.1\nName: six\nProvides-Extra: fast\n"
                b"Requires-Dist: a[x]>=1,<2; extra == 'fast' and python_version < '3.13'\n\nWhat it is\n"
            ),
        ),
        (*_TEXT_WORDS, _BIG, "extra ==", "python_full_version", "platform_release", " or ", " not in ", "((((", " @ "),
    ),
    "advisory": Target(
        _advisory,
        (
            (
                b'{"affected": [{"package": {"ecosystem": "PyPI", "name": "six"}, "versions": ["1.0"],'
                b' "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.0"}]}]}]}'
            ),
        ),
        (*_JSON_WORDS, '"last_affected":', '"withdrawn":', _BIG),
    ),
    "packed": Target(_packed, (b'[["packages/0ab/six.whl",5,"ab",1.5,null]]',), ("null", "{}", "1e400", "[]")),
    "interval": Target(_interval, (b"5m", b"22-6"), ("h", "d", "1e9", _BIG)),
}


def splice(sample: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """A sample with pieces taken out and others put in: (where, how many bytes, what)."""
    for where, length, piece in edits:
        start = where % (len(sample) + 1)
        sample = sample[:start] + piece + sample[start + length :]
    return sample


def words_of(target: Target) -> str:
    """The words in libFuzzer's form of a dictionary; those that are too long for it are left out."""
    short = [word.encode() for word in target.words if len(word) < _WORD_MOST]
    return "".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in short)


def write_seeds(target: Target, directory: Path) -> None:
    """A corpus to begin with: the samples, and each with one of its numbers become a word too long for a dictionary."""
    long = [word.encode() for word in target.words if len(word) >= _WORD_MOST]
    seeds = list(target.samples)
    for sample in target.samples:
        for number in re.finditer(rb"[0-9]+", sample):
            seeds += [sample[: number.start()] + word + sample[number.end() :] for word in long]
    for place, seed in enumerate(seeds):
        (directory / f"sample-{place}").write_bytes(seed)
