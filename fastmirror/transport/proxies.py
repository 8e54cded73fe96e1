"""Which hosts are reached without the proxy: libcurl's rules for NO_PROXY, for who does not go through libcurl."""

from __future__ import annotations

from ipaddress import ip_address, ip_network


def is_exempt(host: str, no_proxy: str) -> bool:
    """Whether NO_PROXY names this host: itself, a domain above it, its address or network, or ``*`` alone.

    host: without port and brackets. no_proxy: with commas between.
    """
    if no_proxy == "*":
        return True
    tokens = no_proxy.split(",")
    try:
        address = ip_address(host)
    except ValueError:
        name = host.lower().rstrip(".")
        parents = (token.lower().removeprefix(".").rstrip(".") for token in tokens)
        return any(parent and (name == parent or name.endswith(f".{parent}")) for parent in parents)
    for token in tokens:
        try:
            network = ip_network(token, strict=False)
        except ValueError:
            continue
        if address in network:
            return True
    return False
