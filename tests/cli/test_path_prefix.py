"""A link and the path in an event agree, whatever stands before our paths in the redirect URI."""

from urllib.parse import urlsplit

import pytest

from config.settings import read_settings
from tests.cli.conftest import Desk


@pytest.mark.parametrize("prefix", ["", "/sync", "/a/b"])
def test_the_prefix_is_that_of_the_redirect_uri(desk: Desk, prefix: str) -> None:
    desk.set(BREEZEDOC_REDIRECT_URI=f"https://app.example{prefix}/auth/breezedoc/callback")
    [provider] = read_settings().providers
    assert provider.path_prefix == prefix
    link = desk.read("connect-link", "ada")["url"]
    assert urlsplit(link).path == f"{provider.path_prefix}/auth/breezedoc"
