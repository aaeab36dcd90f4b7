"""Which proxy a request leaves through, by the variables that curl and most HTTP clients read.

`HTTP_PROXY` and `HTTPS_PROXY` name the proxy by the scheme of the request, `ALL_PROXY` that of both, and `NO_PROXY` the
hosts that are reached directly. A name in small letters comes before the same one in capitals.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.util import find_spec
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from models.crypto.secrets import Secret

variables = {"http": "HTTP_PROXY", "https": "HTTPS_PROXY", "all": "ALL_PROXY"}
exceptions_variable = "NO_PROXY"
all_variables = tuple(
    spelling for name in (*variables.values(), exceptions_variable) for spelling in (name.lower(), name)
)
schemes = frozenset({"http", "https", "socks5", "socks5h"})
default_ports = {"http": 80, "https": 443}
expected_proxy = "expected http://USER:PASSWORD@HOST:PORT, or https, socks5 or socks5h in place of http"
expected_exception = "expected *, or hosts, domains, addresses and networks, comma-separated"
without_socks = 'SOCKS needs another package: pip install "httpx[socks]"'


@dataclass(frozen=True, slots=True)
class Direct:
    """Hosts that no proxy is used for: a pattern of names or a network; of one scheme or port if it says so."""

    names: str = ""
    network: IPv4Network | IPv6Network | None = None
    scheme: str = ""
    port: int | None = None

    def includes(self, scheme: str, host: str, port: int | None) -> bool:
        if self.scheme not in ("", scheme) or (self.port is not None and self.port != port):
            return False
        if self.network is not None:
            address = _read_address(host)
            return address is not None and address in self.network
        return fnmatchcase(host, self.names) or fnmatchcase(host, f"*.{self.names}")


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxy's URL by the scheme of a request, "all" for any other; a URL may hold a password."""

    by_scheme: Mapping[str, Secret] = field(default_factory=dict)
    direct: tuple[Direct, ...] = ()

    def find(self, scheme: str, host: str, port: int | None) -> Secret | None:
        """Return the proxy for a request to this host, or None if it leaves directly."""
        host, port = host.lower().strip("[]").rstrip("."), port or default_ports.get(scheme)
        if any(each.includes(scheme, host, port) for each in self.direct):
            return None
        return self.by_scheme.get(scheme) or self.by_scheme.get("all")


def has_socks() -> bool:
    """Whether httpx can speak SOCKS here."""
    return find_spec("socksio") is not None


def read_proxies(environ: Mapping[str, str], has_socks: bool) -> tuple[Proxies, list[str]]:
    """Return the proxies that these variables name, and a problem for each that can't be used, without its value.

    A URL without a scheme is one of http. `has_socks` says whether the package for SOCKS is installed.
    """
    found, problems = dict[str, Secret](), list[str]()
    for scheme, name in variables.items():
        for variable, text in _find(environ, name):
            try:
                found.setdefault(scheme, _read_proxy(text, has_socks))
            except ValueError as trouble:
                problems.append(f"{variable}: {trouble}")
    direct: list[Direct] = []
    for variable, text in _find(environ, exceptions_variable):
        try:
            read = [_read_exception(part) for part in re.split(r"[,\s]+", text) if part]
        except ValueError:
            problems.append(f"{variable}: {expected_exception}")
        else:
            direct = direct or read
    return Proxies(found, tuple(direct)), problems


def _find(environ: Mapping[str, str], name: str) -> Iterator[tuple[str, str]]:
    """Yield both spellings of a variable with their values, the one that counts first."""
    for variable in (name.lower(), name):
        text = environ.get(variable, "").strip()
        if text:
            yield variable, text


def _read_proxy(text: str, has_socks: bool) -> Secret:
    text = text if "://" in text else f"http://{text}"
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError(expected_proxy)
    url = _split(text)
    if url is None or url.scheme not in schemes or url.path not in ("", "/") or url.query or url.fragment:
        raise ValueError(expected_proxy)
    if url.scheme.startswith("socks") and not has_socks:
        raise ValueError(f"expected an http or https proxy; {without_socks}")
    return Secret(text)


def _split(text: str) -> SplitResult | None:
    """The parts of a URL with a usable host and port, or None."""
    try:
        url = urlsplit(text)
        usable = _is_host(url.hostname or "") and url.port != 0
    except ValueError:
        return None
    return url if usable else None


def _is_host(host: str) -> bool:
    if ":" in host or re.fullmatch(r"[0-9.]+", host):
        return _read_address(host) is not None
    return re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", host) is not None


def _read_address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _read_exception(text: str) -> Direct:
    """One entry of NO_PROXY: `*`, `.example.com`, `host:8080`, `10.0.0.0/8`, `[::1]:443`, `https://host`.

    `example.com` includes the hosts below it, `.example.com` only those. Raises ValueError if it is none of these.
    """
    scheme, _, rest = text.lower().rpartition("://")
    if rest.count(":") > 1 and not rest.startswith("["):
        return Direct(network=ip_network(rest, strict=False), scheme=scheme)
    shape = re.fullmatch(r"(\[(?P<six>[^\]]+)\]|(?P<host>[a-z0-9._*/-]+))(:(?P<port>[0-9]{1,5}))?", rest)
    if shape is None:
        raise ValueError(expected_exception)
    host, port = shape["host"] or "", None if shape["port"] is None else int(shape["port"])
    if shape["six"] or re.fullmatch(r"[0-9.]+(/.*)?", host):
        return Direct(network=ip_network(shape["six"] or host, strict=False), scheme=scheme, port=port)
    if "/" in host:
        raise ValueError(expected_exception)
    name = host.rstrip(".")
    return Direct(names=f"*{name}" if name.startswith(".") else name, scheme=scheme, port=port)
