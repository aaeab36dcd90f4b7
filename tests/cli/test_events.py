"""Events narrowed down, replayed for one connection, and the groups that read them: a stuck consumer is seen."""

import json
from datetime import timedelta

import pytest

from models.messaging.events import StreamSettings
from tests.cli.conftest import Desk
from worker.queue.publish import PublishEvents


def publish(desk: Desk) -> None:
    streams = {
        "events": StreamSettings("breezesync:events", 1000),
        "records": StreamSettings("breezesync:records", 1000),
    }
    PublishEvents(desk.house.store, desk.redis, streams, desk.house.clock)()  # type: ignore[arg-type]


def connections_of_events(desk: Desk, *words: str) -> set[str]:
    lines = desk.type("events", "--json", *words).stdout.splitlines()
    return {json.loads(line)["data"]["connection_id"] for line in lines}


def test_events_are_narrowed_down_to_a_user_or_a_connection(either_desk: Desk) -> None:
    first, second = either_desk.house.connect("ada", 1), either_desk.house.connect("bob", 2)
    assert connections_of_events(either_desk) == {first.id, second.id}
    assert connections_of_events(either_desk, "--user", "bob") == {second.id}
    assert connections_of_events(either_desk, "--connection", first.id) == {first.id}
    assert connections_of_events(either_desk, "--connection", first.id, "--user", "bob") == set()


def test_of_very_many_events_the_newest_are_looked_at(either_desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, user in enumerate(("ada", "bob", "cyd"), start=1):
        either_desk.house.connect(user, number)
    monkeypatch.setattr("models.store.outbox.most_searched", 2)
    assert "Only the newest" in either_desk.type("events", "--user", "ada").stderr
    found = either_desk.type("events", "--type", "connection.authorized", "--limit", "1")
    assert ("cyd" in found.stdout, found.stderr) == (True, "")
    first = either_desk.house.connect("ada", 1)
    shown = either_desk.type("events", "--connection", first.id)
    assert (first.id in shown.stdout, shown.stderr) == (True, "")


def test_one_connection_is_told_again(either_desk: Desk) -> None:
    first, second = either_desk.house.connect("ada", 1), either_desk.house.connect("bob", 2)
    publish(either_desk)
    assert either_desk.read("events", "replay", "--since", "1h", "--connection", second.id)["events"] == 1
    publish(either_desk)
    received = [fields["connection_id"] for _, fields in either_desk.redis.xrange("breezesync:events")]
    assert received == [first.id, second.id, second.id]


def test_a_group_is_shown_with_its_lag_and_what_it_never_acknowledged(desk: Desk) -> None:
    for user in ("ada", "bob", "cyd"):
        desk.house.connect(user, 1)
    publish(desk)
    desk.redis.xgroup_create("breezesync:events", "app", id="0")
    desk.redis.xreadgroup("app", "one that died", {"breezesync:events": ">"}, count=2)
    [group] = desk.read("events", "groups")
    assert (group["stream"], group["group"], group["consumers"]) == ("breezesync:events", "app", 1)
    assert (group["behind"], group["pending"]) == (1, 2)
    assert group["oldest_pending_seconds"] >= 0
    shown = desk.type("events", "groups")
    assert "app" in shown.stdout
    assert "breezesync:records has no consumer group." in shown.stdout


def test_a_consumer_that_holds_entries_for_long_is_complained_of(desk: Desk) -> None:
    desk.house.connect("ada", 1)
    publish(desk)
    desk.redis.xgroup_create("breezesync:events", "app", id="0")
    [[_, [[entry_id, _]]]] = desk.redis.xreadgroup("app", "stuck", {"breezesync:events": ">"})
    long_ago = round(timedelta(minutes=10).total_seconds() * 1000)
    desk.redis.xclaim("breezesync:events", "app", "stuck", 0, [entry_id], idle=long_ago, justid=True)
    shown = desk.type("events", "groups")
    assert "app has left entries of breezesync:events" in shown.stderr
    assert shown.exit_code == 0


def test_without_streams_there_are_no_groups(desk: Desk) -> None:
    assert desk.read("events", "groups") == []
