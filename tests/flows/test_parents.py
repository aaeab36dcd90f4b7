"""Lists that are read once for each record of another one: shelves, and the books of each."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

import sandbox
from models.crypto.secrets import Secret
from models.messaging import messages
from models.oauth.connection import Connection
from models.provider import Resource
from models.sync.sync_run import Parents, SyncRun
from tests.flows.between import between
from tests.harness import House, build_house
from tests.made_up_api import Answer, Asked, MadeUpApi, per_page, serving_api
from worker.oauth.personal_token import ConnectToken
from worker.operations.story import story_of

accounts = count(1)
Happening = Callable[[], object]
shelf = Resource(name="shelf", path="/things", paging="cursor", items="items", cursor="next", cursor_parameter="page")
book = replace(shelf, name="book", path="/things/{parent}/books", parent="shelf")
label = replace(shelf, name="label", path="/things-labels")


class Killed(BaseException):
    """A worker's end, which nothing in it can answer to."""


@dataclass
class Library:
    """Shelves with their books, by id and title, as an API shows them two a page.

    fails: the status of each path that cannot be read, or of a page of it.
    before: what happens before a page of a path is answered.
    """

    shelves: dict[str, dict[str, str]] = field(default_factory=dict)
    keys: dict[str, object] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    fails: dict[str | tuple[str, int], int] = field(default_factory=dict)
    before: dict[tuple[str, int], Happening] = field(default_factory=dict)

    def __call__(self, api: MadeUpApi, asked: Asked) -> Answer:
        number, path = int(asked.query.get("page", "1")), unquote(asked.path)
        self.before.pop((path, number), lambda: None)()
        if status := self.fails.get(path) or self.fails.get((path, number)):
            return Answer({}, status=status)
        if path == "/things":
            rows = [{"id": each, "slug": self.keys.get(each, each)} for each in self.shelves]
        elif path == "/things-labels":
            rows = [{"id": each} for each in self.labels]
        else:
            own = self.shelves.get(path.removeprefix("/things/").removesuffix("/books"))
            if own is None:
                return Answer({}, status=404)
            rows = [{"id": each, "title": title} for each, title in own.items()]
        more = {"next": number + 1} if number * per_page < len(rows) else {}
        return Answer({"items": rows[(number - 1) * per_page : number * per_page], **more})


@dataclass
class Scene:
    """A connected account at a library."""

    house: House
    api: MadeUpApi
    library: Library
    connection: Connection
    heard: int = 0

    def sync(self) -> list[tuple[str, str, str]]:
        """Sync it to its end, with as many jobs as that takes; return what happened to records since the last time."""
        self.house.turn(minutes=20)
        self.house.flows.sync(self.connection.id)
        self.go_on()
        return self.news()

    def sync_with_pauses(self) -> list[tuple[str, str, str]]:
        """Sync it to its end, with all pauses of a list that fails."""
        told = self.sync()
        for _ in range(8):
            self.house.turn(minutes=8)
            self.house.flows.sync(self.connection.id, asked=False)
            self.go_on()
        return told + self.news()

    def go_on(self) -> None:
        while messages.read_connection(self.connection.id) in self.house.queue.held:
            self.house.queue.held.clear()
            self.house.flows.sync(self.connection.id, asked=False)

    def news(self) -> list[tuple[str, str, str]]:
        events = self.house.told(connection_id=self.connection.id)
        new, self.heard = events[self.heard :], len(events)
        records = [event for event in new if event["type"].startswith("record.") and event["resource"] != "account"]
        return [(each["type"].removeprefix("record."), each["resource"], each["external_id"]) for each in records]

    def ended(self) -> str:
        """Return how the last sync ended: why it failed, or nothing."""
        last = [event for event in self.house.told(connection_id=self.connection.id) if event["type"][:4] == "sync"][-1]
        return str(last.get("reason", ""))

    def requests(self) -> list[str]:
        """Return the paths that were asked for since the last time, without those of the account."""
        asked = [each.path for each in self.api.asked if each.path != "/me"]
        self.api.asked.clear()
        return asked

    def problems(self) -> dict[str, str]:
        with self.house.store.reading() as tx:
            return tx.records.resource_problems(self.connection.id)

    def lists(self) -> set[str]:
        with self.house.store.reading() as tx:
            return {*tx.records.marks(self.connection.id)}

    def run(self) -> SyncRun:
        with self.house.store.reading() as tx:
            found = tx.runs.newest(self.connection.id)
        assert found is not None
        return found


