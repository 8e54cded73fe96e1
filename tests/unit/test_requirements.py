"""Requirement files as they exist in the field: what is read from them, and how their mistakes are named."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmirror.errors import SettingsError
from fastmirror.filters.requirements import Files, read_requirements


def listed(content: str | bytes, path: str = "reqs/r.txt", **others: str) -> tuple[list[tuple[str, str]], list[str]]:
    """(Names and specifiers, warnings) of a file; `others` lie beside it, each named as its keyword with .txt."""
    raw = content if isinstance(content, bytes) else content.encode()
    contents = {path: raw} | {f"reqs/{name}.txt": text.encode() for name, text in others.items()}

    def read(name: str) -> bytes:
        if name not in contents:
            raise FileNotFoundError(2, "No such file or directory", name)
        return contents[name]

    warnings: list[str] = []
    found = read_requirements(path, Files(read, lambda pattern: [pattern]), "FILE:7", warnings)
    return sorted((one.name, one.specifier) for one in found), warnings


def refusal(content: str | bytes, path: str = "reqs/r.txt", **others: str) -> str:
    with pytest.raises(SettingsError) as caught:
        listed(content, path, **others)
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Six", ("six", "")),
        ("six==1.16  # why", ("six", "==1.16")),
        ("six[extra]>=1 ; python_version < '3'", ("six", ">=1")),
        (f"six==1.16 --hash=sha256:{'0' * 64} --hash=sha256:{'1' * 64}", ("six", "==1.16")),
        (f"six==1.16 \\\n    --hash=sha256:{'0' * 64} \\\n    --hash=sha256:{'1' * 64}", ("six", "==1.16")),
        ("six \\\n  ==1.16", ("six", "==1.16")),
    ],
)
def test_a_requirement_is_read_past_its_options_extras_markers_and_line_ends(line, expected):
    assert listed(f"# head\r\n\n{line}\n--index-url https://index.example\n-i x\n--pre\n") == ([expected], [])


@pytest.mark.parametrize(
    "line",
    [
        *("git+https://git.example/six.git@main#egg=six", "https://files.example/six.zip", "file:///srv/six.zip"),
        *("./six", "../six", ".", ".[test]", "/srv/six", "sub/six", "six-1.0-py3-none-any.whl", "-e .", "-e ./six"),
        *("--editable git+ssh://git@git.example/six", "-r https://req.example/r.txt"),
    ],
)
def test_what_is_of_no_index_is_skipped_with_a_warning(line):
    found, warnings = listed(f"ruff\n{line}\n")
    assert found == [("ruff", "")]
    assert len(warnings) == 1
    assert warnings[0].startswith("reqs/r.txt:2: ")


def test_included_files_are_read_from_beside_the_including_one():
    other = "-r ../reqs/last.txt\nruff==1\n"
    assert listed("-r other.txt\nsix", other=other, last="idna")[0] == [("idna", ""), ("ruff", "==1"), ("six", "")]
    for option in ("-rother.txt", "--requirement other.txt", "--requirement=other.txt", "-r 'other.txt'"):
        assert listed(option, other="ruff")[0] == [("ruff", "")]


@pytest.mark.parametrize("target", ["r.txt", "../reqs/r.txt", "./r.txt", "other.txt"])
def test_files_that_include_each_other_are_read_once(target):
    assert listed(f"-r {target}\nsix", other="-r ../reqs/r.txt")[0] == [("six", "")]


def test_a_constraint_narrows_what_is_required():
    found, _ = listed("-c other.txt\nsix>=1\nruff", other="six<2\nruff==3\nidna==1")
    assert found == [("ruff", "==3"), ("six", ">=1,<2")]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfsix  # \xc3\xa9",
        "six  # é".encode("utf-16"),
        b"\xff\xfe" + "six".encode("utf-16-le"),
        b"\xfe\xff" + "six".encode("utf-16-be"),
        b"# -*- coding: cp1252 -*-\nsix  # \x80",
        b"six  # \xe9",
    ],
)
def test_the_encoding_is_told_by_mark_by_declaration_or_by_trial(content):
    assert listed(content) == ([("six", "")], [])


UV_LOCK = """
version = 1
[[package]]
name = "mine"
version = "0.1"
source = { editable = "." }
[[package]]
name = "Six"
version = "1.16.0"
source = { registry = "https://index.example/simple" }
[[package]]
name = "ruff"
version = "1.0"
source = { git = "https://git.example/ruff" }
"""


def test_uv_lock_pins_what_comes_from_an_index():
    found, warnings = listed(UV_LOCK, "reqs/uv.lock")
    assert found == [("six", "==1.16.0")]
    assert warnings == ["reqs/uv.lock:12: 'ruff': from elsewhere than an index, skipped"]


@pytest.mark.parametrize("path", ["reqs/pylock.toml", "reqs/pylock.dev.toml"])
def test_pylock_pins_what_comes_from_an_index(path):
    lock = 'lock-version = "1.0"\n[[packages]]\nname = "six"\nversion = "1"\n[[packages]]\nname = "ruff"\nvcs = {}\n'
    found, warnings = listed(lock, path)
    assert found == [("six", "==1")]
    assert warnings == [f"{path}:6: 'ruff': from elsewhere than an index, skipped"]


@pytest.mark.parametrize(
    ("content", "path", "said"),
    [
        ("six\n\nsix >= \n", "reqs/r.txt", "reqs/r.txt:3: 'six >=': expected a requirement"),
        ("python=3.8", "reqs/r.txt", "reqs/r.txt:1: 'python=3.8': expected a requirement"),
        ("six\n-r absent.txt", "reqs/r.txt", "reqs/r.txt:2: cannot read 'reqs/absent.txt': No such file"),
        ("-r other.txt", "reqs/r.txt", "reqs/other.txt:2: '=': expected a requirement"),
        ("x = 1\ny =\nz = 1", "reqs/uv.lock", "reqs/uv.lock:2: not a lock file: "),
        ("version = 1", "reqs/uv.lock", "reqs/uv.lock:1: not a lock file: no list of packages"),
        ('\n[[package]]\nname = "six"\nversion = "?"', "reqs/uv.lock", "reqs/uv.lock:3: 'six==?': expected"),
    ],
)
def test_a_mistake_is_named_with_the_file_and_line_where_it_stands(content, path, said):
    assert refusal(content, path, other="six\n=\n").startswith(said)


def test_a_file_that_is_not_there_is_named_with_the_line_that_names_it():
    def read(path: str) -> bytes:
        raise FileNotFoundError(2, "No such file or directory", path)

    with pytest.raises(SettingsError, match=r"^FILE:7: cannot read 'r.txt': No such file or directory$"):
        read_requirements("r.txt", Files(read, lambda pattern: [pattern]), "FILE:7", [])


@given(st.binary() | st.text().map(str.encode), st.sampled_from(["r.txt", "uv.lock", "pylock.toml"]))
def test_nothing_but_a_settings_error_comes_of_arbitrary_bytes(content, name):
    with suppress(SettingsError):
        listed(content, f"reqs/{name}")


def test_a_path_that_no_file_can_have_and_a_coding_that_is_no_text_are_no_bugs():
    with pytest.raises(SettingsError, match=r"^w: cannot read 'a.*b': embedded null byte$"):
        read_requirements("a\0b", Files(lambda path: Path(path).read_bytes(), lambda path: [path]), "w", [])
    for coding in ("hex", "undefined", "idna", "nonsense"):
        assert listed(f"# coding: {coding}\nsix")[0] == [("six", "")]


@pytest.mark.parametrize(
    "line",
    [f"six>={'9' * 5000}", f"six=={'9' * 5000}.*", f"six!=1,<{'9' * 5000}"],
    ids=["at least", "any of", "below"],
)
def test_a_version_of_more_digits_than_python_reads_is_refused_with_its_line(line: str) -> None:
    assert refusal(f"ruff\n{line}\n").startswith("reqs/r.txt:2: 'six")


def test_a_lock_file_with_a_number_of_more_digits_than_python_reads_is_refused() -> None:
    assert refusal(f"version = {'9' * 5000}\n", "uv.lock").startswith("uv.lock:1: not a lock file: Exceeds the limit")
