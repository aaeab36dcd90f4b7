"""What can go wrong with a sealed text and its keys.

    VaultError(Permanent)              the text does not open, whoever waits
    ├── KeyMissing                     the key that sealed it is not configured, or is refused: an operator can mend it
    ├── SealBroken                     it was altered, moved or replaced by an older one, or is no sealed text
    └── KeysRejected                   keys in a wrong format
    KeyNotAtHand(Transient)            a data key has to be fetched first, which no transaction waits for
    KeyServiceUnavailable(Transient)   the server of the master key does not answer, is sealed, or refuses us

Neither of the two transient ones says anything about a token: nothing is presented, and no connection ends.
"""

from collections.abc import Sequence

from models.crypto.sealed_text import Wrapped
from models.errors import Permanent, Transient


class VaultError(Permanent):
    """A secret that cannot be opened, or keys that cannot be used."""


class KeysRejected(VaultError):
    """Encryption keys in a wrong format; `problems` has every reason by position, and never a part of a key."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class KeyMissing(VaultError):
    """The key that sealed this text is not configured, or its server does not use it for us."""

    def __init__(self, key_id: str, why: str | None = None) -> None:
        remedy = "add it to ENCRYPTION_KEYS after the first key"
        if key_id.startswith("vault:"):
            remedy = "set VAULT_ADDR and VAULT_TOKEN"
        usual = f"which is not configured: {remedy}, and run breezesync keys rotate before you remove it again"
        super().__init__(f"sealed with key '{key_id}', {why or usual}")
        self.key_id = key_id


class SealBroken(VaultError):
    """The text was sealed for another place or generation, was altered, or is not a sealed text."""


class KeyNotAtHand(Transient):
    """Data keys that have to be fetched before this can go on; none is `wanted` if new ones are."""

    def __init__(self, wanted: Sequence[Wrapped] = ()) -> None:
        super().__init__("a data key has to be fetched first")
        self.wanted = wanted


class KeyServiceUnavailable(Transient):
    """The server of the master key gave no data key; `status` is its HTTP answer, None if none came."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
