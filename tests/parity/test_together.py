"""What the table of cases cannot say: a proxy, an end at the first error, and settings that would empty a mirror."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fakes import faults
from tests.fakes.proxies import HttpProxy
from tests.parity.beside import Case, Step
from tests.parity.upstreams import plain, releases

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes.index import FakeIndex
    from tests.parity.beside import Beside


def test_both_go_through_the_proxy_with_everything(beside: Callable[[Case], Beside]) -> None:
    with HttpProxy() as proxy:
        both = beside(Case("proxy", plain, f"proxy = {proxy.url()}"))
        for side in (both.theirs, both.ours):
            side.run(both.index, "mirror")
            assert {record.port for record in both.index.requests} <= proxy.ports, side.name
    assert not both.unexplained()


def test_both_end_at_the_first_error_with_status_1(beside: Callable[[Case], Beside]) -> None:
    def fill(index: FakeIndex) -> None:
        plain(index)
        index.fault("/packages/*/zope.interface-7.0.tar.gz", faults.status(404))

    both = beside(Case("stop-on-error", fill, "stop-on-error = true"))
    both.run(Step())
    assert (both.theirs.results[0].status, both.ours.results[0].status) == (1, 1)
    assert "stop-on-error" in both.ours.results[0].stdout


def test_what_bandersnatch_empties_the_mirror_with_is_refused(beside: Callable[[Case], Beside]) -> None:
    both = beside(Case("all", releases, sections="[plugins]\nenabled = all\n"))
    both.run(Step())
    pages = [name for name in both.theirs.facts if name.endswith("/index.v1_json/")]
    assert both.theirs.results[0].status == 0
    assert pages
    assert not [name for name in both.theirs.facts if name.startswith("packages/")]
    assert both.ours.results[0].status == 2
    assert not both.ours.facts.keys() - {"exit status/0"}
    assert "mirror.conf:" in both.ours.results[0].stderr
