"""Lists that come in pages in any way that a profile can name: read, unchanged, changed, deleted, or wrong."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from models.crypto.secrets import Secret
from models.oauth.connection import Connection
from models.provider import Resource
from tests import made_up_api
from tests.harness import House
from tests.made_up_api import Answer, Asked, Cut, MadeUpApi, serving_api
from worker.oauth.personal_token import ConnectToken

accounts = count(1)
account = Resource(name="account", path="/me", id="data.user.key")


@pytest.fixture(scope="module")
def house(house_for_all: House) -> House:
    return house_for_all


@dataclass
class Scene:
    """A connected account at a made-up API."""

    house: House
    api: MadeUpApi
    connection: Connection
    heard: int = 0
    profile: dict[str, Any] = field(default_factory=dict)

    def sync(self) -> list[tuple[str, str]]:
        """Sync it; return what was published since the last time: the type, and the record or the description."""
        self.house.flows.sync(self.connection.id)
        events = self.house.told(connection_id=self.connection.id)
        new, self.heard = events[self.heard :], len(events)
        return [
            (event["type"], event.get("external_id") or event.get("description") or "")
            for event in new
            if event.get("resource") != "account" and event["type"] != "connection.authorized"
        ]


@pytest.fixture
def scene(house: House) -> Iterator[Any]:
    """Return a function that connects an account at an API, with a profile that says how its list is read."""
    client = house.flows.sync.providers["breezedoc"]
    before, flows, opened = client.provider, house.flows, []

    def open_scene(cut: Cut, form: dict[str, Any], **profile: Any) -> Scene:
        number = next(accounts)
        identity = {"data": {"user": {"key": f"a{number}", "mail": "ida@example.com"}}}
        serving = serving_api(MadeUpApi(cut, identity, {each: f"Thing {each}" for each in range(1, 6)}))
        opened.append(serving)
        api = serving.__enter__()
        client.provider = replace(
            before,
            api_url=api.url,
            account_id="user.key",
            account_email="user.mail",
            auth_scheme="token",
            headers={"X-Version": "2026-01-01"},
            resources=(replace(account, id="user.key"), Resource(name="thing", path="/things", **form)),
            **profile,
        )
        flow = ConnectToken(house.store, house.vault, house.flows.sync.providers, house.queue.send, house.clock)
        connection = flow("breezedoc", f"user-{number}", Secret("t0ken"))
        house.queue.held.clear()
        return Scene(house, api, connection)

    yield open_scene
    client.provider, house.flows = before, flows
    for each in opened:
        each.__exit__(None, None, None)


by_node = {"id": "node.id"}
dialects: dict[str, tuple[Cut, dict[str, Any]]] = {
    "page": (made_up_api.by_number, {"paging": "page"} | by_node),
    "page from zero, with a total": (
        made_up_api.by_number_from_zero,
        {
            "paging": "page",
            "first_page": 0,
            "page_parameter": "startPage",
            "items": "result.values",
            "total": "result.count",
        }
        | by_node,
    ),
    "page, with a sign": (
        made_up_api.by_number_and_sign,
        {"paging": "page", "items": "values", "more": "isMore"} | by_node,
    ),
    "offset": (
        made_up_api.by_offset,
        {
            "paging": "offset",
            "offset_parameter": "skip",
            "size_parameter": "limit",
            "size": 50,
            "items": "value",
            "total": "total",
        }
        | by_node,
    ),
    "cursor": (
        made_up_api.by_cursor,
        {"paging": "cursor", "items": "items", "cursor": "nextPageToken", "cursor_parameter": "pageToken"} | by_node,
    ),
    "cursor of the last record": (
        made_up_api.by_last_record,
        {
            "paging": "cursor",
            "items": "data",
            "more": "has_more",
            "cursor": "[-1].node.id",
            "cursor_parameter": "starting_after",
        }
        | by_node,
    ),
    "link": (made_up_api.by_link, {"paging": "link"} | by_node),
    "link in the body": (
        made_up_api.by_link_in_the_body,
        {"paging": "link", "items": "value", "cursor": r"@odata\.nextLink"} | by_node,
    ),
    "none": (made_up_api.all_at_once, {"paging": "none", "items": "[]"} | by_node),
}


@pytest.mark.parametrize("in_memory", [True, False], ids=["in memory", "page by page"])
@pytest.mark.parametrize("dialect", dialects)
def test_a_list_is_read_in_each_dialect(scene: Any, house: House, dialect: str, in_memory: bool) -> None:
    cut, form = dialects[dialect]
    if not in_memory:
        house.keep_no_page_in_memory()
    own = scene(cut, form)
    assert own.sync() == [*(("record.created", str(number)) for number in range(1, 6)), ("sync.completed", "")]
    assert own.sync() == [("sync.completed", "")]
    own.api.things[4] = "Changed"
    del own.api.things[2]
    assert own.sync() == [("record.updated", "4"), ("record.deleted", "2"), ("sync.completed", "")]
    assert own.sync() == [("sync.completed", "")]
    for asked in own.api.asked:
        assert (asked.headers["authorization"], asked.headers["x-version"]) == ("token t0ken", "2026-01-01")


@pytest.mark.parametrize("dialect", ["cursor", "link", "offset"])
def test_a_run_that_other_jobs_continue_goes_on_where_it_was(scene: Any, house: House, dialect: str) -> None:
    own = scene(*dialects[dialect])
    own.sync()
    own.api.things[5] = "Changed"
    before = len(own.api.asked)
    one_page = replace(house.flows.sync, slice_length=timedelta(microseconds=1))
    one_page(own.connection.id)
    jobs = 0
    while house.queue.held:
        house.queue.held.clear()
        one_page(own.connection.id, asked=False)
        jobs += 1
    assert jobs > 3
    asked = [dict(each.query) for each in own.api.asked]
    assert asked[before:] == asked[1:before], "the first one was made to connect"
    assert own.sync()[0] == ("record.updated", "5")


def another_host(api: MadeUpApi, asked: Asked) -> Answer:
    return Answer(api.rows(), {"Link": f'<{api.url.replace("127.0.0.1", "127.0.0.2")}/things?page=2>; rel="next"'})


def same_page(api: MadeUpApi, asked: Asked) -> Answer:
    return Answer({"items": api.rows(), "next": "7"})


def with_token(api: MadeUpApi, asked: Asked) -> Answer:
    return Answer({"items": api.rows(), "next": "7&access_token=t0ken"})


def no_list(api: MadeUpApi, asked: Asked) -> Answer:
    return Answer({"items": {"1": "a"}})


def nameless(api: MadeUpApi, asked: Asked) -> Answer:
    return Answer({"items": [{"title": "a"}]})


cursor = {"paging": "cursor", "items": "items", "cursor": "next"}
wrong: dict[str, tuple[Cut, dict[str, Any], str]] = {
    "a link to another host": (
        another_host,
        {"paging": "link"},
        "thing (/things): the link to the next page leads out of the API's URL, and is not followed",
    ),
    "a repeated cursor": (same_page, cursor, "thing (/things): the next page's cursor is the one of this page"),
    "a cursor with the token in it": (
        with_token,
        cursor,
        "thing (/things): the link to the next page repeats the access token",
    ),
    "no list": (no_list, cursor, "thing (/things): there is no list at items"),
    "no names": (nameless, cursor, "thing: no record has an id"),
}


@pytest.mark.parametrize("case", wrong)
def test_a_list_that_is_not_as_the_profile_says_fails_and_says_so(scene: Any, house: House, case: str) -> None:
    cut, form, description = wrong[case]
    own = scene(cut, form)
    told = own.sync()
    for _ in range(3):
        if told and told[-1][0] == "sync.failed":
            break
        house.turn(seconds=6)
        told += own.sync()
    assert told[-1] == ("sync.failed", description)
    assert house.told("sync.failed", own.connection.id)[-1]["reason"] == "unreadable"
    assert {asked.headers["host"] for asked in own.api.asked} == {own.api.url.removeprefix("http://")}


def test_a_list_without_end_is_cut_off_and_proves_nothing(scene: Any) -> None:
    def without_end(api: MadeUpApi, asked: Asked) -> Answer:
        number = int(asked.query.get("cursor", "0")) + 1
        return Answer({"items": [{"id": number}], "next": str(number)})

    own = scene(without_end, cursor, longest_list=4)
    assert own.sync() == [*(("record.created", str(number)) for number in range(1, 5)), ("sync.completed", "")]
    own.house.turn(minutes=2)
    assert own.sync() == [("sync.completed", "")]


@pytest.mark.parametrize("in_memory", [True, False], ids=["in memory", "page by page"])
def test_a_list_whose_cursor_leads_back_ends_there_and_proves_nothing(
    scene: Any, house: House, in_memory: bool
) -> None:
    def back_to_two(api: MadeUpApi, asked: Asked) -> Answer:
        number = asked.query.get("cursor", "1")
        return Answer({"items": [{"id": number}], "next": {"1": "2", "2": "3", "3": "2"}[number]})

    if not in_memory:
        house.keep_no_page_in_memory()
    own = scene(back_to_two, cursor)
    assert own.sync() == [*(("record.created", number) for number in "123"), ("sync.completed", "")]
    pages = [asked.query.get("cursor", "1") for asked in own.api.asked if asked.path == "/things"]
    assert pages == ["1", "2", "3", "2"] * 3
    with house.store.reading() as tx:
        assert tx.records.resource_problems(own.connection.id) == {"thing": "list_shifting"}


def test_a_resource_s_own_limit_makes_its_run_wait_as_the_account_s_does(scene: Any, house: House) -> None:
    own = scene(made_up_api.by_number, {"paging": "page", "requests_per_minute": 2})
    assert own.sync() == [("record.created", f"t{number}") for number in range(1, 5)]
    for _ in range(2):
        house.turn(seconds=25)
        house.sweep()
    assert [asked.path for asked in own.api.asked].count("/things") == 2
    house.turn(seconds=12)
    house.sweep()
    assert house.told("sync.completed", own.connection.id)
    assert [asked.path for asked in own.api.asked].count("/things") == 4
