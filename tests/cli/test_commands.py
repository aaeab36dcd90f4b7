"""What each command does to real parts, and what it says with `--json`."""

import json
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime

import dramatiq
import pytest
import redis
from sqlalchemy import text

from config.settings import read_settings
from config.wiring import build_broker, now
from models.crypto.secrets import Secret
from models.crypto.vault import Vault, new_key
from models.gateway.arrived import Arrived
from models.gateway.call import CallStatus, StoredCall, begin
from models.http import HttpAnswer
from models.journal import Verb
from models.messaging.messages import QUEUES
from models.oauth.breaker import Sighting, endpoint_of, observe
from models.oauth.connect_link import read_link
from models.oauth.token_pair import TokenPair
from models.oauth.token_response import Evidence, OutcomeUnknown, TokensGranted
from tests.cli.conftest import Desk
from tests.harness import link_secret
from worker.calls.kept_answers import KeptAnswers
from worker.tokens.spool import Ticket


def queued(desk: Desk, queue: str) -> list[tuple[str, dict[str, str]]]:
    """The messages that wait in a queue: actor and keyword arguments."""
    ids = desk.redis.lrange(f"dramatiq:{queue}", 0, -1)
    texts = desk.redis.hmget(f"dramatiq:{queue}.msgs", ids) if ids else []
    messages = [json.loads(each) for each in texts]
    return [(message["actor_name"], message["kwargs"]) for message in messages]


def bury(desk: Desk, actor: str = "sync_connection", queue: str = "sync", **kwargs: str) -> str:
    """A message that failed for good, as Dramatiq leaves it behind; its id."""
    message: dramatiq.Message[object] = dramatiq.Message(
        queue_name=queue, actor_name=actor, args=(), kwargs=kwargs, options={}
    )
    broker = build_broker(read_settings())
    broker.declare_queue(queue)
    broker.enqueue(message)
    consumer = broker.consume(queue, timeout=100)
    delivered = next(consumer)
    assert delivered is not None
    consumer.nack(delivered)
    consumer.close()
    broker.close()
    return message.message_id


def test_init_writes_keys_once_and_never_again(desk: Desk) -> None:
    for name in ("ENCRYPTION_KEYS", "CONNECT_SECRET"):
        desk.monkeypatch.delenv(name)
    report = desk.read("init")
    written = (desk.directory / ".env").read_text()
    assert report == {
        "path": str(desk.directory / ".env"),
        "variables": ["CONNECT_SECRET", "ENCRYPTION_KEYS", "OPERATOR_TOKEN"],
    }
    assert (desk.directory / ".env").stat().st_mode & 0o777 == 0o600
    again = desk.type("init")
    assert (again.exit_code, again.stderr.startswith(".env already exists")) == (1, True)
    assert (desk.directory / ".env").read_text() == written
    assert desk.type("keys", "status").exit_code == 0


def test_init_says_where_it_may_not_write(desk: Desk) -> None:
    (desk.directory / "gone").mkdir()
    desk.monkeypatch.chdir(desk.directory / "gone")
    (desk.directory / "gone").rmdir()
    result = desk.type("init")
    assert (result.exit_code, result.stderr.splitlines()) == (1, ["Cannot write .env: No such file or directory."])


def test_migrate_twice_is_once(desk: Desk) -> None:
    desk.set(DATABASE_URL=f"sqlite:///{desk.directory}/new.db")
    first, second = desk.read("migrate"), desk.read("migrate")
    assert first == second == {"database": f"sqlite:///{desk.directory}/new.db", "revision": first["revision"]}
    assert desk.read("connections") == []


