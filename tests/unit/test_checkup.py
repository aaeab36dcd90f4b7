from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.api_response import Failed, Forbidden, Missing, Page, Throttled, Unauthorized
from models.crypto.secrets import Sealed, Secret
from models.health.clocks import judge_clock, read_date
from models.health.database import judge_history, judge_schema
from models.health.keys import judge_seals
from models.health.provider import Base, judge_bases, judge_token_endpoint
from models.health.redis import judge_redis
from models.health.webhooks import judge_webhooks
from models.http import HttpAnswer, NoAnswer
from models.oauth.client import OAuthClient
from models.webhooks.endpoint import Endpoint

noon = datetime(2026, 5, 1, 12, tzinfo=UTC)
client = OAuthClient(provider="maker", client_id="us", client_secret=Secret("s"), redirect_uri="https://o.example/cb")
page = Page(({"id": 1},), 1, 1, 1)
healthy = {"redis_version": "7.2.4", "role": "master", "aof_enabled": 1, "maxmemory_policy": "noeviction"}


def answer(status: int, body: bytes = b"", **headers: str) -> HttpAnswer:
    return HttpAnswer(status, headers, body)


@pytest.mark.parametrize(
    ("seconds", "state"),
    [(0, "ok"), (2, "ok"), (-2, "ok"), (2.1, "warn"), (-20, "warn"), (20.5, "failed"), (-3600, "failed")],
)
def test_clocks_may_differ_a_little(seconds: float, state: str) -> None:
    finding = judge_clock("Redis", noon + timedelta(seconds=seconds), noon)
    assert (finding.state, bool(finding.remedy)) == (state, state != "ok")


def test_a_clock_that_is_only_read_to_the_second_is_given_that_second() -> None:
    assert judge_clock("maker", noon + timedelta(seconds=2.9), noon, timedelta(seconds=1)).state == "ok"


@pytest.mark.parametrize(
    ("given", "at"),
    [
        (answer(400, date="Fri, 01 May 2026 12:00:00 GMT"), noon),
        (answer(400, date="yesterday"), None),
        (answer(400, date="Fri, 01 May 2026 12:00:00 -0000"), None),
        (answer(400), None),
        (NoAnswer(True, "ReadTimeout"), None),
    ],
)
def test_a_date_is_read_or_there_is_none(given: HttpAnswer | NoAnswer, at: datetime | None) -> None:
    assert read_date(given) == at


@pytest.mark.parametrize(
    ("change", "snapshots", "states"),
    [
        ({}, None, ["ok", "ok", "ok"]),
        ({"valkey_version": "9.1.0"}, None, ["ok", "ok", "ok"]),
        ({"redis_version": "6.2.0"}, None, ["ok", "ok", "ok"]),
        ({"redis_version": "6.0.16"}, None, ["failed", "ok", "ok"]),
        ({"redis_version": ""}, None, ["failed", "ok", "ok"]),
        ({"role": "slave"}, None, ["failed", "ok", "ok"]),
        ({"aof_enabled": 0}, "3600 1", ["ok", "warn", "ok"]),
        ({"aof_enabled": 0}, "", ["ok", "warn", "ok"]),
        ({"maxmemory_policy": "allkeys-lru"}, None, ["ok", "ok", "warn"]),
    ],
)
def test_redis_is_judged_by_what_it_says_of_itself(
    change: dict[str, Any], snapshots: str | None, states: list[str]
) -> None:
    findings = list(judge_redis("redis://r", healthy | change, snapshots))
    assert [finding.state for finding in findings] == states
    assert all(finding.remedy for finding in findings if finding.state != "ok")


def test_a_redis_without_an_append_only_file_is_told_by_what_it_keeps() -> None:
    _, snapshots, _ = judge_redis("redis://r", healthy | {"aof_enabled": 0}, "3600 1")
    _, nothing, _ = judge_redis("redis://r", healthy | {"aof_enabled": 0}, "")
    assert (snapshots.said, nothing.said) == ("snapshots only", "nothing survives a restart")


@pytest.mark.parametrize(("revision", "state"), [(None, "failed"), ("0000", "failed"), ("0001", "ok")])
def test_the_schema_has_to_be_the_newest(revision: str | None, state: str) -> None:
    finding = judge_schema("sqlite:///d", revision, "0001")
    assert (finding.state, "migrate" in finding.remedy) == (state, state == "failed")


def test_rows_that_came_without_a_day_are_a_warning() -> None:
    assert list(judge_history({})) == []
    [finding] = judge_history({"event": 3, "sync_run": 1_000})
    assert (finding.state, finding.said.endswith("3 of event and 1000 of sync_run")) == ("warn", True)


endpoint = Endpoint(id="w1", name="app", url="https://a.example", types=("*",), secret=Sealed("s"), created_at=noon)
ENDPOINTS: dict[str, tuple[Endpoint, int, list[str]]] = {
    "healthy": (endpoint, 0, ["ok"]),
    "paused": (replace(endpoint, paused_at=noon), 0, ["warn"]),
    "gone": (replace(endpoint, paused_at=noon, is_gone=True), 0, ["warn"]),
    "failing": (replace(endpoint, failing_since=noon, error="HTTP 500"), 0, ["warn"]),
    "failing with dead letters": (replace(endpoint, failing_since=noon, error="HTTP 500"), 2, ["warn", "warn"]),
    "with dead letters": (endpoint, 2, ["warn"]),
}


