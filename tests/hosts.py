"""Hosts of one's own on this machine: network namespaces on one bridge, each with an address. Made by root alone."""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

GATEWAY = "10.213.77.1"  # of this machine, as those hosts see it


@contextmanager
def hosts(count: int) -> Iterator[list[tuple[str, list[str]]]]:
    """So many hosts: the address of each, and the command that runs another one there.

    They reach GATEWAY and each other, and nothing else. Raises OSError where that is not allowed.
    """
    with ExitStack() as undo:
        bridge = f"fm{os.getpid()}"
        _ip(f"link add {bridge} type bridge")
        undo.callback(_ip, f"link del {bridge}")
        _ip(f"addr add {GATEWAY}/24 dev {bridge}")
        _ip(f"link set {bridge} up")
        made = []
        for number in range(count):
            name, address = f"{bridge}-{number}", f"10.213.77.{number + 2}"
            _ip(f"netns add {name}")
            undo.callback(_ip, f"netns del {name}")
            _ip(f"link add {name} type veth peer name eth0 netns {name}")
            _ip(f"link set {name} master {bridge} up")
            _ip(f"-n {name} addr add {address}/24 dev eth0")
            _ip(f"-n {name} link set eth0 up")
            _ip(f"-n {name} link set lo up")
            made.append((address, ["ip", "netns", "exec", name]))
        yield made


def _ip(words: str) -> None:
    done = subprocess.run(["ip", *words.split()], capture_output=True, text=True)
    if done.returncode:
        raise PermissionError(f"ip {words}: {done.stderr.strip()}")
