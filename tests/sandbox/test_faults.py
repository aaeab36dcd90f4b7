"""Each kind of fault at each moment: what the client sees, and what was done behind it."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

import sandbox
from tests.sandbox.conftest import Application

MOMENTS = ("before", "middle", "after")
ENDING_KINDS = ("status", "drop", "cut", "html", "redirect", "garbage")


def see(act: Callable[[], httpx.Response]) -> str:
    """What a client sees of a request, in one word."""
    try:
        answer = act()
    except httpx.RemoteProtocolError as error:
        return "cut" if "without sending complete message body" in str(error) else f"unexpected {error}"
    except httpx.ReadError:
        return "drop"
    if answer.status_code == 302:
        return f"redirect {answer.headers['location']}"
    kind = answer.headers["content-type"].split(";")[0]
    return f"{answer.status_code} {kind} {answer.text if len(answer.text) < 40 else '…'}"


SEEN = {
    "status": '500 application/json {\n    "message": "Server Error"\n}',
    "drop": "drop",
    "cut": "cut",
    "html": "200 text/html …",
    "redirect": "redirect /maintenance",
    "garbage": "200 application/json {}",
}


@pytest.mark.parametrize("kind", ENDING_KINDS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_spoilt_refresh_leaves_behind_what_its_moment_says(app: Application, moment: str, kind: str) -> None:
    tokens = app.connect()
    app.control.inject("token", moment, kind)

    seen = see(lambda: app.refresh(tokens["refresh_token"]))

    live = app.control.counters()["live"].get("1", {}).get("refresh_tokens", 0)
    retry = app.refresh(tokens["refresh_token"]).status_code
    assert seen == SEEN[kind]
    assert (live, retry) == {"before": (1, 200), "middle": (0, 401), "after": (1, 401)}[moment]


@pytest.mark.parametrize("kind", ENDING_KINDS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_spoilt_exchange_leaves_behind_what_its_moment_says(app: Application, moment: str, kind: str) -> None:
    code = app.obtain_code()
    app.control.inject("token", moment, kind)

    seen = see(lambda: app.exchange(code))

    live = app.control.counters()["live"].get("1", {}).get("families", 0)
    retry = app.exchange(code).status_code
    assert seen == SEEN[kind]
    assert (live, retry) == {"before": (0, 200), "middle": (0, 400), "after": (1, 400)}[moment]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_late_refresh_is_right_in_the_end(app: Application, moment: str) -> None:
    tokens = app.connect()
    app.control.inject("token", moment, "late", delay_ms=200)

    started = time.monotonic()
    answer = app.refresh(tokens["refresh_token"])

    assert time.monotonic() - started >= 0.2
    assert app.is_alive(answer.json())


@pytest.mark.parametrize(("moment", "alive"), [("before", True), ("middle", False), ("after", False)])
def test_a_late_refresh_does_its_work_at_its_moment(app: Application, moment: str, alive: bool) -> None:
    tokens = app.connect()
    app.control.inject("token", moment, "late", delay_ms=5000)
    with pytest.raises(httpx.ReadTimeout):
        app.http.post(
            "/oauth/token",
            json=app.credentials | {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]},
            timeout=0.2,
        )
    assert app.is_alive(tokens) is alive


def test_the_work_goes_on_after_the_client_hangs_up(app: Application) -> None:
    tokens = app.connect()
    app.control.inject("token", "before", "late", delay_ms=200)
    body = app.credentials | {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    with pytest.raises(httpx.ReadTimeout):
        app.http.post("/oauth/token", json=body, timeout=0.05)

    deadline = time.monotonic() + 5
    while app.is_alive(tokens):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert app.control.counters()["outcomes"] == {"rotated": 1}


@pytest.mark.parametrize("kind", ENDING_KINDS)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_api_answer_can_be_spoilt(app: Application, moment: str, kind: str) -> None:
    tokens = app.connect()
    app.control.inject("api", moment, kind)
    assert see(lambda: app.get("/api/documents", tokens["access_token"])) == SEEN[kind]
    assert app.is_alive(tokens)


def test_the_authorize_page_can_be_spoilt(app: Application) -> None:
    app.control.inject("authorize", "before", "status", status=503)
    assert app.http.get(app.authorize_url()).status_code == 503
    assert app.http.get(app.authorize_url()).status_code == 200


def test_a_status_carries_its_retry_after(app: Application) -> None:
    app.control.inject("token", status=503, retry_after=3)
    answer = app.refresh("garbage")
    assert answer.status_code == 503
    assert answer.json() == {"message": "Service Unavailable"}
    assert answer.headers["retry-after"] == "3"


def test_who_does_not_ask_for_json_gets_errors_as_html(app: Application) -> None:
    app.control.inject("api", status=500)
    answer = app.get("/api/me", "any", Accept="*/*")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "text/html; charset=utf-8")


def test_garbage_can_be_anything(app: Application) -> None:
    app.control.inject("api", kind="garbage", body="[[[")
    assert app.get("/api/me", "any").text == "[[["


def test_a_fault_hits_as_often_as_it_says_and_counts_its_hits(app: Application) -> None:
    app.control.inject("api", status=500, count=2)
    token = app.connect()["access_token"]
    assert [app.get("/api/me", token).status_code for _ in range(3)] == [500, 500, 200]
    assert [fault["hits"] for fault in app.control.faults()] == [2]


def test_a_fault_without_a_count_lasts_until_it_is_removed(app: Application) -> None:
    fault = app.control.inject("api", status=500, count=None)
    token = app.connect()["access_token"]
    assert {app.get("/api/me", token).status_code for _ in range(4)} == {500}
    app.control.remove_fault(fault)
    assert app.get("/api/me", token).status_code == 200


@pytest.mark.parametrize(
    ("on", "match", "statuses"),
    [
        ("api", {"user_id": 2}, (200, 500, 200)),
        ("api", {"path": "/api/me"}, (500, 500, 200)),
        ("api", {"client_id": "other"}, (200, 200, 200)),
        ("token", {"grant_type": "refresh_token"}, (200, 200, 500)),
        ("token", {"user_id": "1", "client_id": "sandbox-client"}, (200, 200, 500)),
        ("token", {"grant_type": "authorization_code"}, (200, 200, 200)),
    ],
)
def test_a_fault_hits_only_whom_it_matches(
    app: Application, on: str, match: dict[str, Any], statuses: tuple[int, ...]
) -> None:
    ada, grace = app.connect(1), app.connect(2)
    app.control.inject(on, status=500, match=match, count=None)
    seen = (
        app.get("/api/me", ada["access_token"]).status_code,
        app.get("/api/me", grace["access_token"]).status_code,
        app.refresh(ada["refresh_token"]).status_code,
    )
    assert seen == statuses


def test_the_same_seed_throws_the_same_dice(app: Application) -> None:
    token = app.control.personal_token(1)

    def play() -> list[int]:
        fault = app.control.inject("api", status=500, count=None, probability=0.5, seed=7)
        statuses = [app.get("/api/me", token).status_code for _ in range(20)]
        app.control.remove_fault(fault)
        return statuses

    first = play()
    assert set(first) == {200, 500}
    assert play() == first


@pytest.mark.parametrize(
    "wrong",
    [
        {"on": "nothing"},
        {"on": "api", "moment": "middle"},
        {"on": "api", "kind": "earthquake"},
        {"on": "api", "match": {"colour": "red"}},
        {"on": "api", "count": "many"},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(app: Application, wrong: dict[str, Any]) -> None:
    with pytest.raises(sandbox.ControlError):
        app.control.inject(**wrong)
    assert app.control.faults() == []
