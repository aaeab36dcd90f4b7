"""What happens at the provider between two of our requests, and what is stored in the end."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from models.sync.snapshot import longest_wait
from tests.harness import House


@dataclass
class Between:
    """A provider client that lets something happen before each page is asked for; `asked` counts from 1."""

    client: Any
    act: Callable[[int, str, int], None]
    asked: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def read_page(self, resource: Any, path: str, asked: Any, *more: Any) -> Any:
        self.asked += 1
        self.act(self.asked, path, asked.number)
        return self.client.read_page(resource, path, asked, *more)


def between(house: House, act: Callable[[int, str, int], None]) -> Between:
    """From now on `act(number, path, page)` is called before each page that the house's sync asks for."""
    client = house.flows.sync.providers["breezedoc"]
    watched = Between(client.client if isinstance(client, Between) else client, act)
    house.flows.sync.providers["breezedoc"] = watched  # type: ignore[index]  # a dict in truth
    return watched


def slowly(house: House, act: Callable[[int, str, int], None] = lambda *_: None) -> Callable[[int, str, int], None]:
    """Return `act` with so much time before each page that a page with new records is committed by itself."""

    def wait(number: int, path: str, page: int) -> None:
        house.turn(seconds=longest_wait.total_seconds())
        act(number, path, page)

    return wait


def before_page(
    house: House, path: str, page: int, change: Callable[[], object], page_by_page: bool = False
) -> Between:
    """`change` happens once, before that page is asked for; with `page_by_page` those before it are committed then."""
    left = [change]

    def act(_: int, asked_path: str, asked_page: int) -> None:
        if left and (asked_path, asked_page) == (path, page):
            left.pop()()

    return between(house, slowly(house, act) if page_by_page else act)


def stored(house: House, connection_id: str, source: str = "document") -> set[int]:
    """The ids of the living records of one list."""
    with house.store.reading() as tx:
        return {int(i) for i in tx.records.living_ids(connection_id, source.split(":", maxsplit=1)[0], source)}


def listed(house: House, account: int) -> list[int]:
    """The ids of the documents that the provider has."""
    return [document["id"] for document in house.control.documents(account)]


def changes_of(house: House, resource: str = "document", kind: str = "") -> list[tuple[str, str]]:
    """What was told of a resource's records, in order."""
    told = [event for event in house.told() if event.get("resource") == resource]
    return [(e["type"].removeprefix("record."), e["external_id"]) for e in told if e["type"].endswith(kind)]
