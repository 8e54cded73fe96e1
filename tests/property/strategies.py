"""What Hypothesis draws: hostile text, JSON values, and pages that are sound by construction."""

from __future__ import annotations

from string import hexdigits
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from fastmirror.layout import unsafe_filename

# No claim here is about time; python -m tests.fuzz tries what 50 examples do not.
settings.register_profile("laws", deadline=None, max_examples=50)
settings.load_profile("laws")

HOST = "https://files.example"

# Any text that UTF-8 can carry, with a liking for what HTML, URLs and JSON treat in their own way.
texts = st.text(
    st.one_of(st.sampled_from("<>&\"'`=/\\%#? \n\r\t;-!"), st.characters(exclude_categories=["Cs"])), max_size=30
)
# The same without what HTML cannot carry as it is: NUL, and the control characters that no reference may name.
html_texts = texts.map(lambda text: "".join(character for character in text if character.isprintable()))

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)

sha256s = st.text("0123456789abcdef", min_size=64, max_size=64)
cased_sha256s = st.text(hexdigits, min_size=64, max_size=64)

plain_filenames = st.builds(
    "six-{}.{}".format,
    st.tuples(st.integers(0, 30), st.integers(0, 9)).map(lambda parts: f"{parts[0]}.{parts[1]}"),
    st.sampled_from(["tar.gz", "zip", "egg", "exe"]),
) | st.from_regex(r"six-[0-9]{1,2}\.[0-9]-py3-none-any\.whl", fullmatch=True)
filenames = plain_filenames | html_texts.filter(lambda text: unsafe_filename(text) is None)

metadata_offers: st.SearchStrategy[bool | dict[str, str]] = (
    st.booleans() | sha256s.map(lambda sha256: {"sha256": sha256}) | st.just({})
)


@st.composite
def entries(draw: st.DrawFn, names: st.SearchStrategy[str] = filenames) -> dict[str, Any]:
    """One entry of a page that can be mirrored."""
    filename = draw(names)
    entry = {
        "filename": filename,
        "url": f"{HOST}/packages/{draw(st.integers(0, 99))}/file",
        "hashes": {"sha256": draw(sha256s)},
        "size": draw(st.integers(0, 2**63 - 1)),
    }
    optional = {
        "requires-python": draw(st.none() | html_texts),
        "yanked": draw(st.booleans() | html_texts),
        "upload-time": draw(st.sampled_from(["2026-01-02T03:04:05.678901Z", "2026-01-02T03:04:05Z"])),
        "provenance": draw(st.none() | html_texts),
        "core-metadata": draw(metadata_offers),
        "x-unknown": draw(json_values),
    }
    chosen = draw(st.sets(st.sampled_from(sorted(optional))))
    return entry | {key: optional[key] for key in chosen}


@st.composite
def pages(draw: st.DrawFn) -> dict[str, Any]:
    """A JSON page of the project ``six``, every entry of which can be mirrored."""
    document: dict[str, Any] = {
        "meta": {"api-version": draw(st.sampled_from(["1.0", "1.4", "1.99"]))},
        "name": draw(st.sampled_from(["six", "SIX", "Six"])),
        "files": draw(st.lists(entries(), max_size=6, unique_by=lambda entry: entry["filename"])),
    }
    if draw(st.booleans()):
        document["meta"]["_last-serial"] = draw(st.integers(0, 2**63 - 1))
    if draw(st.booleans()):
        document["versions"] = draw(st.lists(texts, max_size=3))
    if draw(st.booleans()):
        status = draw(st.sampled_from(["active", "archived", "quarantined", "deprecated"]))
        document["project-status"] = {"status": status, "reason": draw(html_texts)}
    return document


# Values for each key of an entry that are sometimes right, so that hostile pages get past the first check.
_hostile_entries = st.fixed_dictionaries(
    {},
    optional={
        "filename": filenames | texts | json_values,
        "url": st.sampled_from(["a.whl", "../../p/a.whl", f"{HOST}/a", f"{HOST}/%2e%2e/a", "//[", "ftp://a/b"])
        | texts
        | json_values,
        "hashes": sha256s.map(lambda sha256: {"sha256": sha256}) | st.dictionaries(texts, json_values) | json_values,
        "size": st.integers() | json_values,
        "core-metadata": metadata_offers | json_values,
        "dist-info-metadata": metadata_offers | json_values,
        "requires-python": texts | json_values,
        "yanked": json_values,
        "upload-time": json_values,
        "provenance": json_values,
    },
)
hostile_pages = st.fixed_dictionaries(
    {"name": st.just("six") | json_values, "files": st.lists(_hostile_entries | json_values, max_size=4) | json_values},
    optional={
        "meta": st.dictionaries(st.sampled_from(["api-version", "_last-serial", "project-status"]), json_values)
        | json_values,
        "versions": json_values,
        "project-status": json_values | st.dictionaries(st.sampled_from(["status", "reason"]), json_values),
        "x-unknown": json_values,
    },
)

_markup = st.sampled_from(
    [
        *("<a", "href=", '"', "'", ">", "</a>", "<!--", "-->", "SERIAL 5", "<script>", "</script", "#sha256="),
        *("data-yanked", "&#", "&#x", "&amp;", "&lt", "<!doctype html>", "<html>", "{", "http://", "//[", "..", "/"),
        *('<base href="', '<meta name="pypi:repository-version" content="1.0">', "=", " ", "<a href=a.whl#sha256="),
    ]
)
markup = st.lists(_markup | texts | cased_sha256s, max_size=40).map("".join)

# To a sample: where, how many bytes go, and the number of the word that comes in their place.
edits = st.lists(st.tuples(st.integers(0, 1 << 12), st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=4)
