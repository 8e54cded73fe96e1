"""The configuration that makes nginx serve a mirror's tree."""

from __future__ import annotations

import re
import shlex
from ipaddress import IPv6Address
from string import Template
from typing import TYPE_CHECKING

from fastmirror.errors import SettingsError
from fastmirror.feed import STEP_PATHS
from fastmirror.layout import BUCKET_NAMES, BUCKET_SHARE, Layout

if TYPE_CHECKING:
    from fastmirror.layout import Tree

# What a URL may hold, in words that Python's and nginx's regular expressions share.
PROJECT = "(?P<project>[a-z0-9]+(?:-[a-z0-9]+)*)"
PYPI_PATH = "packages/(?P<aa>[0-9a-f]{2})/(?P<b>[0-9a-f])[0-9a-f]/[0-9a-f]{60}/(?P<filename>[^/]+)"

PAGE_CACHE = "public, max-age=600"
FILE_CACHE = "public, max-age=31536000, immutable"
HEAD_CACHE = "public, max-age=60"


class _Text(Template):
    """Text with ``@{holes}``, as nginx has ``$`` and braces of its own."""

    delimiter = "@"


_NGINX = _Text(r"""# nginx for the mirror in @{directory} (layout: @{tree}), as `fastmirror nginx` printed it.
#
#     mkdir -p @{shell_home}
#     nginx -c /path/to/this-file -t            checks it
#     nginx -c /path/to/this-file               starts it
#     nginx -c /path/to/this-file -s reload     after a change; -s quit: stops it
#
# The directory made there holds nginx's process id and its logs. The path behind -c must be absolute.
# Any user may start it; it needs no module that stock nginx lacks.
# To have it served by an nginx that runs already: copy what follows the temporary paths into its `http`.
@{root_uri}
# Whom the workers run as when root starts nginx, else nobody. The tree must be readable to them.
#user www-data;
worker_processes auto;
worker_rlimit_nofile 4096;
pid "@{home}/nginx.pid";
error_log "@{home}/error.log" warn;

events {
    worker_connections 2048;
}

http {
    access_log "@{home}/access.log";

    # A static server never fills these, but nginx makes them at its start.
    client_body_temp_path "@{home}/client_body";
    proxy_temp_path "@{home}/proxy";
    fastcgi_temp_path "@{home}/fastcgi";
    uwsgi_temp_path "@{home}/uwsgi";
    scgi_temp_path "@{home}/scgi";

    # The serialisation that the Accept header asks for: first what it lists at full weight, then what it
    # lists at any weight but 0, each time JSON before HTML. Where it lists none of them: text/html.
    map $http_accept $page_format {
        default html;
        "~*@{json_type}@{full_weight}" v1_json;
        "~*@{v1_html_type}@{full_weight}" v1_html;
        "~*@{html_type}@{full_weight}" html;
        "~*@{json_type}@{some_weight}" v1_json;
        "~*@{v1_html_type}@{some_weight}" v1_html;
    }

    map $status $allow {
        default "";
        405     "GET, HEAD";
    }

    server {
        # For TLS: `listen 443 ssl;` with ssl_certificate and ssl_certificate_key, or a proxy in front.
        listen @{listen};
        root "@{directory_text}/web";

        # Redirects name the path alone, so that they hold behind any proxy.
        absolute_redirect off;

        # A page's media type, by the ending of its file. Installers refuse a page under another type.
        types {
            text/html                           html;
            application/vnd.pypi.simple.v1+html v1_html;
            application/vnd.pypi.simple.v1+json v1_json;
        }
        charset utf-8;
        charset_types application/vnd.pypi.simple.v1+html text/plain;

        # Files go from the page cache to the socket. No open_file_cache: a replaced page is seen at once.
        sendfile on;
        tcp_nopush on;
        server_tokens off;

        # Pages shrink to a tenth. Files are left as they are: their bytes are what installers hash.
        gzip on;
        gzip_comp_level 4;
        gzip_min_length 1000;
        gzip_proxied any;
        gzip_types application/vnd.pypi.simple.v1+json application/vnd.pypi.simple.v1+html application/json;

        # Of every page; a location with headers of its own has only those.
        add_header Cache-Control "@{page_cache}";
        add_header Vary "Accept, Accept-Encoding";
        add_header Allow $allow always;

        if ($request_method !~ "^(?:GET|HEAD)\z") {
            return 405;
        }

        # Only what is named below is served.
        location / {
            return 404;
        }
        location ~ "/\." {
            return 404;
        }

        # The list of all projects. A serialisation that the mirror does not keep gives way to one it does.
        location = /simple/ {
            set $page /simple/index;
            try_files $page.$page_format $page.v1_html $page.html $page.v1_json =404;
        }
        location ~ "^(?:/simple|/simple/@{project})\z" {
            return 301 $uri/;
        }
@{layout_locations}
        # Files under names that never stand for other bytes. nginx answers Range, for resumed downloads.
        location /packages/ {
            types { }
            default_type application/octet-stream;
            add_header Cache-Control "@{file_cache}";
            try_files $uri =404;
        }

        # What the mirror keeps of PyPI's JSON API, if anything.
        location ~ "^/json/@{project}\z" {
            types { }
            default_type application/json;
            add_header Cache-Control "@{page_cache}";
            add_header Vary Accept-Encoding;
            try_files @{json_file} =404;
        }
        location ~ "^/pypi/@{project}/json\z" {
            types { }
            default_type application/json;
            add_header Cache-Control "@{page_cache}";
            add_header Vary Accept-Encoding;
            try_files @{json_file} =404;
        }

        # What has changed in the list of all projects, for mirrors of this mirror.
        location = /changes/head.json {
            types { }
            default_type application/json;
            add_header Cache-Control "@{head_cache}";
            add_header Vary Accept-Encoding;
            try_files $uri =404;
        }
        location ~ "^/@{step}\z" {
            types { }
            default_type application/json;
            add_header Cache-Control "@{file_cache}";
            add_header Vary Accept-Encoding;
            try_files $uri =404;
        }

        # How fresh the mirror is, for monitoring.
        location = /last-modified {
            types { }
            default_type text/plain;
            add_header Cache-Control no-cache;
            try_files $uri =404;
        }
        location = /status {
            return 301 /status/;
        }
        location = /status/ {
            add_header Cache-Control no-cache;
            try_files /status/index.html =404;
        }
        location /status/ {
            types {
                text/html        html;
                application/json json;
            }
            default_type text/plain;
            add_header Cache-Control no-cache;
            try_files $uri =404;
        }
    }
@{buckets}}
""")

