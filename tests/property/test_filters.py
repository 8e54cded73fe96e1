"""Laws of all filters, on every page that can be read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from fastmirror.errors import PageError
from fastmirror.filters import Filters, Listing
from fastmirror.filters.requirements import Files
from fastmirror.filters.vocabulary import NAMES
from fastmirror.names import NormalizedName
from fastmirror.settings_file import parse_settings
from fastmirror.simple import parse_json_page
from tests.property.strategies import hostile_pages, json_values, pages

if TYPE_CHECKING:
    from collections.abc import Iterable

SIX = NormalizedName("six")
SECTIONS = """
[allowlist]
packages =
    six>=1,<29
requirements = pins.txt
[blocklist]
packages = six==3.*
platforms = windows py2.7 py3
[filter_regex]
packages = seven
releases = .*7$
[latest_release]
keep = 3
sort_by = {order}
[versions_count_project_metadata]
max_versions = 5
[size_project_metadata]
max_package_size = 9E
[regex_project_metadata]
none:info.license = GPL
match-null:any:info.keywords = a
[regex_release_file_metadata]
all:release_file.url = https
not-null:release = [0-9]
[version_range_release_file_metadata]
any:release_file.requires_python = 3.12
"""
# Pins silence the other filters of releases: what follows is about those.
FREE = [name for name in NAMES if name != "project_requirements_pinned"]

listings = st.builds(
    lambda page, document, whole: page._replace(document={"info": document} if whole else document),
    (pages() | hostile_pages).map(lambda page: listing(page)),
    st.none() | st.dictionaries(st.sampled_from(["info", "releases", "urls", "license", "keywords"]), json_values),
    st.booleans(),
)
enabled = st.sets(st.sampled_from(FREE), min_size=1)
orders = st.sampled_from(["version", "time"])


def listing(document: dict[str, Any]) -> Listing:
    """A page as filters are given it; an empty one if it cannot be read."""
    try:
        page = parse_json_page(json.dumps(document).encode(), SIX, "https://x.example/", accept_unhashed=False)
    except PageError:
        return Listing(SIX, [], None)
    return Listing(SIX, page.files, page.keys.get("versions"))


def filters(names: Iterable[str], order: str = "version") -> Filters:
    lines = "".join(f"\n  {name}" for name in names)
    text = f"[mirror]\ndirectory = /srv/pypi\n[plugins]\nenabled ={lines}\n{SECTIONS.format(order=order)}"
    return Filters(parse_settings(text, files=Files(lambda _: b"six<9\nruff", lambda path: [path])).filters)


@given(listings, st.sets(st.sampled_from(NAMES), min_size=1), orders)
def test_filters_take_away_and_keep_the_order(listing: Listing, names: set[str], order: str):
    left = filters(names, order).narrow(listing)
    if left is not None:
        files = iter(listing.files)
        assert all(any(file is other for other in files) for file in left.files)
        assert set(left.versions or ()) <= set(listing.versions or ())


@given(listings, enabled, orders)
def test_what_is_left_is_left_as_it_is_the_second_time(listing: Listing, names: set[str], order: str):
    by = filters(names, order)
    left = by.narrow(listing)
    if left is not None:
        assert by.narrow(left) == left


@given(listings, st.permutations(NAMES), orders)
def test_the_order_in_which_filters_are_enabled_means_nothing(listing: Listing, names: list[str], order: str):
    one, other = filters(names, order), filters(sorted(names), order)
    assert one.narrow(listing) == other.narrow(listing)
    assert (one.digest(SIX), one.narrowing, one.selection) == (other.digest(SIX), other.narrowing, other.selection)


@given(listings, enabled, enabled, orders)
def test_more_filters_keep_no_more_files(listing: Listing, names: set[str], more: set[str], order: str):
    few, many = filters(names, order).narrow(listing), filters(names | more, order).narrow(listing)
    if "latest_release" in names | more and more & {"exclude_platform", *FREE[-2:]}:
        return  # an older version moves up where a file filter has emptied a newer one
    if many is not None:
        assert few is not None
        assert {file.filename for file in many.files} <= {file.filename for file in few.files}


@given(listings, enabled)
def test_a_project_without_a_digest_keeps_its_listing(listing: Listing, names: set[str]):
    by = filters(names)
    ruff = listing._replace(name=NormalizedName("ruff"))
    if not by.digest(ruff.name):
        assert by.narrow(ruff) is ruff
