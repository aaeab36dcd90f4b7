"""Where an external master key is."""

from dataclasses import dataclass
from pathlib import Path

from models.crypto.secrets import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitSettings:
    """Where the transit engine is, and who we are to it.

    address: its URL, without a path.
    token, token_file: our token; if it came from a file, the file is read again when the server refuses the token.
    key: the name of the key that wraps; None if none does, and older data keys are only opened.
    mount: the path that the engine is mounted at.
    namespace: of an enterprise server; None if there is none.
    authorities: a PEM file with the certificate authorities to trust; None for the usual ones.
    """

    address: str
    token: Secret
    token_file: Path | None = None
    key: str | None = None
    mount: str = "transit"
    namespace: str | None = None
    authorities: Path | None = None
