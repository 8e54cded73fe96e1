"""The real bandersnatch, installed once into an environment of its own."""

from __future__ import annotations

import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest

from benchmarks.bandersnatch import bandersnatch_version, install_bandersnatch
from tests.conftest import ROOT
from tests.fakes.index import FakeIndex
from tests.parity.beside import AUTHORITY, Bandersnatch, Beside, Case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def bandersnatch(certificate: tuple[Path, Path]) -> Iterator[Bandersnatch]:
    """The program; without it nothing here can be compared."""
    try:
        program = install_bandersnatch(ROOT / ".venv-bandersnatch")
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        pytest.skip(f"bandersnatch cannot be installed: {said.strip().splitlines()[-1]}")
    preloaded = Bandersnatch(program.with_name("python"), bandersnatch_version(program), certificate[0])
    yield preloaded
    preloaded.close()


@pytest.fixture
def beside(
    bandersnatch: Bandersnatch,
    certificate: tuple[Path, Path],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> Iterator[Callable[[Case], Beside]]:
    """Makes the two programs stand beside each other over a case's upstream."""
    record_property("bandersnatch", bandersnatch.version)
    opened: list[FakeIndex] = []

    def serve(fill: Callable[[FakeIndex], None], tls: ssl.SSLContext | None = None) -> FakeIndex:
        opened.append(FakeIndex(tls=tls))
        fill(opened[-1])
        return opened[-1]

    def make(case: Case) -> Beside:
        if bandersnatch.major < case.since:
            pytest.skip(f"bandersnatch {bandersnatch.version} does not have it: {case.name}")
        (tmp_path / AUTHORITY).write_bytes(certificate[0].read_bytes())
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*certificate)
        index = serve(case.fill, tls if case.https else None)
        mirror = serve(case.second).url if case.second is not None else ""
        for name, content in case.files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        return Beside(tmp_path, bandersnatch, index, case.configuration(home=tmp_path, index=index.url, mirror=mirror))

    yield make
    for index in opened:
        index.close()
