"""Which addresses of a provider a call may go to: what is below `api_url`, and nothing that leads out of it."""

import re
import unicodedata
from typing import Final
from urllib.parse import unquote_to_bytes

from models.gateway.problems import ProblemType, Refusal, refuse

longest_path: Final = 4_096
longest_query: Final = 8_192
most_encodings: Final = 4
"""How often a path may be percent-encoded over and over; each layer is looked at."""
path_characters = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*")
query_characters = re.compile(rb"[!\"$-~]*")


def read_target(path: bytes, query: bytes) -> bytes:
    """Return what follows the API's own path in the request target: path and query as they were sent.

    Raises `Refusal` if the path could lead out of the API's, however a server decodes it.
    """
    fault = _find_fault(path)
    if fault is not None:
        raise _refuse(f"The path after proxy/ {fault}.")
    if len(query) > longest_query or not query_characters.fullmatch(query):
        raise _refuse(f"The query has characters that no URL has, or more than {longest_query} of them.")
    return b"/" + path + (b"?" + query if query else b"")


def _find_fault(path: bytes) -> str | None:
    if len(path) > longest_path:
        return f"has more than {longest_path} characters"
    if not path_characters.fullmatch(path):
        return "has characters that no path has"
    layer = path
    for _ in range(most_encodings):
        fault = _find_fault_of_layer(layer)
        if fault is not None:
            return fault
        decoded = unquote_to_bytes(layer)
        if decoded == layer:
            return None
        layer = decoded
    return "is percent-encoded too often"


def _find_fault_of_layer(layer: bytes) -> str | None:
    """Return what is wrong with a path as a server may see it, at one of its encodings."""
    try:
        text = layer.decode("utf-8")
    except UnicodeDecodeError:
        return "is not UTF-8"
    if not text.isprintable():
        return "has control characters"
    # A server may look at what a character is compatible with: a full-width dot is a dot.
    for seen in (text, unicodedata.normalize("NFKC", text)):
        if "\\" in seen:
            return "has a backslash"
        segments = seen.split("/")
        if "" in segments[:-1]:
            return "has an empty segment"
        # What follows a semicolon is a parameter of the segment, which some servers cut off first.
        if any(segment.partition(";")[0].strip() in (".", "..") for segment in segments):
            return "has a dot segment"
    return None


def _refuse(detail: str) -> Refusal:
    return refuse(ProblemType.bad_request, detail)