def test_a_link_says_what_was_asked_for(desk: Desk) -> None:
    connection = desk.house.connect("ada", 1)
    options = ["--return-to", "https://app.example/x", "--ttl", "60", "--connection", connection.id]
    report = desk.read("connect-link", "ada", *options, "--team", "7", "--team", "8")
    assert (report["user_id"], report["expires_in"]) == ("ada", 60)
    address, token = report["url"].split("?token=")
    assert address == desk.environment["BREEZEDOC_REDIRECT_URI"].removesuffix("/callback")
    link = read_link(token, [link_secret], datetime.now(UTC), {"https://app.example"}, "breezedoc")
    assert (link.user_id, link.return_to, link.team_ids) == ("ada", "https://app.example/x", (7, 8))
    assert (link.connection_id, (link.expires_at - link.issued_at).seconds) == (connection.id, 60)
    assert desk.type("connect-link", "ada").stdout.startswith(f"{address}?token=")


def test_connections_are_listed_and_narrowed_down(either_desk: Desk) -> None:
    desk = either_desk
    ada, grace = desk.house.connect("ada", 1), desk.house.connect("grace", 2)
    desk.house.flows.disconnect(grace.id)
    assert [found["id"] for found in desk.read("connections")] == [ada.id, grace.id]
    assert [found["id"] for found in desk.read("connections", "--user", "grace")] == [grace.id]
    assert [found["id"] for found in desk.read("connections", "--status", "active")] == [ada.id]
    assert desk.read("connections", "--provider", "other") == []
    found = desk.read("connections", "--user", "ada")[0]
    assert (found["status"], found["generation"], found["account_id"]) == ("active", 1, "1")
    assert datetime.fromisoformat(found["expires_at"]).tzinfo is not None
    assert "token" not in json.dumps(found)
    first, second = desk.type("connections").stdout.splitlines()[1:]
    assert first.split()[:5] == [ada.id, "ada", "breezedoc", "ada@example.com", "active"]
    assert second.split()[:5] == [grace.id, "grace", "breezedoc", "grace@example.com", "disconnected"]


def test_a_connection_explains_itself(either_desk: Desk) -> None:
    desk = either_desk
    connection = desk.house.connect("ada", 1)
    desk.house.work()
    report = desk.read("explain", connection.id)
    assert report["connection"]["id"] == connection.id
    assert report["state"] == "active"
    assert [decision["verb"] for decision in report["decisions"]] == ["authorized"]
    assert report["records"]["document"] == 12
    assert len(report["next"]) == 2
    desk.house.control.revoke_user(1)
    desk.house.make_refresh_due(connection.id)
    desk.house.flows.refresh(connection.id)
    report = desk.read("explain", connection.id)
    assert report["state"].startswith("revoked: ")
    assert report["next"][0].endswith(f"connect-link ada --provider breezedoc --connection {connection.id}")
    assert Verb.revoked_refresh_rejected.sentence in desk.type("explain", connection.id).stdout


def test_a_failed_authorization_explains_itself(either_desk: Desk) -> None:
    desk = either_desk
    connection = desk.house.connect("ada", 1)
    failed = desk.house.consent("ada", 2, connection_id=connection.id)
    desk.house.flows.exchange(failed)
    report = desk.read("explain", failed)
    assert (report["authorization"]["step"], report["authorization"]["reason"]) == ("failed", "account_mismatch")
    assert [decision["verb"] for decision in report["decisions"]] == ["failed.account_mismatch"]
    assert {call["path"] for call in report["calls"]} == {"/oauth/token", "/me"}
    assert report["next"][0].endswith(f"connect-link ada --provider breezedoc --connection {connection.id}")
    shown = desk.type("explain", failed).stdout
    assert Verb.failed_account_mismatch.sentence in shown
    assert "POST" in shown


def test_an_authorization_that_succeeded_names_its_connection(desk: Desk) -> None:
    connected = desk.house.consent("ada", 1)
    assert desk.read("explain", connected)["authorization"]["step"] == "received"
    desk.house.flows.exchange(connected)
    report = desk.read("explain", connected)
    assert report["authorization"]["step"] == "connected"
    assert report["next"][0].endswith(f"breezesync explain {report['authorization']['connection_id']}")
    assert not {"code", "verifier", "tokens", "state_hash", "browser_hash"} & set(report["authorization"])


