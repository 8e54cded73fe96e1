"""Real pip and real uv, with no configuration, install from a mirror whose upstream is gone."""

from __future__ import annotations

import subprocess

import pytest

from tests.clients.conftest import CLIENTS, LACKING, LAYOUTS, SERVERS, Asked, stored_urls

pytestmark = [
    pytest.mark.parametrize("client", CLIENTS),
    pytest.mark.parametrize("server", SERVERS),
    pytest.mark.parametrize("layout", LAYOUTS),
    pytest.mark.xdist_group("clients"),  # one process downloads the wheels, once
]

VERSIONS = """
import importlib.metadata, certifi, charset_normalizer, idna, requests, urllib3
for found in importlib.metadata.distributions():
    print(found.name, found.version)
"""


@pytest.mark.case(55)
def test_requests_and_all_it_needs_are_installed_from_the_mirror_alone(client, server, layout, mirrors, install):
    """Every file, and the metadata of every file, comes from the mirror; what is installed can be imported."""
    files = stored_urls(mirrors.whole[layout])
    done = install(client, server, mirrors.whole[layout])
    assert done.status == 0, done.output
    assert len(files) == 2 * len(mirrors.versions)  # each with its metadata
    assert {asked for asked in done.asked if "/packages/" in asked.path} == {Asked("GET", path, 200) for path in files}
    command = [str(done.python), "-I", "-c", VERSIONS]
    versions = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert dict(line.split() for line in versions.splitlines()) == mirrors.versions


def test_nothing_is_installed_from_a_mirror_that_lacks_one_project(client, server, layout, mirrors, install):
    """Without it the installation fails: nothing came from anywhere else in the test above."""
    done = install(client, server, mirrors.lacking[layout])
    assert done.status != 0
    assert LACKING in done.output
    assert Asked("GET", f"/simple/{LACKING}/", 404) in done.asked
    assert subprocess.run([str(done.python), "-I", "-c", "import requests"], capture_output=True).returncode == 1
