"""What an operator's mistake is answered with: a line on stderr that helps, an exit code, never a traceback."""

import json
import tomllib
from pathlib import Path

import pytest

from tests.cli.conftest import Desk

COMMANDS = [
    ("init",),
    ("migrate",),
    ("run",),
    ("doctor",),
    ("connect-link",),
    ("connect-token",),
    ("connections",),
    ("explain",),
    ("sync",),
    ("refresh",),
    ("disconnect",),
    ("events",),
    ("events", "replay"),
    ("dead-letters",),
    ("dead-letters", "retry"),
    ("dead-letters", "drop"),
    ("keys", "status"),
    ("keys", "rotate"),
    ("status",),
]
NEEDING_DATABASE = [
    ("connections",),
    ("explain", "c1"),
    ("sync", "c1"),
    ("refresh", "c1"),
    ("disconnect", "c1"),
    ("events",),
    ("events", "replay", "--since", "1h"),
    ("keys", "status"),
    ("keys", "rotate"),
    ("status",),
]
NEEDING_REDIS = [
    ("dead-letters",),
    ("dead-letters", "retry", "--all"),
    ("dead-letters", "drop", "m1"),
    ("events", "replay", "--since", "1h"),
    ("status",),
]


def called(words: tuple[str, ...]) -> str:
    return " ".join(words)


@pytest.mark.parametrize("words", [(), *COMMANDS, ("keys",)], ids=called)
def test_every_command_explains_itself(desk: Desk, words: tuple[str, ...]) -> None:
    result = desk.type(*words, "--help")
    assert result.exit_code == 0
    assert "Usage: breezesync" in result.stdout
    assert words in ((), ("keys",)) or "--json" in result.stdout


def test_every_command_there_is_stands_in_the_overview(desk: Desk) -> None:
    overview = desk.type("--help").stdout
    assert all(words[0] in overview for words in COMMANDS)
    assert desk.type().output.strip() == overview.strip()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("nonsense",), "No such command 'nonsense'"),
        (("connections", "--nonsense"), "No such option"),
        (("connections", "--status", "dead"), "Invalid value for '--status'"),
        (("connect-link",), "Missing argument 'USER'"),
        (("connect-link", "ada", "--ttl", "901"), "Invalid value for '--ttl'"),
        (("connect-link", "ada", "--ttl", "0"), "Invalid value for '--ttl'"),
        (("connect-link", "ada", "--ttl", "soon"), "Invalid value for '--ttl'"),
        (("connect-link", "ada", "--team", "red"), "Invalid value for '--team'"),
        (("explain",), "Give either an ID or --user."),
        (("explain", "c1", "--user", "ada"), "Give either an ID or --user."),
        (("connections", "--problem", "tired"), "Invalid value for '--problem'"),
        (("events", "--limit", "0"), "Invalid value for '--limit'"),
        (("sync",), "Give either a CONNECTION or --user."),
        (("refresh",), "Give either a CONNECTION or --user."),
        (("disconnect",), "Give either a CONNECTION or --user."),
        (("sync", "c1", "--user", "ada"), "Give either a CONNECTION or --user."),
        (("sync", "c1", "--provider", "breezedoc"), "--provider needs --user."),
        (("events", "--type", "record.eaten"), "There is no event type record.eaten"),
        (("events", "replay"), "Missing option '--since'"),
        (("events", "replay", "--since", "yesterday"), "--since yesterday is not a time"),
        (("events", "replay", "--since", "2026-13-01"), "--since 2026-13-01 is not a time"),
        (("audit", "--since", "0001-01-01T00:00:00+14:00"), "is not a time"),
        (("audit", "verify", "--since", "9999-12-31T23:59:59-14:00"), "is not a time"),
        (("connections", "--user", "ad\udcff"), "The command line is not UTF-8."),
        (("explain", "\udcff"), "The command line is not UTF-8."),
        (("connect-link", ""), "USER has to be 1 to 255 visible characters."),
        (("connect-link", "a\nb"), "USER has to be 1 to 255 visible characters."),
        (("connect-link", "a" * 256), "USER has to be 1 to 255 visible characters."),
        (("connect-link", "ada", "--team", "0"), "--team has to be a number above 0"),
        (("connect-link", "ada", "--connection", ""), "--connection has to be a connection's id."),
        (("dead-letters", "retry"), "Give either an ID or --all."),
        (("dead-letters", "retry", "m1", "--all"), "Give either an ID or --all."),
        (("dead-letters", "drop"), "Missing argument 'ID'"),
        (("keys",), "Usage: breezesync keys"),
        (("keys", "rotate", "--batch", "0"), "Invalid value for '--batch'"),
        (("run", "--port", "0"), "Invalid value for '--port'"),
        (("run", "--port", "65536"), "Invalid value for '--port'"),
        (("run", "--workers", "0"), "Invalid value for '--workers'"),
    ],
    ids=str,
)
def test_wrong_usage_ends_with_2(desk: Desk, words: tuple[str, ...], complaint: str) -> None:
    result = desk.type(*words)
    assert (result.exit_code, complaint in result.output) == (2, True), result.output
    assert desk.redis.dbsize() == 0


