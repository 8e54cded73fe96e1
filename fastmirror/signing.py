"""Signatures by ssh keys, made and checked by OpenSSH's own ``ssh-keygen -Y`` (ssh-keygen(1))."""

from __future__ import annotations

import os
import subprocess
from typing import BinaryIO

from fastmirror.errors import MirrorError, SettingsError

_NAMESPACE = "fastmirror"  # what a signature is for: one made for something else is refused
_LONGEST_S = 60


class NotSigned(MirrorError):
    """A signature that is missing, or that none of the accepted signers made: (why)."""

    exit_status = 5


def require_key(key: str) -> None:
    """Raise SettingsError if a key, or the public one beside it, is no file that can be read."""
    if not any(os.path.isfile(path) and os.access(path, os.R_OK) for path in (key, f"{key}.pub")):
        raise SettingsError(f"--sign-key: is no file that can be read: {key!r}")


def sign(path: str, key: str, signature_path: str) -> None:
    """Sign a file. ``key``: a private key's file, or a public one's whose key an agent holds.

    Raises SettingsError if the key cannot be used.
    """
    with open(path, "rb") as stream:
        signature, complaint = _ssh_keygen(["sign", "-f", key], stream)
    if not signature:
        raise SettingsError(f"--sign-key: cannot be signed with: {complaint}: {key!r}")
    with open(signature_path, "wb") as target:
        target.write(signature)
        target.flush()
        os.fsync(target.fileno())


def require_signature(signed: BinaryIO, signature_path: str, allowed_signers: str) -> str:
    """Who of the allowed signers (ssh-keygen(1), ALLOWED SIGNERS) has signed a file. Raises NotSigned."""
    by = ["-f", allowed_signers, "-s", signature_path]
    complaint = ""
    if os.path.isfile(signature_path):
        found, complaint = _ssh_keygen(["find-principals", *by], signed)
        for signer in found.decode("utf-8", "replace").splitlines():
            signed.seek(0)
            _, complaint = _ssh_keygen(["verify", *by, "-I", signer], signed)
            if not complaint:
                return signer
    raise NotSigned(f"bundle: not signed by any of {allowed_signers!r}: {complaint or 'no signature'}")


def _ssh_keygen(arguments: list[str], stream: BinaryIO) -> tuple[bytes, str]:
    """What it says on stdout, and on stderr if it failed."""
    action, *rest = arguments
    try:
        done = subprocess.run(  # noqa: S603 - a list, and no shell
            ["ssh-keygen", "-Y", action, "-n", _NAMESPACE, *rest],  # noqa: S607 - wherever the system has it
            stdin=stream,
            capture_output=True,
            timeout=_LONGEST_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise SettingsError("signatures need ssh-keygen (hint: Debian's package openssh-client)") from error
    except subprocess.TimeoutExpired as error:
        raise SettingsError("ssh-keygen did not answer: it may wait for a passphrase (hint: ssh-agent)") from error
    complaint = done.stderr.decode("utf-8", "replace").strip() or f"ssh-keygen: exit status {done.returncode}"
    return done.stdout, complaint if done.returncode else ""
