"""The commands that carry a mirror to where no network is: export and import."""

from __future__ import annotations

import os
from functools import partial
from typing import Annotated

import typer

from fastmirror.commands import at_work, require_directories, require_mirror
from fastmirror.face import Directory, Sets, answering, load_settings, show
from fastmirror.masking import clean
from fastmirror.progress import human_bytes
from fastmirror.upkeep import app

__all__ = ["app"]

_Bundle = Annotated[str, typer.Argument(metavar="DIR", help="The bundle's directory.")]


@app.command(
    epilog="Exit status: 0 the bundle is whole; 1 something at rest is damaged, the last run was cut off, or a default"
    " configuration was just written; 2 settings; 3 another run holds the mirror; 5 --since names what is no bundle;"
    " 6 storage failed; 70 a bug."
)
@answering
def export(
    context: typer.Context,
    bundle: _Bundle,
    *,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="LAST", help="What changed since this bundle: its number or its directory."),
    ] = None,
    sign_key: Annotated[
        str | None, typer.Option("--sign-key", metavar="FILE", help="Sign the manifest with this ssh key.")
    ] = None,
    directory: Directory = None,
    sets: Sets = None,
) -> int:
    """Write the mirror, or what has changed in it, as a bundle for `import` elsewhere."""
    settings = load_settings(context.obj.configuration, directory=directory, sets=sets)
    require_directories(settings)
    require_mirror(settings)
    from fastmirror.exporting import export_mirror, last_export

    last = None if since is None else last_export(since)
    with at_work(context, settings) as progress:
        done = export_mirror(settings, os.path.abspath(bundle), last, sign_key, progress)
    what = f"what changed since bundle {done.since}" if done.since else "everything"
    show(f"bundle {done.number}: {what}; {done.written:,} paths, {human_bytes(done.bytes)}, {done.removed:,} removed")
    show(f"the next one: fastmirror export --since {done.number} DIR")
    return 0


@app.command(
    "import",
    epilog="Exit status: 0 it is applied; 1 a default configuration was just written; 2 settings, or a tree of another"
    " layout; 3 another run holds the mirror; 5 the bundle is not whole, not signed, older than what is here, or not"
    " the next one, and nothing is changed; 6 storage failed; 70 a bug.",
)
@answering
def import_(
    context: typer.Context,
    bundle: _Bundle,
    *,
    allowed_signers: Annotated[
        str | None,
        typer.Option("--allowed-signers", metavar="FILE", help="Refuse what none of these has signed (ssh-keygen(1))."),
    ] = None,
    directory: Directory = None,
    sets: Sets = None,
) -> int:
    """Apply a bundle that `export` wrote, once all of it is checked."""
    settings = load_settings(context.obj.configuration, directory=directory, sets=sets)
    require_directories(settings)
    from fastmirror.importing import import_bundle
    from fastmirror.telling import tell

    with at_work(context, settings) as progress:
        done = import_bundle(
            settings, os.path.abspath(bundle), allowed_signers, progress, ended=partial(tell, settings)
        )
    signed = f", signed by {clean(done.signer)}" if done.signer else ""
    changed = f"{done.projects:,} projects changed, {done.written:,} paths, {human_bytes(done.bytes)}"
    show(f"bundle {done.number}{signed}: {changed}, {done.removed:,} removed")
    return 0
