"""The upstream's part of the configuration: whom to ask, by which way, and how much of an answer is taken."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from fastmirror import ini
from fastmirror.errors import SettingsError
from fastmirror.settings import BodyLimits, UpstreamSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_MASTER = "https://pypi.org"
HOST_MIRROR_VARIABLE = "FASTMIRROR_DOWNLOAD_MIRROR"  # of a cluster's host: download mirrors near to it

_proxy_address = ini.url("http", "https", "socks4", "socks5", "socks5h")
# bandersnatch's order of precedence, each with the scheme of a value that has none. Lower case comes first.
_PROXY_VARIABLES = {
    "SOCKS5_PROXY": "socks5",
    "SOCKS4_PROXY": "socks4",
    "SOCKS_PROXY": "socks5",
    "HTTPS_PROXY": "http",
    "HTTP_PROXY": "http",
    "ALL_PROXY": "http",
}


def read_upstream(config: ini.Ini, environment: Mapping[str, str], warnings: list[str]) -> UpstreamSettings:
    """Read what concerns the upstream; what is ignored is added to `warnings`."""
    allow_non_https = config.read("mirror", "allow-non-https", ini.boolean, False)
    master, credentials = config.read("mirror", "master", lambda _: DEFAULT_MASTER, DEFAULT_MASTER), None
    if entry := config.get("mirror", "master"):
        address = ini.url("http", "https")(entry)
        if address.scheme == "http" and entry.is_override:  # typed, hence meant, unless the contrary is typed too
            stated = config.get("mirror", "allow-non-https")
            allow_non_https |= stated is None or not stated.is_override
        if address.scheme == "http" and not allow_non_https:
            raise entry.refused("an https address (hint: allow-non-https = true)")
        userinfo, _, host = address.netloc.rpartition("@")
        master = address._replace(netloc=host).geturl().rstrip("/")
        user, _, password = userinfo.partition(":")
        credentials = (unquote(user), unquote(password)) if userinfo else None
    proxy = config.read("mirror", "proxy", ini.optional(lambda entry: _proxy_address(entry).geturl()), None)
    is_chosen = proxy is not None
    no_proxy = ""
    if not is_chosen and (found := _environments_proxy(environment, warnings)):
        proxy, no_proxy = found.proxy, found.no_proxy
        config.decided("mirror", "proxy", proxy, f"environment: {found.variable}")
    return UpstreamSettings(
        master=master,
        proxy=proxy,
        proxy_is_chosen=is_chosen,
        no_proxy=no_proxy,
        ca_bundle=config.read("mirror", "ca-bundle", ini.optional(ini.path), None),
        timeout_s=config.read("mirror", "timeout", ini.seconds, 10.0),
        netrc=config.read("mirror", "netrc", ini.optional(ini.path), None),
        unhashed=config.read("mirror", "unhashed", ini.choice("refuse", "accept"), "refuse"),
        credentials=credentials,
        allow_non_https=allow_non_https,
        file_hosts=config.read("mirror", "file-hosts", _hosts, frozenset()),
        download_mirrors=_download_mirrors(config, allow_non_https),
        download_fallback=not config.read("mirror", "download-mirror-no-fallback", ini.boolean, False),
        longest_transfer_s=config.read("mirror", "global-timeout", ini.optional(ini.duration), None) or None,
        limits=BodyLimits(
            root_index=config.read("mirror", "max-root-size", _limit, 512 << 20),
            page=config.read("mirror", "max-page-size", _limit, 256 << 20),
            root_memory=config.read("mirror", "max-root-memory", _limit, 1 << 30),
            page_memory=config.read("mirror", "max-page-memory", _limit, 100 << 20),
            metadata=config.read("mirror", "max-metadata-size", _limit, 10 << 20),
            unsized_file=config.read("mirror", "max-file-size", _limit, 8 << 30),
        ),
    )


class _Found(NamedTuple):
    """A proxy that the environment names."""

    variable: str
    proxy: str
    no_proxy: str  # hosts to reach without it, with commas between


def _environments_proxy(environment: Mapping[str, str], warnings: list[str]) -> _Found | None:
    for name, scheme in _PROXY_VARIABLES.items():
        variable = next((spelt for spelt in (name.lower(), name) if environment.get(spelt, "").strip()), None)
        if variable is None:
            continue
        value = environment[variable].strip()
        text = value if "://" in value else f"{scheme}://{value}"
        try:
            proxy = _proxy_address(_named(variable, text)).geturl()
        except SettingsError as error:
            warnings.append(f"environment: {error}: ignored")
            continue
        hosts = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
        return _Found(variable, proxy, ",".join(hosts.replace(",", " ").split()))
    return None


def as_host_has_it(upstream: UpstreamSettings, environment: Mapping[str, str], warnings: list[str]) -> UpstreamSettings:
    """These settings on another host: its environment's proxy, unless one is chosen, and its own download mirrors.

    Raises SettingsError for a mirror's address that cannot be used.
    """
    if not upstream.proxy_is_chosen:
        found = _environments_proxy(environment, warnings)
        upstream = replace(upstream, proxy=found and found.proxy, no_proxy=found.no_proxy if found else "")
    if text := environment.get(HOST_MIRROR_VARIABLE, "").strip():
        own = _addresses(_named(HOST_MIRROR_VARIABLE, text), upstream.allow_non_https)
        mirrors = tuple(dict.fromkeys((*own, *upstream.download_mirrors)))
        upstream = replace(upstream, download_mirrors=mirrors)
    return upstream


def _named(variable: str, text: str) -> ini.Entry:
    """An environment's variable, as if it stood in a file."""
    return ini.Entry(variable, "", "", (ini.Line(0, text),))


def _download_mirrors(config: ini.Ini, allow_non_https: bool) -> tuple[str, ...]:
    entry = config.get("mirror", "download-mirror")
    return () if entry is None else _addresses(entry, allow_non_https)


def _addresses(entry: ini.Entry, allow_non_https: bool) -> tuple[str, ...]:
    addresses = []
    for line in entry.lines:
        for text in line.text.split():
            one = ini.Entry(entry.source, entry.section, entry.key, (ini.Line(line.number, text),))
            address = ini.url("http", "https")(one)
            if address.scheme == "http" and not allow_non_https:
                raise one.refused("an https address (hint: allow-non-https = true)")
            addresses.append(address.geturl().rstrip("/"))
    return tuple(dict.fromkeys(addresses))


_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f.]*:[0-9a-f:.]+", re.ASCII)


def _hosts(entry: ini.Entry) -> frozenset[str]:
    """Names or addresses of hosts, without ports."""
    hosts = set()
    for line in entry.lines:
        for text in line.text.lower().split():
            host = text.removeprefix("[").removesuffix("]")
            if not _HOST.fullmatch(host):
                raise entry.refused("names of hosts, without scheme and port, such as files.example", line)
            hosts.add(host)
    return frozenset(hosts)


def _limit(entry: ini.Entry) -> int:
    """Bytes, more than 0."""
    limit = ini.size(entry)
    if not limit:
        raise entry.refused("a size above 0, such as 500k, 10M or 1G")
    return limit
