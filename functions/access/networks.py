"""Grouping of addresses that belong to one client."""

from ipaddress import IPv6Address, ip_address

_HOST_BITS = 64  # a client that has one IPv6 address usually has its whole /64


def network_of(address: str) -> str:
    """Return an IPv4 address in its usual form, or the /64 of an IPv6 one."""
    try:
        ip = ip_address(address)
    except ValueError:  # a client over a Unix socket has no address
        return address
    if not isinstance(ip, IPv6Address):
        return str(ip)
    return str(ip.ipv4_mapped or f"{int(ip) >> _HOST_BITS:x}/{_HOST_BITS}")