_FLAT_LOCATIONS = _Text(r"""
        # A project's page, in its own directory.
        location ~ "^/simple/@{initial}@{project}/\z" {
            set $page /simple/@{page_directory}/index;
            try_files $page.$page_format $page.v1_html $page.html $page.v1_json =404;
        }
""")

_HASHED_LOCATIONS = _Text(r"""
        # A project's page, in its bucket. There is no .v1_html: .html is sent as either.
        location ~ "^/simple/@{project}/\z" {
            try_files /simple/$bucket/$project.$page_format @@v1_html;
        }
        location @@v1_html {
            types {
                application/vnd.pypi.simple.v1+html html;
                application/vnd.pypi.simple.v1+json v1_json;
            }
            try_files /simple/$bucket/$project.html /simple/$bucket/$project.v1_json =404;
        }

        # PyPI's own path of a file: kept there if its name was taken, else with the other files.
        location ~ "^/@{pypi_path}\z" {
            types { }
            default_type application/octet-stream;
            add_header Cache-Control "@{file_cache}";
            try_files $uri /packages/$aa$b/$filename =404;
        }
""")


# The parts of an Accept header, as regular expressions.
_ACCEPT = {
    "json_type": r"(?:^|,)\s*application/vnd\.pypi\.simple\.(?:v1|latest)\+json\s*",
    "v1_html_type": r"(?:^|,)\s*application/vnd\.pypi\.simple\.(?:v1|latest)\+html\s*",
    "html_type": r"(?:^|,)\s*text/html\s*",
    "full_weight": r"(?:;\s*q\s*=\s*1(?:\.0*)?\s*)?(?:,|\z)",
    "some_weight": r";\s*q\s*=\s*0\.0*[1-9]",
}


