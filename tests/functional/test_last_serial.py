"""The serial beside each JSON document, without which bandersnatch believes no mirror that it reads from."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING

from fastmirror.layout import bucket
from tests.nginx import free_port, running_nginx, wait_until_it_answers
from tests.published import Watch, root, succeed

if TYPE_CHECKING:
    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex

WITH_JSON = {"json": "true", "processes": "1"}


def serial_at(url: str) -> str | None:
    """What a server says in the header of an answer."""
    with urllib.request.urlopen(url, timeout=20) as answer:
        serial: str | None = answer.headers["x-pypi-last-serial"]
    return serial


def fill(mirror: Mirror, index: FakeIndex) -> dict[str, int]:
    """Two projects in a mirror, and their serials."""
    for name in ("older", "newer"):
        index.add_file(name, f"{name}-1.0.tar.gz")
    succeed(mirror.run(set=WITH_JSON))
    serials: dict[str, int] = root(mirror)["projects"]
    assert serials["older"] < serials["newer"]
    return serials


def test_serve_gives_each_document_the_serial_of_its_project(mirror: Mirror, index: FakeIndex):
    serials = fill(mirror, index)
    port = free_port()
    wait_until_it_answers(mirror.start("--port", str(port), command="serve", set=WITH_JSON), port)
    for path in ("pypi/{}/json", "json/{}"):
        found = {name: serial_at(f"http://127.0.0.1:{port}/{path.format(name)}") for name in serials}
        assert found == {name: str(serial) for name, serial in serials.items()}


def test_nginx_gives_every_document_the_greatest_serial_and_the_next_ones_without_a_reload(
    mirror: Mirror, index: FakeIndex
):
    mirror.settings["layout"] = "flat"
    serials = fill(mirror, index)
    port, home = free_port(), mirror.directory / ".fastmirror/nginx"
    home.mkdir()
    options = ("--listen", f"127.0.0.1:{port}", "--for-bandersnatch")
    printed = mirror.run(*options, command="nginx", set=WITH_JSON)
    succeed(printed)
    with running_nginx(printed.stdout, mirror.home / "nginx", port, home / "access.log") as nginx:
        for _ in range(2):
            for name in serials:
                assert serial_at(f"{nginx.url}/pypi/{name}/json") == str(max(serials.values()))
                assert serial_at(f"{nginx.url}/simple/{name}/") is None
            index.add_file("newer", f"newer-{index.serial}.tar.gz")
            succeed(mirror.run(set=WITH_JSON))
            serials = root(mirror)["projects"]


def test_without_documents_there_is_no_configuration_for_bandersnatch(mirror: Mirror):
    result = mirror.run("--for-bandersnatch", command="nginx")
    assert result.status == 2
    assert "--for-bandersnatch: needs the JSON documents (hint: json = true, and a run)" in result.stderr


def test_the_serial_is_raised_after_the_documents_and_before_the_root_index(mirror: Mirror, index: FakeIndex):
    fill(mirror, index)
    watched = (mirror.web / "json" / bucket("newer"), mirror.directory / ".fastmirror/serial", mirror.web / "simple")
    watch = Watch(watched)
    index.add_file("newer", "newer-2.0.tar.gz")
    succeed(mirror.run(set=WITH_JSON))
    put = [name for what, name in watch.events() if what == "put" and name in ("newer", "now", "index.v1_json")]
    watch.close()
    assert put == ["newer", "now", "index.v1_json"]


def test_what_stands_in_the_way_of_the_serial_is_warned_of_and_harms_nothing(mirror: Mirror, index: FakeIndex):
    (mirror.directory / ".fastmirror").mkdir(parents=True)
    (mirror.directory / ".fastmirror/serial").write_text("somebody's")
    index.add_file("six", "six-1.0.tar.gz")
    result = mirror.run(set=WITH_JSON)
    assert result.status == 0
    assert "the serial for bandersnatch cannot be shown" in result.stderr
