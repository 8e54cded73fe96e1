"""The command line: ``fastmirror``."""

from __future__ import annotations

import sys
from typing import NoReturn

from fastmirror import logs
from fastmirror.airgap import app


def main() -> NoReturn:
    """Run the command that the command line asks for, and exit with its status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    logs.set_up(None, None, stream=sys.stderr)
    app(prog_name="fastmirror")
    sys.exit(0)
