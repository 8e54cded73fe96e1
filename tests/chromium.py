"""A real headless Chromium, for the length of one page."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_THEMES = {"light": "1", "dark": "0"}


def is_there() -> bool:
    """Whether it is installed."""
    return shutil.which("chromium") is not None


def document(url: str, *, theme: str = "light") -> str:
    """The document that a page came to, its scripts run."""
    return _run(theme, "--dump-dom", url)


def picture(url: str, path: Path, *, width: int, height: int, theme: str = "light") -> None:
    """Draw what it shows of a page: a PNG of so many pixels, the width at least 500."""
    _run(theme, "--hide-scrollbars", f"--window-size={width},{height}", f"--screenshot={path}", url)


def _run(theme: str, *words: str) -> str:
    with tempfile.TemporaryDirectory() as profile:
        result = subprocess.run(
            [
                *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
                *(f"--user-data-dir={profile}", f"--blink-settings=preferredColorScheme={_THEMES[theme]}"),
                *words,
            ],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
    return result.stdout
