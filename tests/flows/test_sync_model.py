"""An account that lives while it is read, by workers that die: at rest the database equals the provider.

`make test-model SEEDS=300` tries as many lives as it is told to, on both databases; `make test` a few of them.
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest

from models.clock import is_due
from models.oauth.connection import Connection
from models.provider import IdScope
from tests.flows.between import Between
from tests.harness import House

few = 6
seeds = range(int(os.environ.get("MODEL_SEEDS", few)))
scopes: dict[int, IdScope] = {1: "account", 2: "parent"}
databases = ["sqlite", "postgresql"] if "MODEL_SEEDS" in os.environ else ["sqlite"]


class Killed(BaseException):
    """A worker's end, which nothing in it can answer to."""


@dataclass
class Life(Between):
    """A provider client before whose answers, and after them, things happen: to the account and to the worker."""

    control: Any = None
    account: int = 0
    dice: Random = field(default_factory=Random)
    calm: bool = False

    def read_page(self, *asked: Any) -> Any:
        if not self.calm:
            for _ in range(self.dice.choice((0, 0, 0, 1, 2))):
                self.change()
            if self.dice.random() < 0.04:
                raise Killed
        called = self.client.read_page(*asked)
        if not self.calm and self.dice.random() < 0.04:
            raise Killed
        return called

    def change(self) -> None:
        documents = self.control.documents(self.account)
        verb = self.dice.choice(("edit", "add", "remove", "remove", "complete", "open", "slip"))
        if verb in ("add", "slip"):
            self.control.add_documents(self.account, 1)
        if verb == "add" or not documents:
            return
        chosen = self.dice.choice(documents)
        if verb == "edit":
            self.control.edit_document(self.account, chosen["id"], f"Title {self.dice.random()}")
        elif verb in ("remove", "slip"):
            self.control.delete_document(self.account, chosen["id"])
        elif chosen["recipients"]:
            step = self.control.complete_document if verb == "complete" else self.control.open_document
            step(self.account, chosen["id"], self.dice.choice(chosen["recipients"])["id"])


@pytest.fixture
def wide(house: House) -> Iterator[House]:
    """A house whose provider knows no limit: there is a test of its own for that."""
    client = house.flows.sync.providers["breezedoc"]
    client.provider = replace(client.provider, api_requests_per_minute=1_000_000)
    house.control.set(rate_limit=0)
    yield house
    house.flows.sync.providers["breezedoc"] = client  # type: ignore[index]  # a dict in truth


def read(house: House, connection: Connection, asked: bool = True) -> None:
    """A full run to its end, however often its worker dies: one that is asked for, or one that is due."""
    if not asked:
        house.turn(minutes=70)
    for tried in range(60):
        try:
            house.flows.sync(connection.id, asked=asked and tried == 0)
            house.work()
        except Killed:
            house.queue.held.clear()
            house.turn(seconds=91)
        if not is_due(house.connection(connection.id).sync_due_at, house.clock()):
            return
    raise AssertionError("the run does not end")


def records(house: House, connection: Connection, resource: str) -> dict[int, dict[str, Any]]:
    with house.store.reading() as tx:
        ids = tx.records.all_living(connection.id, resource)
        known = tx.records.known(connection.id, resource, sorted(ids))
    return {int(i.rpartition("/")[2]): found.data for i, found in known.items()}


def read_signers(house: House, scope: IdScope) -> None:
    """From now on the signers of each document are read below it as well."""
    client: Any = house.flows.sync.providers["breezedoc"]
    recipients = client.provider.resource("recipient")
    signers = replace(recipients, name="signer", peek="", path="/documents/{parent}/recipients", parent="document")
    resources = (*client.provider.resources, replace(signers, id_scope=scope))
    client.provider = replace(client.provider, resources=resources)


def assert_equal(house: House, connection: Connection, account: int) -> None:
    documents = {d["id"]: d for d in house.control.documents(account)}
    found = records(house, connection, "document")
    assert found.keys() == documents.keys()
    for number, document in documents.items():
        assert (found[number]["title"], found[number]["recipients"]) == (document["title"], document["recipients"])
    signers = {r["id"]: r for document in documents.values() for r in document["recipients"]}
    assert records(house, connection, "recipient") == signers
    if house.flows.sync.providers["breezedoc"].provider.resource("signer") is not None:
        assert records(house, connection, "signer") == signers


def assert_told_truly(house: House, connection: Connection) -> None:
    """Each record's events make one life: created, any number of updates, deleted, and never again."""
    told = [e for e in house.told(connection_id=connection.id) if e["type"].startswith("record.")]
    assert [e["sequence"] for e in told] == list(range(1, len(told) + 1))
    lives: dict[tuple[str, str], list[str]] = defaultdict(list)
    for event in told:
        lives[event["resource"], event["external_id"]].append(event["type"].removeprefix("record."))
    for life in lives.values():
        assert life[0] == "created"
        assert life.count("created") == 1, "what is there was never said to be gone"
        assert "deleted" not in life[:-1]
    for resource in ("document", "recipient", "signer"):
        living = {
            int(i.rpartition("/")[2]) for (name, i), life in lives.items() if name == resource and life[-1] != "deleted"
        }
        assert living == records(house, connection, resource).keys()


def last_write(house: House) -> tuple[Any, ...]:
    with house.store.reading() as tx:
        [row] = tx.sql.exec_driver_sql("SELECT count(*), max(changed_at) FROM record").all()
    return tuple(row)


@pytest.mark.parametrize("seed", seeds)
@pytest.mark.parametrize("database", databases)
@pytest.mark.no_cover  # runs the same few lines very often
def test_whatever_happens_while_it_is_read_the_database_ends_as_the_provider_is(wide: House, seed: int) -> None:
    dice = Random(seed)
    if seed % 2:
        wide.keep_no_page_in_memory()
    scope = scopes.get(seed % 3)
    if scope is not None:
        read_signers(wide, scope)
    account = wide.control.add_user("Ida", documents=dice.randrange(45 if scope is None else 12))
    connection = wide.connect("ida", account)
    wide.queue.held.clear()
    client = wide.flows.sync.providers["breezedoc"]
    life = Life(client, lambda *_: None, control=wide.control, account=account, dice=dice)
    wide.flows.sync.providers["breezedoc"] = life  # type: ignore[index]  # a dict in truth
    for _ in range(dice.randint(1, 4)):
        read(wide, connection, asked=dice.random() < 0.5)
    life.calm = True
    for _ in range(2):
        read(wide, connection)
    assert_equal(wide, connection, account)
    assert_told_truly(wide, connection)
    before, told = last_write(wide), len(wide.told())
    read(wide, connection)
    assert last_write(wide) == before
    assert [event["type"] for event in wide.told()[told:]] == ["sync.completed"], "unchanged is not written, not told"
    told = len(wide.told())
    read(wide, connection, asked=False)
    assert (last_write(wide), len(wide.told())) == (before, told), "nor is it told if no one asked"
