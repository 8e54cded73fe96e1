"""advisories: versions that are known to be bad, from files: lines such as ``name==1.2.3``, or JSON of OSV.

Of OSV's schema (https://ossf.github.io/osv-schema/) the versions and the ranges of what it says of PyPI count;
what is withdrawn does not.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fastmirror.errors import InvalidName, SettingsError
from fastmirror.filters.requirements import Listed, read_requirements
from fastmirror.filters.versions import parsed
from fastmirror.names import normalize

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastmirror.filters.requirements import Files

KEYS = frozenset({"files"})
_ANY = "0"  # OSV: a range that begins with this one begins before all versions


def read_advisories(path: str, files: Files, where: str, warnings: list[str]) -> list[Listed]:
    """The versions that a file names, project by project; `where` says who names the file.

    Raises SettingsError for a file that cannot be read or understood.
    """
    if not path.endswith(".json"):
        return read_requirements(path, files, where, warnings)
    try:
        document = json.loads(files.read(path))
        return list(_affected(document, path))
    except OSError as error:
        raise SettingsError(f"{where}: cannot read {path!r}: {error.strerror}") from error
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise SettingsError(f"{path}: not an advisory in OSV's format: {error!s:.120}") from error


def _affected(document: dict[str, Any], path: str) -> Iterator[Listed]:
    if document.get("withdrawn"):
        return
    for affected in document["affected"]:
        package = affected.get("package", {})
        if str(package.get("ecosystem", "")).partition(":")[0] != "PyPI":
            continue
        try:
            name = normalize(package["name"])
        except InvalidName as error:
            raise ValueError(error) from error
        specifiers = [f"=={text}" for text in affected.get("versions") or () if parsed(text) is not None]
        for versions in affected.get("ranges") or ():
            if versions["type"] == "ECOSYSTEM":
                specifiers += _ranges(versions["events"])
        for specifier in specifiers:
            yield Listed(name, specifier, is_bare=not specifier, where=path)


def _ranges(events: list[dict[str, str]]) -> Iterator[str]:
    """Specifiers of what lies between the events of a range."""
    begun: str | None = None
    for event in events:
        if "introduced" in event:
            begun = "" if event["introduced"] == _ANY else f">={_version(event['introduced'])}"
        elif begun is not None and ("fixed" in event or "last_affected" in event):
            end = f"<{_version(event['fixed'])}" if "fixed" in event else f"<={_version(event['last_affected'])}"
            yield ",".join(filter(None, (begun, end)))
            begun = None
    if begun is not None:
        yield begun


def _version(text: str) -> str:
    if parsed(text) is None:
        raise ValueError(f"no version: {text!r:.80}")
    return text
