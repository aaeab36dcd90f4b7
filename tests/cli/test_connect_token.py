"""`connect-token`: the token comes from standard input, shows nowhere, and a mistake is told in a line."""

import pytest
from typer.testing import CliRunner

from tests.cli.conftest import Desk, command_line


def type_token(token: str, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(command_line(), ["connect-token", *words], input=token, prog_name="breezesync")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_an_account_is_connected_and_its_token_shows_nowhere(desk: Desk) -> None:
    token = desk.house.control.personal_token(1)
    code, said = type_token(f"{token}\n", "ada", "--json")
    assert code == 0, said
    assert token not in said
    [connection] = desk.read("connections")
    assert (connection["user_id"], connection["account_id"]) == ("ada", "1")


@pytest.mark.parametrize("typed", ["", "\n", "two words", "ä", "x" * 20_000])
def test_what_is_no_token_is_wrong_usage(desk: Desk, typed: str) -> None:
    code, said = type_token(typed, "ada")
    assert code == 2
    assert "Standard input has to be a token" in said


@pytest.mark.parametrize(
    ("words", "code"), [(["ada", "--provider", "nobody"], 3), ([" "], 2), (["x" * 256], 2), (["ada"], 1)]
)
def test_a_mistake_is_told_in_a_line(desk: Desk, words: list[str], code: int) -> None:
    ended, said = type_token("a-wrong-token", *words)
    assert ended == code
    assert len(said.strip().splitlines()) == 1