@contextmanager
def opened(house: House, library: Library, resources: tuple[Resource, ...], **profile: Any) -> Iterator[Scene]:
    """Connect an account at a library, with a profile that reads these resources."""
    number, client = next(accounts), house.flows.sync.providers["breezedoc"]
    before, flows = client.provider, house.flows
    with serving_api(MadeUpApi(library, {"id": number, "email": "ida@example.com"})) as api:
        own = {"api_requests_per_minute": 1_000_000, "vanishing_share": 1.0} | profile
        client.provider = replace(
            before, **own, api_url=api.url, resources=(Resource(name="account", path="/me"), *resources)
        )
        flow = ConnectToken(house.store, house.vault, house.flows.sync.providers, house.queue.send, house.clock)
        connection = flow("breezedoc", f"user-{number}", Secret("t0ken"))
        house.queue.held.clear()
        api.asked.clear()
        try:
            yield Scene(house, api, library, connection)
        finally:
            client.provider, house.flows = before, flows
            house.flows.sync.providers["breezedoc"] = client  # type: ignore[index]  # a dict in truth


@pytest.fixture(scope="module")
def house(house_for_all: House) -> House:
    return house_for_all


def in_memory(house: House) -> None:
    """A job keeps what changes nothing in its memory."""


def page_by_page(house: House) -> None:
    house.keep_no_page_in_memory()


def one_page_a_job(house: House) -> None:
    house.flows = replace(house.flows, sync=replace(house.flows.sync, slice_length=timedelta(microseconds=1)))


ways = pytest.mark.parametrize("way", [in_memory, page_by_page, one_page_a_job])


@ways
def test_parents_and_their_lists_are_read_in_one_run_and_followed(house: House, way: Callable[[House], None]) -> None:
    way(house)
    library = Library({"a": {"1": "One", "2": "Two", "3": "Three"}, "b": {"4": "Four"}, "c": {}}, labels=["x"])
    with opened(house, library, (shelf, book, label)) as own:
        way(house)
        created = [("created", "shelf", each) for each in "abc"] + [("created", "book", each) for each in "1234"]
        assert own.sync() == [*created, ("created", "label", "x")]
        books = ["/things/a/books", "/things/a/books", "/things/b/books", "/things/c/books"]
        assert own.requests() == ["/things", "/things", *books, "/things-labels"]
        assert own.sync() == []
        assert own.requests() == ["/things", "/things", *books, "/things-labels"]
        library.shelves["d"] = {"5": "Five"}
        library.shelves["c"] = {"3": library.shelves["a"].pop("3")}
        assert own.sync() == [("created", "shelf", "d"), ("created", "book", "5")], "a book that moved is not deleted"
        del library.shelves["a"]["1"]
        library.shelves["b"]["2"] = library.shelves.pop("a")["2"]
        deleted = [("deleted", "shelf", "a"), ("deleted", "book", "1")]
        assert own.sync() == deleted, "a book that moved before its shelf was deleted is not"
        assert own.lists() == {"account", "shelf", "book:b", "book:c", "book:d", "label"}
        assert own.sync() == []
        library.shelves.clear()
        own.sync()
        assert own.sync() == [("deleted", "shelf", each) for each in "bcd"] + [
            ("deleted", "book", each) for each in "2345"
        ]
        own.requests()
        assert own.sync() == []
        assert own.requests() == ["/things", "/things-labels"]
        assert (own.ended(), own.run().parents, own.lists()) == ("", {}, {"account", "shelf", "label"})


@pytest.mark.parametrize("way", [in_memory, page_by_page])
def test_an_id_that_is_unique_below_its_parent_only_is_told_with_it(house: House, way: Callable[[House], None]) -> None:
    library = Library({"a": {"1": "One", "2": "Two"}, "b": {"1": "Another"}})
    with opened(house, library, (shelf, replace(book, id_scope="parent"))) as own:
        way(house)
        assert own.sync()[2:] == [("created", "book", each) for each in ("a/1", "a/2", "b/1")]
        library.shelves["b"]["1"] = "Changed"
        assert own.sync() == [("updated", "book", "b/1")]
        own.requests()
        del library.shelves["a"]
        assert own.sync() == [("deleted", "shelf", "a"), ("deleted", "book", "a/1"), ("deleted", "book", "a/2")]
        assert own.requests() == ["/things", "/things", "/things/b/books"], "no second reading proves anything more"


def test_a_resource_that_gets_a_parent_leaves_no_record_of_its_list_before(house: House) -> None:
    library = Library({"a": {"1": "One"}}, labels=["1", "2"])
    with opened(house, library, (shelf, replace(book, parent="", path="/things-labels"))) as own:
        assert own.sync()[1:] == [("created", "book", "1"), ("created", "book", "2")]
        client: Any = house.flows.sync.providers["breezedoc"]
        resources = (*client.provider.resources[:-1], replace(book, id_scope="parent"))
        client.provider = replace(client.provider, resources=resources)
        assert own.sync() == [("created", "book", "a/1"), ("deleted", "book", "1"), ("deleted", "book", "2")]


