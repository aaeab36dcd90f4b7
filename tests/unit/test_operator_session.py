"""Which cookies of the operator's page count, and for how long."""

from datetime import UTC, datetime, timedelta

import pytest

from models.crypto.secrets import Secret
from worker.operator.session import form_token_of, is_session, is_token, lifetime, make_session

noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
token, other = Secret("an operator's token-1234"), Secret("another token-5678")
session = make_session(token, "nonce", noon)
values = {
    "its own": (session, token, timedelta(), True),
    "just before its end": (session, token, lifetime - timedelta(seconds=1), True),
    "at its end": (session, token, lifetime, False),
    "after the token was changed": (session, other, timedelta(), False),
    "with a later end": ("9" + session, token, timedelta(), False),
    "without its proof": (session.rpartition(".")[0], token, timedelta(), False),
    "empty": ("", token, timedelta(), False),
    "dots": ("..", token, timedelta(), False),
    "not ASCII": (session + "ü", token, timedelta(), False),
    "too long": ("1" * 300 + session, token, timedelta(), False),
}


@pytest.mark.parametrize(("value", "by", "later", "expected"), values.values(), ids=values.keys())
def test_a_session_counts_until_it_ends_or_the_token_changes(
    value: str, by: Secret, later: timedelta, expected: bool
) -> None:
    assert is_session(by, value, noon + later) is expected


def test_only_the_token_itself_signs_in() -> None:
    answers = [is_token(token, given) for given in (token.reveal(), token.reveal()[:-1], "", "ü", other.reveal())]
    assert answers == [True, False, False, False, False]


def test_a_form_belongs_to_one_session() -> None:
    second = make_session(token, "another", noon)
    assert form_token_of(token, session) != form_token_of(token, second)
    assert form_token_of(token, session) not in (session, form_token_of(other, session))
