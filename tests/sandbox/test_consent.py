"""The consent page, clicked through as a browser without script would."""

import re
from collections.abc import Iterator
from html import unescape

import httpx
import pytest

import sandbox
from tests.sandbox.conftest import Application, read_query


@pytest.fixture
def browser(app: Application) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=app.provider.url, trust_env=False, headers={"Accept": "text/html"}) as client:
        yield client


def click(browser: httpx.Client, page: str, button_id: str) -> httpx.Response:
    """Submit the form that contains a button, as that button."""
    form = next(form for form in re.findall(r"<form.*?</form>", page, re.DOTALL) if f'id="{button_id}"' in form)
    [action, *_] = map(unescape, re.findall(r'action="([^"]*)"', form))
    hidden = re.findall(r'type="hidden" name="([^"]*)" value="([^"]*)"', form)
    fields = {name: unescape(value) for name, value in hidden}
    pressed = re.search(rf'id="{button_id}"[^>]*?name="([^"]*)" value="([^"]*)"', form)
    return browser.post(action, data=fields | ({pressed[1]: pressed[2]} if pressed else {}))


def log_in(browser: httpx.Client, url: str, user_id: int) -> httpx.Response:
    """Answers what the authorize page shows or sends once logged in."""
    sent = click(browser, browser.get(url).text, f"login-{user_id}")
    assert sent.status_code == 302
    return browser.get(sent.headers["location"])


def test_login_and_allow_end_at_the_callback_with_a_working_code(app: Application, browser: httpx.Client) -> None:
    consent = log_in(browser, app.authorize_url(state="a b&c"), 2)
    assert "breezesync" in consent.text

    allowed = click(browser, consent.text, "allow")
    answer = read_query(allowed.headers["location"])
    tokens = app.exchange(answer["code"]).json()

    assert allowed.status_code == 302
    assert allowed.headers["location"].startswith(app.redirect_uri)
    assert answer["state"] == "a b&c"
    assert 600 < len(answer["code"]) < 800
    assert app.get("/api/me", tokens["access_token"]).json()["id"] == 2


def test_deny_ends_at_the_callback_with_access_denied(app: Application, browser: httpx.Client) -> None:
    consent = log_in(browser, app.authorize_url(), 1)
    answer = read_query(click(browser, consent.text, "deny").headers["location"])
    assert set(answer) == {"error", "error_description", "hint", "message", "state"}
    assert (answer["error"], answer["state"]) == ("access_denied", "some-state")


def test_consent_is_skipped_while_a_live_token_exists(app: Application, browser: httpx.Client) -> None:
    app.connect(1)
    url = app.authorize_url()
    skipped = log_in(browser, url, 1)
    assert "code" in read_query(skipped.headers["location"])

    assert browser.get(app.authorize_url(prompt="consent")).status_code == 200
    assert browser.get(app.authorize_url(scope="documents.read")).status_code == 200

    app.control.revoke_user(1)
    assert browser.get(url).status_code == 200


def test_being_somebody_else_asks_who(app: Application, browser: httpx.Client) -> None:
    consent = log_in(browser, app.authorize_url(), 1)
    left = click(browser, consent.text, "switch")
    assert 'id="login-2"' in browser.get(left.headers["location"]).text


def test_prompt_login_asks_again_once(app: Application, browser: httpx.Client) -> None:
    app.connect(1)
    log_in(browser, app.authorize_url(), 1)
    again = browser.get(app.authorize_url(prompt="login"))
    assert 'id="login-1"' in again.text
    sent = click(browser, again.text, "login-1")
    assert "code" in read_query(browser.get(sent.headers["location"]).headers["location"])


@pytest.mark.parametrize(
    ("passport", "needs_login", "needs_consent"),
    [
        (12, ("access_denied", "Unauthenticated"), ("access_denied", "The user denied the request")),
        (13, ("login_required", None), ("consent_required", None)),
    ],
)
def test_prompt_none_never_shows_a_page(
    app: Application,
    browser: httpx.Client,
    passport: int,
    needs_login: tuple[str, str | None],
    needs_consent: tuple[str, str | None],
) -> None:
    app.control.set(passport=passport)
    url = app.authorize_url(prompt="none")
    first = read_query(browser.get(url).headers["location"])
    assert (first["error"], first.get("hint")) == needs_login
    log_in(browser, app.authorize_url(), 1)
    second = read_query(browser.get(url).headers["location"])
    assert (second["error"], second.get("hint")) == needs_consent


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"client_id": "unknown"}, 401),
        ({"redirect_uri": "https://elsewhere.example/"}, 401),
        ({"redirect_uri": "http://127.0.0.1:8700/auth/breezedoc/callback/"}, 401),
        ({"redirect_uri": ""}, 401),
        ({"response_type": "token"}, 400),
        ({"code_challenge": "short", "code_challenge_method": "S256"}, 400),
    ],
)
def test_a_bad_request_gets_a_page_and_never_a_redirect(
    app: Application, browser: httpx.Client, changes: dict[str, str], status: int
) -> None:
    answer = browser.get(app.authorize_url(**changes))
    assert answer.status_code == status
    assert "location" not in answer.headers
    with pytest.raises(sandbox.ControlError):
        app.control.authorize(app.authorize_url(**changes))


@pytest.mark.parametrize(("passport", "state"), [(12, None), (13, "some-state")])
def test_an_unknown_scope_loses_the_state_on_the_older_generation(
    app: Application, browser: httpx.Client, passport: int, state: str | None
) -> None:
    app.control.set(passport=passport)
    url = app.authorize_url(scope="everything")
    answer = read_query(browser.get(url).headers["location"])
    assert (answer["error"], answer.get("state")) == ("invalid_scope", state)
    assert read_query(app.control.authorize(url)) == answer


def test_the_control_plays_the_user_both_ways(app: Application) -> None:
    assert "code" in read_query(app.control.authorize(app.authorize_url(), 1))
    denied = read_query(app.control.authorize(app.authorize_url(), 1, allow=False))
    assert (denied["error"], denied["state"]) == ("access_denied", "some-state")


def test_pages_load_nothing_from_elsewhere_and_need_no_script(app: Application, browser: httpx.Client) -> None:
    pages = [browser.get(app.authorize_url()), log_in(browser, app.authorize_url(), 1), browser.get("/_sandbox")]
    for page in pages:
        assert page.status_code == 200
        assert "<script" not in page.text
        assert not re.search(r"(src|href)=|url\(|@import", page.text)
        assert 'name="viewport"' in page.text
