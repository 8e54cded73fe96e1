"""The commands that offer a mirror to its readers: nginx and serve."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from fastmirror.commands import app, require_directories, require_mirror
from fastmirror.errors import SettingsError
from fastmirror.face import LOOK_STATUSES, Directory, Sets, answering, load_settings, show

if TYPE_CHECKING:
    from fastmirror.layout import Tree
    from fastmirror.settings import Settings

__all__ = ["app"]


@app.command(epilog=LOOK_STATUSES)
@answering
def nginx(
    context: typer.Context,
    *,
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Where nginx is to listen.")
    ] = "127.0.0.1:8080",
    for_bandersnatch: Annotated[
        bool,
        typer.Option("--for-bandersnatch", help="With a serial on each JSON document, so that bandersnatch follows."),
    ] = False,
    directory: Directory = None,
    sets: Sets = None,
) -> int:
    """Print a complete nginx configuration for this mirror."""
    settings = load_settings(context.obj.configuration, directory=directory, sets=sets)
    if for_bandersnatch and not settings.pages.legacy_json:
        raise SettingsError("--for-bandersnatch: needs the JSON documents (hint: json = true, and a run)")
    tree = _tree(settings)
    from fastmirror.nginx import nginx_configuration

    text = nginx_configuration(
        settings.storage.directory,
        tree,
        listen=listen,
        root_uri=settings.pages.root_uri,
        for_bandersnatch=for_bandersnatch,
    )
    show(text.rstrip("\n"))
    return 0


@app.command(epilog=f"{LOOK_STATUSES[:-1]}; 130, 143 interrupted.")
@answering
def serve(
    context: typer.Context,
    *,
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="The port to listen on; 0: one that is free.")
    ] = 8080,
    directory: Directory = None,
    sets: Sets = None,
) -> int:
    """Serve this mirror, for a laptop or a test."""
    settings = load_settings(context.obj.configuration, directory=directory, sets=sets)
    tree = _tree(settings)
    from fastmirror.inquiry import published_serial, read_status
    from fastmirror.metrics import metrics_text
    from fastmirror.serving import Telling
    from fastmirror.serving import serve as serve_until_interrupted

    def tell(port: int) -> None:
        address = f"[{host}]" if ":" in host else host
        show(f"pip install --index-url http://{address}:{port}/simple/ PROJECT")

    telling = Telling(lambda: metrics_text(read_status(settings)), partial(published_serial, settings))
    serve_until_interrupted(settings.storage.directory, tree, host, port, tell, telling)
    return 0


def _tree(settings: Settings) -> Tree:
    require_directories(settings)
    require_mirror(settings)
    from fastmirror.inquiry import open_tree

    return open_tree(settings)