def killed_between_any_two(house: House, own: Scene, happens: dict[int, Happening]) -> None:
    """Let a worker die before each request, and once something has happened before it."""

    def act(number: int, path: str, page: int) -> None:
        happens.pop(number, lambda: None)()
        if number % 2:
            raise Killed

    between(house, act)
    own.house.turn(minutes=20)
    for tried in range(60):
        try:
            house.flows.sync(own.connection.id, asked=tried == 0)
            own.go_on()
        except Killed:
            house.queue.held.clear()
            house.turn(seconds=91)
        if tried and own.run().finished_at is not None:
            between(house, lambda *_: None)
            return
    raise AssertionError("the run does not end")


def live_while_workers_die(house: House) -> None:
    """Twelve shelves, because PostgreSQL keeps an object's names in the order of their lengths."""
    library = Library({f"s{each}": {f"{each}": "A book"} for each in range(12)})
    with opened(house, library, (shelf, book), vanishing_records=100) as own:
        own.sync()
        one_page_a_job(house)
        fixed: list[Parents] = []

        def change() -> None:
            fixed.append(own.run().parents["book"])
            library.shelves["s0"]["new"] = library.shelves.pop("s9")["9"]
            library.shelves["s20"] = {"20": "A book"}
            library.shelves["s5"]["5"] = "Changed"

        own.requests()
        killed_between_any_two(house, own, {24: change})
        assert [each for each, _ in fixed[0].read] == sorted(f"s{each}" for each in range(12))
        asked = [path for path in own.requests() if path.endswith("/books")]
        assert "/things/s20/books" not in asked, "the run reads the lists that it was fixed to"
        assert own.problems() == {"book:s9": "not_found"}
        own.sync()
        own.sync()
        told = {external_id: kind for kind, resource, external_id in own.news() if resource == "book"}
        with house.store.reading() as tx:
            living = tx.records.all_living(own.connection.id, "book")
        assert living == {key for books in library.shelves.values() for key in books}, told
        assert own.problems() == {}


@pytest.mark.parametrize("database", ["postgresql"])
def test_a_run_keeps_to_the_parents_it_was_fixed_to_however_often_its_worker_dies(
    migrated_url: str, shared_provider: sandbox.Running, tmp_path: Path
) -> None:
    with closing(build_house(migrated_url, shared_provider, tmp_path / "spool")) as built:
        live_while_workers_die(built)


def test_more_parents_than_the_bound_are_not_read_and_that_is_said(house: House) -> None:
    library = Library({each: {f"{each}1": "A book"} for each in "abc"})
    with opened(house, library, (shelf, book)) as own:
        own.sync()
        client: Any = house.flows.sync.providers["breezedoc"]
        bounded = (*client.provider.resources[:-1], replace(book, most_parents=2))
        client.provider = replace(client.provider, resources=bounded)
        own.requests()
        with house.store.writing() as tx:
            tx.records.note_problem(own.connection.id, "book:c", "many_gone")
        library.shelves["c"].clear()
        assert own.sync() == [], "the books of a shelf that is not read stay"
        assert own.requests()[2:] == ["/things/a/books", "/things/b/books"]
        assert (own.problems(), own.ended()) == ({"book": "too_many_parents"}, "")
        with house.store.reading() as tx:
            story = story_of(tx, {"breezedoc": client.provider}, own.connection, 1)
        assert story.as_json()["unreadable"] == {"book": "too_many_parents"}
        del library.shelves["b"]
        assert own.sync() == [("deleted", "shelf", "b"), ("deleted", "book", "c1"), ("deleted", "book", "b1")]
        assert own.problems() == {}


def test_a_parent_that_is_deleted_while_its_list_is_read_keeps_its_records_until_it_is_gone_itself(
    house: House,
) -> None:
    library = Library({"a": {"1": "One", "2": "Two", "3": "Three"}, "b": {"4": "Four"}})
    with opened(house, library, (shelf, book)) as own:
        own.sync()
        library.before["/things/a/books", 2] = lambda: library.shelves.pop("a")
        assert own.sync() == []
        assert (own.problems(), own.ended()) == ({"book:a": "not_found"}, "")
        assert own.sync() == [("deleted", "shelf", "a")] + [("deleted", "book", each) for each in "123"]
        assert (own.problems(), own.lists()) == ({}, {"account", "shelf", "book:b"})


