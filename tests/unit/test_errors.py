from __future__ import annotations

import errno
import importlib
import pickle
import pkgutil
from typing import TYPE_CHECKING

import pytest

import fastmirror
from fastmirror.errors import (
    Interrupted,
    InvalidName,
    MirrorError,
    MirrorLocked,
    PageError,
    SettingsError,
    StorageError,
    UpstreamError,
    is_storage_failure,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

# The facts of those that do not take one text.
FACTS: dict[type[MirrorError], tuple[object, ...]] = {
    MirrorLocked: ("/srv/pypi", "process 7, since 2026-01-02T03:04:05+00:00"),
    Interrupted: (15,),
    InvalidName: ("../six",),
}


def every_class(base: type[MirrorError] = MirrorError) -> Iterator[type[MirrorError]]:
    """The whole tree, with what other modules of the package hang into it."""
    yield base
    for kind in base.__subclasses__():
        yield from every_class(kind)


for found in pkgutil.walk_packages(fastmirror.__path__, "fastmirror."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
CLASSES = sorted(set(every_class()), key=lambda kind: kind.__qualname__)


def example(kind: type[MirrorError]) -> MirrorError:
    return kind(*FACTS.get(kind, ("what is wrong (which part): 'value'",)))


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_survives_pickling(kind):
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        error = example(kind)
        copy = pickle.loads(pickle.dumps(error, protocol))
        assert type(copy) is kind
        assert copy.args == error.args
        assert str(copy) == str(error)
        assert copy.exit_status == error.exit_status


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_words_itself_from_its_facts(kind):
    error = example(kind)
    assert str(error)
    assert "\n" not in str(error)
    for fact in error.args:
        assert str(fact) in str(error)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_says_in_its_docstring_what_it_is(kind):
    assert kind.__doc__


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (MirrorError, 1),
        (SettingsError, 2),
        (MirrorLocked, 3),
        (UpstreamError, 5),
        (StorageError, 6),
        (InvalidName, 1),
        (PageError, 1),
    ],
)
def test_a_class_gives_a_run_its_exit_status(kind, status):
    assert example(kind).exit_status == status


@pytest.mark.parametrize(("number", "status"), [(2, 130), (15, 143)])
def test_an_interruption_ends_with_the_shells_status_of_its_signal(number, status):
    assert Interrupted(number).signal_status == status
    assert str(Interrupted(number)) == f"interrupted by signal {number}"


def test_a_lock_names_the_directory_and_its_holder():
    assert str(MirrorLocked("/srv/pypi", "process 7")) == "another run holds /srv/pypi: process 7"


@pytest.mark.parametrize("raw", ["x" * 10_000, None, ["six"] * 5000, "\ud800", "a\nb\x1b[31m"])
def test_a_refused_name_is_quoted_in_one_printable_bounded_line(raw):
    said = str(InvalidName(raw))
    assert len(said) < 160
    assert said.isprintable()
    said.encode()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE])
def test_a_full_or_failing_disk_is_a_failure_of_the_storage_as_a_whole(code):
    assert is_storage_failure(OSError(code, "said by the disk"))


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ENAMETOOLONG, errno.EEXIST, None])
def test_trouble_with_one_path_is_no_failure_of_the_storage(code):
    assert not is_storage_failure(OSError(code, "said by the system"))
