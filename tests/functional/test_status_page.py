"""The status page as a run writes it, and as a real browser shows it."""

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests import chromium
from tests.fakes import faults
from tests.fakes.wire import Gate
from tests.nginx import free_port, running_nginx
from tests.published import problems, succeed
from tests.unit.test_statuspage import Page

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex

HOSTILE = "six-1.0<img src=x onerror=document.title='taken'>.tar.gz"


@pytest.fixture(autouse=True)
def _page_of_three(mirror: Mirror, index: FakeIndex) -> None:
    mirror.settings["status-page"] = "true"
    for name in ("six", "idna", "pip"):
        index.add_file(name, f"{name}-1.0.tar.gz")


def told(mirror: Mirror) -> dict[str, Any]:
    """What the JSON beside the page says."""
    facts: dict[str, Any] = json.loads((mirror.web / "status/status.json").read_text())
    return facts


def page_in(mirror: Mirror) -> Page:
    return Page((mirror.web / "status/index.html").read_text())


def test_each_run_writes_the_page_into_the_tree_and_its_figures_are_those_of_the_state(
    each_layout: Mirror, index: FakeIndex
) -> None:
    succeed(each_layout.run())
    assert problems(each_layout, index) == []
    facts, status = told(each_layout), each_layout.status()
    for key in status.keys() - {"directory", "lag_s"}:
        assert facts[key] == status[key], key
    assert {"Complete", "3", str(index.serial)} <= set(page_in(each_layout).texts)
    before = (each_layout.web / "status/index.html").stat().st_ino
    succeed(each_layout.run())
    assert [run["exit_status"] for run in told(each_layout)["runs"]] == [0, 0]
    assert (each_layout.web / "status/index.html").stat().st_ino != before  # replaced, not written over


def test_a_run_that_failed_writes_it_too_and_says_why(mirror: Mirror, index: FakeIndex) -> None:
    succeed(mirror.run())
    index.fault("/simple/", faults.status(404))
    assert mirror.run().status == 5
    assert (told(mirror)["last_run"]["exit_status"], told(mirror)["projects"]) == (5, 3)
    page = page_in(mirror)
    assert "Last run: upstream unusable" in page.texts
    assert "HTTP status 404" in page.text


def test_a_run_that_is_interrupted_writes_it_too(mirror: Mirror, index: FakeIndex) -> None:
    succeed(mirror.run())
    index.add_file("wheel", "wheel-1.0.tar.gz")
    gate = Gate()
    index.fault("/simple/wheel/", faults.hold(gate))
    process = mirror.start()
    gate.wait()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    gate.open()
    assert told(mirror)["last_run"]["exit_status"] == 143


def test_the_page_can_be_switched_off(mirror: Mirror) -> None:
    mirror.settings["status-page"] = "false"
    succeed(mirror.run())
    assert not (mirror.web / "status").exists()


def test_a_page_that_cannot_be_written_is_told_and_no_failure(mirror: Mirror) -> None:
    mirror.web.mkdir(parents=True)
    (mirror.web / "status").write_text("the operator's own")
    result = mirror.run()
    assert (result.status, "the status page cannot be written" in result.stderr) == (0, True)
    assert (mirror.web / "status").read_text() == "the operator's own"


def test_a_run_that_meets_another_one_leaves_the_page_alone(mirror: Mirror, index: FakeIndex) -> None:
    succeed(mirror.run())
    before = (mirror.web / "status/index.html").read_bytes()
    index.add_file("wheel", "wheel-1.0.tar.gz")
    gate = Gate()
    index.fault("/simple/wheel/", faults.hold(gate))
    first = mirror.start()
    gate.wait()
    assert mirror.run().status == 3
    assert (mirror.web / "status/index.html").read_bytes() == before
    gate.open()
    assert first.wait(30) == 0


# What a script outside of the page reads in it, in a window of a phone's width.
LOOK = """<!doctype html><iframe src="/status/" width="360" height="800"></iframe><pre></pre><script>
onload = () => {
  const page = document.querySelector("iframe").contentDocument, all = [...page.body.querySelectorAll("*")];
  const seen = {
    wide: page.documentElement.scrollWidth,
    ground: getComputedStyle(page.body).backgroundColor,
    ink: getComputedStyle(page.body).color,
    soft: getComputedStyle(page.querySelector(".kind")).color,
    verdict: getComputedStyle(page.querySelector("h1")).color,
    title: page.title,
    figures: [...page.querySelectorAll(".figures dd:not(.beside)")].map(node => node.innerText),
    failures: [...page.querySelectorAll("main > section:first-of-type tbody tr")].map(row => row.innerText),
    images: page.images.length,
    charts: [...page.querySelectorAll("svg")].map(chart => chart.getBoundingClientRect().height > 50),
    hidden: all.filter(node => node.innerText && node.getClientRects().length == 0).length,
  };
  document.querySelector("pre").textContent = "LOOK" + JSON.stringify(seen) + "KOOL";
};
</script>"""


def contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio of two colours, as a browser computes them: rgb(…)."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.skipif(not chromium.is_there(), reason="chromium is not there")
def test_a_browser_shows_the_states_figures_in_both_themes_and_on_a_phone(
    mirror: Mirror, index: FakeIndex, tmp_path: Path
) -> None:
    succeed(mirror.run())
    broken = index.add_file("six", HOSTILE)
    index.fault(broken.path, faults.status(404))
    index.add_file("idna", "idna-2.0.tar.gz")
    assert mirror.run().status == 1
    (mirror.web / "status/look.html").write_text(LOOK)
    port = free_port()
    configuration = mirror.run("--listen", f"127.0.0.1:{port}", command="nginx").stdout
    (mirror.directory / ".fastmirror/nginx").mkdir()
    seen = {}
    with running_nginx(configuration, tmp_path / "nginx", port, mirror.directory / ".fastmirror/nginx/access.log"):
        for theme in ("light", "dark"):
            shown = chromium.document(f"http://127.0.0.1:{port}/status/look.html", theme=theme)
            seen[theme] = json.loads(re.findall("LOOK(.*)KOOL", Page(shown).text)[0])
    status = mirror.status()
    for look in seen.values():
        assert look["wide"] <= 360
        assert look["figures"][1:3] == [str(status["projects"]), str(status["files"])]
        assert look["figures"][4] == str(status["serial"])
        (row,) = look["failures"]
        assert row.split("\t")[:2] == ["six", status["failures"][0]["reason"]]
        assert HOSTILE in row
        assert (look["images"], look["title"].partition(":")[0]) == (0, "1 project not whole")
        assert look["charts"] == [True, True, True]
        assert look["hidden"] == 0
        assert min(contrast(look["ground"], look[name]) for name in ("ink", "soft", "verdict")) >= 4.5
    assert contrast(seen["light"]["ground"], "rgb(255, 255, 255)") < 1.1
    assert contrast(seen["dark"]["ground"], "rgb(0, 0, 0)") < 1.3
