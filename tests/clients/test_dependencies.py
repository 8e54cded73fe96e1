"""A real requirement and what it requires, mirrored by `--with-dependencies`: real pip and uv need no other index."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from packaging.tags import sys_tags
from packaging.utils import parse_wheel_filename

from tests.clients.conftest import CLIENTS, NEEDED, WANTED, metadata_of
from tests.conftest import Mirror
from tests.fakes.index import FakeIndex
from tests.published import root, succeed
from tests.wheels import make_wheel, offer

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("clients")  # one process downloads the wheels, once


def this_environment() -> str:
    """This very Python, on this machine."""
    platform = next(tag.platform for tag in sys_tags() if tag.platform.startswith("manylinux"))
    return f"cp{sys.version_info.major}{sys.version_info.minor} {platform}"


@pytest.fixture(scope="module")
def closed(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Mirror:
    """A mirror that was told of one project alone; its upstream, which had more than it needs, is gone."""
    with FakeIndex() as index:
        for wheel in wheels:
            project = parse_wheel_filename(wheel.name)[0]
            index.add_file(project, wheel.name, content=wheel.read_bytes(), metadata=metadata_of(wheel))
        for name in ("pysocks", "chardet", "other"):  # which it may require, asked for by extras, and does not
            offer(index, make_wheel(name, "1.0", [WANTED]))
        mirror = Mirror(tmp_path_factory.mktemp("closed"), index.url)
        mirror.settings["environments.targets"] = this_environment()
        succeed(mirror.run("--with-dependencies", "--project", WANTED))
    return mirror


@pytest.mark.parametrize("client", CLIENTS)
def test_what_one_project_requires_is_installed_from_the_mirror_alone(client, closed, install):
    assert set(root(closed)["projects"]) == {WANTED, *NEEDED}
    done = install(client, "nginx", closed.directory)
    assert done.status == 0, done.output
    assert subprocess.run([str(done.python), "-I", "-c", f"import {WANTED}"], check=False).returncode == 0
