from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

from models.crypto.secrets import Secret
from models.oauth.client import OAuthClient
from models.provider import Column, Provider, Resource, View, unsign

breeze = Provider(
    name="breeze",
    authorize_url="https://breeze.example/oauth/authorize",
    token_url="https://breeze.example/oauth/token",
    api_url="https://breeze.example/api",
    scope="*",
    resources=(Resource(name="document", path="/documents"),),
)
redirect_uri = "https://app.example/auth/breeze/callback?a=1&b=ä"


def test_the_authorize_url_asks_for_a_code_with_everything_encoded() -> None:
    url = breeze.authorize_url_for("client 1", redirect_uri, "s&=#+", "challenge")
    assert url.startswith("https://breeze.example/oauth/authorize?")
    assert dict(parse_qsl(urlsplit(url).query, strict_parsing=True)) == {
        "response_type": "code",
        "client_id": "client 1",
        "redirect_uri": redirect_uri,
        "scope": "*",
        "state": "s&=#+",
        "code_challenge": "challenge",
        "code_challenge_method": "S256",
    }


def test_without_a_challenge_none_is_sent() -> None:
    query = parse_qs(urlsplit(breeze.authorize_url_for("c", redirect_uri, "s", None)).query)
    assert not [name for name in query if name.startswith("code_challenge")]


@pytest.mark.parametrize(("prompt", "sent"), [("consent", ["consent"]), ("", None)])
def test_a_prompt_is_sent_if_the_profile_has_one(prompt: str, sent: list[str] | None) -> None:
    url = replace(breeze, prompt=prompt).authorize_url_for("c", redirect_uri, "s", None)
    assert parse_qs(urlsplit(url).query, keep_blank_values=True).get("prompt") == sent


def test_without_a_scope_none_is_sent() -> None:
    url = replace(breeze, scope="").authorize_url_for("c", redirect_uri, "s", None)
    assert "scope" not in parse_qs(urlsplit(url).query, keep_blank_values=True)


@pytest.mark.parametrize(
    ("authorize_url", "kept"),
    [
        ("https://x.example/a?tenant=7&empty=", [("tenant", "7"), ("empty", "")]),
        ("https://x.example/a?state=evil&tenant=7#part", [("tenant", "7")]),
        ("https://x.example/a?q=1&q=2", [("q", "1"), ("q", "2")]),
    ],
    ids=["query kept", "own parameters win", "repeated kept"],
)
def test_the_urls_own_query_stays(authorize_url: str, kept: list[tuple[str, ...]]) -> None:
    url = replace(breeze, authorize_url=authorize_url).authorize_url_for("c", redirect_uri, "s", None)
    pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    assert pairs[: len(kept)] == kept
    assert [value for name, value in pairs if name == "state"] == ["s"]
    assert urlsplit(url).fragment == ""


def test_a_resource_is_found_by_name() -> None:
    assert breeze.resource("document") == Resource(name="document", path="/documents")
    assert breeze.resource("invoice") is None


def test_a_view_carries_the_providers_name() -> None:
    view = View(name="document", resource="document", columns=(Column(name="id", path="id"),))
    assert breeze.view_name(view) == "breeze_document"


def test_a_client_shows_no_secret() -> None:
    client = OAuthClient(provider="breeze", client_id="c", client_secret=Secret("hunter2"), redirect_uri=redirect_uri)
    assert "hunter2" not in repr(client)


@pytest.mark.parametrize(
    ("signed", "unsigned"),
    [
        ("https://store.example/p/1.png?X-Amz-Signature=a", "https://store.example/p/1.png"),
        ("https://store.example/p/1.png?a=1\n?b", "https://store.example/p/1.png"),
        ("https://store.example/p/1.png", "https://store.example/p/1.png"),
        ("what? https://x.example/?a", "what? https://x.example/?a"),
        (
            {"a": ["http://x.example/?s", {"b": "http://x.example/y?s"}]},
            {"a": ["http://x.example/", {"b": "http://x.example/y"}]},
        ),
        ([1, 1.5, True, None], [1, 1.5, True, None]),
    ],
    ids=["signed", "to the very end", "unsigned", "no URL", "at any depth", "other values"],
)
def test_a_pre_signed_url_loses_its_signature_and_nothing_else_changes(
    signed: dict[str, Any] | list[Any] | str, unsigned: dict[str, Any] | list[Any] | str
) -> None:
    assert unsign(signed) == unsigned
