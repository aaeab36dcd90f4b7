"""`breezesync authorizations` as it is typed: its table, its JSON, its filters and its mistakes."""

from dataclasses import replace

import pytest

from models.oauth.authorization import Step, hold_up
from tests.cli.conftest import Desk
from tests.store.conftest import an_authorization

made = {
    "under way": replace(an_authorization("under way", "ada", id="a1"), step=Step.started),
    "held up": hold_up(replace(an_authorization("held up", "ada", id="a2"), step=Step.received), "HTTP 503"),
    "failed": replace(
        an_authorization("failed", "bob", id="a3"), step=Step.failed, reason="code_rejected", description="invalid"
    ),
    "connected": replace(an_authorization("connected", "bob", id="a4"), step=Step.connected),
}


@pytest.fixture
def filled(desk: Desk) -> Desk:
    with desk.house.store.writing() as tx:
        for name, each in made.items():
            assert tx.authorizations.add(replace(each, browser_hash=name), name)
    return desk


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), {"a1", "a2", "a3"}),
        (("--user", "ada"), {"a1", "a2"}),
        (("--status", "failed"), {"a3"}),
        (("--status", "connected"), {"a4"}),
        (("--status", "failed", "--user", "ada"), set()),
        (("--user", "no one"), set()),
    ],
)
def test_they_are_listed_by_step_and_user(filled: Desk, words: tuple[str, ...], expected: set[str]) -> None:
    assert {each["id"] for each in filled.read("authorizations", *words)} == expected
    typed = filled.type("authorizations", *words)
    assert typed.exit_code == 0
    assert {id_ for id_ in ("a1", "a2", "a3", "a4") if id_ in typed.output.split()} == expected


def test_json_and_text_give_the_reason_and_no_secret(filled: Desk) -> None:
    [held_up] = filled.read("authorizations", "--status", "received")
    assert (held_up["reason"], held_up["description"]) == ("provider_unavailable", "HTTP 503")
    assert not {"verifier", "code", "tokens", "state_hash", "browser_hash"} & held_up.keys()
    said = filled.type("authorizations", "--status", "failed").output
    assert "code_rejected" in said.replace("\n", "")


def test_an_unknown_status_is_wrong_usage(filled: Desk) -> None:
    typed = filled.type("authorizations", "--status", "finished")
    assert typed.exit_code == 2
    assert "received" in typed.output, "the error names the steps that there are"


def test_one_that_is_not_there_is_not_found(filled: Desk) -> None:
    assert filled.type("explain", "no-such-authorization").exit_code == 3
