"""The verdict on a trial of the gateway finds each violation that is planted, and nothing else.

The trial itself starts eight processes and a foreign server: too much for every run of the tests. It is
`make gateway-trial`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.torture.gateway.verdict import Arrival, Break, Ended, Evidence, Sent, TokenLife, judge

token = Sent("1", "token", "c", "7", 1, 0.0, 10.0, 10.1, 200, "answered", token="t1", generation=1)
call = Sent("2", "get", "c", "7", 1, 0.0, 11.0, 11.1, 200, "answered", is_from_provider=True)
write = Sent("3", "post", "c", "7", 1, 0.0, 12.0, 12.1, 201, "answered", is_from_provider=True)
seen = [Arrival(11.0, "7", "GET", "2", 401), Arrival(11.05, "7", "GET", "2", 200), Arrival(12.0, "7", "POST", "3", 201)]
kill = Break("gateway", 20.0, 22.0, 1)
clean = Evidence(
    sent=[token, call, write],
    arrivals=seen,
    tokens={"t1": TokenLife("7", 0.0, 20.0, 10.05)},
    notes=["3"],
    presentations=[1, 1],
    families=[1],
    granted={"7": 3},
    saved={"7": 2},
    ended=[Ended("7", "rotation_lost")],
    known=[("c", 9.0, 1), ("c", 10.06, 2)],
    breaks=[kill, Break("redis", 500.0, 500.0)],
    audited={"token.given": 2, "call.made": 2},
    limit=3,
)
crowd = [Arrival(100.0 + number, "7", "GET", "", 200) for number in range(4)]
broken = replace(call, status=0, word="broken", is_from_provider=False)
refused = replace(write, status=429, word="rate_limited", is_from_provider=False)
doubtful = replace(write, status=503, word="provider_unavailable", is_from_provider=False)

violations: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "a token presented twice": ("presentations of a refresh token after its first", {"presentations": [1, 2]}),
    "a family ended": ("families ended", {"families": [1, 0]}),
    "an end without a loss": ("connections ended though no pair was lost", {"saved": {"7": 3}}),
    "a wrong reason": ("wrong reasons", {"ended": [Ended("7", "refresh_rejected")]}),
    "a token that the database had replaced": ("tokens that were already replaced", {"known": [("c", 9.9, 2)]}),
    "a token older than another client's": (
        "tokens that were already replaced",
        {"sent": [replace(token, sent_at=9.0, ended_at=9.5, generation=2), token, call, write]},
    ),
    "an expired token": (
        "tokens expired, unknown, or another account's",
        {"tokens": {"t1": TokenLife("7", 0.0, 9.0, None)}},
    ),
    "another account's token": (
        "tokens expired, unknown, or another account's",
        {"tokens": {"t1": TokenLife("8", 0.0, 20.0, None)}},
    ),
    "an unknown token": ("tokens expired, unknown, or another account's", {"tokens": {}}),
    "a second 401": (
        "calls refused for their tokens twice",
        {"arrivals": [*seen, Arrival(11.06, "7", "GET", "2", 401)], "limit": 4},
    ),
    "a 401 passed on": ("the provider's 401 passed on", {"sent": [token, replace(call, status=401), write]}),
    "one request too many": ("requests over an account's limit", {"arrivals": crowd}),
    "a broken connection": ("requests without an answer though the gateway lived", {"sent": [token, broken, write]}),
    "a write done twice": ("writes carried out twice", {"notes": ["3", "3"]}),
    "a write said done that was not": ("writes of which something false was said", {"notes": []}),
    "a token that was not recorded": ("tokens and calls that the audit does not have", {"audited": {"call.made": 2}}),
    "a call that was not recorded": (
        "tokens and calls that the audit does not have",
        {"audited": {"token.given": 1, "call.made": 1}},
    ),
    "a write said refused that was done": (
        "writes of which something false was said",
        {"sent": [token, call, refused]},
    ),
}
allowed: Mapping[str, Mapping[str, Any]] = {
    "all in order": {},
    "a token replaced while it was asked for": {"known": [("c", 10.05, 2)]},
    "a token replaced at the provider and not saved": {"tokens": {"t1": TokenLife("7", 0.0, 20.0, 9.0)}},
    "a connection broken by a kill": {"sent": [token, replace(broken, ended_at=20.5), write]},
    "one that a killed gateway had left open": {
        "sent": [token, replace(broken, opened_at=19.0, sent_at=25.0, ended_at=25.0), write]
    },
    "over the limit after a FLUSHALL": {"arrivals": crowd, "breaks": [Break("redis", 90.0, 90.0)]},
    "the limit in every minute": {
        "arrivals": [Arrival(20.0 * number, "7", "GET", "", 200) for number in range(20)],
    },
    "a write of which no one knows": {"sent": [token, call, replace(doubtful, carried_out="unknown")]},
    "a write that surely did not leave": {
        "sent": [token, call, replace(doubtful, carried_out="no")],
        "notes": [],
    },
}


@pytest.mark.parametrize("case", violations)
def test_each_violation_is_found_and_it_alone(case: str) -> None:
    name, planted = violations[case]
    verdict = judge(replace(clean, **planted))
    assert {each for each, found in verdict.violations.items() if found} == {name}


@pytest.mark.parametrize("case", allowed)
def test_what_is_allowed_is_no_violation(case: str) -> None:
    verdict = judge(replace(clean, **allowed[case]))
    assert {each: found for each, found in verdict.violations.items() if found} == {}
    assert verdict.is_clean