def _buckets() -> str:
    """The block that computes a project's bucket, as layout.bucket does."""
    shares = [f"{BUCKET_SHARE} {name};" for name in BUCKET_NAMES[:-1]] + [f"* {BUCKET_NAMES[-1]};"]
    lines = [" ".join(shares[i : i + 8]) for i in range(0, len(shares), 8)]
    return "\n".join(
        [
            "",
            "    # Pages lie in 256 directories, by a hash of the project's name. The mirror computes the same one:",
            "    # any change here hides pages.",
            '    split_clients "$project" $bucket {',
            *(f"        {line}" for line in lines),
            "    }",
            "",
        ]
    )


def nginx_configuration(
    directory: str, tree: Tree, *, listen: str = "127.0.0.1:8080", root_uri: str | None = None
) -> str:
    """A whole nginx configuration that serves the mirror in ``directory`` (absolute).

    ``listen`` is HOST:PORT, [IPv6]:PORT or PORT. With ``root_uri`` pages name files below that URI, which is
    only remarked. Raises SettingsError for a directory that nginx cannot be told and for another ``listen``.
    """
    quoted = _quoted_directory(directory)
    hashed = tree.layout is Layout.HASHED
    holes = {
        **_ACCEPT,
        "directory": directory,
        "directory_text": quoted,
        "home": f"{quoted}/.fastmirror/nginx",
        "shell_home": shlex.quote(f"{directory.rstrip('/')}/.fastmirror/nginx"),
        "tree": f"{tree.layout}{' (hash-index)' if tree.hash_index else ''}",
        "root_uri": "",
        "listen": _checked_listen(listen),
        "page_cache": PAGE_CACHE,
        "file_cache": FILE_CACHE,
        "head_cache": HEAD_CACHE,
        "step": STEP_PATHS,
        "project": PROJECT,
        "pypi_path": PYPI_PATH,
        "json_file": "/json/$bucket/$project" if hashed else "/json/$project",
        "initial": "(?=(?P<initial>.))" if tree.hash_index else "",
        "page_directory": "$initial/$project" if tree.hash_index else "$project",
        "buckets": _buckets() if hashed else "",
    }
    if root_uri:
        holes["root_uri"] = (
            f"#\n# Pages name files below {root_uri!r}, at PyPI's own paths; so has this server those it has.\n"
        )
    locations = _HASHED_LOCATIONS if hashed else _FLAT_LOCATIONS
    return _NGINX.substitute(holes, layout_locations=locations.substitute(holes))


_UNQUOTABLE = re.compile(r"[\x00-\x1f\x7f$\ud800-\udfff]")


def _quoted_directory(directory: str) -> str:
    """The directory as it stands between double quotes in nginx's configuration."""
    if not directory.startswith("/"):
        raise SettingsError(f"invalid directory (not absolute): {directory!r} (hint: give the path from the root)")
    if _UNQUOTABLE.search(directory):
        raise SettingsError(
            f"invalid directory (nginx cannot be told of $, control characters or broken text): {directory!r}"
            " (hint: give nginx another path to it, by a link or a bind mount)"
        )
    return directory.rstrip("/").replace("\\", "\\\\").replace('"', '\\"')


def _checked_listen(listen: str) -> str:
    """The address as nginx takes it."""
    host, colon, port = listen.rpartition(":")
    valid = re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) is not None and 0 < int(port) < 65536
    if valid and host.startswith("[") and host.endswith("]"):
        try:
            IPv6Address(host[1:-1])
        except ValueError:
            valid = False
    elif valid and colon:
        valid = re.fullmatch(r"\*|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?", host, re.ASCII) is not None
    if not valid:
        raise SettingsError(
            f"invalid listen address: {listen!r} (hint: HOST:PORT, [IPV6]:PORT or PORT, as in 127.0.0.1:8080)"
        )
    return listen
