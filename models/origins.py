"""Origins of URLs (RFC 6454): which one a URL has, and whether what goes there can be read on the way."""

import re
from urllib.parse import urlsplit

longest_url = 2048
loopback_hosts = ("localhost", "127.0.0.1", "::1")
"""The names of this machine; a browser keeps the cookies of each apart."""


def is_safe(origin: str) -> bool:
    """Return whether no one on the way reads what goes to this origin: https, or this machine."""
    return origin.startswith("https://") or urlsplit(origin).hostname in loopback_hosts


def origin_of(url: str) -> str | None:
    """Return the origin (RFC 6454 §4) of an absolute http(s) URL: scheme, host and any port but the scheme's own.

    None if a browser might understand the URL otherwise than we do: user information, backslashes, spaces,
    control characters, anything not ASCII, a host of anything but letters, digits, dots, dashes, underscores.
    """
    if len(url) > longest_url or not re.fullmatch(r"https?://[!-~]+", url, re.IGNORECASE) or "\\" in url:
        return None
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if "@" in parts.netloc or host is None or parts.netloc.endswith(":"):
        return None
    bracketed = parts.netloc.startswith("[")
    if not re.fullmatch(r"[0-9a-f:.]+" if bracketed else r"[a-z0-9._-]+", host):
        return None
    host = f"[{host}]" if bracketed else host
    default = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}" if port in (None, default) else f"{parts.scheme}://{host}:{port}"
