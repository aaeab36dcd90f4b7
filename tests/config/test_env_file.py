"""What a `.env` says arrives byte for byte, and a line that can't be read is named and not shown."""

from pathlib import Path

import pytest

from config.env_file import EnvFileError, parse_env, read_env_file
from config.environment import SettingsError
from config.settings import read_settings

LITERAL = {
    "dollar": "ab$HOME$cd",
    "interpolation": "ab${HOME}cd",
    "number sign": "ab#cd",
    "number sign after a blank": "ab #cd",
    "number sign first": "#abcd",
    "single quote inside": "it's",
    "double quote inside": 'say "so"',
    "both quotes inside": """a'b"c'd""",
    "quotes around": "'abcd'",
    "one quote first": "'abcd",
    "backslashes": r"a\nb\\c\'d\"",
    "equals signs": "a=b==",
    "blanks around": "  ab cd  ",
    "a tab": "\tab",
}


@pytest.mark.parametrize("quote", ["'", '"'], ids=["single", "double"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("value", [*LITERAL.values(), "ünï ☃ \u2028 \u00a0"], ids=[*LITERAL, "unicode"])
def test_a_quoted_value_is_literal(value: str, end: str, quote: str) -> None:
    written = f"A=1{end}export SECRET={quote}{value}{quote}{end}B=2{end}"
    assert parse_env(written) == {"A": "1", "SECRET": value, "B": "2"}


@pytest.mark.parametrize("end", ["", "\n", "\r\n"], ids=["end of file", "LF", "CRLF"])
@pytest.mark.parametrize("value", [value for value in LITERAL.values() if value[0] not in "' \t"], ids=repr)
def test_a_value_without_quotes_is_literal_up_to_the_end_of_its_line(value: str, end: str) -> None:
    assert parse_env(f"SECRET={value}{end}") == {"SECRET": value}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        pytest.param("  A =  b c \t", {"A": "b c"}, id="blanks around name and value"),
        pytest.param("export\tA=b", {"A": "b"}, id="export and a tab"),
        pytest.param("A=\nB=''\nC=\"\"", {"A": "", "B": "", "C": ""}, id="empty"),
        pytest.param("# A=b\n\n  # c\n", {}, id="comments and empty lines"),
        pytest.param("A=1\nA=2", {"A": "2"}, id="the later one counts"),
    ],
)
def test_a_line_is_an_assignment_or_a_comment(written: str, expected: dict[str, str]) -> None:
    assert parse_env(written) == expected


@pytest.mark.parametrize(
    "line", ["hunter2", "hunter2 = x y\n=", "A-B=hunter2", "A='hunter2", "A='hunter2' # why", 'A="']
)
def test_an_unfit_line_is_named_and_not_shown(tmp_path: Path, line: str) -> None:
    (tmp_path / ".env").write_text(f"OK=1\n{line}\n")
    with pytest.raises(SettingsError) as refused:
        read_settings({}, tmp_path / ".env", needs=())
    assert len(refused.value.problems) == 1
    assert "line " in refused.value.problems[0]
    assert "hunter2" not in refused.value.problems[0]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("\ufeffA=b\r\n".encode())
    assert read_env_file(tmp_path / ".env") == {"A": "b"}


def test_a_file_of_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"A=\xff\n")
    with pytest.raises(EnvFileError, match="UTF-8"):
        read_env_file(tmp_path / ".env")


@pytest.mark.parametrize("value", LITERAL.values(), ids=LITERAL)
def test_a_client_secret_in_quotes_reaches_the_settings_as_it_is(tmp_path: Path, value: str) -> None:
    if "\t" in value:
        pytest.skip("RFC 6749 allows no tab in a client secret")
    client = "BREEZEDOC_CLIENT_ID=c\nBREEZEDOC_REDIRECT_URI=https://s.example/auth/breezedoc/callback\n"
    (tmp_path / ".env").write_text(f"{client}BREEZEDOC_CLIENT_SECRET='{value}'\n")
    settings = read_settings({"HOME": "/root"}, tmp_path / ".env", needs=())
    assert settings.clients[0].client_secret.reveal() == value
