"""Clean and redact texts that a provider sent, so that they can be stored and logged."""

import re
from collections.abc import Sequence

mark = "[secret]"
shortest_secret = 6
"""A shorter secret occurs inside other words by chance, so it is hidden only as a whole word."""


def clean_text(text: str) -> str:
    """Return the text without what a database cannot store: NUL and lone surrogates."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def hide(text: str, secrets: Sequence[str]) -> str:
    """Replace each secret in the text by a mark, even if some of its characters are encoded for a URL or JSON."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True) if text else ():
        pattern = "".join(_encodings(character) for character in secret)
        alone = pattern if len(secret) >= shortest_secret else rf"(?<!\w){pattern}(?!\w)"
        text = re.sub(alone, mark, text)
    return text


def _encodings(character: str) -> str:
    """Return a pattern for one character: itself, after a backslash, percent-encoded, or a space as a plus."""
    percent = "".join(f"%{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
    plus = "|[+]" if character == " " else ""
    return rf"(?:\\?{re.escape(character)}|(?i:{percent}){plus})"
