"""Filters that would leave nothing of the mirror are refused before anything is touched, unless that is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex


@pytest.mark.parametrize("plugin", ["allowlist_release", "project_requirements_pinned", "all"])
@pytest.mark.parametrize(("command", "arguments"), [("mirror", ()), ("sync", ("six",)), ("plan", ())])
def test_a_filter_of_releases_without_its_list_is_refused(
    mirror: Mirror, index: FakeIndex, plugin: str, command: str, arguments: tuple[str, ...]
):
    index.add_file("six", "six-1.0.zip")
    result = mirror.run(*arguments, command=command, set={"plugins.enabled": plugin})
    assert result.status == 2
    assert "--set plugins.enabled: " in result.stderr
    assert "nothing would be left of the mirror" in result.stderr
    assert index.paths() == []
    assert not mirror.directory.exists()


def test_with_allow_empty_a_project_keeps_an_empty_page(mirror: Mirror, index: FakeIndex):
    index.add_file("six", "six-1.0.zip")
    enabled = {"plugins.enabled": "allowlist_release", "layout": "flat", "simple-format": "HTML"}
    result = mirror.run("--allow-empty", set=enabled)
    assert result.status == 0, result.stderr
    page = (mirror.web / "simple/six/index.html").read_text()
    assert "Links for six" in page
    assert "<a " not in page
    assert list(mirror.web.glob("packages/**/*.zip")) == []
    for command, arguments in (("sync", ["six"]), ("plan", [])):
        assert mirror.run("--allow-empty", *arguments, command=command, set=enabled).status == 0
