"""The projects that others require, where dependencies are mirrored too: as the state knows them, run by run.

What a project's files require is recorded with its pages. A run does what is demanded now and is not held so,
again and again until nothing new comes up; then what nothing demands any more may leave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fastmirror.packing import unpack_needs
from fastmirror.summary import Gap

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastmirror.filters import Filters, FilterSettings
    from fastmirror.model import Demand, Needs
    from fastmirror.names import NormalizedName
    from fastmirror.state import State


_ROWS = "select name, settings_digest, outcome, page_digest from project"
_NOT_WHOLE = frozenset({"failed", "partial", "damaged"})
_SHOWN = 3  # of those that require a project


class _Row(NamedTuple):
    """What the state says of a project."""

    settings_digest: str
    outcome: str
    page_digest: str


class Closure:
    """The dependencies of what is mirrored for itself; without effect where they are not asked for."""

    def __init__(
        self,
        settings: FilterSettings,
        filters: Filters,
        state: State | None,
        named: Iterable[NormalizedName],
        base: str,
    ) -> None:
        """`named` are the projects of the command line, `base` the digest of what shapes every page."""
        self._settings = settings
        self._filters = filters
        self._state = state
        self._named = frozenset(named)
        self.base = base
        # Where every project is mirrored, all that others require is.
        self._is_on = bool(settings.dependencies_for) and (filters.names is not None or bool(self._named))
        self._needs: dict[NormalizedName, Needs] = {}
        self._rows: dict[NormalizedName, _Row] = {}
        self._unwanted: set[NormalizedName] = set()
        self._done: dict[NormalizedName, Demand] = {}
        self.demands: dict[NormalizedName, Demand] = {}  # of what is mirrored for itself, and of what that requires
        self.dependencies: frozenset[NormalizedName] = frozenset()  # of these: mirrored for others alone
        self.required: frozenset[NormalizedName] = frozenset()  # of these: by what this command is about
        self._scope: frozenset[NormalizedName] = frozenset()  # of all: what this command is about
        self.refresh()

    def __bool__(self) -> bool:
        return self._is_on

    def refresh(self) -> None:
        """Go by what the state holds now."""
        if not self._is_on:
            return
        state = self._state
        if state is not None:
            self._needs = {name: unpack_needs(packed) for name, packed in state.select("select * from needs")}
            self._rows = {name: _Row(*row) for name, *row in state.select(_ROWS)}
            self._unwanted = {name for (name,) in state.select("select name from unwanted")}
        roots = (self._filters.names or frozenset()) | self._named
        if state is not None:
            roots |= state.wanted_by_name()
        self.demands = self._closure_of(roots)
        self._scope = frozenset(self._closure_of(self._named) if self._named else self.demands)
        self.dependencies = frozenset(
            name
            for name, demand in self.demands.items()
            if not demand.is_root and name not in self._unwanted and not self._filters.bars(name)
        )
        self.required = self.dependencies & self._scope

    def _closure_of(self, roots: Iterable[NormalizedName]) -> dict[NormalizedName, Demand]:
        from fastmirror.dependencies import closure  # takes its time, and few ask for it

        extras = dict(self._settings.extras)
        requires = {name: needs.requires for name, needs in self._needs.items()}
        targets = [str(target) for target in self._settings.dependencies_for]
        return closure({name: extras.get(name, ()) for name in roots}, requires, targets)

    def shape(self, name: NormalizedName) -> str:
        """The settings digest that a project's row is to have."""
        return self._filters.shape(self.base, name, self.demands.get(name))

    def missing(self) -> dict[NormalizedName, int | None]:
        """The projects that are not held as they are demanded now, but for those that were tried so already.

        What has failed is tried again when its time has come, as any other project.
        """
        return {name: None for name in sorted(self._scope) if self._is_missing(name, self.demands[name])}

    def _is_missing(self, name: NormalizedName, demand: Demand) -> bool:
        if self._done.get(name) == demand or not (demand.is_root or name in self.dependencies):
            return False
        row = self._rows.get(name)
        if row is None:
            return not demand.is_root
        if row.outcome == "failed":
            return False
        is_read = not row.page_digest or name in self._needs
        return not is_read or row.settings_digest != self.shape(name)

    def tried(self, names: Iterable[NormalizedName]) -> None:
        """These were done, or tried, as they are demanded now."""
        self._done.update((name, self.demands[name]) for name in names if name in self.demands)

    def surplus(self) -> list[NormalizedName]:
        """The projects held that nothing demands any more."""
        if not self._is_on or self._filters.names is None:
            return []
        return [
            name
            for name in sorted(self._rows)
            if name in self._unwanted
            or not (name in self.dependencies or (name in self.demands and self.demands[name].is_root))
        ]

    @property
    def is_failing(self) -> bool:
        """Whether something that is demanded is not whole: what it requires may not be known."""
        return any(row.outcome in _NOT_WHOLE for name, row in self._rows.items() if name in self.demands)

    def gaps(self) -> list[Gap]:
        """What is lacking or not known, by project."""
        return sorted(Gap(name, reason) for name in self.demands for reason in self._troubles(name))

    def _troubles(self, name: NormalizedName) -> tuple[str, ...]:
        row = self._rows.get(name)
        if row is not None and row.page_digest:
            return self._needs[name].troubles if name in self._needs else ("what it requires is not known yet",)
        if self.demands[name].is_root:
            return ()  # which is a failure of its own, or as the operator has it
        if name in self._unwanted:
            lack = "deleted by command"
        elif self._filters.bars(name) or (row is not None and row.outcome == "skipped"):
            lack = "left out by filters"
        elif row is not None or name not in self._done:
            lack = "not mirrored yet"
        else:
            lack = "upstream has no such project"
        by = sorted(other for other, needs in self._needs.items() if any(need.name == name for need in needs.requires))
        shown = ", ".join([*by[:_SHOWN], *(["others"] if len(by) > _SHOWN else [])])
        return (f"{lack}, required by {shown}",)
