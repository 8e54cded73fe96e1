"""A small upstream of everything that a project may be, each thing once."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fakes.index import FakeIndex

METADATA = b"Metadata-Version: 2.1\nName: whole\nSummary: gr\xc3\xbc\xc3\x9fe\n"
NAMES = (
    "odd-1.0+local.7.tar.gz",
    "odd-1!2.0.tar.gz",
    "odd name-3.0.tar.gz",
    "ödd-4.0.tar.gz",
    "odd%20name%41-5.0.tar.gz",
    "odd&lt;b&gt;'\"-6.0.tar.gz",
    "odd#a?b=c;d-7.0.tar.gz",
    "~odd-(1)[2]{3}-8.0.tar.gz",
)
REASON = 'broken <on> "purpose" & müde'


def fill_with_oddities(index: FakeIndex, *, plain: bool = False) -> None:
    """Add projects of every kind; `plain` leaves out what HTML alone cannot say or is not to be seen by names."""
    add = index.add_file
    wheel = "whole_project-{}-py3-none-any.whl".format
    add("Whole.Project", wheel("1.0"), metadata=METADATA, requires_python=">=3.8,<4", provenance={"version": 1})
    add("Whole.Project", wheel("1.1"), metadata=b"", provenance="https://elsewhere.example/p?a=1&b=<2>")
    add("Whole.Project", wheel("2.0"), metadata=METADATA, keys={"core-metadata": True, "data-dist-info-metadata": True})
    add("Whole.Project", "whole_project-1.0.tar.gz", yanked=REASON)
    add("Whole.Project", "whole_project-1.1.tar.gz", yanked=True, requires_python="!=3.9.*")
    add("Whole.Project", "whole_project-3.0.tar.gz", content=b"")
    add("Whole.Project", "whole_project-4.0.tar.gz", content=random.Random(4).randbytes(3 << 20))
    for name in NAMES:
        add("odd_Names", name, metadata=METADATA if "+" in name else None)
    index.add_project("Empty")
    add("archived", "archived-1.0.tar.gz")
    index.archive("archived", "moved <elsewhere> & away")
    add("same-a", "same-1.0.tar.gz", content=b"of a")
    add("same-b", "same-1.0.tar.gz", content=b"of b")
    for name in ("shared-a", "shared-b"):
        add(name, "shared-1.0-py3-none-any.whl", metadata=METADATA, upload_time="2024-05-06T07:08:09.101112Z")
    if plain:
        return
    add("old", "old-2004d-final-beta.tar.gz")
    add("old", "old-no-version.zip")
    add("old", "old-1.0.win32-py2.7.exe")
    add("old", "old-1.0.tar.bz2", upload_time=None)
    add("unsized", "unsized-1.0.tar.gz", keys={"size": None})
    add("vendored", "vendored-1.0.tar.gz", keys={"x-vendor": {"deep": [1, None, "ü"]}, "gpg-sig": True})
