"""What opens a breaker, what closes it, and when it is probed: tables of rows, answers and times."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from models.crypto.secrets import Secret
from models.oauth.breaker import (
    Endpoint,
    Sighting,
    accept,
    begin_probe,
    endpoint_of,
    look_again_at,
    observe,
    pause,
    reject,
    resume,
    settle_probe,
)
from models.oauth.client import Cause, StoredClient
from models.oauth.token_response import (
    ClientRefused,
    Evidence,
    GrantRefused,
    NotNow,
    OutcomeUnknown,
    RequestRefused,
    ScopeRefused,
    TokenOutcome,
    TokensGranted,
)
from models.provider import Provider

now = datetime(2026, 11, 24, 12, tzinfo=UTC)
second, minute = timedelta(seconds=1), timedelta(minutes=1)
endpoint = Endpoint("https://p/t", most_uncertain=3)
closed = StoredClient("p", "c")
unavailable = replace(
    closed,
    cause=Cause.unavailable,
    opened_at=now - minute,
    error="http_502",
    status=502,
    endpoint="https://p/t",
    probes=1,
    next_probe_at=now,
)
rejected = replace(unavailable, cause=Cause.rejected, error="invalid_client", status=401, endpoint=None)

granted = TokensGranted(Secret("a"), Secret("r"), None, None)
dead = GrantRefused(Evidence(400, "invalid_grant"), expired=False)
malformed = RequestRefused(Evidence(400, "invalid_request"))
wrong_scope = ScopeRefused(Evidence(400, "invalid_scope"))
not_ours = ClientRefused(Evidence(401, "invalid_client", "", "a text"))
throttled = NotNow(Evidence(429), minute, throttled=True)
maintenance = NotNow(Evidence(503), None, throttled=False, sure=False)
too_late = NotNow(Evidence(description="the lease ran out"), 5 * second, throttled=False)
refused = NotNow(Evidence(description="ConnectError"), None, throttled=False)
bad_gateway = OutcomeUnknown(Evidence(502))
silence = OutcomeUnknown(Evidence(description="ReadTimeout"))
moved = OutcomeUnknown(Evidence(302), misdirected=True)
page = OutcomeUnknown(Evidence(403), misdirected=True)

Facts = tuple[str, ...]
suspect = replace(closed, suspects=("c1", "c2"))
answers: dict[str, tuple[StoredClient, TokenOutcome, Cause | None, tuple[str, ...], Facts]] = {
    "a first 502": (closed, bad_gateway, None, ("c3",), ()),
    "a 502 to the same connection again": (replace(closed, suspects=("c3",)), bad_gateway, None, ("c3",), ()),
    "a third 502": (suspect, bad_gateway, Cause.unavailable, (), ("provider.unavailable",)),
    "a third 503": (suspect, maintenance, Cause.unavailable, (), ("provider.unavailable",)),
    "a third silence": (suspect, silence, Cause.unavailable, (), ("provider.unavailable",)),
    "a third that never left": (suspect, refused, Cause.unavailable, (), ("provider.unavailable",)),
    "one that we kept back ourselves": (suspect, too_late, None, ("c1", "c2"), ()),
    "a 429": (suspect, throttled, None, ("c1", "c2"), ()),
    "a grant after two": (suspect, granted, None, (), ()),
    "a dead grant after two": (suspect, dead, None, (), ()),
    "a malformed request after two": (suspect, malformed, None, (), ()),
    "a redirect": (closed, moved, Cause.unavailable, (), ("provider.unavailable",)),
    "a page of a firewall": (closed, page, Cause.unavailable, (), ("provider.unavailable",)),
    "a rejected client": (closed, not_ours, Cause.rejected, (), ("provider.client_rejected",)),
    "open: a late grant": (unavailable, granted, None, (), ("provider.available",)),
    "open: a late refusal": (unavailable, dead, None, (), ("provider.available",)),
    "open: a late refusal of the request": (unavailable, malformed, None, (), ("provider.available",)),
    "open: a late 502": (unavailable, bad_gateway, Cause.unavailable, (), ()),
    "open: a late 429": (unavailable, throttled, Cause.unavailable, (), ()),
    "open: the client is rejected": (
        unavailable,
        not_ours,
        Cause.rejected,
        (),
        ("provider.available", "provider.client_rejected"),
    ),
    "rejected: a late grant": (rejected, granted, None, (), ("provider.client_recovered",)),
    "rejected: a late rejection": (rejected, not_ours, Cause.rejected, (), ()),
    "rejected: a late 502": (rejected, bad_gateway, Cause.rejected, (), ()),
    "rejected: a late refusal of the request": (rejected, malformed, Cause.rejected, (), ()),
}


@pytest.mark.parametrize("case", answers)
def test_an_answer_opens_and_closes_the_breaker(case: str) -> None:
    before, outcome, cause, suspects, expected = answers[case]
    after, facts = observe(before, Sighting(outcome, "c3", endpoint, now - second), now)
    assert (after.cause, after.suspects, tuple(fact.type for fact in facts)) == (cause, suspects, expected)


closed_since = replace(suspect, closed_at=now - second)


@pytest.mark.parametrize("outcome", [bad_gateway, moved, not_ours], ids=["502", "302", "client"])
@pytest.mark.parametrize(("ago", "opens"), [(2, False), (1, True)])
def test_a_request_from_before_the_breaker_closed_does_not_open_it_again(
    outcome: TokenOutcome, ago: int, opens: bool
) -> None:
    after, facts = observe(closed_since, Sighting(outcome, "c3", endpoint, now - ago * second), now)
    assert (after.cause is not None, bool(facts)) == (opens, opens)
    assert opens or after == closed_since


def test_an_open_breaker_says_what_was_seen_and_when_it_is_probed() -> None:
    after, [fact] = observe(suspect, Sighting(bad_gateway, "c3", endpoint, now), now)
    assert after == replace(
        closed,
        cause=Cause.unavailable,
        opened_at=now,
        error="http_502",
        status=502,
        endpoint="https://p/t",
        probes=1,
        next_probe_at=now + 2 * second,
    )
    assert (fact.client_id, fact.endpoint, fact.status, fact.since) == ("c", "https://p/t", 502, now)  # type: ignore[union-attr]


probes: dict[str, tuple[StoredClient, TokenOutcome, Cause | None, timedelta | None, Facts]] = {
    "a malformed request": (unavailable, malformed, None, None, ("provider.available",)),
    "a dead grant": (unavailable, dead, None, None, ("provider.available",)),
    "no such grant type": (
        unavailable,
        ClientRefused(Evidence(400, "unsupported_grant_type")),
        None,
        None,
        ("provider.available",),
    ),
    "a wrong scope": (unavailable, wrong_scope, None, None, ("provider.available",)),
    "a grant, of nothing": (unavailable, granted, None, None, ("provider.available",)),
    "a rejected client": (
        unavailable,
        not_ours,
        Cause.rejected,
        60 * second,
        ("provider.available", "provider.client_rejected"),
    ),
    "a 502": (unavailable, bad_gateway, Cause.unavailable, 5 * second, ()),
    "a 302": (unavailable, moved, Cause.unavailable, 5 * second, ()),
    "a page": (unavailable, page, Cause.unavailable, 5 * second, ()),
    "silence": (unavailable, silence, Cause.unavailable, 5 * second, ()),
    "a 429": (unavailable, throttled, Cause.unavailable, minute, ()),
    "maintenance for a day": (
        unavailable,
        NotNow(Evidence(503), timedelta(days=1), throttled=False, sure=False),
        Cause.unavailable,
        5 * minute,
        (),
    ),
    "the tenth in vain": (replace(unavailable, probes=9), bad_gateway, Cause.unavailable, minute, ()),
    "rejected: a malformed request": (rejected, malformed, None, None, ("provider.client_recovered",)),
    "rejected: a wrong scope": (rejected, wrong_scope, Cause.rejected, minute, ()),
    "rejected: rejected again": (rejected, not_ours, Cause.rejected, minute, ()),
    "rejected: the tenth time": (replace(rejected, probes=9), not_ours, Cause.rejected, 15 * minute, ()),
    "rejected: a 502": (rejected, bad_gateway, Cause.rejected, minute, ()),
    "closed meanwhile": (closed, bad_gateway, None, None, ()),
    "opened since": (replace(unavailable, opened_at=now), malformed, Cause.unavailable, timedelta(), ()),
}


@pytest.mark.parametrize("case", probes)
def test_a_probe_closes_the_breaker_or_is_followed_by_a_later_one(case: str) -> None:
    before, outcome, cause, pause_before_next, expected = probes[case]
    after, facts = settle_probe(before, outcome, now - second, now)
    next_probe_at = None if pause_before_next is None else now + pause_before_next
    assert (after.cause, after.next_probe_at) == (cause, next_probe_at)
    assert tuple(fact.type for fact in facts) == expected


def test_a_probe_alone_does_not_make_the_next_pause_short_again() -> None:
    """A server that checks the request before the client answers the probe well, and then rejects the client."""
    after, _ = settle_probe(replace(rejected, probes=3), malformed, now, now)
    again, _ = reject(after, Evidence(401, "invalid_client"), now)
    assert again.next_probe_at == now + 15 * minute
    accepted, _ = accept(after, now)
    assert accepted.probes == 0


accepted_at = {"after it opened": (now, None), "as it opened": (now - minute, None), "before": (now - 61 * second, 1)}


@pytest.mark.parametrize("case", accepted_at)
@pytest.mark.parametrize("client", [rejected, unavailable], ids=["rejected", "unavailable"])
def test_an_answer_from_before_it_opened_closes_nothing(client: StoredClient, case: str) -> None:
    at, probes_left = accepted_at[case]
    after, facts = accept(client, at)
    assert (after == client, bool(facts)) == (probes_left is not None, probes_left is None)


due: dict[str, tuple[StoredClient, bool]] = {
    "closed": (closed, False),
    "due": (unavailable, True),
    "due, rejected": (rejected, True),
    "not due": (replace(unavailable, next_probe_at=now + second), False),
    "paused by an operator": (replace(unavailable, paused_at=now), False),
    "paused and closed": (replace(closed, paused_at=now), False),
}


@pytest.mark.parametrize("case", due)
def test_one_probe_at_a_time_is_reserved(case: str) -> None:
    client, may_leave = due[case]
    until = now + 30 * second
    expected = replace(client, next_probe_at=until) if may_leave else None
    assert begin_probe(client, now, until) == expected
    assert expected is None or begin_probe(expected, now, until) is None


def test_an_operator_pauses_and_resumes() -> None:
    paused = pause(closed, now)
    assert (paused.is_open, paused.keeps_codes, look_again_at(paused, now)) == (True, True, now + 30 * second)
    assert pause(paused, now + second) == paused
    assert resume(paused, now) == closed
    assert resume(pause(replace(unavailable, next_probe_at=now + minute), now), now) == unavailable


kept_until = {
    "not due": (replace(unavailable, next_probe_at=now + minute), 61),
    "due": (unavailable, 1),
    "late": (replace(unavailable, next_probe_at=now - minute), 1),
}


@pytest.mark.parametrize("case", kept_until)
def test_what_is_kept_back_is_looked_at_just_after_the_next_probe(case: str) -> None:
    client, seconds = kept_until[case]
    assert look_again_at(client, now) == now + seconds * second


@pytest.mark.parametrize(("reuse", "expected"), [("harmless", 3), ("grace", 1), ("family_revoked", 1)])
def test_where_reuse_ends_a_family_the_first_uncertain_answer_opens_the_breaker(reuse: str, expected: int) -> None:
    profile = Provider(
        name="p",
        authorize_url="https://p/a",
        token_url="https://p/t?x=1",
        api_url="https://p/api",
        refresh_reuse=reuse,  # type: ignore[arg-type]
    )
    assert endpoint_of(profile) == Endpoint("https://p/t", expected)
