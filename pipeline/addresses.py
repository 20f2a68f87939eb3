"""Addresses in settings: validation of URLs, web origins and networks, and checks of addresses."""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

# Browsers omit a scheme's default port.  Pages of apps and extensions have schemes of their own.
_ORIGIN = re.compile(
    r"(?!http://.*:80$|https://.*:443$)(?!(?:ftp|file|wss?|data|blob|javascript):)"
    r"[a-z][a-z0-9+.-]*://([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:\d{1,5})?"
)
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_HOST_MAX = 253


def _check_http_url(value: str) -> str:
    if not _is_http_url(value):
        raise ValueError("should be an http:// or https:// address such as http://127.0.0.1:4566")
    return value


def _check_origins(value: str) -> str:
    for origin in separated(value):
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(
                "should be origins as browsers send them (scheme, host and any port that is not the default), such "
                f"as https://studio.example, http://localhost:3000 or app://notes.example, not {origin!r}"
            )
    return value


def _check_networks(value: str) -> str:
    for network in separated(value):
        try:
            ip_network(network)
        except ValueError:
            raise ValueError(
                f"should be addresses or networks such as 127.0.0.1,10.0.0.0/8, not {network!r}"
            ) from None
    return value


HttpUrl = Annotated[str, AfterValidator(_check_http_url)]
Origins = Annotated[str, AfterValidator(_check_origins)]
Networks = Annotated[str, AfterValidator(_check_networks)]


def separated(values: str | None) -> tuple[str, ...]:
    """Return the values of a comma-separated setting."""
    return tuple(value.strip() for value in (values or "").split(",") if value.strip())


def is_host(host: str) -> bool:
    """Return whether a text is an IP address, or an ASCII host name that can be looked up (RFC 1123, RFC 3490)."""
    try:
        ip_address(host)
    except ValueError:
        labels = host.removesuffix(".").split(".")
        # A name that ends in a number would be read as an IPv4 address of an unusual form.
        return len(host) <= _HOST_MAX and all(map(_is_label, labels)) and not re.match(r"\d+$|0x", labels[-1])
    return "%" not in host  # an IPv6 address with a zone is valid on one machine only


def _is_label(label: str) -> bool:
    if not _LABEL.fullmatch(label):
        return False
    if not label.lower().startswith("xn--"):
        return True
    try:
        return bool(label.lower().encode().decode("idna"))
    except UnicodeError:
        return False


def is_loopback(host: str) -> bool:
    """Return whether an address to listen on can be reached from this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_loopback_url(url: str) -> bool:
    """Return whether a URL refers to the loopback interface of the machine that requests it."""
    return is_loopback(urlsplit(url).hostname or "")


# The IPv6 addresses of hosts (RFC 4291), and the ranges of them that contain an IPv4 address.
_UNICAST = ip_network("2000::/3")
_TUNNELS = (ip_network("2001::/32"), ip_network("2002::/16"))


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Return whether an address is that of a host on the internet, in no private, local or reserved range."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return is_public(address.ipv4_mapped)
        if address not in _UNICAST or any(address in network for network in _TUNNELS):
            return False
    return address.is_global and not address.is_multicast


_IPV6_HOST_BITS = 64  # a client that has one IPv6 address usually has its whole /64


def client_network(address: str) -> str:
    """Return the identity of a client in limits: its IPv4 address, or the /64 network of its IPv6 address."""
    try:
        ip = ip_address(address)
    except ValueError:  # a client over a Unix socket has no address
        return address
    if not isinstance(ip, IPv6Address):
        return str(ip)
    return str(ip.ipv4_mapped or f"{int(ip) >> _IPV6_HOST_BITS:x}/{_IPV6_HOST_BITS}")


def _is_http_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # unbalanced brackets, or a port that is not a number
        return False