@pytest.mark.parametrize(
    ("command", "queue", "actor"),
    [
        ("sync", "sync", "carry_out_sync"),
        ("refresh", "refresh", "refresh_token"),
        ("disconnect", "control", "carry_out_disconnect"),
    ],
)
def test_a_command_about_a_connection_becomes_a_message(desk: Desk, command: str, queue: str, actor: str) -> None:
    connection = desk.house.connect("ada", 1)
    assert desk.read(command, connection.id) == [{"command": command, "connection_id": connection.id}]
    assert queued(desk, queue) == [(actor, {"connection_id": connection.id})]
    if command != "refresh":
        assert desk.read(command, "--user", "ada", "--provider", "breezedoc") == desk.read(command, "--user", "ada")
        assert len(queued(desk, queue)) == 3


def test_a_refresh_is_enqueued_once_a_minute_and_what_is_not_is_said(desk: Desk) -> None:
    first = desk.house.connect("ada", 1)
    desk.read("refresh", first.id)
    again = desk.type("refresh", first.id)
    assert (again.exit_code, again.stdout) == (1, "")
    assert again.stderr.startswith(f"{first.id}: a refresh was asked for less than a minute ago")
    second = desk.house.connect("ada", 2)
    both = desk.type("refresh", "--user", "ada", "--json")
    assert json.loads(both.stdout) == [{"command": "refresh", "connection_id": second.id}]
    assert first.id in json.loads(both.stderr)["warning"]
    assert [ids["connection_id"] for _, ids in queued(desk, "refresh")] == [first.id, second.id]


def test_following_ends_where_the_connection_does_before_a_run_began(desk: Desk) -> None:
    connection = desk.house.connect("ada")

    def disconnect_once_it_is_sent() -> None:
        while not queued(desk, "sync"):
            time.sleep(0.01)
        desk.house.flows.disconnect(connection.id)

    ending = threading.Thread(target=disconnect_once_it_is_sent)
    ending.start()
    result = desk.type("sync", connection.id, "--follow")
    ending.join()
    assert result.exit_code == 1
    assert result.stderr.startswith(f"{connection.id} is disconnected")


@pytest.mark.parametrize("command", ["sync", "refresh"])
def test_what_can_not_be_used_is_refused_with_its_reason(desk: Desk, command: str) -> None:
    connection = desk.house.connect("ada", 1)
    desk.house.flows.disconnect(connection.id)
    result = desk.type(command, connection.id)
    assert result.exit_code == 1
    assert f"{connection.id} is disconnected" in result.stderr
    assert desk.redis.dbsize() == 0


def test_events_are_read_by_type_and_from_one_on(either_desk: Desk) -> None:
    desk = either_desk
    connection = desk.house.connect("ada", 1)
    desk.house.work()
    lines = [json.loads(line) for line in desk.type("events", "--json").stdout.splitlines()]
    assert len(lines) == 20
    assert {line["specversion"] for line in lines} == {"1.0"}
    [authorized] = desk.type("events", "--json", "--type", "connection.authorized").stdout.splitlines()
    report = json.loads(authorized)
    assert report["subject"] == connection.id
    after = desk.type("events", "--json", "--since", report["id"]).stdout.splitlines()
    assert len(after) == len(desk.house.told()) - 1
    assert "connection.authorized" in desk.type("events", "--type", "connection.authorized").stdout


def test_replay_sends_events_once_more_with_their_ids(either_desk: Desk) -> None:
    desk = either_desk
    desk.house.connect("ada", 1)
    with desk.house.store.writing() as tx:
        positions = [position for position, _ in tx.outbox.read()]
        tx.outbox.lease("a publisher", desk.house.clock(), desk.house.clock(), positions)
    assert desk.read("status")["events"]["unpublished"] == 0
    report = desk.read("events", "replay", "--since", "1h")
    assert report["events"] == len(positions) == 1
    assert desk.read("status")["events"]["unpublished"] == 1
    assert ("publish_events", {}) in queued(desk, "events")
    assert desk.read("events", "replay", "--since", "2100-01-01T00:00:00Z")["events"] == 0


