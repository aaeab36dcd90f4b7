"""The API's rate limit: fixed windows per user, driven by the sandbox's clock."""

import pytest

from tests.sandbox.conftest import Application


@pytest.fixture
def token(app: Application) -> str:
    return app.control.personal_token(1)


def test_every_answer_says_what_is_left(app: Application, token: str) -> None:
    headers = [app.get("/api/me", token).headers for _ in range(2)]
    assert [(h["x-ratelimit-limit"], h["x-ratelimit-remaining"]) for h in headers] == [("60", "59"), ("60", "58")]
    assert "retry-after" not in headers[0]


def test_the_sixty_first_request_of_a_window_is_refused(app: Application, token: str) -> None:
    statuses = [app.get("/api/me", token).status_code for _ in range(60)]
    refused = app.get("/api/me", token)
    now = app.control.state()["now"]

    assert set(statuses) == {200}
    assert (refused.status_code, refused.json()) == (429, {"message": "Too Many Attempts."})
    assert refused.headers["x-ratelimit-remaining"] == "0"
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert abs(int(refused.headers["x-ratelimit-reset"]) - now - int(refused.headers["retry-after"])) <= 2


def test_after_retry_after_a_new_window_opens(app: Application, token: str) -> None:
    for _ in range(60):
        app.get("/api/me", token)
    wait = int(app.get("/api/me", token).headers["retry-after"])
    app.control.advance(wait)
    assert app.get("/api/me", token).headers["x-ratelimit-remaining"] == "59"


def test_the_window_opens_with_the_first_request_and_does_not_slide(app: Application, token: str) -> None:
    app.get("/api/me", token)
    app.control.advance(50)
    for _ in range(59):
        app.get("/api/me", token)
    assert app.get("/api/me", token).status_code == 429
    app.control.advance(10)
    assert app.get("/api/me", token).status_code == 200


def test_users_do_not_share_a_window_but_a_users_apps_do(app: Application, token: str) -> None:
    for _ in range(60):
        app.get("/api/me", token)
    assert app.get("/api/me", app.control.personal_token(2)).status_code == 200
    assert app.get("/v1/me", app.connect(1)["access_token"]).status_code == 429


def test_limits_can_be_set_and_switched_off(app: Application, token: str) -> None:
    app.control.set(rate_limit=2)
    assert [app.get("/api/me", token).status_code for _ in range(3)] == [200, 200, 429]
    app.control.set(rate_limit=0)
    answer = app.get("/api/me", token)
    assert answer.status_code == 200
    assert "x-ratelimit-limit" not in answer.headers


def test_without_json_asked_for_a_refusal_is_html(app: Application, token: str) -> None:
    app.control.set(rate_limit=1)
    app.get("/api/me", token)
    refused = app.get("/api/me", token, Accept="text/html")
    assert (refused.status_code, refused.headers["content-type"]) == (429, "text/html; charset=utf-8")
