"""Large files: fetched, and hashed where they lie."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from benchmarks.corpus import draw_alike
from benchmarks.nginx import serve
from benchmarks.peers import Bandersnatch, Curl, Fastmirror
from benchmarks.stage import Contender, Result, Setting, run_in_turn
from benchmarks.upstream import Corpus, Upstream, prepare, warm

if TYPE_CHECKING:
    from pathlib import Path

PROJECTS, FILES_EACH, SIZE = 4, 10, 50_000_000
EVERY_FILE = "find packages -type f -print0 | xargs -0 -P 2 -n 4 openssl dgst -sha256 >/dev/null"


def measure_large_files(setting: Setting) -> Result:
    """40 files of 50 MB: a first sync, and then a verification with everything in the page cache."""
    corpus = Corpus(
        f"large-{PROJECTS}-{FILES_EACH}-{SIZE}-{setting.seed}",
        lambda: [draw_alike(f"large-{i}", files=FILES_EACH, size=SIZE) for i in range(PROJECTS)],
        setting.seed,
    )
    upstream = prepare(setting.cache, corpus, setting.port)
    warm(upstream)
    ours, bandersnatch, curl = Fastmirror("hashed"), Bandersnatch(setting.cache), Curl()
    contenders = [
        Contender(
            peer.label,
            peer.steps(upstream, setting.mirrors / "unused")[0].variant,
            lambda directory, peer=peer: peer.steps(upstream, directory)[0].command,  # type: ignore[misc]
            lambda directory, peer=peer: peer.lacks(upstream, directory),  # type: ignore[misc]
        )
        for peer in (ours, bandersnatch, curl)
    ]
    with serve(upstream) as server:
        fetched = run_in_turn("large files", contenders, setting, server)
        mirror = setting.mirrors / "to-verify"
        subprocess.run(ours.command("mirror", upstream, mirror), check=True, stdout=subprocess.DEVNULL)
        hashed = run_in_turn("verify, warm", _verifiers(ours, upstream, mirror), setting, None)
        cold = run_in_turn("verify, cold", _verifiers(ours, upstream, mirror, forget=True), setting, None)
    megabytes = upstream.file_bytes / 1e6
    figures = {
        "MB per CPU second, fetched": megabytes / fetched[0].cpu_s,
        "times the wall of curl": fetched[0].wall_s / fetched[2].wall_s,
        "MB per CPU second, verified": megabytes / hashed[0].cpu_s,
        "MB per second, verified": megabytes / hashed[0].wall_s,
        "MB per second, xargs openssl": megabytes / hashed[1].wall_s,
    }
    others = {peer.label: peer.version for peer in (bandersnatch, curl)}
    return Result([*fetched, *hashed, *cold], figures, tools=others)


def _verifiers(ours: Fastmirror, upstream: Upstream, mirror: Path, *, forget: bool = False) -> list[Contender]:
    """Both ways to hash what is there; with `forget`, the kernel has forgotten it."""

    def prepared(command: list[str]) -> list[str]:
        if forget:
            _forget(mirror)
        return command

    return [
        Contender(
            ours.label,
            "pages checked too",
            lambda _: prepared(ours.command("verify", upstream, mirror)),
            lambda _: ours.lacks(upstream, mirror),
        ),
        Contender(
            "xargs -P 2 openssl dgst",
            "compares nothing",
            lambda _: prepared(["env", f"--chdir={mirror / 'web'}", "sh", "-c", EVERY_FILE]),
            lambda _: "",
        ),
    ]


def _forget(mirror: Path) -> None:
    """Have the kernel drop the files' bytes from its cache."""
    os.sync()
    for path in (mirror / "web/packages").rglob("*.tar.gz"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
