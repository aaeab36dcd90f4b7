"""A master key that is behind requests, as a Vault's is, and may be away."""

from collections.abc import Sequence

from models.crypto.data_keys import KeyRing
from models.crypto.errors import KeyServiceUnavailable
from models.crypto.sealed_text import Wrapped
from models.crypto.vault import new_key


class KeyServer:
    """A master key that may be away, and counts the requests."""

    def __init__(self) -> None:
        self.ring = KeyRing((new_key("server"),))
        self.id = "server"
        self.requests: list[str] = []
        self.is_away = False
        self.refuses = False
        self.time = 1_000.0

    def clock(self) -> float:
        return self.time

    def owns(self, key_id: str) -> bool:
        return key_id == "server"

    def wrap(self, materials: Sequence[bytes]) -> list[Wrapped]:
        self.note("wrap")
        return self.ring.wrap(materials)

    def unwrap(self, wrapped: Sequence[Wrapped]) -> list[bytes | None]:
        self.note("unwrap")
        return [None] * len(wrapped) if self.refuses else self.ring.unwrap(wrapped)

    def rewrap(self, wrapped: Sequence[Wrapped]) -> list[Wrapped | None]:
        self.note("rewrap")
        return self.ring.rewrap(wrapped)

    def close(self) -> None:
        """Nothing is open."""

    def note(self, what: str) -> None:
        self.requests.append(what)
        if self.is_away:
            raise KeyServiceUnavailable("away")
