"""The reference of all commands: what each says of itself with --help, as one page."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from typer.testing import CliRunner

from fastmirror.airgap import app

_COLUMNS = "110"
_LISTED = re.compile(r"^  ([a-z]+)  ", re.MULTILINE)


def help_of(*words: str) -> str:
    """What the program prints for these words and --help."""
    result = CliRunner().invoke(app, [*words, "--help"], prog_name="fastmirror", env={"TERMINAL_WIDTH": _COLUMNS})
    assert result.exit_code == 0, result.output
    return result.output.rstrip()


def commands() -> list[str]:
    """Every command, in the order in which --help lists them."""
    return _LISTED.findall(help_of().partition("Commands:")[2])


def reference() -> str:
    """The whole page, in Markdown."""
    parts = [
        "# Commands\n\nWhat every command says of itself with `--help`; `scripts/docs` writes this page.\n",
        f"```\n{help_of()}\n```\n",
    ]
    parts += [f"## {name}\n\n```\n{help_of(name)}\n```\n" for name in commands()]
    return "\n".join(parts)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