def test_dead_letters_are_listed_retried_and_dropped(desk: Desk) -> None:
    first, second = bury(desk, connection_id="c1"), bury(desk, connection_id="c2")
    listed = desk.read("dead-letters")
    assert [(letter["id"], letter["actor"], letter["kwargs"]) for letter in listed] == [
        (first, "sync_connection", {"connection_id": "c1"}),
        (second, "sync_connection", {"connection_id": "c2"}),
    ]
    assert desk.read("dead-letters", "retry", first) == {"sent": [first]}
    assert queued(desk, "sync") == [("sync_connection", {"connection_id": "c1"})]
    assert desk.read("dead-letters", "drop", second) == {"dropped": [second]}
    assert desk.read("dead-letters") == []
    assert desk.type("dead-letters").stdout == "There are no dead letters.\n"
    assert desk.type("dead-letters", "retry", first).exit_code == 3


def test_a_dead_letter_that_is_retried_keeps_its_id_and_the_time_when_it_was_sent(desk: Desk) -> None:
    buried = bury(desk, actor="disconnect", queue="control", connection_id="c1")
    [key] = desk.redis.zrange("dramatiq:control.XQ", 0, -1)
    text_of_it = json.loads(desk.redis.hget("dramatiq:control.XQ.msgs", key))
    long_ago = text_of_it["message_timestamp"] - 3_600_000
    dead = text_of_it | {"message_timestamp": long_ago, "options": text_of_it["options"] | {"retries": 4}}
    desk.redis.hset("dramatiq:control.XQ.msgs", key, json.dumps(dead))
    desk.read("dead-letters", "retry", "--all")
    [new_key] = desk.redis.lrange("dramatiq:control", 0, -1)
    sent = json.loads(desk.redis.hget("dramatiq:control.msgs", new_key))
    assert (sent["message_id"], sent["message_timestamp"]) == (buried, long_ago)
    assert (sent["kwargs"], sent["options"]) == ({"connection_id": "c1"}, {"redis_message_id": new_key})
    assert desk.read("dead-letters") == []


def test_all_dead_letters_but_those_that_no_actor_takes_are_retried(desk: Desk) -> None:
    good, unknown = bury(desk, connection_id="c1"), bury(desk, actor="make_coffee")
    result = desk.type("dead-letters", "retry", "--all")
    assert (result.exit_code, result.stdout.split()[0]) == (1, "1")
    assert unknown in result.stderr
    assert [letter["id"] for letter in desk.read("dead-letters")] == [unknown]
    assert queued(desk, "sync") == [("sync_connection", {"connection_id": "c1"})]
    assert good not in result.output


def test_a_dead_letter_that_can_not_be_read_is_listed_and_can_be_dropped(desk: Desk) -> None:
    desk.redis.zadd("dramatiq:sync.XQ", {"broken": 1_800_000_000_000})
    desk.redis.hset("dramatiq:sync.XQ.msgs", "broken", "no JSON")
    [letter] = desk.read("dead-letters")
    assert (letter["id"], letter["error"]) == ("broken", "the message can't be read")
    assert desk.type("dead-letters", "retry", "--all").exit_code == 1
    assert desk.read("dead-letters", "drop", "broken") == {"dropped": ["broken"]}


def test_keys_tell_what_they_seal_and_rotate_seals_it_anew(either_desk: Desk) -> None:
    desk = either_desk
    desk.house.connect("ada", 1)
    desk.house.connect("grace", 2)
    before = desk.read("keys", "status")
    assert (before["sealing"], before["idle"]) == ("k1", [])
    assert before["sealed"]["credential.refresh_token"] == {"k1": 2}
    desk.set(ENCRYPTION_KEYS=f"{new_key('k2').line().reveal()},{desk.environment['ENCRYPTION_KEYS']}")
    count = sum(by_key["k1"] for by_key in before["sealed"].values())
    assert desk.read("keys", "rotate") == {"key": "k2", "resealed": count, "unopened": {}}
    assert desk.read("keys", "rotate") == {"key": "k2", "resealed": 0, "unopened": {}}
    after = desk.read("keys", "status")
    assert after["idle"] == ["k1"]
    assert after["sealed"] == {name: {"k2": by_key["k1"]} for name, by_key in before["sealed"].items()}


