"""Who a token belongs to, whatever the provider's account resource says."""

from typing import Any

import pytest

from models.account import Account, read_account
from models.api_response import ApiOutcome, Failed, Page, Unauthorized
from models.provider import Provider

provider = Provider(name="p", authorize_url="https://p/a", token_url="https://p/t", api_url="https://p/api")

read: dict[str, tuple[Any, Account | None]] = {
    "a number": ({"id": 7, "email": "a@example.com"}, Account("7", "a@example.com")),
    "a text": ({"id": "7f", "email": None}, Account("7f", None)),
    "no e-mail address": ({"id": 7}, Account("7", None)),
    "texts that no database holds": ({"id": "a\x00\ud800", "email": "\x00b\udfff"}, Account("a?", "b?")),
    "as long as an id may be": ({"id": "7" * 255}, Account("7" * 255, None)),
    "too long for an index": ({"id": "7" * 256}, None),
    "nothing but a NUL": ({"id": "\x00"}, None),
    "an empty text": ({"id": ""}, None),
    "yes": ({"id": True}, None),
    "a fraction": ({"id": 1.5}, None),
    "null": ({"id": None}, None),
    "no id": ({}, None),
    "no object": ("a", None),
}


@pytest.mark.parametrize("case", read)
def test_an_account_is_read_as_it_can_be_kept(case: str) -> None:
    body, expected = read[case]
    assert read_account(provider, Page((body,), 1, 1, 1)) == expected


@pytest.mark.parametrize("outcome", [Unauthorized(), Failed("HTTP 500"), Page((), 1, 1, 1)])
def test_an_answer_that_is_no_account_names_none(outcome: ApiOutcome) -> None:
    assert read_account(provider, outcome) is None
