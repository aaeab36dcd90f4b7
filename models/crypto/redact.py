"""Texts of a provider's, as they can be kept."""

import re
from collections.abc import Sequence

mark = "[secret]"
shortest_secret = 6
"""What is shorter stands in other words by accident, and counts only as a word of its own."""


def clean_text(text: str) -> str:
    """Text as both databases can hold it: no NUL, no lone surrogates."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def hide(text: str, secrets: Sequence[str]) -> str:
    """The text with a mark for each of these secrets, also where some of it is encoded as in a URL or in JSON."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True) if text else ():
        pattern = "".join(_encodings(character) for character in secret)
        alone = pattern if len(secret) >= shortest_secret else rf"(?<!\w){pattern}(?!\w)"
        text = re.sub(alone, mark, text)
    return text


def _encodings(character: str) -> str:
    """A pattern for one character: itself, behind a backslash, percent-encoded, or a space as a plus."""
    percent = "".join(f"%{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
    plus = "|[+]" if character == " " else ""
    return rf"(?:\\?{re.escape(character)}|(?i:{percent}){plus})"
