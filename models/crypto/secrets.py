"""Two types for secret texts, plain and sealed, so that they are never confused. Both print as `***`."""

import hmac
from typing import NoReturn, Self, final

fewest_different = 8
"""Characters or bytes that a random secret has at least: 32 hexadecimal digits have fewer once in 20 million times."""


class _Veiled:
    """A text that prints as `***`, compares in constant time, never changes and never leaves the process."""

    __slots__ = ("_text",)
    _text: str

    def __init__(self, text: str) -> None:
        object.__setattr__(self, "_text", text)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __repr__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        return hmac.compare_digest(_encode(self._text), _encode(other._text))

    def __hash__(self) -> int:
        return hash((type(self), self._text))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} cannot be pickled")


@final
class Secret(_Veiled):
    """A plain secret: a token, a code, a client secret, a key, or a URL with a password."""

    __slots__ = ()

    def reveal(self) -> str:
        """Return the text itself. Call this only at the place that sends or encrypts it."""
        return self._text


@final
class Sealed(_Veiled):
    """A sealed secret, as it is stored; only a vault with its key opens it."""

    __slots__ = ()

    @property
    def text(self) -> str:
        """The stored form (see `sealed_text`)."""
        return self._text


def is_weak(secret: str | bytes) -> bool:
    """Return whether a secret repeats itself so much that no one made it by chance: `aaa…`, `1212…`."""
    return len(set(secret)) < fewest_different


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
