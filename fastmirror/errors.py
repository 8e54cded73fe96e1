"""The error tree, each class with the exit status that it gives a run.

MirrorError                1   something failed; the base of all of them
├ SettingsError            2   the operator can mend it: file, line, key, accepted values
├ MirrorLocked             3   another run holds the mirror
├ UpstreamError            5   the upstream as a whole is unusable
├ ClusterError             5   the cluster that is to do the work is: no scheduler, no worker
├ StorageError             6   the disk is full, read-only or broken
│ └ StateDamaged               the state's file is no database any more
├ Interrupted        130/143   a signal ended the run, drained and recorded
├ InvalidName                  a project's name that is none
└ PageError                    a project's page that cannot be used; the project keeps its old page

Facts are positional and reach ``super().__init__``, so that every error survives pickling.
"""

from __future__ import annotations

import errno


class MirrorError(Exception):
    """Base of all errors that fastmirror raises on purpose; its text is for a person."""

    exit_status = 1


class SettingsError(MirrorError):
    """A setting that cannot be used."""

    exit_status = 2


class MirrorLocked(MirrorError):
    """Another run holds the mirror: (directory, who holds it)."""

    exit_status = 3

    def __str__(self) -> str:
        directory, holder = self.args
        return f"another run holds {directory}: {holder}"


class UpstreamError(MirrorError):
    """The upstream as a whole cannot be used; nothing was changed."""

    exit_status = 5


class ClusterError(MirrorError):
    """Nobody is there to do the work: no scheduler, or no worker that can take part."""

    exit_status = 5


class StorageError(MirrorError):
    """The disk refuses: full, read-only, failing."""

    exit_status = 6


class StateDamaged(StorageError):
    """The state's file is no database any more."""


class Interrupted(MirrorError):
    """A signal ended the run: (signal number)."""

    def __str__(self) -> str:
        return f"interrupted by signal {self.args[0]}"

    @property
    def signal_status(self) -> int:
        """Exit status by the shell's convention: 128 + signal."""
        return 128 + int(self.args[0])


class InvalidName(MirrorError):
    """Not a project name: (the offending name)."""

    def __str__(self) -> str:
        return f"invalid project name: {self.args[0]!r:.120}"


class PageError(MirrorError):
    """A project's page that cannot be used."""


# What the system says when no other file would fare better: the run stops.
_STORAGE_ERRNOS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE}
)


# What the disk says when this file is not ours to touch.
_ACCESS_ERRNOS = frozenset({errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG})


def is_access_failure(error: OSError) -> bool:
    """Whether this error speaks of permissions or of something in the way: the operator can mend it."""
    return error.errno in _ACCESS_ERRNOS


def is_storage_failure(error: OSError | StorageError) -> bool:
    """Whether this error is the storage's as a whole, so that the run must stop (exit 6)."""
    return isinstance(error, StorageError) or error.errno in _STORAGE_ERRNOS
