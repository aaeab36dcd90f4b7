"""What `backup check` says of a restored database, its keys, and a Redis of another time."""

from typing import Any

import pytest
from sqlalchemy import text

from models.crypto.vault import new_key
from tests.cli.conftest import Desk
from tests.cli.test_events import publish


@pytest.fixture
def lived(either_desk: Desk) -> Desk:
    either_desk.house.connect("ada", 1)
    publish(either_desk)
    return either_desk


def states(report: Any) -> list[str]:
    return [each["state"] for each in report["checks"]]


def test_what_lived_together_belongs_together(lived: Desk) -> None:
    assert states(lived.read("backup", "check")) == ["ok", "ok", "ok"]
    assert lived.type("backup", "check").exit_code == 0


def test_a_database_of_an_earlier_time_does_not_know_its_events(lived: Desk) -> None:
    with lived.house.store.writing() as tx:
        tx.sql.execute(text("DELETE FROM event"))
    report = lived.read("backup", "check", code=1)
    assert states(report) == ["ok", "failed", "ok"]
    assert "1 of the newest 1 entries of breezesync:events" in report["checks"][1]["said"]


def test_a_redis_of_an_earlier_time_lacks_published_events(lived: Desk) -> None:
    lived.redis.flushdb()
    report = lived.read("backup", "check")
    assert states(report) == ["ok", "warn", "ok"]
    assert "events replay" in report["checks"][1]["remedy"]


def test_keys_of_another_time_are_named(lived: Desk) -> None:
    lived.set(ENCRYPTION_KEYS=new_key("k9").line().reveal())
    report = lived.read("backup", "check", code=1)
    assert "k1" in report["checks"][0]["said"]
