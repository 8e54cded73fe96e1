"""Cases for the filters."""

from __future__ import annotations

from tests.parity.beside import Case, Step
from tests.parity.differences import ABSENT, ANY, Difference
from tests.parity.upstreams import PRERELEASES, described, emptied, grow, platforms, releases, unparsable, varied

_UNFETCHED_ROOT = (
    "the projects are known by name, the root index is not fetched, and the serial is theirs, not the whole upstream's"
)
_PRERELEASE = "a pre-release by PEP 440, which bandersnatch's four patterns do not know"
_DISPLAY_NAME = "bandersnatch compares the list with display names, so that `duckdb` never is DuckDB"


def _only_theirs(project: str, why: str, *versions: str) -> list[Difference]:
    """Versions of a project that bandersnatch keeps and fastmirror does not; each must be found."""
    return [
        Difference(glob, ANY, ABSENT, why)
        for version in versions
        for glob in (
            f"packages/*/{project}-{version}[.-][tp]*/",
            f"simple/{project}/index.html/*-{version}[.-][tp]*/",
            f"simple/{project}/index.v1_json/*-{version}[.-][tp]*/",
            f"simple/{project}/index.v1_json/version {version}/",
        )
    ]


def _plugins(*names: str) -> str:
    return "[plugins]\nenabled =\n" + "".join(f"    {name}\n" for name in names)


def _listed(section: str, key: str, *lines: str) -> str:
    return f"[{section}]\n{key} =\n" + "".join(f"    {line}\n" for line in lines)


_PROJECTS = (
    Case(
        "allowlist_project",
        varied,
        sections=_plugins("allowlist_project")
        + _listed("allowlist", "packages", "demo-PKG_one", "zope.interface>=8  # any version", "# A", "A_1", "absent"),
        steps=(Step(), Step(upstream=grow)),
        differences=(
            Difference("exit status/*", 0, 1, "a name that upstream does not have is told"),
            Difference("status", "1021", "1018", _UNFETCHED_ROOT),
        ),
    ),
    Case("allowlist_project without a list", varied, sections=_plugins("allowlist_project"), keeps_all=True),
    Case(
        "blocklist_project",
        varied,
        sections=_plugins("blocklist_project")
        + _listed("blocklist", "packages", "Demo.Pkg.One", "odd>=0", "zope.interface[test]", "shared-a", "# A", "late"),
        steps=(Step(), Step(upstream=grow)),
    ),
    Case(
        "allowlist_project and blocklist_project",
        varied,
        sections=_plugins("allowlist_project", "blocklist_project")
        + _listed("allowlist", "packages", "A", "odd", "a-1")
        + _listed("blocklist", "packages", "odd"),
        differences=(Difference("status", "1017", "1008", _UNFETCHED_ROOT),),
    ),
    Case(
        "regex_project",
        varied,
        sections=_plugins("regex_project") + _listed("filter_regex", "packages", r"Demo.+O", r".*-\w$", "interface"),
    ),
    Case(
        "project_requirements, project_requirements_pinned",
        releases,
        sections=_plugins("project_requirements", "project_requirements_pinned")
        + "[allowlist]\nrequirements_path = {home}/lists\n"
        + "requirements =\n    one.txt\n    more-*.txt\n",
        files={
            "lists/one.txt": "# pinned\nSorted==1.10 # and why\n\nDuckDB[extra]>=1,<2 ; python_version > '3'\n",
            "lists/more-1.txt": "epochs\n",
            "lists/less-1.txt": "reversed\n",
        },
    ),
    Case(
        "project_requirements without pins",
        releases,
        sections=_plugins("project_requirements")
        + "[allowlist]\nrequirements_path = {home}/lists\nrequirements = one.txt\n",
        files={"lists/one.txt": "Sorted==1.10\none\n"},
        differences=(Difference("status", "1057", "1054", _UNFETCHED_ROOT),),
    ),
    Case(
        "project_requirements_pinned passes by the other filters of releases",
        releases,
        sections=_plugins("project_requirements_pinned", "prerelease_release", "latest_release")
        + "[allowlist]\nrequirements_path = {home}/lists\nrequirements = one.txt\n[latest_release]\nkeep = 1\n",
        files={"lists/one.txt": "Sorted==2.0a1\nDuckDB\n"},
    ),
)