@pytest.mark.parametrize("case", ENDPOINTS)
def test_an_endpoint_that_gets_no_events_is_a_warning_with_its_remedy(case: str) -> None:
    found, dead, states = ENDPOINTS[case]
    findings = list(judge_webhooks([found], {"w1": dead}))
    assert [each.state for each in findings] == states
    assert all(each.remedy.count("breezesync") or each.state == "ok" for each in findings)
    assert list(judge_webhooks([], {})) == []


def test_secrets_that_do_not_open_are_counted_and_the_first_is_named() -> None:
    finding = judge_seals("k2", 8, {"credential.access_token of c1": "no such key", "client.secret of m/us": "altered"})
    assert finding.state == "failed"
    assert finding.said.startswith("2 of 10 secrets ")
    assert "credential.access_token of c1: no such key" in finding.said
    assert judge_seals("k2", 8, {}).state == "ok"


@pytest.mark.parametrize(
    ("given", "state", "told"),
    [
        (answer(400, b'{"error": "invalid_request"}'), "ok", "accepts client us"),
        (answer(401, b'{"error": "invalid_request"}'), "ok", "accepts client us"),
        (answer(400, b'{"error": "invalid_grant"}'), "ok", "accepts client us"),
        (answer(400, b'{"error": "invalid_scope"}'), "ok", "accepts client us"),
        (answer(401, b'{"error": "invalid_client"}'), "failed", "rejects client us (invalid_client)"),
        (answer(400, b'{"error": "unauthorized_client"}'), "failed", "rejects client us (unauthorized_client)"),
        (answer(404, b"<html>"), "failed", "HTTP 404, not as a token endpoint"),
        (answer(302, b"", location="/login"), "failed", "HTTP 302, not as a token endpoint"),
        (answer(200, b"<html>"), "failed", "HTTP 200, not as a token endpoint"),
        (answer(200, b'{"access_token": "t", "token_type": "Bearer"}'), "failed", "HTTP 200"),
        (
            answer(400, b'{"error": "invalid_request", "hint": "Check the `client_id` parameter"}'),
            "failed",
            "rejects client us (invalid_request)",
        ),
        (answer(200, b'{"error": "incorrect_client_credentials"}'), "failed", "(incorrect_client_credentials)"),
        (answer(200, b'{"error": "bad_refresh_token"}'), "ok", "accepts client us"),
        (answer(407), "failed", "the proxy on the way"),
        (answer(500), "failed", "HTTP 500"),
        (answer(429, b"", **{"retry-after": "30"}), "warn", "throttled"),
        (answer(503), "warn", "maintenance"),
        (NoAnswer(False, "ConnectError"), "failed", "does not answer (ConnectError)"),
        (NoAnswer(True, "ReadTimeout"), "failed", "does not answer (ReadTimeout)"),
    ],
)
def test_a_refusal_of_nothing_tells_whether_the_client_is_good(
    given: HttpAnswer | NoAnswer, state: str, told: str
) -> None:
    finding = judge_token_endpoint(client, "https://o.example/token", given, noon)
    assert finding.state == state
    assert told in finding.said
    assert bool(finding.remedy) == (state != "ok")


def test_a_client_secret_that_comes_back_is_not_shown() -> None:
    given = answer(404, b'{"error": "no client with ' + client.client_secret.reveal().encode() + b'"}')
    finding = judge_token_endpoint(client, "https://o.example/t", given, noon)
    assert "(no client with [secret])" in finding.said


def test_a_client_that_is_refused_is_remedied_by_its_own_variables() -> None:
    finding = judge_token_endpoint(client, "https://o.example/t", answer(401, b'{"error": "invalid_client"}'), noon)
    assert finding.remedy == "Check MAKER_CLIENT_ID and MAKER_CLIENT_SECRET."


@pytest.mark.parametrize(
    ("with_token", "outcomes", "state", "remedy"),
    [
        (True, [page], "ok", ""),
        (True, [page, Missing()], "ok", ""),
        (True, [Forbidden(), Missing()], "ok", ""),
        (True, [Missing(), page], "failed", "Set MAKER_API_URL=https://b.example"),
        (True, [Failed("HTTP 302"), page], "failed", "Set MAKER_API_URL=https://b.example"),
        (True, [Missing(), Missing()], "failed", "MAKER_API_URL"),
        (True, [Throttled(timedelta(seconds=9))], "warn", "in a minute"),
        (False, [Unauthorized(), Missing()], "warn", "breezesync connect-link USER"),
        (False, [Missing(), Unauthorized()], "failed", "Set MAKER_API_URL=https://b.example"),
        (False, [Failed("ConnectError")], "failed", "MAKER_API_URL"),
    ],
)
def test_the_base_that_answers_is_found(with_token: bool, outcomes: list[Any], state: str, remedy: str) -> None:
    urls = ("https://a.example", "https://b.example")
    finding = judge_bases("maker", with_token, [Base(*pair) for pair in zip(urls, outcomes, strict=False)])
    assert finding.state == state
    assert remedy in finding.remedy if remedy else not finding.remedy
    assert all(url in finding.said for url, _ in zip(urls, outcomes, strict=False))
