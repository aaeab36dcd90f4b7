"""`profile check`: what is wrong with a profile, what is understood of it, and what it reads with a token."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from config.profiles import profile_directories
from tests import made_up_api
from tests.cli.conftest import Desk, command_line
from tests.made_up_api import Answer, Asked, MadeUpApi, serving_api

acme = """
authorize_url = "https://acme.example/authorize"
token_url = "https://acme.example/token"
api_url = "{url}"
auth_scheme = "token"
account_email = "mail"

[[resources]]
name = "account"
path = "/me"

[[resources]]
name = "thing"
path = "/things"
paging = "cursor"
items = "items"
cursor = "nextPageToken"
cursor_parameter = "pageToken"
size_parameter = "limit"
size = 2
id = "node.id"

[[resources]]
name = "of_team"
path = "/teams/{{team}}/things"
per_team = true
paging = "link"
"""


def write(directory: Path, url: str = "https://api.acme.example/v1", **changes: str) -> Path:
    path = directory / "acme.toml"
    text = acme.format(url=url)
    for old, new in changes.items():
        text = text.replace(f"{old} = ", f"{new} = ")
    path.write_text(text)
    return path


def type_check(*words: str, token: str | None = None) -> tuple[int, str, str]:
    words = ("profile", "check", *words)
    result = CliRunner().invoke(command_line(), words, input=token, prog_name="breezesync")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def bare(bare_environment: Any, tmp_path: Path) -> Path:
    """An empty directory, without settings, database or Redis."""
    return tmp_path


def test_a_good_profile_is_explained_without_any_settings(bare: Path) -> None:
    code, said, _ = type_check(str(write(bare)), "--json")
    assert code == 0
    shown = json.loads(said)
    assert [(each["resource"], each["url"], each["items"], each["id"]) for each in shown["resources"]] == [
        ("account", "https://api.acme.example/v1/me", "the body, or the object in its data", "id"),
        ("thing", "https://api.acme.example/v1/things?limit=2", "items", "node.id"),
        ("of_team", "https://api.acme.example/v1/teams/{team}/things", "the body", "id"),
    ]
    assert (shown["problems"], {each["records"] for each in shown["resources"]}) == ([], {None})


def test_every_problem_is_named_at_once(bare: Path) -> None:
    path = write(bare, auth_scheme="scheme", id="key", size="sise")
    code, said, _ = type_check(str(path), "--json")
    assert code == 1
    problems = json.loads(said)["problems"]
    assert [problem.removeprefix(f"{path}: ").partition(":")[0] for problem in problems] == [
        "scheme",
        "resources[1].sise",
        "resources[1].key",
    ]
    code, _, told = type_check(str(path))
    assert (code, len(told.splitlines())) == (1, 4)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["absent.toml"], 3),
        (["Acme.toml"], 2),
        (["acme.txt"], 2),
        (["cut.toml"], 1),
        (["folder.toml"], 2),
        (["acme.toml", "--connection", "x", "--token-stdin"], 2),
        ([], 2),
    ],
)
def test_a_mistake_of_usage_has_its_exit_code(bare: Path, words: list[str], code: int) -> None:
    write(bare)
    for name in ("Acme.toml", "acme.txt"):
        (bare / name).write_text(acme)
    (bare / "cut.toml").write_text("a = ")
    (bare / "folder.toml").mkdir()
    assert type_check(*words)[0] == code


def test_a_profile_that_reads_nothing_says_so(bare: Path) -> None:
    path = write(bare)
    path.write_text(path.read_text().partition("[[resources]]")[0])
    assert type_check(str(path))[:2] == (0, "acme has no [[resources]]: nothing of an account is read.\n")


@pytest.mark.parametrize("name", sorted(path.name for path in profile_directories()[1].glob("*.toml")))
def test_each_profile_that_is_shipped_passes(bare: Path, name: str) -> None:
    assert type_check(str(profile_directories()[1] / name))[0] == 0


@pytest.fixture
def api() -> Iterator[MadeUpApi]:
    things = {number: f"Thing {number}" for number in range(1, 6)}
    with serving_api(MadeUpApi(made_up_api.by_cursor, {"id": 1, "mail": "ida@example.com"}, things)) as served:
        yield served


def test_a_token_reads_one_page_of_each_list_and_shows_nowhere(desk: Desk, api: MadeUpApi, tmp_path: Path) -> None:
    code, said, told = type_check(str(write(tmp_path, api.url)), "--token-stdin", "--json", token="t0ken\n")
    assert code == 0, (said, told)
    assert "t0ken" not in said + told
    account, thing = json.loads(said)["resources"]
    assert (account["records"], account["ids"], account["fields"]) == (1, ["1"], ["id", "mail"])
    assert (thing["records"], thing["ids"], thing["goes_on"], thing["fault"]) == (2, ["1", "2"], True, None)
    assert thing["fields"] == ["id", "node", "title"]
    assert [(asked.path, asked.headers["authorization"]) for asked in api.asked] == [
        ("/me", "token t0ken"),
        ("/things", "token t0ken"),
    ]
    code, said, _ = type_check(str(write(tmp_path, api.url)), "--token-stdin", token="t0ken\n")
    assert code == 0
    assert "ids 1, 2" in said


below = """
[[resources]]
name = "part"
path = "/things/{parent}/parts"
parent = "thing"
paging = "cursor"
items = "items"
cursor = "nextPageToken"
cursor_parameter = "pageToken"
id = "node.id"
"""


def test_of_the_lists_of_all_parents_the_first_one_is_read(desk: Desk, api: MadeUpApi, tmp_path: Path) -> None:
    path = write(tmp_path, api.url)
    path.write_text(path.read_text() + below)
    code, said, _ = type_check(str(path), "--json")
    *_, part = json.loads(said)["resources"]
    assert (code, part["url"], part["parents"]) == (0, f"{api.url}/things/{{parent}}/parts", "thing, all")
    code, said, _ = type_check(str(path), "--token-stdin", "--json", token="t0ken\n")
    *_, part = json.loads(said)["resources"]
    assert (code, part["resource"], part["url"]) == (0, "part:1", f"{api.url}/things/1/parts")
    assert (part["parents"], part["records"], part["fault"]) == ("thing, all", 2, None)
    path.write_text(path.read_text() + "most_parents = 1")
    code, said, _ = type_check(str(path), "--token-stdin", token="t0ken\n")
    assert code == 0
    assert "  once for each thing, the first 1 only\n" in said
    path.write_text(path.read_text() + '\nparent_key = "slug"')
    code, said, _ = type_check(str(path), "--token-stdin", token="t0ken\n")
    assert code == 1
    assert "fault: no thing has a text or number at slug (parent_key) that can be in a path" in said
    api.things.clear()
    code, said, _ = type_check(str(path), "--token-stdin", token="t0ken\n")
    assert (code, [asked.path for asked in api.asked][-1]) == (0, "/things"), "there is none to read"


def test_what_can_not_be_read_is_a_problem_with_its_place(desk: Desk, api: MadeUpApi, tmp_path: Path) -> None:
    path = write(tmp_path, api.url)
    path.write_text(path.read_text().replace('id = "node.id"', 'id = "node.key"'))
    code, said, _ = type_check(str(path), "--token-stdin", "--json", token="t0ken\n")
    assert code == 1
    assert json.loads(said)["resources"][1]["fault"] == "2 of its elements have no text or number at node.key (id)"
    since = 'id = "node.id"\nrequests_per_minute = 30\nsince_parameter = "after"\nsince_field = "title"'
    path.write_text(path.read_text().replace('id = "node.key"', since))
    code, said, _ = type_check(str(path), "--token-stdin", token="t0ken\n")
    assert code == 1
    assert "between full readings after from title, less 120" in said
    assert "at most 30 requests a minute for each account" in said
    assert "fault: it can't be read incrementally by title (since_field)" in said
    path.write_text(path.read_text().replace('items = "items"', 'items = "rows"'))
    code, said, _ = type_check(str(path), "--token-stdin", token="t0ken\n")
    assert code == 1
    assert "fault: there is no list at rows" in said
    api.account = {"uuid": 1}
    code, said, _ = type_check(str(path), "--token-stdin", token="t0ken\n")
    assert code == 1
    assert "fault: it names no account" in said


def test_what_does_not_answer_is_named(desk: Desk, api: MadeUpApi, tmp_path: Path) -> None:
    code, said, _ = type_check(str(write(tmp_path, "http://127.0.0.1:9")), "--token-stdin", token="t0ken\n")
    assert (code, "fault: no answer (ConnectError)" in said) == (1, True)
    desk.set(REDIS_URL="redis://127.0.0.1:9/0")
    code, said, told = type_check(str(write(tmp_path, api.url)), "--token-stdin", "--json", token="t0ken\n")
    assert (code, said, api.asked) == (1, "", [])
    assert told.startswith('{"error": "Redis does not answer')


def test_a_connection_lends_its_token_to_its_own_provider_only(desk: Desk, tmp_path: Path) -> None:
    connection = desk.house.connect("ada", 1)
    shipped = str(profile_directories()[1] / "breezedoc.toml")
    with desk.house.store.reading() as tx:
        before = (tx.outbox.read(limit=1000), tx.runs.newest(connection.id))
    code, said, told = type_check(shipped, "--connection", connection.id[:8], "--json")
    assert code == 0, (said, told)
    seen = {each["resource"]: each for each in json.loads(said)["resources"]}
    assert (seen["account"]["records"], seen["account"]["ids"]) == (1, ["1"])
    assert seen["document"]["total"] == len(desk.house.control.documents(1))
    with desk.house.store.reading() as tx:
        assert (tx.outbox.read(limit=1000), tx.runs.newest(connection.id)) == before
        assert tx.records.living_ids(connection.id, "document", "document") == set()
        logged = [request.path for request in tx.journal.calls_of(connection.id)]
    assert {"/me", "/documents", "/templates"} <= set(logged)

    def answer(api: MadeUpApi, asked: Asked) -> Answer:
        raise AssertionError("no token may come here")

    with serving_api(MadeUpApi(answer)) as other:
        code, _, told = type_check(str(write(tmp_path, other.url)), "--connection", connection.id)
        assert (code, other.asked) == (2, [])
    assert type_check(shipped, "--connection", "feedfacefeedface")[0] == 3
    desk.house.flows.disconnect(connection.id)
    assert type_check(shipped, "--connection", connection.id)[0] == 1
