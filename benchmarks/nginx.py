"""nginx in front of a synthetic upstream: one worker, in a folder of its own, ended with the block."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from benchmarks.measure import children, cpu_s_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.upstream import Upstream

START_LIMIT_S = 20.0
ECHO_MODULE = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")  # Debian: libnginx-mod-http-echo
CONFIGURATION = """\
{user}{modules}daemon off;
worker_processes 1;
pid {home}/nginx.pid;
error_log {home}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  tcp_nodelay on;
  keepalive_requests 10000000;
  keepalive_timeout 300s;
  server_tokens off;
  absolute_redirect off;
  client_body_temp_path {home}/body;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
  types {{ }}
  default_type application/octet-stream;
  map_hash_max_size 2097152;
  map_hash_bucket_size 256;
  map $http_accept $form {{ default html; "~application/vnd\\.pypi\\.simple\\.(v1|latest)\\+json" json; }}
  map $project $serial {{ default ""; include {serial_map}; }}
  server {{
    listen 127.0.0.1:{port}{secure} backlog=4096;
    {certificate}
    root {tree};
    location = /simple {{ return 301 /simple/; }}
    location = /simple/ {{
      types {{ application/vnd.pypi.simple.v1+json json; text/html html; }}
      add_header X-PyPI-Last-Serial {last_serial};
      add_header Vary Accept;
      try_files /root.$form =404;
    }}
    location ~ ^/simple/(?<project>[^/]+)/$ {{ {answer_page} }}
    location @page {{
      types {{ application/vnd.pypi.simple.v1+json json; text/html html; }}
      add_header X-PyPI-Last-Serial $serial;
      add_header Vary Accept;
      try_files /simple/$project.$form =404;
    }}
    location ~ ^/pypi/(?<project>[^/]+)/json$ {{
      types {{ application/json json; }}
      add_header X-PyPI-Last-Serial $serial;
      try_files /pypi/$project.json =404;
    }}
    location /packages/ {{ }}
    location / {{ return 404; }}
  }}
}}
"""


class Server:
    """A running nginx."""

    def __init__(self, pid: int, certificate: Path) -> None:
        self._pid = pid
        self.certificate = certificate  # to be trusted, where it speaks TLS

    def cpu_s(self) -> float:
        """CPU time used so far, user and system, by the master and the worker."""
        return cpu_s_of([self._pid, *children(self._pid)])


@contextmanager
def serve(
    upstream: Upstream, *, delay_s: float = 0.0, tls: Literal["HTTP/1.1", "HTTP/2"] | None = None
) -> Iterator[Server]:
    """Serve an upstream on loopback until the block is left; each page only after a delay, and perhaps over TLS.

    Raises RuntimeError if nginx is missing, or its echo module where there is a delay, if the port is taken, or if
    nginx does not answer.
    """
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if not program:
        raise RuntimeError("nginx is not installed (hint: it serves the benchmark's upstream)")
    modules = ""
    answer_page = "try_files /nowhere @page;"
    if delay_s:
        if not ECHO_MODULE.exists():
            raise RuntimeError("nginx's echo module is not installed (hint: apt install libnginx-mod-http-echo)")
        modules = f"load_module {ECHO_MODULE};\n"
        answer_page = f"echo_sleep {delay_s:.3f}; echo_exec @page;"
    _require_free(upstream.port)
    home = Path(tempfile.mkdtemp(prefix="fastmirror-bench-nginx-"))
    secure = certificate = ""
    if tls:
        pair = _make_certificate(home)
        secure = " ssl http2" if tls == "HTTP/2" else " ssl"
        certificate = f"ssl_certificate {pair}; ssl_certificate_key {pair};"
    user = f"user {pwd.getpwuid(0).pw_name};\n" if os.geteuid() == 0 else ""
    configuration = home / "nginx.conf"
    configuration.write_text(
        CONFIGURATION.format(
            user=user,
            modules=modules,
            answer_page=answer_page,
            secure=secure,
            certificate=certificate,
            home=home,
            serial_map=upstream.serial_map,
            port=upstream.port,
            tree=upstream.tree,
            last_serial=upstream.last_serial,
        )
    )
    process = subprocess.Popen([program, "-p", home, "-e", home / "error.log", "-c", configuration])
    try:
        _await_answer(process, upstream.port, home / "error.log")
        yield Server(process.pid, home / "certificate.pem")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=START_LIMIT_S)
        shutil.rmtree(home, ignore_errors=True)


def _make_certificate(home: Path) -> Path:
    """A key and a certificate for loopback that signs itself, in one file."""
    path = home / "certificate.pem"
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    words += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    key = home / "key.pem"
    subprocess.run(["openssl", *words, "-keyout", key, "-out", path], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + key.read_bytes())
    return path


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise RuntimeError(f"port is taken: {port} (hint: --port N)") from error


def _await_answer(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"nginx ended at once: {log.read_text().strip()[-500:]!r}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise RuntimeError(f"nginx does not answer on port {port}") from None
            time.sleep(0.02)
        else:
            return
