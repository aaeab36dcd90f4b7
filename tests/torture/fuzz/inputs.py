"""Hostile texts, values and shapes, drawn from a seed."""

import json
import string
from collections.abc import Sequence
from random import Random
from typing import Any

fragments = (
    *(
        "",
        " ",
        "\0",
        "\x1b]0;x\x07",
        "\x1b[2J",
        "\u202e",
        "\ud800",
        "é",
        "😀",
        "\ufeff",
        "\r\n",
        "%00",
        "%0d%0aSet-Cookie: a=b",
    ),
    *(
        "'",
        '"',
        "<script>alert(1)</script>",
        "{{7*7}}",
        "${jndi:ldap://x}",
        "' OR 1=1 --",
        "../../etc/passwd",
        "\\",
        "%",
    ),
    *(
        "null",
        "true",
        "-1",
        "0",
        "1e999",
        "NaN",
        "9" * 40,
        "[]",
        "{}",
        "[" * 200,
        "x" * 300,
        "x" * 5000,
        "a=b&c=d",
        "Ω" * 90,
    ),
)
words = (
    "breezedoc",
    "sync",
    "refresh",
    "disconnect",
    "ada",
    "invalid_grant",
    "code",
    "state",
    "token",
    "data",
    "error",
)


def text(chance: Random) -> str:
    """Return a text of up to four parts, hostile ones, words, or noise."""
    parts = [
        chance.choice((chance.choice(fragments), chance.choice(words), noise(chance)))
        for _ in range(chance.randint(0, 4))
    ]
    return "".join(parts)


def noise(chance: Random) -> str:
    return "".join(chance.choices(string.printable, k=chance.randint(0, 40)))


def value(chance: Random, deepest: int = 3) -> Any:
    """Return what JSON can hold, and NaN."""
    kind = chance.randint(0, 9 if deepest else 6)
    if kind <= 2:
        return text(chance)
    if kind == 3:
        return chance.choice((0, 1, -1, 10**18, 10**400, 2**63, chance.randint(-100, 100)))
    if kind == 4:
        return chance.choice((0.5, float("nan"), float("inf"), 1e308, -0.0))
    if kind <= 6:
        return chance.choice((None, True, False))
    if kind <= 8:
        return {text(chance): value(chance, deepest - 1) for _ in range(chance.randint(0, 4))}
    return [value(chance, deepest - 1) for _ in range(chance.randint(0, 4))]


def mutate(chance: Random, fields: dict[str, Any], names: Sequence[str] = ()) -> dict[str, Any]:
    """Return the fields with one to three of them changed, taken out or added."""
    changed = dict(fields)
    for _ in range(chance.randint(1, 3)):
        name = chance.choice((*fields, *names)) if chance.random() < 0.9 else text(chance)
        if chance.random() < 0.2:
            changed.pop(name, None)
        else:
            changed[name] = value(chance)
    return changed


def garble(chance: Random, body: bytes) -> bytes:
    """Return the bytes as they are, cut, doubled, or with a few of them replaced."""
    how = chance.randint(0, 5)
    if how == 0:
        return body[: chance.randint(0, len(body))]
    if how == 1:
        return body + body
    if how == 2 and body:
        at = chance.randrange(len(body))
        return body[:at] + chance.randbytes(chance.randint(1, 4)) + body[at + 1 :]
    return body


def encode(whole: object) -> bytes:
    """Return JSON, with lone surrogates as escapes."""
    return json.dumps(whole).encode()
