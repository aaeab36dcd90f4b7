"""When an OAuth client is rejected, tried again and accepted: three tables."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from models.messaging.events import ClientRecovered, ClientRejected
from models.oauth.client import StoredClient, begin_probe, recover_client, refresh_scope, reject_client
from models.oauth.token_response import Evidence
from models.provider import Provider

now = datetime(2026, 11, 24, 12, tzinfo=UTC)
second = timedelta(seconds=1)
client = StoredClient("p", "c")
refused = Evidence(401, "invalid_client", "", "a text")
rejected = replace(
    client, rejected_at=now - 60 * second, rejected_error="invalid_client", probes=1, paused_until=now - 30 * second
)

rejections: dict[str, tuple[StoredClient, Evidence, StoredClient, bool]] = {
    "for the first time": (
        client,
        refused,
        replace(client, rejected_at=now, rejected_error="invalid_client", probes=1, paused_until=now + 30 * second),
        True,
    ),
    "without an error": (
        client,
        Evidence(404),
        replace(client, rejected_at=now, rejected_error="http_404", probes=1, paused_until=now + 30 * second),
        True,
    ),
    "during the pause": (
        replace(rejected, paused_until=now + second),
        refused,
        replace(rejected, paused_until=now + second),
        False,
    ),
    "again, after the pause": (
        replace(rejected, probing_until=now + second),
        refused,
        replace(rejected, probes=2, paused_until=now + 60 * second),
        False,
    ),
    "for the tenth time": (
        replace(rejected, probes=9),
        refused,
        replace(rejected, probes=10, paused_until=now + 900 * second),
        False,
    ),
}


@pytest.mark.parametrize("case", rejections)
def test_a_rejected_client_pauses_for_longer_each_time_and_is_reported_once(case: str) -> None:
    before, evidence, expected, is_reported = rejections[case]
    after, facts = reject_client(before, evidence, now)
    assert after == expected
    error = expected.rejected_error or ""
    assert facts == ((ClientRejected("c", error, evidence.description),) if is_reported else ())


recoveries: dict[str, tuple[StoredClient, datetime, bool]] = {
    "not rejected": (client, now, False),
    "accepted after it was rejected": (rejected, now, True),
    "accepted in the moment it was rejected": (rejected, now - 60 * second, True),
    "accepted before it was rejected": (rejected, now - 61 * second, False),
}


@pytest.mark.parametrize("case", recoveries)
def test_an_accepted_client_recovers_unless_it_was_rejected_since(case: str) -> None:
    before, accepted_at, recovers = recoveries[case]
    after, facts = recover_client(before, accepted_at)
    assert after == (client if recovers else before)
    assert [type(fact) for fact in facts] == ([ClientRecovered] if recovers else [])


probes: dict[str, tuple[StoredClient, bool]] = {
    "not rejected": (client, False),
    "in its pause": (replace(rejected, paused_until=now + second), False),
    "its pause is over": (rejected, True),
    "its pause ends now": (replace(rejected, paused_until=now), True),
    "another request tries it": (replace(rejected, probing_until=now + second), False),
    "the request that tried it is long over": (replace(rejected, probing_until=now), True),
}


@pytest.mark.parametrize("case", probes)
def test_one_request_at_a_time_tries_a_rejected_client(case: str) -> None:
    before, may_try = probes[case]
    until = now + 30 * second
    assert begin_probe(before, now, until) == (replace(before, probing_until=until) if may_try else None)


def test_a_client_whose_scope_was_refused_sends_none() -> None:
    provider = Provider(
        name="p", authorize_url="https://p/a", token_url="https://p/t", api_url="https://p/api", refresh_scope="read"
    )
    assert refresh_scope(None, provider) == "read"
    assert refresh_scope(client, provider) == "read"
    assert refresh_scope(replace(client, omit_refresh_scope=True), provider) == ""
