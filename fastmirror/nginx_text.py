"""The text of the configuration that makes nginx serve a mirror's tree, with holes for what differs."""

from __future__ import annotations

from string import Template


class _Text(Template):
    """Text with ``@{holes}``, as nginx has ``$`` and braces of its own."""

    delimiter = "@"


NGINX = _Text(r"""# nginx for the mirror in @{directory} (layout: @{tree}), as `fastmirror nginx` printed it.
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
@{document}
        }

        # The same list as shadowmire reads it, where the mirror writes it.
        location ~ "^/local\.(?:json|db\.serial)\z" {
            types { application/json json; }
            default_type text/plain;
            add_header Cache-Control "@{page_cache}";
            add_header Vary Accept-Encoding;
            try_files $uri =404;
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
@{buckets}@{serial_map}}
""")

FLAT_LOCATIONS = _Text(r"""
        # A project's page, in its own directory.
        location ~ "^/simple/@{initial}@{project}/\z" {
            set $page /simple/@{page_directory}/index;
            try_files $page.$page_format $page.v1_html $page.html $page.v1_json =404;
        }
        location ~ "^/simple/@{initial}@{project}/index\.v1_json\z" {
            try_files /simple/@{page_directory}/index.v1_json =404;
        }
""")

HASHED_LOCATIONS = _Text(r"""
        # A project's page, in its bucket. There is no .v1_html: .html is sent as either.
        location ~ "^/simple/@{project}/\z" {
            try_files /simple/$bucket/$project.$page_format @@v1_html;
        }
        location ~ "^/simple/@{project}/index\.v1_json\z" {
            try_files /simple/$bucket/$project.v1_json =404;
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

# One serial for all, of which each run says that no document is older. The root is a link, read at each request.
SERIAL_MAP = r"""
    # The serial that each document is at least of, for bandersnatch: the name of what each run's link leads to.
    map $realpath_root $shown_serial {
        default "";
        "~/serial/(?<shown>[0-9]+)\z" $shown;
    }
"""
DOCUMENT = _Text("""\
            try_files @{json_file} =404;""")
DOCUMENT_WITH_SERIAL = _Text("""\
            add_header X-PyPI-Last-Serial $shown_serial;
            root "@{directory_text}/.fastmirror/@{serial_root}";
            try_files /web@{json_file} =404;""")
