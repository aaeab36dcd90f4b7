"""The proxy variables as settings: read once at start, each problem with them named by its variable."""

from collections.abc import Mapping

from models.proxies import Proxies, all_variables, has_socks, read_proxies

proxy_variables = all_variables
"""Every spelling of the proxy variables."""


def check_proxies(environ: Mapping[str, str]) -> list[str]:
    """Return every problem with the proxy variables; no problem holds any part of a value."""
    return read_proxies(environ, has_socks())[1]


def find_proxies(environ: Mapping[str, str]) -> Proxies:
    """Return the proxies that the variables name; one that can't be used is left out."""
    return read_proxies(environ, has_socks())[0]
