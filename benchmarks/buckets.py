"""A first sync into a bucket, ours and bandersnatch's, from the same upstream: their CPU, and how many objects came.

The upstream is the one of `scripts/bench`, smaller; the store is rclone's server on loopback, fresh for each. Whole
process trees are counted, the store's is not. ``python -m benchmarks.buckets``
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.bandersnatch import bandersnatch_version, install_bandersnatch
from benchmarks.measure import measure
from benchmarks.nginx import serve
from benchmarks.peers import BANDERSNATCH, WARNINGS_ONLY, Fastmirror
from benchmarks.report import commit
from benchmarks.room import CACHE, room
from benchmarks.upstream import prepare_upstream, warm
from tests.object_store import ACCESS_KEY, BUCKET, SECRET_KEY, rclone_server

if TYPE_CHECKING:
    from benchmarks.upstream import Upstream
    from tests.object_store import ObjectStore

PREFIX = "mirror"


def our_command(upstream: Upstream, home: Path, store: ObjectStore) -> list[str]:
    """A first sync; rclone's server knows no conditions, so there is no lease."""
    command = Fastmirror("flat").command("mirror", upstream, home / "local", storage_backend="s3")
    said = {"bucket": BUCKET, "prefix": PREFIX, "endpoint_url": store.url, "lease": "false"}
    said |= {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
    for key, value in said.items():
        command += ["--set", f"s3.{key}={value}"]
    return command


def their_command(program: Path, upstream: Upstream, home: Path, store: ObjectStore) -> list[str]:
    """A first sync by bandersnatch, as fast as it can be set."""
    log_config, configuration = home / "log.conf", home / "bandersnatch.conf"
    log_config.write_text(WARNINGS_ONLY)
    is_old = bandersnatch_version(program).startswith(("6.", "7."))
    text = BANDERSNATCH.format(
        directory=f"/{BUCKET}/{PREFIX}",
        master=upstream.address,
        compare_method="stat",
        log_config=log_config,
        api_method="api-method = simple" if is_old else "",
    )
    section = f"storage-backend = s3\n[s3]\nregion_name = us-east-1\nendpoint_url = {store.url}\n"
    configuration.write_text(f"{text}{section}aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
    return [str(program), "-c", str(configuration), "mirror"]


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.buckets", description=__doc__)
    parser.add_argument("--projects", type=int, default=1000)
    parser.add_argument("--port", type=int, default=18080, help="of the upstream on loopback")
    parser.add_argument("--cache", type=Path, default=CACHE, help="keeps the upstream and bandersnatch")
    given = parser.parse_args()
    cache = given.cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    program = install_bandersnatch(cache)
    pip = [str(program.with_name("pip")), "install", "--quiet", "--disable-pip-version-check", "bandersnatch[s3]"]
    subprocess.run(pip, check=True)
    upstream = prepare_upstream(cache, projects=given.projects, seed=1, port=given.port)
    warm(upstream)
    figures = {}
    with serve(upstream), room(cache) as mirrors:
        for tool in ("fastmirror", f"bandersnatch {bandersnatch_version(program)}"):
            home = mirrors / tool.partition(" ")[0]
            home.mkdir()
            with rclone_server(home) as store:
                is_ours = tool == "fastmirror"
                command = (
                    our_command(upstream, home, store) if is_ours else their_command(program, upstream, home, store)
                )
                run = measure(command, log=home / "log")
                found = [path for path in (store.home / "store" / BUCKET).rglob("*") if path.is_file()]
                figures[tool] = {
                    "exit_status": run.exit_status,
                    "wall_s": round(run.wall_s, 2),
                    "cpu_s": round(run.cpu_s, 2),
                    "objects": len(found),
                    "bytes": sum(path.stat().st_size for path in found),
                }
                print(f"{tool}: {figures[tool]}", file=sys.stderr)
    print(json.dumps({"commit": commit(), "projects": given.projects, "tools": figures}, indent=2))


if __name__ == "__main__":
    main()
