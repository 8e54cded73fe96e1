"""The table of cases has every filter and every option that the installed bandersnatch has."""

from __future__ import annotations

import configparser
import subprocess
from typing import TYPE_CHECKING

from tests.parity.filters import FILTERS
from tests.parity.options import OPTIONS

if TYPE_CHECKING:
    from tests.parity.beside import Bandersnatch

# What bandersnatch itself says that it has.
_FILTERS = """
import importlib.metadata
for point in importlib.metadata.distribution("bandersnatch").entry_points:
    if "filter_plugins" in point.group:
        print(point.name)
"""
_OPTIONS = """
import configparser, importlib.resources
config = configparser.ConfigParser(delimiters="=", interpolation=None)
config.optionxform = str
config.read_string((importlib.resources.files("bandersnatch") / "defaults.conf").read_text())
print(*config["mirror"], sep="\\n")
"""
_ALSO = {"directory", "keep_index_versions"}  # have no default
_ELSEWHERE = {"proxy", "stop-on-error"}  # in test_together.py


def _configurations() -> list[configparser.ConfigParser]:
    parsed = []
    for case in (*OPTIONS, *FILTERS):
        config = configparser.ConfigParser(delimiters="=", interpolation=None)
        config.optionxform = str  # type: ignore[assignment, method-assign]
        config.read_string(case.configuration())
        parsed.append(config)
    return parsed


def test_every_filter_has_a_case(bandersnatch: Bandersnatch) -> None:
    enabled = {name for config in _configurations() for name in config.get("plugins", "enabled", fallback="").split()}
    assert set(_said(bandersnatch, _FILTERS)) - enabled == set()


def test_every_option_has_a_case(bandersnatch: Bandersnatch) -> None:
    given = {name for config in _configurations() for name in config["mirror"]} | _ELSEWHERE
    assert (set(_said(bandersnatch, _OPTIONS)) | _ALSO) - given == set()


def test_every_case_has_a_name_of_its_own() -> None:
    names = [case.name for case in (*OPTIONS, *FILTERS)]
    assert len(names) == len(set(names))


def _said(bandersnatch: Bandersnatch, program: str) -> list[str]:
    ended = subprocess.run([bandersnatch.python, "-c", program], capture_output=True, text=True, check=True)
    return ended.stdout.split()