parked_pair = TokenPair(TokensGranted(Secret("a"), Secret("r"), None, None), datetime(2026, 1, 2, tzinfo=UTC))


def test_parked_pairs_count_among_what_a_key_seals_and_are_sealed_anew(desk: Desk) -> None:
    parking = desk.house.flows.refresh.parking
    parking = replace(parking, redis=desk.redis)
    desk.set(SPOOL_DIRECTORY=str(parking.spool))
    ticket = Ticket("refresh", "c1", 7)
    parking.park(ticket, parked_pair)
    k2 = new_key("k2")
    desk.set(ENCRYPTION_KEYS=f"{k2.line().reveal()},{desk.environment['ENCRYPTION_KEYS']}")
    before = desk.read("keys", "status")
    assert (before["sealed"]["parking.pair"], before["idle"]) == ({"k1": 2}, [])
    desk.read("keys", "rotate")
    after = desk.read("keys", "status")
    assert (after["sealed"]["parking.pair"], after["idle"]) == ({"k2": 2}, ["k1"])
    assert replace(parking, vault=Vault((k2,))).find(ticket) == parked_pair


def test_answers_that_redis_keeps_count_among_what_a_key_seals_and_are_resealed(desk: Desk) -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    pending = StoredCall("call1", "c1", "one", "POST", "/a", "a", CallStatus.pending, at, None, None, at)
    taken, arrived = begin(pending, "job", at), Arrived("job", 1, at, 5, HttpAnswer(201, {}, b"{}"))
    answers = KeptAnswers(desk.house.vault, redis.Redis.from_url(desk.environment["REDIS_URL"]))
    assert answers.keep(taken, arrived)
    k2 = new_key("k2")
    desk.set(ENCRYPTION_KEYS=f"{k2.line().reveal()},{desk.environment['ENCRYPTION_KEYS']}")
    before = desk.read("keys", "status")
    assert (before["sealed"]["call.kept_answer"], before["idle"]) == ({"k1": 1}, [])
    assert desk.read("keys", "rotate") == {"key": "k2", "resealed": 1, "unopened": {}}
    after = desk.read("keys", "status")
    assert (after["sealed"]["call.kept_answer"], after["idle"]) == ({"k2": 1}, ["k1"])
    newer = replace(answers, vault=Vault((k2,)))
    assert (newer.find(taken), desk.redis.ttl("breezesync:answers:call1:1") > 0) == (arrived, True)
    [stale] = answers.seals()
    newer.drop({"call1": 1})
    assert (newer.reseal(stale), newer.seals()) == (False, [])


def test_no_key_is_called_free_while_redis_cannot_be_asked(desk: Desk) -> None:
    parking = desk.house.flows.refresh.parking
    parking.park(Ticket("refresh", "c1", 7), parked_pair)
    desk.set(
        SPOOL_DIRECTORY=str(parking.spool),
        ENCRYPTION_KEYS=f"{new_key('k2').line().reveal()},{desk.environment['ENCRYPTION_KEYS']}",
        REDIS_URL="redis://127.0.0.1:1/0",
    )
    report = desk.read("keys", "rotate", code=1)
    assert (report["resealed"], list(report["unopened"])) == (1, ["parking.pair in redis", "call.kept_answer"])
    report = desk.read("keys", "status")
    assert (report["idle"], len(report["uncounted"]), report["sealed"]["parking.pair"]) == ([], 2, {"k2": 1})
    assert "no key is reported as unused" in desk.type("keys", "status").stdout


