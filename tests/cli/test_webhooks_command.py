"""`breezesync webhooks`: what an operator types, against a real endpoint."""

import json
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from models.crypto.secrets import Secret
from tests.cli.conftest import Desk
from tests.flows.receiving import Listener, receiving


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    with receiving() as listening:
        yield listening


def test_the_life_of_an_endpoint(desk: Desk, listener: Listener) -> None:
    receiver = listener.renew()
    added = desk.read("webhooks", "add", receiver.url, "--types", "connection.*,sync", "--allow-private")
    assert (added["name"], added["types"]) == ("127.0.0.1", ["connection.*", "sync"])
    tried = desk.read("webhooks", "test", "127.0.0.1")
    assert (tried["status"], tried["error"]) == (204, None)
    assert receiver.taken[0].verify(Secret(added["secret"]))["type"] == "dev.breezesync.webhook.test"
    rotated = desk.read("webhooks", "rotate", "127.0.0.1")
    desk.type("webhooks", "test", "127.0.0.1")
    for shown in (added, rotated):
        receiver.taken[1].verify(Secret(shown["secret"]))
    assert desk.read("webhooks", "pause", "127.0.0.1")["state"] == "paused"
    [listed] = desk.read("webhooks")
    assert (listed["state"], listed["waiting"], listed["dead_letters"]) == ("paused", 0, 0)
    assert desk.read("webhooks", "resume", "127.0.0.1")["state"] == "active"
    assert "127.0.0.1" in desk.type("webhooks").stdout
    assert desk.type("webhooks", "remove", "127.0.0.1").exit_code == 0
    assert desk.read("webhooks") == []
    for name in ("test", "rotate", "pause", "resume", "retry", "remove"):
        assert desk.type("webhooks", name, "127.0.0.1").exit_code == 3


def test_what_opens_no_secret_needs_no_key(desk: Desk) -> None:
    desk.read("webhooks", "add", "https://app.example/w", "--name", "app")
    desk.set(ENCRYPTION_KEYS="")
    states = [desk.read("webhooks", name, "app")["state"] for name in ("pause", "resume", "retry", "remove")]
    assert states == ["paused", "active", "active", "active"]
    assert desk.read("webhooks") == []


MISTAKES: dict[str, tuple[tuple[str, ...], int, str]] = {
    "http": (("http://app.example/w",), 2, "expected https"),
    "a private address": (("https://10.0.0.1/w",), 2, "not a public address"),
    "a type that no event has": (("https://app.example/w", "--types", "conection.*"), 2, "conection.*"),
    "a name that is none": (("https://app.example/w", "--name", "a b"), 2, "--name has to be"),
    "no type": (("https://app.example/w", "--types", ","), 2, "no event is of type"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_named_and_stores_nothing(desk: Desk, case: str) -> None:
    words, code, said = MISTAKES[case]
    result = desk.type("webhooks", "add", *words)
    assert (result.exit_code, said in result.stderr) == (code, True), result.stderr
    assert desk.read("webhooks") == []


def test_a_name_is_given_once(desk: Desk) -> None:
    assert desk.type("webhooks", "add", "https://app.example/w").exit_code == 0
    again = desk.type("webhooks", "add", "https://app.example/other")
    assert (again.exit_code, "already" in again.stderr) == (1, True)


def test_an_endpoint_that_does_not_take_a_trial_is_a_failure_that_says_why(desk: Desk, listener: Listener) -> None:
    receiver = listener.renew()
    receiver.behave = lambda received: 302
    desk.type("webhooks", "add", receiver.url, "--name", "app", "--allow-private")
    result = desk.type("webhooks", "test", "app")
    assert (result.exit_code, "HTTP 302: redirects are not followed" in result.stderr) == (1, True)
    receiver.behave = lambda received: None
    assert "does not answer" in desk.type("webhooks", "test", "app").stderr


def test_a_secret_is_stored_sealed_and_rotates_with_the_keys(desk: Desk) -> None:
    secret = desk.read("webhooks", "add", "https://app.example/w", "--name", "app")["secret"]
    desk.read("webhooks", "rotate", "app")
    with desk.house.store.reading() as tx:
        stored = str(tx.sql.execute(text("SELECT * FROM webhook")).all())
    assert secret.removeprefix("whsec_") not in stored
    sealed = desk.read("keys", "status")["sealed"]
    assert (sealed["webhook.secret"], sealed["webhook.previous_secret"]) == ({"k1": 1}, {"k1": 1})


def bury_two(desk: Desk) -> None:
    """Give each endpoint two dead letters."""
    with desk.house.store.writing() as tx:
        tx.sql.execute(
            text(
                "INSERT INTO webhook_delivery (webhook_id, key, published_from, waits_since, attempts, error, dead_at) "
                "SELECT id, 'event/e' || n, created_at, created_at, 25, 'HTTP 500', created_at "
                "FROM webhook, (SELECT 1 AS n UNION SELECT 2)"
            )
        )


def test_dead_letters_of_an_endpoint_are_among_the_others(desk: Desk) -> None:
    desk.read("webhooks", "add", "https://app.example/w", "--name", "app")
    bury_two(desk)
    letters = desk.read("dead-letters")
    assert [(each["id"], each["queue"], each["error"]) for each in letters] == [
        ("app/e1", "webhooks", "HTTP 500"),
        ("app/e2", "webhooks", "HTTP 500"),
    ]
    assert desk.read("webhooks")[0]["dead_letters"] == 2
    assert desk.read("dead-letters", "retry", "app/e1") == {"sent": ["app/e1"]}
    assert desk.read("dead-letters", "drop", "app/e2") == {"dropped": ["app/e2"]}
    assert desk.read("dead-letters") == []
    assert desk.read("webhooks")[0]["waiting"] == 1


def test_a_retry_sends_what_waits_and_if_asked_the_endpoint_s_own_dead_letters(desk: Desk) -> None:
    for name in ("app", "other"):
        desk.read("webhooks", "add", f"https://{name}.example/w", "--name", name)
    bury_two(desk)
    assert desk.read("webhooks", "retry", "app")["sent"] == []
    assert [each["dead_letters"] for each in desk.read("webhooks")] == [2, 2]
    assert desk.read("webhooks", "retry", "app", "--dead-letters")["sent"] == ["e1", "e2"]
    with desk.house.store.writing() as tx:
        tx.sql.execute(text("UPDATE webhook_delivery SET due_at = '2999-01-01 00:00:00' WHERE dead_at IS NULL"))
    assert "again: 0." in desk.type("webhooks", "retry", "app", "--dead-letters").stdout
    with desk.house.store.reading() as tx:
        due = tx.sql.execute(text("SELECT due_at FROM webhook_delivery WHERE dead_at IS NULL")).scalars().all()
    assert (len(due), [at for at in due if str(at).startswith("2999")]) == (2, [])
    lines = [json.loads(line) for line in desk.type("audit", "--json").stdout.splitlines()]
    audited = [(line["action"], line["detail"].get("id")) for line in lines]
    assert audited.count(("dead_letter.retried", "app/e1")) == 1
    assert audited.count(("webhook.retried", None)) == 3
    desk.read("webhooks", "pause", "other")
    refused = desk.type("webhooks", "retry", "other", "--dead-letters")
    assert (refused.exit_code, "breezesync webhooks resume other" in refused.stderr) == (1, True)
    assert [each["dead_letters"] for each in desk.read("webhooks")] == [0, 2]
