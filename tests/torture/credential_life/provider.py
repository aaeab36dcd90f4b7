"""A provider as a model: who holds which pair, what a presentation does to it, and whom we would have hurt."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count

from models.http import HttpAnswer
from models.provider import Provider

access_life = timedelta(hours=1)


@dataclass
class Family:
    """All that descends from one authorization."""

    ended_by_user: bool = False
    ended_by_us: bool = False
    ended_by_lie: bool = False
    """503 was said of a presentation that was run, so that another one followed: no one could tell."""

    @property
    def is_alive(self) -> bool:
        return not (self.ended_by_user or self.ended_by_us or self.ended_by_lie)


@dataclass
class RefreshToken:
    family: Family
    access_token: str
    spent_at: datetime | None = None
    shown_after_spent: int = 0
    is_lied_about: bool = False
    """The presentation that spent it was answered 503."""


@dataclass
class AccessToken:
    family: Family
    expires_at: datetime
    is_rotated: bool = False


@dataclass
class ModelProvider:
    """One account at a provider that rotates, and does with a spent token what its profile says."""

    profile: Provider
    now: Callable[[], datetime]
    refresh_tokens: dict[str, RefreshToken] = field(default_factory=dict)
    access_tokens: dict[str, AccessToken] = field(default_factory=dict)
    families: list[Family] = field(default_factory=list)
    codes: set[str] = field(default_factory=set)
    newest: RefreshToken | None = None
    numbers: "count[int]" = field(default_factory=lambda: count(1))

    def grant(self, family: Family) -> tuple[str, str]:
        """A new pair: access token, refresh token."""
        number = next(self.numbers)
        access, refresh = f"access-{number}", f"refresh-{number}"
        self.access_tokens[access] = AccessToken(family, self.now() + access_life)
        self.refresh_tokens[refresh] = RefreshToken(family, access)
        return access, refresh

    def authorize(self) -> tuple[str, str]:
        family = Family()
        self.families.append(family)
        return self.grant(family)

    def give_code(self) -> str:
        code = f"code-{next(self.numbers)}"
        self.codes.add(code)
        return code

    def exchange(self, code: str) -> HttpAnswer:
        self.newest = None
        if code not in self.codes:
            return refusal("invalid_grant")
        self.codes.remove(code)
        return tokens(self.authorize())

    def present(self, value: str) -> HttpAnswer:
        """What the token endpoint does with a refresh token that arrives."""
        token = self.refresh_tokens[value]
        self.newest = token
        if token.spent_at is not None and not token.is_lied_about:
            token.shown_after_spent += 1
        if not token.family.is_alive:
            return refusal("invalid_grant")
        if token.spent_at is not None:
            grace = timedelta(seconds=self.profile.grace_seconds)
            if self.profile.refresh_reuse == "grace" and self.now() <= token.spent_at + grace:
                return tokens(self.grant(token.family))
            ends = self.profile.refresh_reuse != "harmless"
            token.family.ended_by_lie = ends and token.is_lied_about
            token.family.ended_by_us = ends and not token.is_lied_about
            return refusal("invalid_grant")
        token.spent_at = self.now()
        self.access_tokens[token.access_token].is_rotated = True
        return tokens(self.grant(token.family))

    def lets_in(self, access: str) -> bool:
        token = self.access_tokens[access]
        return token.family.is_alive and not token.is_rotated and self.now() < token.expires_at

    def end_by_user(self) -> None:
        for family in self.families:
            family.ended_by_user = True


def tokens(pair: tuple[str, str]) -> HttpAnswer:
    access, refresh = pair
    seconds = round(access_life.total_seconds())
    body = {"access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": seconds}
    return HttpAnswer(200, {}, json.dumps(body).encode())


def refusal(error: str) -> HttpAnswer:
    return HttpAnswer(400, {}, json.dumps({"error": error}).encode())