@pytest.mark.parametrize(
    ("words", "error"),
    {
        "an unknown command": (("nonsense",), "No such command 'nonsense'."),
        "an unknown command of a group": (("keys", "nonsense"), "No such command 'nonsense'."),
        "an unknown option": (("connections", "--nonsense"), "No such option: --nonsense"),
        "a missing argument": (("connect-link",), "Missing argument 'USER'."),
        "a missing option": (("events", "replay"), "Missing option '--since'."),
        "a bad choice": (("connections", "--status", "dead"), "Invalid value for '--status'"),
        "a number out of its range": (("connect-link", "ada", "--ttl", "0"), "Invalid value for '--ttl'"),
        "an argument too many": (("status", "now"), "Got unexpected extra argument"),
        "bytes that are no text": (("explain", "\udcff"), "The command line is not UTF-8."),
        "options that exclude each other": (("sync", "c1", "--user", "ada"), "Give either a CONNECTION or --user."),
        "nothing but the option": ((), "give it after the command"),
    }.values(),
    ids=str,
)
def test_wrong_usage_is_json_for_a_program(desk: Desk, words: tuple[str, ...], error: str) -> None:
    result = desk.type(*words, "--json")
    report = json.loads(result.stderr)
    assert (result.exit_code, result.stdout) == (2, "")
    assert (report["exit_code"], error in report["error"]) == (2, True), report


@pytest.mark.parametrize(
    ("words", "variables", "code", "error"),
    {
        "no such connection": (("explain", "c1"), {}, 3, "There is no connection c1"),
        "Redis is away": (("dead-letters",), {"REDIS_URL": "redis://127.0.0.1:9/0"}, 1, "Redis does not answer"),
        "settings": (("status",), {"SYNC_INTERVAL": "0s"}, 1, "SYNC_INTERVAL"),
        "a value with a line break": (("explain", "a\nb"), {}, 3, "There is no connection a\nb"),
    }.values(),
    ids=str,
)
def test_every_error_is_json_for_a_program(
    desk: Desk, words: tuple[str, ...], variables: dict[str, str], code: int, error: str
) -> None:
    desk.set(**variables)
    result = desk.type(*words, "--json")
    [line] = result.stderr.splitlines()
    report = json.loads(line)
    assert (result.exit_code, report["exit_code"], error in report["error"]) == (code, code, True), report


