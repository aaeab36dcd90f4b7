"""The settings of a sandbox, with their defaults."""

from dataclasses import dataclass
from typing import Literal

ReuseMode = Literal["harmless", "family_revoked", "grace"]

YEAR_SECONDS = 31_536_000


@dataclass(frozen=True, slots=True)
class Settings:
    """One sandbox's settings; changed lifetimes and limits apply to later tokens and requests.

    A limit of 0 switches that limit off. `rotation_gap_ms` is the time between the check of a refresh token
    and its revocation: two refreshes within it both succeed, as at a server that uses no transaction.
    `state_file` keeps grants, accounts, documents and the clock for the next run; empty: nothing is kept.
    """

    client_id: str = "sandbox-client"
    client_secret: str = "sandbox-secret"
    redirect_uris: tuple[str, ...] = (
        "http://127.0.0.1:8700/auth/breezedoc/callback",
        "http://localhost:8700/auth/breezedoc/callback",
    )
    passport: int = 12
    access_ttl: int = YEAR_SECONDS
    refresh_ttl: int = YEAR_SECONDS
    rate_limit: int = 60
    token_rate_limit: int = 60
    latency_ms: int = 0
    rotation_gap_ms: int = 0
    refresh_reuse: ReuseMode = "harmless"
    grace_seconds: int = 30
    revocation_endpoint: bool = False
    serve_api: bool = True
    serve_v1: bool = True
    state_file: str = ""

    def __post_init__(self) -> None:
        if self.passport not in (12, 13):
            raise ValueError(f"passport is 12 or 13, not {self.passport!r}")
        if self.refresh_reuse not in ("harmless", "family_revoked", "grace"):
            raise ValueError(f"refresh_reuse is harmless, family_revoked or grace, not {self.refresh_reuse!r}")
        for name in ("access_ttl", "refresh_ttl", "rate_limit", "token_rate_limit", "latency_ms"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} can't be negative")
        for name in ("rotation_gap_ms", "grace_seconds"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} can't be negative")
