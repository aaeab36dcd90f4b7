"""Texts of a provider's, as they can be kept."""

from collections.abc import Sequence
from urllib.parse import quote, quote_plus

shortest_secret = 6
"""What is shorter stands in texts by accident."""


def clean_text(text: str) -> str:
    """Text as both databases can hold it: no NUL, no lone surrogates."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def hide(text: str, secrets: Sequence[str]) -> str:
    """The text with none of these secrets in it, however they are encoded in a URL."""
    for secret in secrets:
        if len(secret) >= shortest_secret:
            for form in (secret, quote(secret, safe=""), quote_plus(secret)):
                text = text.replace(form, "[secret]")
    return text
