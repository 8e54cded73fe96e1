"""What changes without a new serial: in each run a part of the mirror is asked for all the same, by name, in turn.

PyPI archives projects, and adds core metadata to older wheels, without a new serial; the ETag alone tells. One
fact of the state says where the next run goes on, so that a round takes in every project once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fastmirror.planner import sweep_size

if TYPE_CHECKING:
    from collections.abc import Container

    from fastmirror.names import NormalizedName
    from fastmirror.settings import Portion
    from fastmirror.state import State

CURSOR = "swept"  # the fact: the name that the last sweep ended with
_HELD = "select count(*) from stored"
# Those that fail are asked for in any case, when their time has come; what is gone or skipped has no page here.
_NEXT = """
select stored.project, serial, outcome = 'published' and page_digest <> '' and serial is not null
from stored left join project on name = stored.project
where stored.project > ? order by stored.project limit ?
"""


class Sweep(NamedTuple):
    """A part of the mirror, to be asked for."""

    projects: dict[NormalizedName, int | None]  # with the serials that are held
    last: str  # the name that the next one goes on after


def plan_sweep(state: State, chosen: Portion | None, leave: Container[str]) -> Sweep:
    """The next part in turn, as large as was `chosen`; what the run does anyway, `leave`, is not done twice."""
    last = state.get(CURSOR) or ""
    [(held,)] = state.select(_HELD)
    most = sweep_size(held, chosen)
    rows = state.select(_NEXT, (last, most))
    if len(rows) < most:  # round again
        rows += state.select(_NEXT, ("", most - len(rows)))
    projects = {name: serial for name, serial, is_whole in rows if is_whole and name not in leave}
    return Sweep(projects, rows[-1][0] if rows else last)
