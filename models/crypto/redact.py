"""Clean and redact texts that a provider sent, so that they can be stored and logged."""

import re
from collections.abc import Iterable, Sequence

mark = "[secret]"
shortest_secret = 6
"""A shorter secret occurs inside other words by chance, so it is hidden only as a whole word."""
longest_piece = 200
read_most = 4_000
"""Characters of a provider's text that are read at all."""
_widest_character = 12
"""Four bytes of UTF-8, percent-encoded."""


_controls = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def clean_text(text: str) -> str:
    """Return the text without what a database cannot store: NUL and lone surrogates."""
    text = text.replace("\x00", "")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text  # the same object if it was clean: a page's names and texts are in memory once


def show_controls(text: str) -> str:
    """Return the text with a sign for each character that tells a terminal something: escapes, and those that turn
    the direction of reading. Lines and tabs stay."""
    return _controls.sub("\N{REPLACEMENT CHARACTER}", text)


def excerpt(text: str, secrets: Sequence[str], longest: int) -> str:
    """Return the beginning of a text from a stranger as one line that a person may see: no control characters, no
    secret, at most `longest` characters.

    The text is cut first, so that its length costs nothing. What begins before the cut is still known for a secret,
    because as much is kept behind it as the longest pattern takes.
    """
    margin = _widest_character * longest_piece + 1
    window = text[: read_most + margin]
    shown = _printable(window)
    end = len(shown) if len(window) == len(text) else max(len(shown) - margin, 0)
    return _hide(shown, [_printable(secret) for secret in secrets], end)[:longest]


def hide(text: str, secrets: Sequence[str]) -> str:
    """Replace each secret in the text by a mark, even if some of its characters are encoded for a URL or JSON.

    Its work grows with the text: cut one from a stranger with `excerpt`.
    """
    return _hide(text, secrets, len(text))


def _hide(text: str, secrets: Iterable[str], end: int) -> str:
    """Return the text up to `end`, with a mark for each stretch of a secret in the whole of it.

    Pieces of one secret that touch are one stretch. A piece that is longer than the text is not looked for: most texts
    are short, most tokens long, and a pattern costs more than anything else that is done with an answer.
    """
    pieces = (piece for secret in secrets for piece in _pieces(secret) if len(piece) <= len(text))
    patterns = [_pattern(piece) for piece in pieces]
    found = sorted(match.span(1) for pattern in patterns for match in re.finditer(f"(?=({pattern}))", text))
    kept, at = list[str](), 0
    for start, stop in found:
        if start >= end:
            break
        if start > at or not kept:
            kept += [text[at:start], mark]
        at = max(at, stop)
    return "".join([*kept, text[at:end]])


def _pieces(secret: str) -> list[str]:
    """Return what to look for: the secret, or if it is long, pieces of it that overlap or touch.

    A server may echo the beginning of a long token only; and a token can be as long as an answer.
    """
    if len(secret) <= longest_piece:
        return [secret] if secret else []
    starts = range(0, min(len(secret), read_most) - longest_piece, longest_piece)
    return [secret[start : start + longest_piece] for start in (*starts, min(len(secret), read_most) - longest_piece)]


def _pattern(secret: str) -> str:
    pattern = "".join(_encodings(character) for character in secret)
    return pattern if len(secret) >= shortest_secret else rf"(?<!\w){pattern}(?!\w)"


def _printable(text: str) -> str:
    return "".join(filter(str.isprintable, text))


def _encodings(character: str) -> str:
    """Return a pattern for one character: itself, after a backslash, percent-encoded, or a space as a plus."""
    percent = "".join(f"%{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
    plus = "|[+]" if character == " " else ""
    return rf"(?:\\?{re.escape(character)}|(?i:{percent}){plus})"