def test_a_parked_text_that_does_not_open_keeps_no_other_from_being_sealed_anew(desk: Desk) -> None:
    parking = replace(desk.house.flows.refresh.parking, redis=desk.redis)
    parking.park(Ticket("refresh", "c1", 7), parked_pair)
    for name in ("refresh-a-1", b"\xff", "exchange-z-0"):
        desk.redis.hset("breezesync:parked", name, b"\xff")
    desk.set(
        SPOOL_DIRECTORY=str(parking.spool),
        ENCRYPTION_KEYS=f"{new_key('k2').line().reveal()},{desk.environment['ENCRYPTION_KEYS']}",
    )
    report = desk.read("keys", "rotate", code=1)
    assert report["resealed"] == 2
    assert sorted(report["unopened"]) == [
        f"parking.pair of {name} in redis" for name in ("exchange-z-0", "refresh-a-1")
    ]
    report = desk.read("keys", "status", code=1)
    assert (report["sealed"]["parking.pair"], report["unknown"]) == ({"k2": 2, "?": 2}, ["?"])


def test_a_new_key_has_an_id_of_its_own_and_can_be_put_first(desk: Desk) -> None:
    desk.house.connect("ada", 1)
    made = desk.type("keys", "new")
    assert (made.exit_code, "Put it first in ENCRYPTION_KEYS" in made.stderr) == (0, True)
    desk.set(ENCRYPTION_KEYS=f"{made.stdout.strip()},{desk.environment['ENCRYPTION_KEYS']}")
    assert desk.read("keys", "rotate")["key"] == made.stdout.partition(":")[0] != "k1"
    assert desk.read("keys", "new", "--id", "k7")["key"].startswith("k7:")
    assert desk.type("keys", "new", "--id", "k1").exit_code == 1
    assert desk.type("keys", "new", "--id", "k 1").exit_code == 2


def test_keys_that_are_missing_are_named(desk: Desk) -> None:
    desk.house.connect("ada", 1)
    desk.set(ENCRYPTION_KEYS=new_key("k2").line().reveal())
    result = desk.type("keys", "status")
    assert result.exit_code == 1
    assert "keys that are not configured: k1." in result.stderr
    rotated = desk.type("keys", "rotate")
    assert rotated.exit_code == 1
    assert "could not be opened" in rotated.stderr
    assert desk.read("keys", "status", code=1)["sealed"]["credential.refresh_token"] == {"k1": 1}


def test_one_secret_whose_data_key_does_not_open_keeps_no_other_from_being_moved(desk: Desk) -> None:
    ada, grace = desk.house.connect("ada", 1), desk.house.connect("grace", 2)
    with desk.house.store.writing() as tx:
        broken = "UPDATE credential SET access_token = :sealed WHERE connection_id = :id"
        tx.sql.execute(text(broken), {"id": ada.id, "sealed": f"v1.k1.{'A' * 80}.{'A' * 44}"})
    desk.set(ENCRYPTION_KEYS=f"{new_key('k2').line().reveal()},{desk.environment['ENCRYPTION_KEYS']}")
    report = desk.read("keys", "rotate", code=1)
    assert list(report["unopened"]) == [f"credential.access_token of {ada.id}"]
    assert desk.read("keys", "status")["sealed"]["credential.access_token"] == {"k1": 1, "k2": 1}
    assert grace.id not in json.dumps(report)


def test_status_counts_what_there_is(either_desk: Desk) -> None:
    desk = either_desk
    connection = desk.house.connect("ada", 1)
    desk.read("sync", connection.id)
    bury(desk, actor="make_coffee")
    report = desk.read("status")
    assert report["connections"] == {"active": 1}
    assert report["due"] == {"refreshes": 0, "syncs": 1, "exchanges": 0, "calls": 0}
    assert (report["events"]["unpublished"], report["rejected_clients"]) == (1, [])
    assert (report["queues"]["sync"]["waiting"], report["queues"]["sync"]["dead"]) == (1, 1)
    assert set(report["queues"]) == set(QUEUES.values())
    shown = desk.type("status").stdout
    assert "1 active" in shown
    assert "1 syncs" in shown