_RELEASES = (
    Case(
        "allowlist_release",
        releases,
        sections=_plugins("allowlist_release")
        + _listed("allowlist", "packages", "sorted>=1.9,<2.0", "sorted==0.9", "DuckDB", "epochs>2"),
    ),
    Case(
        "allowlist_release with versions that are not PEP 440's",
        unparsable,
        sections=_plugins("allowlist_release") + _listed("allowlist", "packages", "old", "older"),
    ),
    Case(
        "blocklist_release",
        releases,
        sections=_plugins("blocklist_release")
        + _listed("blocklist", "packages", "Sorted>=1.9,<2.1", "duckdb===2.0rc1", "reversed", "epochs<5"),
    ),
    Case(
        "blocklist_release with versions that are not PEP 440's",
        unparsable,
        sections=_plugins("blocklist_release") + _listed("blocklist", "packages", "old>0"),
    ),
    Case(
        "regex_release",
        releases,
        sections=_plugins("regex_release") + _listed("filter_regex", "releases", r".+rc\d$", r"1\.", r"!"),
    ),
    Case(
        "prerelease_release",
        releases,
        sections=_plugins("prerelease_release"),
        differences=(*_only_theirs("*", _PRERELEASE, "2.1b1.post2"),),
    ),
    Case(
        "prerelease_release for some",
        releases,
        sections=_plugins("prerelease_release") + _listed("filter_prerelease", "packages", "duckdb", "reversed"),
        differences=(
            *_only_theirs("duckdb", _DISPLAY_NAME, *PRERELEASES),
            *_only_theirs("reversed", _PRERELEASE, "2.1b1.post2"),
        ),
    ),
    Case("latest_release", releases, sections=_plugins("latest_release") + "[latest_release]\nkeep = 3\n"),
    Case("latest_release of one", releases, sections=_plugins("latest_release") + "[latest_release]\nkeep = 1\n"),
    Case(
        "latest_release by time",
        releases,
        sections=_plugins("latest_release") + "[latest_release]\nkeep = 2\nsort_by = time\n",
    ),
    Case(
        "latest_release with versions that are not PEP 440's",
        unparsable,
        since=8,
        sections=_plugins("latest_release") + "[latest_release]\nkeep = 2\n",
    ),
    Case(
        "latest_release and exclude_platform",
        emptied,
        sections=_plugins("latest_release", "exclude_platform")
        + "[latest_release]\nkeep = 2\n[blocklist]\nplatforms = windows\n",
    ),
    Case(
        "latest_release and prerelease_release",
        releases,
        sections=_plugins("latest_release", "prerelease_release") + "[latest_release]\nkeep = 2\n",
    ),
)

_FILES = tuple(
    Case(
        f"exclude_platform {tag}",
        platforms,
        sections=_plugins("exclude_platform") + f"[blocklist]\nplatforms = {tag}\n",
        since=since,
    )
    for tag, since in (
        ("windows", 8),
        ("macos", 6),
        ("freebsd", 6),
        ("linux", 8),
        ("py2", 6),
        ("py3", 6),
        ("py2.7 py3.9", 6),
        ("Py3.13 win_arm64", 8),
        ("manylinux2014_aarch64 musllinux py3.14", 8),
        ("macosx win py3.99 any", 8),
    )
)

_METADATA = (
    Case(
        "size_project_metadata",
        described,
        sections=_plugins("size_project_metadata")
        + "[size_project_metadata]\nmax_package_size = 5 kB\n"
        + _listed("allowlist", "packages", "exempt-one"),
    ),
    Case(
        "versions_count_project_metadata",
        described,
        since=8,
        sections=_plugins("versions_count_project_metadata")
        + "[versions_count_project_metadata]\nmin_versions = 2\nmax_versions = 5\n"
        + _listed("allowlist", "packages", "exempt-one"),
    ),
    Case(
        "regex_project_metadata",
        described,
        sections=_plugins("regex_project_metadata")
        + _listed("regex_project_metadata", "any:info.classifiers", ".*Games.*", "Topic :: Sports"),
    ),
    Case(
        "regex_project_metadata, all and none",
        described,
        sections=_plugins("regex_project_metadata")
        + _listed("regex_project_metadata", "all:info.classifiers", "Topic :: Games", "Programming.*3")
        + "none:info.license =\n    GPL.*\nnot-null:info.keywords =\n    .+\n",
    ),
    Case(
        "regex_project_metadata, by the start",
        described,
        sections=_plugins("regex_project_metadata")
        + _listed("regex_project_metadata", "match-null:info.keywords", "fun"),
    ),
    Case(
        "regex_project_metadata, searched",
        described,
        sections=_plugins("regex_project_metadata")
        + _listed("regex_project_metadata", "not-null:info.keywords", "fun")
        + "search = true\n",
        since=8,
    ),
    Case(
        "regex_release_file_metadata",
        platforms,
        sections=_plugins("regex_release_file_metadata")
        + _listed("regex_release_file_metadata", "any:release_file.packagetype", "sdist", "bdist_wheel")
        + "none:release_file.filename =\n    .*win\n",
    ),
    Case(
        "version_range_release_file_metadata",
        described,
        sections=_plugins("version_range_release_file_metadata")
        + _listed("version_range_release_file_metadata", "any:release_file.requires_python", "3.6", "2.7"),
    ),
)

FILTERS = (*_PROJECTS, *_RELEASES, *_FILES, *_METADATA)
