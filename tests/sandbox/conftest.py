"""A sandbox of one's own for each test, and an application that talks to it as any client would."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest

import sandbox


class Application:
    """An OAuth client of one sandbox, over real HTTP."""

    def __init__(self, provider: sandbox.Running, http: httpx.Client) -> None:
        self.provider = provider
        self.control = provider.control
        self.http = http
        self.redirect_uri = provider.redirect_uri
        self.credentials = {"client_id": provider.client_id, "client_secret": provider.client_secret}

    def authorize_url(self, **changes: str) -> str:
        asked = {
            "client_id": self.provider.client_id,
            "redirect_uri": self.redirect_uri,
            "response_type": "code",
            "scope": "*",
            "state": "some-state",
        }
        return f"{self.provider.url}/oauth/authorize?{urlencode(asked | changes)}"

    def obtain_code(self, user_id: int = 1, **changes: str) -> str:
        return read_query(self.control.authorize(self.authorize_url(**changes), user_id))["code"]

    def ask(self, **fields: Any) -> httpx.Response:
        """Posts to the token endpoint; a field given as None is left out."""
        body = {name: value for name, value in (self.credentials | fields).items() if value is not None}
        return self.http.post("/oauth/token", json=body)

    def exchange(self, code: str, **changes: Any) -> httpx.Response:
        return self.ask(
            **{"grant_type": "authorization_code", "code": code, "redirect_uri": self.redirect_uri} | changes
        )

    def refresh(self, refresh_token: str | None, **changes: Any) -> httpx.Response:
        return self.ask(**{"grant_type": "refresh_token", "refresh_token": refresh_token} | changes)

    def connect(self, user_id: int = 1) -> dict[str, Any]:
        answer = self.exchange(self.obtain_code(user_id))
        assert answer.status_code == 200
        return dict(answer.json())

    def get(self, path: str, access_token: str, **headers: str) -> httpx.Response:
        return self.http.get(path, headers={"Authorization": f"Bearer {access_token}"} | headers)

    def is_alive(self, tokens: dict[str, Any]) -> bool:
        return self.get("/api/me", tokens["access_token"]).status_code == 200


def read_query(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


@pytest.fixture
def start() -> Iterator[Callable[..., Application]]:
    """Starts a sandbox with the given settings."""
    with ExitStack() as stack:

        def start_one(**options: Any) -> Application:
            provider = stack.enter_context(sandbox.running(**options))
            headers = {"Accept": "application/json"}
            http = stack.enter_context(httpx.Client(base_url=provider.url, headers=headers, trust_env=False))
            return Application(provider, http)

        yield start_one


@pytest.fixture
def app(start: Callable[..., Application]) -> Application:
    return start()


@pytest.fixture(params=[12, 13], ids=["passport12", "passport13"])
def either(request: pytest.FixtureRequest, start: Callable[..., Application]) -> Application:
    """The test runs on both generations."""
    return start(passport=request.param)
