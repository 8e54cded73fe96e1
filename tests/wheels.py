"""Small real wheels, which pip installs: one module, and what they require."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.fakes.index import FakeIndex

_MADE = (2026, 1, 1, 0, 0, 0)


class Wheel(NamedTuple):
    """One wheel."""

    filename: str
    content: bytes
    metadata: bytes


def make_wheel(
    name: str,
    version: str,
    requires: Iterable[str] = (),
    *,
    extras: Iterable[str] = (),
    tag: str = "py3-none-any",
    requires_python: str | None = None,
) -> Wheel:
    """A wheel of one module that knows its version."""
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Python: {requires_python}"] if requires_python else []
    lines += [f"Provides-Extra: {extra}" for extra in extras] + [f"Requires-Dist: {text}" for text in requires]
    metadata = ("\n".join(lines) + "\n\nA description.\nRequires-Dist: of no account\n").encode()
    stem = f"{name.replace('-', '_')}-{version}"
    facts = f"{stem}.dist-info"
    contents = {
        f"{name.replace('-', '_')}.py": f"__version__ = {version!r}\n".encode(),
        f"{facts}/METADATA": metadata,
        f"{facts}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
    }
    record = [f"{path},sha256={_digest(content)},{len(content)}" for path, content in contents.items()]
    contents[f"{facts}/RECORD"] = "\n".join([*record, f"{facts}/RECORD,,", ""]).encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in contents.items():
            archive.writestr(zipfile.ZipInfo(path, _MADE), content)
    return Wheel(f"{stem}-{tag}.whl", packed.getvalue(), metadata)


def offer(index: FakeIndex, wheel: Wheel, *, with_metadata: bool = True, requires_python: str | None = None) -> None:
    """Have an upstream list a wheel."""
    index.add_file(
        wheel.filename.partition("-")[0],
        wheel.filename,
        content=wheel.content,
        metadata=wheel.metadata if with_metadata else None,
        requires_python=requires_python,
    )


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
