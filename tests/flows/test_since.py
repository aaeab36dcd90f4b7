"""Lists that are read incrementally between full readings: what is asked for, what is seen, and what is not deleted."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from models.crypto.secrets import Secret
from models.messaging import messages
from models.oauth.connection import Connection
from models.provider import Resource
from tests.harness import House
from tests.made_up_api import Answer, Asked, MadeUpApi, per_page, serving_api
from worker.oauth.personal_token import ConnectToken

accounts = count(1)
start = 1_000_000


@pytest.fixture(scope="module")
def house(house_for_all: House) -> House:
    return house_for_all


def as_number(at: int) -> int:
    return at


def as_time(at: int) -> str:
    hours, seconds = divmod(at - start, 3600)
    return f"2026-11-24T{hours:02}:{seconds // 60:02}:{seconds % 60:02}Z"


@dataclass
class Changes:
    """When each thing of an API changed; the API filters by it, and writes it as `write` does.

    cuts: how the pages go on: by a cursor, a number, or a link that repeats the filter.
    before_page: what happens before a request is answered, by the number of its page.
    """

    write: Callable[[int], object] = as_number
    cuts: str = "cursor"
    at: dict[int, int] = field(default_factory=dict)
    before_page: dict[int, Callable[[], None]] = field(default_factory=dict)
    fails: bool = False

    def __call__(self, api: MadeUpApi, asked: Asked) -> Answer:
        number = int(asked.query.get("page", "1"))
        self.before_page.pop(number, lambda: None)()
        if self.fails and number > 1:
            return Answer({}, status=500)
        since = asked.query.get("since")
        rows = [
            {"id": each, "title": title, "at": self.write(self.at[each])}
            for each, title in sorted(api.things.items())
            if since is None or str(self.write(self.at[each])) >= since
        ]
        page = rows[(number - 1) * per_page : number * per_page]
        if number * per_page >= len(rows):
            return Answer({"items": page, "more": False})
        if self.cuts == "link":
            own = "" if since is None else f"since={since}&"
            return Answer({"items": page, "next": f"/things?{own}page={number + 1}"})
        return Answer({"items": page, "more": True, "next": number + 1})


@dataclass
class Scene:
    house: House
    api: MadeUpApi
    changes: Changes
    connection: Connection
    heard: int = 0

    def change(self, thing: int, at: int) -> None:
        self.api.things[thing] = f"Thing {thing} of {at}"
        self.changes.at[thing] = start + at

    def requests(self) -> list[str]:
        """Return with which value each page of the list was asked for since the last time."""
        asked = [each.query.get("since", "") for each in self.api.asked if each.path.startswith("/things")]
        self.api.asked.clear()
        return asked

    def sync(self, asked: bool = False) -> list[tuple[str, str]]:
        """Sync it once that is due; return what happened to records since the last time."""
        self.house.turn(minutes=20)
        self.house.flows.sync(self.connection.id, asked=asked)
        while messages.read_connection(self.connection.id) in self.house.queue.held:
            self.house.queue.held.clear()
            self.house.flows.sync(self.connection.id, asked=False)
        events = self.house.told(connection_id=self.connection.id)
        new, self.heard = events[self.heard :], len(events)
        return [
            (event["type"].removeprefix("record."), event["external_id"])
            for event in new
            if event["type"].startswith("record.") and event.get("resource") == "thing"
        ]


usual = {"paging": "cursor", "items": "items", "cursor": "next", "cursor_parameter": "page"}
forms: dict[str, tuple[Changes, dict[str, Any]]] = {
    "cursors and numbers": (Changes(), usual),
    "page numbers and times": (Changes(as_time), {"paging": "page", "items": "items", "more": "more"}),
    "links and times": (Changes(as_time, "link"), {"paging": "link", "items": "items", "cursor": "next"}),
}


@pytest.fixture
def scene(house: House) -> Iterator[Callable[..., Scene]]:
    """Return a function that connects an account with five things at an API that filters."""
    client = house.flows.sync.providers["breezedoc"]
    before, flows, opened = client.provider, house.flows, []

    def open_scene(changes: Changes, form: dict[str, Any], **profile: Any) -> Scene:
        number = next(accounts)
        own = replace(changes, at={}, before_page={})
        serving = serving_api(MadeUpApi(own, {"id": number, "email": "ida@example.com"}))
        opened.append(serving)
        api = serving.__enter__()
        thing = Resource(
            name="thing", path="/things", since_parameter="since", since_field="at", since_overlap=10, **form
        )
        read: dict[str, Any] = {"peek_above": 2, "vanishing_share": 1.0, "full_reading_minutes": 50} | profile
        client.provider = replace(
            before,
            **read,
            api_url=api.url,
            resources=(Resource(name="account", path="/me"), thing),
        )
        flow = ConnectToken(house.store, house.vault, house.flows.sync.providers, house.queue.send, house.clock)
        connection = flow("breezedoc", f"user-{number}", Secret("t0ken"))
        made = Scene(house, api, own, connection)
        for each in range(1, 6):
            made.change(each, 100 * each)
        made.sync(asked=True)
        assert made.requests() == [""] * 3
        house.queue.held.clear()
        return made

    yield open_scene
    client.provider, house.flows = before, flows
    for each in opened:
        each.__exit__(None, None, None)


@pytest.mark.parametrize("in_memory", [True, False], ids=["in memory", "page by page"])
@pytest.mark.parametrize("form", forms)
def test_a_list_is_read_from_what_is_known_between_full_readings(
    scene: Any, house: House, form: str, in_memory: bool
) -> None:
    if not in_memory:
        house.keep_no_page_in_memory()
    own: Scene = scene(*forms[form])

    def from_(at: int) -> str:
        return str(own.changes.write(start + at - 10))

    own.change(1, 600)
    assert own.sync() == [("updated", "1")]
    assert own.requests() == [from_(200)] * 3, "the newest on the first page of the full reading"
    own.change(6, 700)
    del own.api.things[2]
    assert own.sync() == [("created", "6")]
    assert own.requests() == [from_(600)]
    assert own.sync() == [("deleted", "2")]
    assert own.requests() == [""] * 6, "the full reading, and another one as a proof"
    assert own.sync() == []
    assert own.requests() == [from_(700)]


def test_a_change_on_a_page_that_was_already_read_is_seen_by_the_next_reading(scene: Any) -> None:
    own: Scene = scene(*forms["cursors and numbers"])
    for each in range(1, 6):
        own.change(each, 600 + each)
    own.changes.before_page[2] = lambda: own.change(1, 700)
    own.changes.before_page[3] = lambda: own.change(5, 900)
    assert own.sync() == [("updated", str(each)) for each in range(1, 6)]
    assert own.sync() == [("updated", "1")]


def test_a_reading_that_fails_half_way_moves_no_mark_and_the_next_one_is_full(scene: Any) -> None:
    own: Scene = scene(*forms["cursors and numbers"])
    own.change(1, 900)
    own.change(5, 800)
    own.changes.fails = True
    seen = own.sync()
    for _ in range(8):
        own.house.turn(minutes=8)
        own.house.flows.sync(own.connection.id, asked=False)
    assert own.house.told("sync.failed", own.connection.id)[-1]["reason"] == "provider_unavailable"
    own.changes.fails = False
    own.requests()
    assert seen == [("updated", "1")]
    assert own.sync() == [("updated", "5")]
    assert set(own.requests()) == {""}


def test_a_run_that_other_jobs_continue_keeps_the_value_that_it_began_with(scene: Any, house: House) -> None:
    own: Scene = scene(*forms["page numbers and times"])
    for each in range(1, 6):
        own.change(each, 600 + each)
    house.flows = replace(house.flows, sync=replace(house.flows.sync, slice_length=timedelta(microseconds=1)))
    assert own.sync() == [("updated", str(each)) for each in range(1, 6)]
    assert own.requests() == [str(as_time(start + 190))] * 3


@pytest.mark.parametrize("value", [None, "lately"], ids=["missing", "no time"])
def test_a_list_with_a_value_that_does_not_compare_is_read_whole_each_time(scene: Any, value: object) -> None:
    own: Scene = scene(Changes(lambda at: value if at == start + 300 else at), usual)
    own.change(5, 600)
    assert own.sync() == [("updated", "5")]
    assert own.requests() == [""] * 3


def test_a_short_list_is_read_whole_each_time(scene: Any) -> None:
    own: Scene = scene(*forms["cursors and numbers"], peek_above=5)
    del own.api.things[2]
    assert own.sync() == [("deleted", "2")]
    assert own.requests() == [""] * 4
