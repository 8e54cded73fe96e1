"""``python -m fastmirror``: the same as the command ``fastmirror``."""

from fastmirror.cli import main

main()
