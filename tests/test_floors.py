"""The house keeps its shape: floors, doors, purity and sizes, read from the source with ast alone."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).parents[1] / "fastmirror"

# Bottom to top: a module imports only what stands before it. Not all of them need to exist.
_STOREYS = (
    "__init__ errors names model layout masking markup effective ini",
    "filters.listing filters.versions filters.uploads filters.locks filters.environments filters.releases",
    "filters.platforms filters.metadata filters.plugins filters.filter_settings filters",
    "filters.requirements filters.advisories filters.vocabulary filters.configuration",
    "settings settings_upstream settings_s3 settings_file",
    "dependencies planner weight simple_html simple_entry simple feed legacy summary trends charts",
    "progress display logs bell supervisor",
    "transport transport.rate transport.proxies transport.headers transport.redirects transport.poller",
    "transport.curl transport.session transport.control",
    "s3_bodies s3 objects",
    "channel",
    "packing schema damage state descriptors staging storage web filetree",
    "hidden comparison versions legacy_names lock lastserial nginx_text nginx objecttree backend serving upstream",
    "patience lanes sink sources bodies wheel fetcher hands remote",
    "pages gathering reading checking looking needs project",
    "worker docket processes pool marker guest members wire cluster",
    "history tree lease statecopy holding",
    "shadowmire adoption changes publisher emptied rootindex sweep closure wanted following discovery",
    "removal unowned execution run",
    "mirror verify deletion inquiry doctor signing bundle exporting importing wording",
    "reports events metrics statusstyle statuspage telling configuration interval face commands",
    "offering upkeep airgap cli __main__",
)
FLOORS = tuple(" ".join(_STOREYS).split())

# Values and logic: the same input gives the same output.
PURE = set(FLOORS[: FLOORS.index("charts") + 1]) - {"__init__"} | {"schema", "statusstyle", "statuspage"}
IMPURE_IMPORTS = {"os", "io", "socket", "time", "random", "subprocess", "tempfile", "shutil", "threading"}
IMPURE_IMPORTS |= {"concurrent", "logging", "requests", "sqlite3", "pathlib"}

# Outside library -> the modules that may import it.
DOORS = {
    "pycurl": {"transport.curl", "s3", "s3_bodies"},
    "botocore": {"s3"},
    "requests": {"transport.session"},
    "urllib3": {"transport.session"},
    "sqlite3": {"state", "shadowmire"},
    "typer": {"face", "commands", "offering", "upkeep", "airgap"},
    "tqdm": {"display"},
    "concurrent_log_handler": {"logs"},
    "multiprocessing": {"processes", "pool"},
    "subprocess": {"signing"},
    "prometheus_client": {"metrics"},
    "starlette": {"serving"},
    "uvicorn": {"serving"},
    "orjson": {"simple", "feed", "packing", "history", "upstream", "reports", "bundle", "events"},
    "configparser": {"ini", "settings"},
    "ctypes": {"filetree"},
    "pickle": {"channel"},
    "distributed": {"guest", "wire"},
}

# What only the command line may do.
FACE = {"face", "commands", "offering", "upkeep", "airgap", "cli", "__main__"}
FACE_CALLS = {"print", "exit", "quit", "sys.exit"}
HOST = {"guest"}  # its process is not the command's: it has an environment of its own
ENVIRONMENT = {"os.environ", "os.environb", "os.getenv", "os.getenvb"}

LONGEST_MODULE = 350
LONGEST_FUNCTION = 60


class Import(NamedTuple):
    """One imported module: ``name`` is below the package if ``own``, else an outside library's first part."""

    name: str
    own: bool
    line: int


def module_name(path: Path) -> str:
    """``transport/curl.py`` -> ``transport.curl``; a package goes by its own name."""
    parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
    if len(parts) > 1 and parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def imports(tree: ast.Module) -> Iterator[Import]:
    """Every import, also those under TYPE_CHECKING and inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            names = ["fastmirror." + "." * node.level + (node.module or "")]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            names = [
                f"{base}.{alias.name}" if f"{base}.{alias.name}".removeprefix("fastmirror.") in FLOORS else base
                for alias in node.names
            ]
        else:
            continue
        for name in names:
            first, _, rest = name.partition(".")
            own = first == "fastmirror"
            yield Import((rest or "__init__") if own else first, own, node.lineno)


def dotted(node: ast.AST) -> str:
    """``a.b`` for a name or an attribute of a name, else nothing."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return ""