def test_the_version_is_the_project_s(desk: Desk) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert desk.type("--version").stdout == f"{project['version']}\n"
    assert desk.read("--version") == {"version": project["version"]}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("explain", "c1"), "There is no connection c1"),
        (("explain", "c1"), "The beginning of an id has 4 characters or more."),
        (("explain", "--user", "nobody"), "User nobody has no connection and no authorization."),
        (("sync", "c1"), "There is no connection c1"),
        (("refresh", "c1"), "There is no connection c1"),
        (("disconnect", "c1"), "There is no connection c1"),
        (("sync", "--user", "nobody"), "User nobody has no connection."),
        (("refresh", "--user", "nobody", "--provider", "breezedoc"), "User nobody has no connection at breezedoc."),
        (("disconnect", "--user", "nobody"), "User nobody has no connection."),
        (("connect-link", "ada", "--provider", "nowhere"), "There is no provider 'nowhere'"),
        (("events", "--since", "e1"), "There is no event e1."),
        (("dead-letters", "retry", "m1"), "There is no dead letter m1"),
        (("dead-letters", "drop", "m1"), "There is no dead letter m1"),
        (("explain", "'; DROP TABLE connection --"), "There is no connection"),
        (("explain", "x" * 100_000), "There is no connection"),
        (("explain", "[bold]ü\N{PILE OF POO}"), "There is no connection [bold]ü\N{PILE OF POO}"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_not_there_ends_with_3(desk: Desk, words: tuple[str, ...], complaint: str) -> None:
    result = desk.type(*words)
    assert (result.exit_code, complaint in result.stderr) == (3, True), result.output
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("connect-link", "ada", "--return-to", "https://evil.example/"), "RETURN_ORIGINS lists https://app.example."),
        (("connect-link", "ada", "--return-to", "javascript:alert(1)"), "is not allowed"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_link_that_would_not_open_is_not_printed(desk: Desk, words: tuple[str, ...], complaint: str) -> None:
    result = desk.type(*words)
    assert (result.exit_code, complaint in result.stderr) == (1, True), result.output
    assert result.stdout == ""


@pytest.mark.parametrize("words", NEEDING_DATABASE, ids=called)
def test_a_database_without_schema_is_remedied(desk: Desk, words: tuple[str, ...]) -> None:
    desk.set(DATABASE_URL=f"sqlite:///{desk.directory}/new.db")
    result = desk.type(*words)
    assert result.exit_code == 1
    assert (
        result.stderr == f"The database sqlite:///{desk.directory}/new.db has no schema yet. Run breezesync migrate.\n"
    )
    assert not (desk.directory / "new.db").exists()


@pytest.mark.parametrize("words", [*NEEDING_DATABASE, ("migrate",)], ids=called)
def test_a_database_that_is_away_is_told_without_its_password(desk: Desk, words: tuple[str, ...]) -> None:
    desk.set(DATABASE_URL="postgresql+psycopg://ada:hunter2@127.0.0.1:9/none")
    result = desk.type(*words)
    assert result.exit_code == 1
    assert "The database postgresql+psycopg://ada:***@127.0.0.1:9/none does not answer" in result.stderr
    assert "hunter2" not in result.output


@pytest.mark.parametrize("words", NEEDING_REDIS, ids=called)
def test_a_redis_that_is_away_is_told_without_its_password(desk: Desk, words: tuple[str, ...]) -> None:
    desk.set(REDIS_URL="redis://:hunter2@127.0.0.1:9/0")
    result = desk.type(*words)
    assert result.exit_code == 1
    assert "redis://:***@127.0.0.1:9/0 (ConnectionError)" in result.stderr
    assert "REDIS_URL" in result.stderr
    assert "hunter2" not in result.output


def test_status_tells_what_the_database_knows_while_redis_is_away(desk: Desk) -> None:
    desk.house.connect("ada", 1)
    desk.set(REDIS_URL="redis://127.0.0.1:9/0")
    report = desk.read("status", code=1)
    assert (report["connections"], report["queues"]) == ({"active": 1}, None)


@pytest.mark.parametrize("words", [("sync", "c1"), ("status",), ("dead-letters",), ("migrate",)], ids=called)
def test_wrong_settings_are_told_all_at_once(desk: Desk, words: tuple[str, ...]) -> None:
    desk.set(REDIS_URL="http://r", SYNC_INTERVAL="0s", EVENTS_MAXLEN="many", DATABASE_URL="mysql://d")
    result = desk.type(*words)
    assert result.exit_code == 1
    names = [line.split(":")[0].strip() for line in result.stderr.splitlines()[1:]]
    assert names == ["DATABASE_URL", "REDIS_URL", "EVENTS_MAXLEN", "SYNC_INTERVAL"]


def test_keys_that_are_missing_are_asked_for_where_they_are_needed_only(desk: Desk) -> None:
    desk.monkeypatch.delenv("ENCRYPTION_KEYS")
    assert desk.type("keys", "status").stderr.splitlines()[1].startswith("  ENCRYPTION_KEYS: missing")
    assert desk.type("connections").exit_code == 0
