"""What it costs to store objects: ours against obstore and boto3, each in a process of its own, one store for all.

The store is rclone's server on loopback; its CPU is not counted. Small objects of 1 kB by 16 threads, then files by 2,
each with its sha256 as metadata and a checksum for the store. Ours takes the digests as given, as a mirror has them;
rclone's server verifies no sha256, so that ours sends an MD5 as well; "believing", it leaves that out, as for a store
that does. ``python -m benchmarks.objects``; a client that is not installed is left out.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.report import commit
from fastmirror.objects import Bucket, ObjectHeaders
from tests.object_store import ACCESS_KEY, BUCKET, SECRET_KEY, rclone_server, settings_of

if TYPE_CHECKING:
    from collections.abc import Callable

    Puts = tuple[Callable[[int], object], Callable[[int], object]]  # of the nth small object, of the nth file

SMALL = os.urandom(1000)
SMALL_SHA256 = hashlib.sha256(SMALL).hexdigest()
CACHE = "max-age=600"
_THREADS, _FILE_THREADS = 16, 2
_PART = 16 << 20  # bytes, of the others' large files
_CLIENTS = {"fastmirror": "fastmirror", "fastmirror, believing": "fastmirror", "obstore": "obstore", "boto3": "boto3"}


def ours(url: str, path: str, sha256: str, *, believing: bool) -> Puts:
    bucket = Bucket(settings_of(url))
    bucket.is_credulous = not believing
    small, large = (ObjectHeaders("text/html", CACHE, digest, "") for digest in (SMALL_SHA256, sha256))
    return (
        lambda number: bucket.put(f"small/{number}", SMALL, headers=small),
        lambda number: bucket.put_file(f"large/{number}", path, headers=large, sha256=sha256),
    )


def obstores(url: str, path: str, sha256: str) -> Puts:
    import obstore
    from obstore.store import S3Store

    store = S3Store(
        BUCKET, endpoint=url, region="us-east-1", access_key_id=ACCESS_KEY, secret_access_key=SECRET_KEY,
        client_options={"allow_http": True}, checksum_algorithm="sha256", virtual_hosted_style_request=False,
    )  # fmt: skip
    about = {"Content-Type": "text/html", "Cache-Control": CACHE}

    def put_file(number: int) -> None:
        with open(path, "rb") as file:
            obstore.put(store, f"large/{number}", file, attributes={**about, "sha256": sha256}, chunk_size=_PART)

    return (
        lambda number: obstore.put(
            store, f"small/{number}", SMALL, attributes={**about, "sha256": SMALL_SHA256}, use_multipart=False
        ),
        put_file,
    )


def botos(url: str, path: str, sha256: str) -> Puts:
    import boto3
    from boto3.s3.transfer import TransferConfig
    from botocore.config import Config

    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY, config=Config(max_pool_connections=_THREADS),
    )  # fmt: skip
    about: dict[str, Any] = {"ContentType": "text/html", "CacheControl": CACHE, "ChecksumAlgorithm": "SHA256"}
    small, large = ({**about, "Metadata": {"sha256": digest}} for digest in (SMALL_SHA256, sha256))
    parts = TransferConfig(multipart_chunksize=_PART)
    return (
        lambda number: client.put_object(Bucket=BUCKET, Key=f"small/{number}", Body=SMALL, **small),
        lambda number: client.upload_file(path, BUCKET, f"large/{number}", ExtraArgs=large, Config=parts),
    )


def timed(put: Callable[[int], object], count: int, threads: int) -> dict[str, float]:
    """Store so many objects after a first one, by so many threads: seconds of wall time, and of this process's CPU."""
    put(count)
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(put, range(count)):
            pass
    wall, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": round(wall, 2), "cpu_s": round(cpu, 2)}


def store_as(client: str, url: str, path: str, objects: int, files: int) -> dict[str, dict[str, float]]:
    """In a process of its own: store everything as one client does."""
    sha256 = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    if client.startswith("fastmirror"):
        small, large = ours(url, path, sha256, believing=client != "fastmirror")
    else:
        small, large = {"obstore": obstores, "boto3": botos}[client](url, path, sha256)
    return {"small": timed(small, objects, _THREADS), "large": timed(large, files, _FILE_THREADS)}


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.objects", description=__doc__)
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--as", dest="client", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.client:
        client, url, file_path = given.client
        print(json.dumps(store_as(client, url, file_path, given.objects, given.files)))
        return
    figures = {}
    with tempfile.TemporaryDirectory() as home:
        path = Path(home, "file")
        with path.open("wb") as file:
            for _ in range(given.megabytes):
                file.write(os.urandom(1 << 20))
        for number, (client, module) in enumerate(_CLIENTS.items()):
            if importlib.util.find_spec(module) is None:
                print(f"{module} is not installed", file=sys.stderr)
                continue
            with rclone_server(Path(home, str(number))) as store:
                words = [sys.executable, "-m", "benchmarks.objects", "--as", client, store.url, str(path)]
                words += ["--objects", str(given.objects), "--files", str(given.files)]
                figures[client] = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    about = {"objects": given.objects, "files": given.files, "megabytes": given.megabytes}
    print(json.dumps({"commit": commit(), **about, "clients": figures}, indent=2))


if __name__ == "__main__":
    main()
