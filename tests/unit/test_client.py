"""What a client sends with its refreshes."""

from dataclasses import replace

from models.oauth.client import StoredClient, refresh_scope
from models.provider import Provider


def test_a_client_whose_scope_was_refused_sends_none() -> None:
    provider = Provider(
        name="p", authorize_url="https://p/a", token_url="https://p/t", api_url="https://p/api", refresh_scope="read"
    )
    client = StoredClient("p", "c")
    assert refresh_scope(None, provider) == "read"
    assert refresh_scope(client, provider) == "read"
    assert refresh_scope(replace(client, omit_refresh_scope=True), provider) == ""
