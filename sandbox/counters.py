"""Count requests and their outcomes, by ids and never with a token value."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from sandbox.grants import Code, Family, Grants, Presentation, RefreshToken


class Counters:
    """Requests by minute of the sandbox's clock, and totals by route and status."""

    def __init__(self) -> None:
        self.api_requests: Counter[tuple[int, int]] = Counter()
        self.token_requests: Counter[int] = Counter()
        self.totals: Counter[tuple[str, str]] = Counter()

    def note_api(self, user_id: int, now: float) -> None:
        self.api_requests[(user_id, int(now // 60))] += 1

    def note_token(self, now: float) -> None:
        self.token_requests[int(now // 60)] += 1

    def note_answer(self, route: str, status: int, ending: str) -> None:
        self.totals[(route, str(status) if ending == "whole" else ending)] += 1


def summarize(counters: Counters, grants: Grants, now: float, *, tokens: bool) -> dict[str, Any]:
    """Return everything as JSON; with `tokens` false only the sums, for large runs.

    `max_presentations` is the highest number of times that one refresh token was presented; `reuses` counts
    presentations of tokens that were already used up.
    """
    refresh_tokens = list(grants.refresh_tokens.values())
    presented = [token for token in refresh_tokens if token.presentations]
    outcomes = Counter(one.outcome for token in presented for one in token.presentations)
    summary: dict[str, Any] = {
        "now": now,
        "max_presentations": max((len(token.presentations) for token in presented), default=0),
        "presentations": sum(len(token.presentations) for token in presented),
        "reuses": sum(count for outcome, count in outcomes.items() if outcome in ("reused", "rotated_again")),
        "outcomes": dict(outcomes),
        "code_outcomes": dict(Counter(one.outcome for code in grants.codes.values() for one in code.presentations)),
        "max_code_presentations": max((len(code.presentations) for code in grants.codes.values()), default=0),
        "api_requests": _by_user(counters.api_requests),
        "token_requests": {str(minute): count for minute, count in counters.token_requests.items()},
        "totals": _by_route(counters.totals),
        "live": {
            str(user_id): counts
            for user_id, families in grants.families.items()
            if any((counts := _count_live(families, now)).values())
        },
    }
    if tokens:
        summary["refresh_tokens"] = [_describe_token(token, now) for token in refresh_tokens]
        summary["codes"] = [_describe_code(code) for code in grants.codes.values()]
    return summary


def _count_live(families: Iterable[Family], now: float) -> dict[str, int]:
    counts = {"families": 0, "access_tokens": 0, "refresh_tokens": 0}
    for family in families:
        access = sum(token.is_live(now) for token in family.access_tokens)
        refresh = sum(token.state_at(now) == "live" for token in family.refresh_tokens)
        counts["access_tokens"] += access
        counts["refresh_tokens"] += refresh
        counts["families"] += access + refresh > 0
    return counts


def _by_user(requests: Counter[tuple[int, int]]) -> dict[str, dict[str, int]]:
    grouped: dict[str, dict[str, int]] = {}
    for (user_id, minute), count in requests.items():
        grouped.setdefault(str(user_id), {})[str(minute)] = count
    return grouped


def _by_route(totals: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    grouped: dict[str, dict[str, int]] = {}
    for (route, status), count in totals.items():
        grouped.setdefault(route, {})[status] = count
    return grouped


def _describe_token(token: RefreshToken, now: float) -> dict[str, Any]:
    return {
        "id": token.id,
        "user_id": token.family.user_id,
        "client_id": token.family.client_id,
        "family": token.family.id,
        "generation": token.generation,
        "state": token.state_at(now),
        "presentations": [_describe_presentation(one) for one in token.presentations],
    }


def _describe_code(code: Code) -> dict[str, Any]:
    return {
        "id": code.id,
        "user_id": code.user_id,
        "client_id": code.client_id,
        "challenge": code.challenge,
        "used": code.used,
        "presentations": [_describe_presentation(one) for one in code.presentations],
    }


def _describe_presentation(one: Presentation) -> dict[str, Any]:
    return {"at": one.at, "outcome": one.outcome, "fault": one.fault, "answered_at": one.answered_at}