def test_an_operator_pauses_a_provider_sees_it_everywhere_and_resumes_it(either_desk: Desk) -> None:
    desk = either_desk
    connection = desk.house.connect("ada", 1)
    [paused] = desk.read("provider", "pause", "breezedoc")
    assert (paused["client_id"], paused["state"]) == ("sandbox-client", "paused")
    assert [each["state"] for each in desk.read("provider", "status")] == ["paused"]
    assert [each["state"] for each in desk.read("status")["breakers"]] == ["paused"]
    assert "breezesync provider resume breezedoc" in desk.type("status").stdout
    desk.house.make_refresh_due(connection.id)
    assert any("paused" in step for step in desk.read("explain", connection.id)["next"])
    [resumed] = desk.read("provider", "resume", "breezedoc")
    assert resumed["state"] == "closed"
    assert desk.read("status")["breakers"] == []
    assert desk.type("provider", "pause", "nobody").exit_code == 3


def test_an_open_breaker_is_shown_with_its_evidence(desk: Desk) -> None:
    desk.house.connect("ada", 1)
    with desk.house.store.writing() as tx:
        seen = Sighting(OutcomeUnknown(Evidence(302), misdirected=True), "c1", endpoint_of(desk.house.profile), now())
        opened, _ = observe(tx.clients.lock("breezedoc", "sandbox-client"), seen, now())
        tx.clients.save(opened)
    [shown] = desk.read("provider", "status")
    assert (shown["state"], shown["error"], shown["status"], shown["probes"]) == ("unavailable", "http_302", 302, 1)
    assert "secret" not in shown
    assert "http_302" in desk.type("provider", "status").stdout
    checks = desk.read("doctor", code=1)["checks"]
    [breaker] = [check for check in checks if check["check"] == "breaker"]
    assert (breaker["state"], "http_302" in breaker["said"]) == ("failed", True)


def test_an_operator_holds_refused_connections_and_accepts_their_end(either_desk: Desk) -> None:
    desk = either_desk
    connection = desk.house.connect("ada", 1)
    assert desk.read("provider", "hold", "breezedoc") == [
        {"provider": "breezedoc", "client_id": "sandbox-client", "held": 0}
    ]
    desk.house.control.revoke_user(1)
    desk.house.make_refresh_due(connection.id)
    desk.house.flows.refresh(connection.id)
    desk.house.flows.refresh(connection.id)
    assert desk.house.connection(connection.id).problem == "held"
    [held] = desk.read("status")["holds"]
    assert (held["client_id"], held["held"]) == ("sandbox-client", 1)
    assert "are held" in desk.type("status").stdout
    assert any("it is held" in step for step in desk.read("explain", connection.id)["next"])
    [check] = [check for check in desk.read("doctor", code=1)["checks"] if check["check"] == "hold"]
    assert "breezesync provider accept breezedoc" in check["remedy"]
    [accepted] = desk.read("provider", "accept", "breezedoc")
    assert accepted["accepted"] == 1
    ended = desk.house.connection(connection.id)
    assert (ended.status.value, ended.revoked_reason) == ("revoked", "refresh_rejected")
    assert [event["decision"] for event in desk.house.told("provider.mass_refusal_ended")] == ["accepted"]
    assert len(desk.house.told("connection.reauthorization_required")) == 1
    assert desk.type("provider", "accept", "breezedoc").exit_code == 1


def test_an_operator_releases_what_is_held(desk: Desk) -> None:
    connection = desk.house.connect("ada", 1)
    desk.read("provider", "hold", "breezedoc")
    fault = desk.house.control.inject(
        "token", kind="garbage", count=None, status=401, body='{"error": "invalid_grant"}'
    )
    desk.house.make_refresh_due(connection.id)
    desk.house.flows.refresh(connection.id)
    assert desk.house.connection(connection.id).problem == "held"
    desk.house.control.remove_fault(fault)
    assert desk.read("provider", "release", "breezedoc")[0]["released"] == 1
    for _ in range(3):
        desk.house.sweep()
    released = desk.house.connection(connection.id)
    assert (released.generation, released.problem) == (2, None)
    assert desk.house.told("connection.reauthorization_required") == []
