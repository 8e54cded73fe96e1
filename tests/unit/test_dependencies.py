"""What files require by their core metadata, and what that comes to for some projects."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmirror.dependencies import Joining, closure, read_needs
from fastmirror.errors import SettingsError, StorageError
from fastmirror.filters import Filters, Listing
from fastmirror.filters.environments import Target
from fastmirror.model import Demand, File, Need, Needs
from fastmirror.names import NormalizedName
from fastmirror.packing import pack_needs, unpack_needs
from fastmirror.settings_file import parse_settings
from tests.conftest import ROOT
from tests.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

LINUX = Target("cp312", "manylinux_2_28_x86_64")
WINDOWS = Target("cp39", "win_amd64")
MAC = Target("pp310", "macosx_14_0_arm64")
TARGETS = (LINUX, WINDOWS, MAC)
ALL = tuple(sorted(map(str, TARGETS)))
A, B, C, D = (NormalizedName(name) for name in "abcd")


def needs(*requires: str, extras: Collection[str] = ()) -> Needs:
    return read_needs(make_wheel("app", "1.0", requires, extras=extras).metadata, TARGETS)


# Requirements


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        ("A", Need("", A, (), "", ALL)),
        ("A[x,Y_z] (>=1,<2)", Need("", A, ("x", "y-z"), "<2,>=1", ALL)),
        ('a; sys_platform == "linux"', Need("", A, (), "", (str(LINUX),))),
        ('a; platform_machine in "AMD64 arm64"', Need("", A, (), "", (str(MAC), str(WINDOWS)))),
        ('a; os_name == "nt"', Need("", A, (), "", (str(WINDOWS),))),
        ('a; platform_python_implementation == "PyPy"', Need("", A, (), "", (str(MAC),))),
        ('a; implementation_name != "cpython"', Need("", A, (), "", (str(MAC),))),
        ('a; python_version < "3.10"', Need("", A, (), "", (str(WINDOWS),))),
        ('a; python_full_version >= "3.12.4"', Need("", A, (), "", (str(LINUX),))),
        ('a; python_full_version < "3.12.4" and python_version > "3.11"', Need("", A, (), "", (str(LINUX),))),
        ('a; extra == "Fast"', Need("fast", A, (), "", ALL)),
        ('a; extra == "fast" and os_name == "nt"', Need("fast", A, (), "", (str(WINDOWS),))),
        ('a; extra == "unheard-of"', None),
        ('a; python_version < "3"', None),
    ],
)
def test_a_requirement_counts_in_the_environments_where_its_marker_may_hold(requirement, expected):
    found = needs(requirement, extras=["fast"])
    assert [need._replace(targets=tuple(sorted(need.targets))) for need in found.requires] == (
        [expected._replace(targets=tuple(sorted(expected.targets)))] if expected else []
    )
    assert found.troubles == ()


def test_what_is_required_always_is_not_asked_for_by_an_extra_too():
    assert needs('a; extra == "fast" or os_name == "nt"', extras=["fast"]).requires == (
        Need("", A, (), "", (str(WINDOWS),)),
        Need("fast", A, (), "", (str(LINUX), str(MAC))),
    )


@pytest.mark.parametrize(
    ("requirement", "trouble", "counts"),
    [
        ('a; platform_release >= "5"', "a: marker that cannot be evaluated, taken as true: platform_release", True),
        ('a; python_version ~= "x"', "a: marker that cannot be evaluated, taken as true: python_version", True),
        ("a b c", "requirement that cannot be understood: 'a b c'", False),
        ("a>=" + "9" * 5000, "requirement that cannot be understood: 'a>=999", False),
        ("a; " + "(" * 5000, "requirement that cannot be understood: 'a; ((", False),
        ("a @ https://files.example/a.whl", "a: from elsewhere than an index, not mirrored", False),
    ],
)
def test_what_cannot_be_decided_is_told_and_counts_where_it_may_be_required(requirement, trouble, counts):
    found = needs(requirement)
    assert [told[: len(trouble)] for told in found.troubles] == [trouble]
    assert bool(found.requires) is counts


def test_the_description_of_core_metadata_requires_nothing():
    assert needs() == Needs()


def test_requirements_without_end_are_cut_off_and_told():
    found = needs(*(f"p{number}" for number in range(2001)))
    assert (len(found.requires), found.troubles) == (2000, ("2001 requirements, of which 2000 count",))


@pytest.mark.parametrize(
    ("headers", "requires", "trouble"),
    [
        (b"X: " + b"a" * (1 << 20), [], "core metadata with 1048579 bytes of headers is not read"),
        (b"Requires-Dist: " + b"a" * 20_001, [], "requirement that cannot be understood: 'aaa"),
        (
            b"".join(b"Provides-Extra: e%d\n" % number for number in range(1000))
            + b"Requires-Dist: a; "
            + b" or ".join(b"extra == 'e%d'" % number for number in range(1000)),
            [A],
            "a: marker that cannot be evaluated, taken as true: extra == ",
        ),
    ],
    ids=["headers", "requirement", "markers"],
)
def test_what_would_take_long_to_read_is_cut_off_and_told(headers, requires, trouble):
    found = read_needs(headers + b"\n\n", TARGETS)
    assert (list({need.name for need in found.requires}), found.troubles[0][: len(trouble)]) == (
        requires,
        trouble,
    )


@given(st.binary(max_size=300))
def test_no_core_metadata_raises(metadata):
    read_needs(b"Metadata-Version: 2.1\nRequires-Dist: " + metadata, TARGETS)


labels = st.lists(st.sampled_from(ALL), min_size=1, unique=True).map(lambda some: tuple(sorted(some)))
some_needs = st.builds(
    Need,
    st.sampled_from(["", "x"]),
    st.sampled_from([A, B, C, D]),
    st.sampled_from([(), ("x",)]),
    st.sampled_from(["", ">=1", "<2"]),
    labels,
)
graphs = st.dictionaries(st.sampled_from([A, B, C, D]), st.lists(some_needs, max_size=4))


@given(st.lists(some_needs, max_size=6))
def test_requirements_are_kept_as_they_are(some):
    joining = Joining()
    for part in (Needs(tuple(some), ("b", "a")), Needs(tuple(some), ("b",))):
        joining.add(part)
    found = joining.needs()
    assert (unpack_needs(pack_needs(found)), found.troubles) == (found, ("b", "a"))
    assert {(need[:4], label) for need in found.requires for label in need.targets} == {
        (need[:4], label) for need in some for label in need.targets
    }


def test_requirements_that_cannot_be_read_from_the_state_are_named():
    with pytest.raises(StorageError, match="what a project requires cannot be read from the state"):
        unpack_needs(b"torn")


# The closure


def test_extras_and_environments_go_along_the_whole_way_and_cycles_end():
    graph = {
        A: [Need("", B, ("x",), ">=1", (str(LINUX),))],
        B: [Need("x", C, (), "<2", ALL), Need("y", D, (), "", ALL), Need("", A, (), "", ALL)],
        C: [Need("", B, (), "<3", (str(LINUX), str(MAC))), Need("", D, (), "==1", (str(WINDOWS),))],
    }
    here = (str(LINUX),)
    assert closure({A: ()}, graph, ALL) == {
        A: Demand(True, (("", here),)),
        B: Demand(False, (("<3", here), (">=1", here))),
        C: Demand(False, (("<2", here),)),
    }
    assert D in closure({A: (), B: ("y",)}, graph, ALL)


def test_very_many_specifiers_of_one_project_stand_for_any_version():
    graph = {A: [Need("", B, (), f"=={number}", (str(LINUX),)) for number in range(1001)]}
    assert closure({A: ()}, graph, ALL)[B] == Demand(False, (("", (str(LINUX),)),))


@given(graphs, st.sets(st.sampled_from([A, B, C, D])), st.sets(st.sampled_from([A, B, C, D])))
def test_a_closure_is_all_that_its_members_require_and_more_roots_never_make_it_smaller(
    graph: Mapping[NormalizedName, list[Need]], some: set[NormalizedName], more: set[NormalizedName]
):
    roots: dict[NormalizedName, tuple[str, ...]] = dict.fromkeys(some, ())
    found = closure(roots, graph, ALL)
    for name in some:
        for need in graph.get(name, ()):
            if not need.extra:
                assert set(need.targets) <= set(dict(found[need.name].specifiers)[need.specifier])
    assert {name for name, demand in found.items() if demand.is_root} == some
    larger = closure({**roots, **dict.fromkeys(more, ())}, graph, ALL)
    for name, demand in found.items():
        for specifier, targets in demand.specifiers:
            assert set(targets) <= set(dict(larger[name].specifiers)[specifier])


# The versions of what is required


def demanding(*specifiers: str, is_root: bool = False) -> Demand:
    return Demand(is_root, tuple((text, (str(LINUX),)) for text in specifiers))


def filters(enabled: str = "", *lines: str, **overrides: str) -> Filters:
    text = f"[mirror]\ndirectory = /srv/pypi\nwith-dependencies = yes\n[environments]\ntargets = {LINUX}\n"
    text += "[plugins]\nenabled =" + "".join(f"\n  {name}" for name in enabled.split())
    return Filters(parse_settings("\n".join([text, *lines]), overrides=overrides).filters)


def file(filename: str, **keys: Any) -> File:
    keys = {key.replace("_", "-"): value for key, value in keys.items()}
    return File(filename, f"https://files.example/{filename}", "sha256", "0" * 64, 1, None, keys)


VERSIONS = ("1.0", "1.5", "2.0", "2.1rc1", "3.0")


def versions_kept(by: Filters, demand: Demand | None, *files: File) -> list[str]:
    listing = Listing(A, files or [file(f"a-{version}-py3-none-any.whl") for version in VERSIONS], None, None, demand)
    narrowed = by.narrow(listing)
    assert narrowed is not None
    return [one.filename.split("-")[1] for one in narrowed.files]


LATEST = ("latest_release", "[latest_release]", "keep = 1")


@pytest.mark.parametrize(
    ("demand", "settings", "expected"),
    [
        (None, (), [*VERSIONS]),
        (demanding("<2"), (), ["1.0", "1.5"]),
        (demanding("<2", ">=3"), (), ["1.0", "1.5", "3.0"]),
        (demanding("<2.5,>2"), (), ["2.1rc1"]),  # as no final version suits
        (demanding(""), (), ["1.0", "1.5", "2.0", "3.0"]),
        (demanding("<2", "<3"), LATEST, ["1.5", "2.0"]),
        (demanding("<2", is_root=True), (), [*VERSIONS]),
        (demanding("<2", is_root=True), LATEST, ["1.5", "3.0"]),
        (demanding("<2"), ("blocklist_release", "[blocklist]", "packages = a==1.5"), ["1.0"]),
        (demanding("<3"), ("allowlist_release", "[allowlist]", "packages = b"), ["1.0", "1.5", "2.0"]),
    ],
)
def test_of_what_is_required_the_versions_stay_that_an_installer_may_choose(demand, settings, expected):
    assert versions_kept(filters(*settings), demand) == expected


def test_a_version_counts_where_it_can_be_installed_and_is_not_yanked_unless_it_is_named():
    files = [
        file("a-1.0-py3-none-any.whl"),
        file("a-2.0-py3-none-any.whl", yanked="broken"),
        file("a-3.0-py3-none-win_amd64.whl"),
        file("a-4.0-py3-none-any.whl", requires_python=">=3.13"),
    ]
    by = filters(*LATEST)
    assert versions_kept(by, demanding(""), *files) == ["1.0"]
    assert versions_kept(by, demanding("==2.0"), *files) == ["2.0"]
    assert versions_kept(by, demanding(">=2"), *files) == []


def test_a_changed_demand_touches_its_project_alone_and_a_root_only_where_versions_are_chosen():
    by, choosing = filters(), filters(*LATEST)
    assert by.digest(A, demanding("<2")) != by.digest(A, demanding("<3"))
    assert by.digest(A, demanding("<2", is_root=True)) == by.digest(A, demanding("<3", is_root=True)) == by.digest(A)
    assert choosing.digest(A, demanding("<2", is_root=True)) != choosing.digest(A, demanding("<3", is_root=True))


def test_dependencies_without_environments_or_without_files_are_refused():
    text = "[mirror]\ndirectory = /srv/pypi\nwith-dependencies = yes\n"
    with pytest.raises(SettingsError, match=r"^FILE: with-dependencies without \[environments\] targets"):
        parse_settings(text, source="FILE")
    text += f"release-files = no\n[environments]\ntargets = {LINUX}"
    with pytest.raises(SettingsError, match="with-dependencies needs the files"):
        parse_settings(text, source="FILE")


def test_the_configuration_that_the_readme_shows_can_be_used_as_it_is():
    text = (ROOT / "README.md").read_text()
    (shown,) = (block for block in re.findall(r"```ini\n(.*?)```", text, re.DOTALL) if "with-dependencies" in block)
    given = parse_settings(shown)
    assert given.warnings == ()
    assert len(given.filters.dependencies_for) == 5
    assert given.filters.extras == (("requests", ("socks",)),)


def test_the_extras_of_both_lists_are_asked_for():
    lines = ["[allowlist]", "packages =", "  a[x]", "  a[Y.z]", "  b"]
    assert parse_settings(
        "\n".join(["[mirror]\ndirectory = /srv/pypi\n[plugins]\nenabled = allowlist_project", *lines])
    ).filters.extras == ((A, ("x", "y-z")),)
