"""Where a webhook may go: https to a public address, unless its endpoint allows more."""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

longest_url = 2048
longest_name = 253
_nat64 = IPv6Network("64:ff9b::/96")
_not_public = (IPv4Network("168.63.129.16/32"), IPv4Network("192.88.99.0/24"), IPv6Network("3fff::/20"))
"""What `ipaddress` takes for public: a cloud's own service for its machines, relays of 6to4, and documentation."""
_label = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_number = re.compile(r"[0-9]+|0x[0-9a-f]*")
_name = re.compile(rf"{_label}(\.{_label})*\.?")


class UrlRefused(Exception):
    """A URL that no webhook goes to, with what is expected."""


def check_url(url: str, allow_private: bool) -> None:
    """Raise `UrlRefused` unless a webhook may go to this URL, as far as it can be read off.

    What a name resolves to is checked whenever a connection is made.
    """
    if len(url) > longest_url or not url.isascii() or not url.isprintable() or " " in url:
        raise UrlRefused(f"expected a URL of up to {longest_url} ASCII characters without blanks")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise UrlRefused("expected a URL like https://app.example.com/webhooks") from None
    is_host = _is_host(host, is_bracketed="[" in parts.netloc)
    if parts.scheme not in ("http", "https") or not is_host or port == 0:
        raise UrlRefused("expected a URL like https://app.example.com/webhooks")
    if "@" in parts.netloc or "#" in url:
        raise UrlRefused("expected a URL without user information and fragment: the signature says who sends")
    if parts.scheme == "http" and not allow_private:
        raise UrlRefused("expected https; --allow-private allows http in a network of your own")
    if not allow_private and (why := find_fault(host)) is not None:
        raise UrlRefused(f"{why}; --allow-private allows addresses in a network of your own")


def _is_host(host: str, *, is_bracketed: bool) -> bool:
    """Return whether it is an address, in brackets if it is one of IPv6, or a name that can be looked up."""
    try:
        return is_bracketed is (ip_address(host).version == 6)
    except ValueError:
        return not is_bracketed and len(host) <= longest_name and _name.fullmatch(host) is not None


def find_fault(host: str) -> str | None:
    """Return why a host is not to be connected to, as far as it says so itself; None if it is public, or a name.

    A host that ends in a number is an address to whoever resolves it, in each of the ways that C has to write numbers:
    `2130706433`, `0x7f.1` and `0177.0.0.1` are 127.0.0.1 (URL Standard §3.5). A proxy would resolve it for us, so only
    the usual way is taken.
    """
    try:
        address = ip_address(host)
    except ValueError:
        last = host.lower().removesuffix(".").rpartition(".")[2]
        if last == "localhost":
            return f"{host} is this machine"
        return f"{host} is an address that is not written as four numbers" if _number.fullmatch(last) else None
    return None if is_public(address) else f"{host} is not a public address"


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Return whether an address is one of the Internet's; one that carries an IPv4 address is what that is.

    Not public are private and shared networks (RFC 1918, RFC 6598), loopback, link-local, multicast, reserved and
    documentation addresses, the tunnels that no one uses any more (6to4, Teredo), and what `_not_public` names.
    """
    if any(address in network for network in _not_public):
        return False
    if isinstance(address, IPv4Address):
        return address.is_global and not (address.is_multicast or address.is_reserved)
    carried = _find_carried(address)
    if carried is not None:
        return is_public(carried)
    is_tunnel = address.sixtofour is not None or address.teredo is not None
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_site_local or is_tunnel)


def _find_carried(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that a packet to this one ends at: mapped, or translated (RFC 6052)."""
    if address in _nat64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped
