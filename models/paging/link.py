"""Where the next page is, if the provider names it by its URL: only below the API's own URL, because the token goes
there."""

import re
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

_link = re.compile(r"<([^<>]*)>([^<]*)")
_parameter = re.compile(r';\s*([A-Za-z*]+)\s*=\s*(?:"([^"]*)"|([^\s;,"]*))')


def find_next(header: str) -> str | None:
    """Return the target of the first link to the next page in a `Link` header (RFC 8288); None if it has none."""
    for target, parameters in _link.findall(header):
        named: dict[str, str] = {}
        for name, quoted, plain in _parameter.findall(parameters):
            named.setdefault(name.lower(), quoted or plain)
        if "anchor" not in named and "next" in named.get("rel", "").lower().split():
            return str(target).strip()
    return None


def resolve(link: str, page_url: str, api_url: str) -> str | None:
    """Return path and query of a link below the API's URL; None if it leads anywhere else.

    `link` may be relative to `page_url`. What is returned begins with a slash, so that the API's URL before it is the
    same host whatever the link says.
    """
    if not link.isprintable() or "\\" in link or " " in link:
        return None
    try:
        url, base = urlsplit(urljoin(page_url, link)), urlsplit(api_url)
        same = (url.scheme, url.hostname, _port_of(url)) == (base.scheme, base.hostname, _port_of(base))
    except ValueError:
        return None
    if not same or url.username is not None or url.password is not None:
        return None
    below = base.path.rstrip("/")
    if not url.path.startswith(f"{below}/") or leads_up(url.path):
        return None
    return url.path.removeprefix(below) + (f"?{url.query}" if url.query else "")


def leads_up(path: str) -> bool:
    """Whether any segment of a path, decoded twice, leads up or stays where it is."""
    return any(segment.partition(";")[0] in (".", "..") for segment in unquote(unquote(path)).split("/"))


def _port_of(url: SplitResult) -> int | None:
    return url.port or {"http": 80, "https": 443}.get(url.scheme)