def import_problems(module: str, tree: ast.Module) -> Iterator[str]:
    """Upward imports, second doors, and impure imports in values and logic."""
    below = FLOORS[: FLOORS.index(module)]
    for name, own, line in imports(tree):
        if own and name not in below:
            yield f"{module}:{line}: imports {name}, which does not stand below it"
        if not own and module not in DOORS.get(name, {module}):
            yield f"{module}:{line}: imports {name}, whose door is {' and '.join(sorted(DOORS[name]))}"
        if not own and module in PURE and name in IMPURE_IMPORTS:
            yield f"{module}:{line}: is pure, and imports {name}"


def face_problems(module: str, tree: ast.Module) -> Iterator[str]:
    """Prints, exits and looks at the environment outside the command line."""
    if module in FACE:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and dotted(node.func) in FACE_CALLS:
            yield f"{module}:{node.lineno}: calls {dotted(node.func)}"
        elif isinstance(node, ast.Name) and node.id == "SystemExit":
            yield f"{module}:{node.lineno}: names SystemExit"
        elif isinstance(node, ast.Attribute) and dotted(node) in ENVIRONMENT and module not in HOST:
            yield f"{module}:{node.lineno}: reads {dotted(node)}"
        elif isinstance(node, ast.ImportFrom) and not node.level:
            taken = {f"{node.module}.{alias.name}" for alias in node.names} & (ENVIRONMENT | {"sys.exit"})
            yield from (f"{module}:{node.lineno}: takes {name}" for name in sorted(taken))


def size_problems(module: str, source: str, tree: ast.Module) -> Iterator[str]:
    """Modules and functions that grew too long."""
    lines = source.count("\n")
    if lines > LONGEST_MODULE:
        yield f"{module}: {lines} lines, more than {LONGEST_MODULE}"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > LONGEST_FUNCTION:
                yield f"{module}:{node.lineno}: {node.name} has {length} lines, more than {LONGEST_FUNCTION}"


def problems(module: str, source: str) -> list[str]:
    """Everything about one module that breaks the house's rules."""
    if module not in FLOORS:
        return [f"{module}: stands on no floor"]
    tree = ast.parse(source)
    return [
        *import_problems(module, tree),
        *face_problems(module, tree),
        *size_problems(module, source, tree),
    ]


@pytest.mark.parametrize("path", [pytest.param(path, id=module_name(path)) for path in sorted(PACKAGE.rglob("*.py"))])
def test_module_keeps_to_the_house(path: Path) -> None:
    assert problems(module_name(path), path.read_text()) == []


def test_doors_and_pure_modules_stand_on_floors() -> None:
    assert set().union(PURE, FACE, *DOORS.values()) <= set(FLOORS)


@pytest.mark.parametrize(
    ("module", "source", "said"),
    [
        ("planner", "from fastmirror.state import State", "imports state, which does not stand below"),
        ("planner", "from fastmirror import state", "imports state, which does not stand below"),
        ("planner", "import fastmirror.mirror", "imports mirror, which does not stand below"),
        ("model", "if TYPE_CHECKING:\n    from fastmirror.layout import Tree", "imports layout"),
        ("transport", "def choose():\n    from fastmirror.transport.curl import Curl", "imports transport.curl"),
        ("transport.curl", "from . import session", "does not stand below"),
        ("simple", "from fastmirror.simple import parse", "imports simple, which does not stand below"),
        ("worker", "import pycurl", "whose door is s3 and s3_bodies and transport.curl"),
        ("state", "from requests.adapters import HTTPAdapter", "whose door is transport.session"),
        ("storage", "def run():\n    import multiprocessing.connection", "whose door is pool"),
        ("planner", "import time", "is pure, and imports time"),
        ("filters", "from os.path import join", "is pure, and imports os"),
        ("mirror", "print('done')", "calls print"),
        ("worker", "import sys\nsys.exit(1)", "calls sys.exit"),
        ("worker", "raise SystemExit(1)", "names SystemExit"),
        ("logs", "import os\nhome = os.environ['HOME']", "reads os.environ"),
        ("logs", "from os import getenv", "takes os.getenv"),
        ("utils", "", "stands on no floor"),
        ("planner", "\n" * 351, "351 lines"),
        ("planner", "def plan():\n" + "    pass\n" * 60, "plan has 61 lines"),
    ],
)
def test_checker_catches_what_breaks_the_house(module: str, source: str, said: str) -> None:
    found = problems(module, source)
    assert len(found) == 1
    assert said in found[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("planner", "from fastmirror import __version__\nfrom fastmirror.model import File\nimport bisect"),
        ("transport.session", "import requests\nfrom fastmirror.transport import Transport"),
        ("cli", "import os\nprint(os.environ)"),
        ("worker", "from fastmirror import layout, names\nfrom fastmirror.transport.curl import CurlTransport"),
        ("planner", "\n" * 350),
    ],
)
def test_checker_lets_the_rest_pass(module: str, source: str) -> None:
    assert problems(module, source) == []
