"""A mirror that shadowmire reads from: the list of all projects as it has it, and whatever it asks for by that."""

from __future__ import annotations

import json
import urllib.request
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from tests.nginx import free_port, running_nginx, wait_until_it_answers
from tests.published import Watch, root, succeed

if TYPE_CHECKING:
    from tests.conftest import Mirror
    from tests.fakes.index import FakeIndex

METADATA = b"Metadata-Version: 2.1\nName: six\nVersion: 1.0\n"
LOCAL_JSON = {"json": "true", "local-json": "true", "processes": "1"}


def fill(mirror: Mirror, index: FakeIndex) -> None:
    index.add_file("Zope.Interface", "zope_interface-7.0.tar.gz")
    index.add_file("six", "six-1.0-py3-none-any.whl", metadata=METADATA)
    index.add_file("six", "six-1.0+local.1.tar.gz")
    succeed(mirror.run(set=LOCAL_JSON))


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as answer:
        body: bytes = answer.read()
    return body


def downloaded(master: str) -> dict[str, str]:
    """What shadowmire fetches from this address, the sha256 of each file by its name, in its order and by its URLs."""
    serials: dict[str, int] = json.loads(get(urljoin(master, "local.json")))
    assert int(get(urljoin(master, "local.db.serial"))) == max(serials.values())
    found = {}
    for name, serial in serials.items():
        document: dict[str, Any] = json.loads(get(urljoin(master, f"json/{name}")))
        assert document["last_serial"] == serial
        page = json.loads(get(urljoin(master, f"simple/{name}/index.v1_json")))
        offered = {entry["filename"]: entry["core-metadata"] for entry in page["files"]}
        for file in (file for files in document["releases"].values() for file in files):
            url = urljoin(urljoin(master, f"simple/{name}/"), f"../..{urlsplit(file['url']).path}")
            found[file["filename"]] = sha256(get(url)).hexdigest()
            if offered[file["filename"]]:
                assert get(f"{url}.metadata") == METADATA
    return found


def files_of(index: FakeIndex) -> dict[str, str]:
    return {file.filename: file.sha256 for project in index.projects().values() for file in project.files}


def test_nginx_answers_all_that_shadowmire_asks_for(mirror: Mirror, index: FakeIndex):
    fill(mirror, index)
    port, home = free_port(), mirror.directory / ".fastmirror/nginx"
    home.mkdir()
    printed = mirror.run("--listen", f"127.0.0.1:{port}", command="nginx", set=LOCAL_JSON)
    with running_nginx(printed.stdout, mirror.home / "nginx", port, home / "access.log") as nginx:
        assert downloaded(f"{nginx.url}/") == files_of(index)


def test_serve_answers_all_that_shadowmire_asks_for(mirror: Mirror, index: FakeIndex):
    mirror.settings["layout"] = "flat"
    fill(mirror, index)
    port = free_port()
    wait_until_it_answers(mirror.start("--port", str(port), command="serve", set=LOCAL_JSON), port)
    assert downloaded(f"http://127.0.0.1:{port}/") == files_of(index)


def test_the_list_follows_what_changes_after_the_pages_and_goes_when_it_is_not_asked_for(
    mirror: Mirror, index: FakeIndex
):
    fill(mirror, index)
    watch = Watch((mirror.web, *(path for path in (mirror.web / "simple").iterdir() if path.is_dir())))
    index.add_file("six", "six-2.0.tar.gz")
    index.remove_project("Zope.Interface")
    succeed(mirror.run(set=LOCAL_JSON))
    put = [name for what, name in watch.events() if what == "put"]
    watch.close()
    assert put.index("six.v1_json") < len(put) - put[::-1].index("local.json")
    assert json.loads((mirror.web / "local.json").read_bytes()) == root(mirror)["projects"]
    assert root(mirror)["projects"].keys() == {"six"}
    (mirror.web / "local.json").unlink()
    succeed(mirror.run(set=LOCAL_JSON))
    assert json.loads((mirror.web / "local.json").read_bytes()) == root(mirror)["projects"]
    index.touch("six")
    succeed(mirror.run(set={"json": "true"}))
    assert not list(mirror.web.glob("local.*"))


def test_it_needs_the_documents(mirror: Mirror):
    result = mirror.run(set={"local-json": "true"})
    assert result.status == 2
    assert "local-json: 'true': expected false without json = true, as shadowmire asks for" in result.stderr