@pytest.mark.parametrize("status", [403, 404, 500])
def test_lists_are_read_for_the_parents_that_are_known_if_the_parents_cannot_be_read(house: House, status: int) -> None:
    library = Library({"a": {"1": "One"}, "b": {"2": "Two"}})
    with opened(house, library, (shelf, book)) as own:
        own.sync()
        library.fails["/things"] = status
        library.shelves["a"]["1"] = "Changed"
        assert own.sync_with_pauses() == [("updated", "book", "1")]
        assert (own.ended(), own.lists()) == (
            "provider_unavailable" if status == 500 else "",
            {"account", "shelf", "book:a", "book:b"},
        )


@ways
def test_a_list_that_fails_on_its_second_page_keeps_the_others_from_no_deletion_however_often(
    house: House, way: Callable[[House], None]
) -> None:
    library = Library({"a": dict.fromkeys("123", "A book"), "b": dict.fromkeys("4567", "A book")})
    with opened(house, library, (shelf, book)) as own:
        own.sync()
        way(house)
        library.fails["/things/a/books", 2] = 404
        for book_id in "456":
            del library.shelves["b"][book_id]
            assert own.sync() == [("deleted", "book", book_id)]
            assert own.problems() == {"book:a": "not_found"}


def move(library: Library, book_id: str, place: str) -> None:
    library.shelves[place][book_id] = library.shelves["a" if place == "b" else "b"].pop(book_id)


def move_and_fail(library: Library) -> None:
    move(library, "3", "a")
    library.fails["/things/a/books"] = 500


unread: dict[str, tuple[Resource, Callable[[Library], object], dict[str, str]]] = {
    "its list fails": (
        book,
        lambda library: library.fails.update({"/things/b/books": 500}),
        {"book:a": "other_list_unread", "book:b": "unreadable"},
    ),
    "there are too many parents": (
        replace(book, most_parents=1),
        lambda _: None,
        {"book": "too_many_parents", "book:a": "other_list_unread"},
    ),
    "its parent cannot be named": (
        replace(book, parent_key="slug"),
        lambda library: library.keys.update(b="../b"),
        {"book:a": "other_list_unread", "book:b": "unusable_parent"},
    ),
}


@pytest.mark.parametrize("case", unread)
@pytest.mark.parametrize("way", [in_memory, page_by_page])
def test_a_record_that_moved_to_a_list_that_is_not_read_is_not_deleted(
    house: House, way: Callable[[House], None], case: str
) -> None:
    resource, happen, problems = unread[case]
    library = Library({"a": {"1": "One", "2": "Two"}, "b": {"3": "Three"}})
    with opened(house, library, (shelf, book)) as own:
        way(house)
        own.sync()
        client: Any = house.flows.sync.providers["breezedoc"]
        client.provider = replace(client.provider, resources=(*client.provider.resources[:-1], resource))
        move(library, "2", "b")
        happen(library)
        told = own.sync_with_pauses()
        assert [each for each in told if each[1] == "book"] == []
        assert own.problems() == problems
        client.provider = replace(client.provider, resources=(*client.provider.resources[:-1], book))
        library.fails.clear()
        library.keys.clear()
        assert [each for each in own.sync() if each[1] == "book"] == []
        assert own.problems() == {}


@pytest.mark.parametrize("way", [in_memory, page_by_page])
def test_a_record_that_moved_to_a_list_that_was_read_and_then_fails_is_not_deleted(
    house: House, way: Callable[[House], None]
) -> None:
    library = Library({"a": {"1": "One"}, "b": {"2": "Two", "3": "Three"}})
    with opened(house, library, (shelf, book)) as own:
        way(house)
        own.sync()
        library.before["/things/b/books", 1] = lambda: move_and_fail(library)
        assert own.sync_with_pauses() == []
        assert own.problems() == {"book:a": "unreadable", "book:b": "other_list_unread"}


def test_a_parent_that_nothing_can_name_in_a_path_is_not_read_and_that_is_said(house: House) -> None:
    library = Library({each: {} for each in "abcd"}, {"a": "../../me", "b": None, "c": ""})
    library.shelves["octo/é #1"] = {"1": "One"}
    with opened(house, library, (shelf, replace(book, parent_key="slug"))) as own:
        own.sync()
        assert own.requests()[3:] == ["/things/d/books", "/things/octo/%C3%A9%20%231/books"]
        assert own.problems() == dict.fromkeys(("book:a", "book:b", "book:c"), "unusable_parent")
        library.keys["a"] = "a"
        own.sync()
        assert own.problems() == dict.fromkeys(("book:b", "book:c"), "unusable_parent")
