"""What the operator chose to mirror, by name, by lists, or all; and with it what that requires."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastmirror.closure import Closure
    from fastmirror.filters import Filters
    from fastmirror.names import NormalizedName
    from fastmirror.state import State

# Up to so many projects that are known by name are asked for one by one; the root index is not fetched.
ASKED_ONE_BY_ONE = 500


class Wanted(NamedTuple):
    """What the operator chose to mirror."""

    names: frozenset[NormalizedName] | None  # known by name; None: whatever upstream lists
    by_command: bool  # named on the command line: nothing else is touched
    required: frozenset[NormalizedName] = frozenset()  # of the names: those that only others require

    @property
    def needs_root(self) -> bool:
        """Whether the root index has to be asked for."""
        return self.names is None or len(self.names) > ASKED_ONE_BY_ONE

    @property
    def own(self) -> frozenset[NormalizedName]:
        """The names that were chosen themselves."""
        return (self.names or frozenset()) - self.required


def wanted(filters: Filters, projects: Iterable[NormalizedName], state: State | None, closure: Closure) -> Wanted:
    """The names given on the command line, else those of an allowlist and of earlier command lines, else all.

    What they require comes with them, where that is asked for.
    """
    chosen = frozenset(projects)
    if chosen:
        return Wanted(chosen | closure.required, by_command=True, required=closure.required - chosen)
    if filters.names is None:
        return Wanted(None, by_command=False)
    own = filters.names | (state.wanted_by_name() if state is not None else set())
    return Wanted(own | closure.required, by_command=False, required=closure.required - own)
