"""Runs a command of which the kernel refuses some system calls, as another file system or a used-up quota would.

``python -m tests.refusals linkat=EPERM write:100000=EDQUOT -- COMMAND``: each refusal names a system call and what
it fails with; with a number, of the calls with a count of bytes alone those of so many or more. Holds for all
processes that the command starts (seccomp, a filter in the kernel); needs no rights.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import struct
import sys

_CALLS = {
    "x86_64": {"write": 1, "pwrite64": 18, "writev": 20, "link": 86, "linkat": 265, "renameat2": 316},
    "aarch64": {"write": 64, "writev": 66, "pwrite64": 68, "linkat": 37, "renameat2": 276},  # has no link
}
_REFUSAL = re.compile(r"(\w+)(?::(\d+))?=(E\w+)")
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2  # of prctl
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # of the filter's machine
_NUMBER, _COUNT = 0, 32  # where the call's number and its third argument stand
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def _step(operation: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", operation, if_true, if_false, value)


def _refusal(call: int, least: int, code: int) -> bytes:
    fail = _step(_RETURN, _FAIL | code)
    if not least:
        return _step(_IF_EQUAL, call, 0, 1) + fail
    if_large = _step(_LOAD, _COUNT) + _step(_IF_AT_LEAST, least, 0, 1) + fail + _step(_LOAD, _NUMBER)
    return _step(_IF_EQUAL, call, 0, len(if_large) // 8) + if_large


def refuse(refusals: list[str]) -> None:
    """Have these refused from now on, in this process and all that it starts."""
    calls = _CALLS[platform.machine()]
    code = _step(_LOAD, _NUMBER)
    for refusal in refusals:
        match = _REFUSAL.fullmatch(refusal)
        if match is None:
            raise ValueError(refusal)
        if match[1] != "link" or "link" in calls:
            code += _refusal(calls[match[1]], int(match[2] or 0), getattr(errno, match[3]))
    code += _step(_RETURN, _ALLOW)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(
        _SET_SECCOMP, _FILTER, ctypes.byref(_Program(len(code) // 8, code)), 0, 0
    ):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    end = sys.argv.index("--")
    refuse(sys.argv[1:end])
    os.execvp(sys.argv[end + 1], sys.argv[end + 1 :])
