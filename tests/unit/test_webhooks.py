"""Webhooks decided by pure functions: where they may go, what an answer means, when the next attempt is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
import time_machine
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from models.crypto.secrets import Sealed, Secret
from models.http import HttpAnswer, NoAnswer
from models.messaging.events import About, ConnectionRefreshed, RecordChanged, StoredEvent, describe
from models.webhooks.address import UrlRefused, check_url, is_public
from models.webhooks.delivery import (
    Delivery,
    Listener,
    Waiting,
    advance,
    begin_trial,
    end_trial,
    give_up_after,
    is_over,
    letter_key,
    retry_later,
    route,
    send_again,
)
from models.webhooks.endpoint import (
    Endpoint,
    ask_now,
    find_unknown,
    note,
    pause,
    pauses,
    resume,
    retry,
    rotate,
    wants,
)
from models.webhooks.outcome import Away, Delivered, Gone, Outcome, Refused, read_answer
from models.webhooks.signature import make_secret, sign

at = datetime(2026, 11, 28, 12, 0, 0, 250_000, tzinfo=UTC)
endpoint = Endpoint(id="w1", name="app", url="https://app.example/w", types=("*",), secret=Sealed("a"), created_at=at)
waiting = Delivery(webhook_id="w1", key="c1", published_from=at, waits_since=at, due_at=at, events_from=4)

PUBLIC = ("93.184.215.14", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::101:101", "::ffff:1.1.1.1")
NOT_PUBLIC = (
    "0.0.0.0",  # noqa: S104 - nothing listens
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "172.31.255.255",
    "192.168.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.250",
    "168.63.129.16",
    "192.88.99.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a00:1",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::",
    "2001:0:7f00:1::",
    "2001:db8::1",
    "3fff::1",
    "fc00::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
)


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_no_other_address_is_public(address: str) -> None:
    assert not is_public(ip_address(address))


URLS: dict[str, tuple[str, bool, str | None]] = {
    "https": ("https://app.example.com/w?x=1", False, None),
    "a port": ("https://app.example.com:8443/w", False, None),
    "http": ("http://app.example.com/w", False, "expected https"),
    "http that is allowed": ("http://app:8000/w", True, None),
    "another scheme": ("ftp://app.example.com/w", True, "expected a URL like"),
    "no host": ("https:///w", True, "expected a URL like"),
    "a port that is none": ("https://app.example.com:99999/w", True, "expected a URL like"),
    "user information": ("https://user:pass@app.example.com/w", True, "user information"),
    "a fragment": ("https://app.example.com/w#x", True, "fragment"),
    "a private address": ("https://10.0.0.1/w", False, "not a public address"),
    "a private address that is allowed": ("https://10.0.0.1/w", True, None),
    "a mapped address": ("https://[::ffff:127.0.0.1]/w", False, "not a public address"),
    "an address as one number": ("https://2130706433/w", False, "not written as four numbers"),
    "an address in base 16": ("https://0x7F000001/w", False, "not written as four numbers"),
    "an address in base 8": ("https://0177.0.0.1/w", False, "not written as four numbers"),
    "a short address": ("https://127.1/w", False, "not written as four numbers"),
    "an address with a dot at its end": ("https://127.0.0.1./w", False, "not written as four numbers"),
    "an address that is none": ("https://app.example.com.256/w", False, "not written as four numbers"),
    "an address as one number that is allowed": ("https://2130706433/w", True, None),
    "this machine": ("https://LOCALHOST/w", False, "is this machine"),
    "a name of this machine": ("https://app.localhost./w", False, "is this machine"),
    "a blank": ("https://app.example.com/a b", True, "without blanks"),
    "a line break": ("https://app.example.com/\r\nX: y", True, "without blanks"),
    "port 0": ("https://app.example.com:0/w", True, "expected a URL like"),
    "an empty label": ("https://app..example.com/w", True, "expected a URL like"),
    "a long label": (f"https://{'a' * 64}.example.com/w", True, "expected a URL like"),
    "a long name": (f"https://{'a.' * 130}example/w", True, "expected a URL like"),
    "an encoded name": ("https://app%2eexample.com/w", True, "expected a URL like"),
    "a backslash": ("https://app.example.com\\.elsewhere/w", True, "expected a URL like"),
    "an address of no version": ("https://[v1.a]/w", True, "expected a URL like"),
    "a name in a network of one's own": ("http://web_hook:8000/w", True, None),
    "a name with a dot at its end": ("https://app.example.com./w", False, None),
    "a name of other letters": ("https://xn--bcher-kva.example/w", False, None),
    "letters that are not ASCII": ("https://bücher.example/w", True, "ASCII"),
    "a long one": (f"https://app.example.com/{'x' * 3000}", True, "up to 2048"),
}


@pytest.mark.parametrize("case", URLS)
def test_a_url_is_checked_before_it_is_stored(case: str) -> None:
    url, allow_private, fault = URLS[case]
    if fault is None:
        check_url(url, allow_private)
    else:
        with pytest.raises(UrlRefused, match=fault):
            check_url(url, allow_private)


@pytest.mark.parametrize(
    ("types", "type_", "expected"),
    [
        (("*",), "record.created", True),
        (("connection.*",), "connection.refreshed", True),
        (("connection",), "connection.refreshed", True),
        (("connection",), "connections.x", False),
        (("connection.refreshed",), "connection.refreshed", True),
        (("connection.refreshed",), "connection.refreshed_x", False),
        (("*.failed",), "sync.failed", True),
        (("*.failed",), "connection.authorization_failed", False),
        (("sync.*", "record.deleted"), "record.deleted", True),
        (("sync.*", "record.deleted"), "record.created", False),
        (("[a-z]*",), "record.created", False),
        ((), "record.created", False),
    ],
)
def test_types_are_named_whole_by_their_beginning_or_by_a_pattern(
    types: tuple[str, ...], type_: str, expected: bool
) -> None:
    assert wants(types, type_) is expected


def test_a_type_that_no_event_has_is_named() -> None:
    assert find_unknown(("conection.*", "sync"), ("sync.completed",)) == ["conection.*"]


ANSWERS: dict[str, tuple[HttpAnswer | NoAnswer, Outcome]] = {
    "200": (HttpAnswer(200, {}, b""), Delivered(200)),
    "204": (HttpAnswer(204, {}, b""), Delivered(204)),
    "a body that is cut": (HttpAnswer(200, {}, b"x" * 4096, complete=False), Delivered(200)),
    "301": (HttpAnswer(301, {"location": "https://elsewhere.example"}, b""), Refused(301)),
    "400": (HttpAnswer(400, {}, b""), Refused(400)),
    "404": (HttpAnswer(404, {}, b""), Refused(404)),
    "410": (HttpAnswer(410, {}, b""), Gone()),
    "429": (HttpAnswer(429, {"retry-after": "7"}, b""), Away("HTTP 429", 429, timedelta(seconds=7))),
    "500": (HttpAnswer(500, {}, b""), Refused(500)),
    "503": (HttpAnswer(503, {}, b""), Away("HTTP 503", 503)),
    "none": (NoAnswer(True, "ReadTimeout"), Away("ReadTimeout")),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_means_the_same_whatever_its_body(case: str) -> None:
    answer, expected = ANSWERS[case]
    assert read_answer(answer, at) == expected


def test_the_pauses_grow_and_reach_three_days() -> None:
    delivery, waited, tried = waiting, timedelta(), []
    while waited < give_up_after:
        delivery = retry_later(delivery, Refused(500), at + waited)
        assert delivery.due_at is not None
        tried.append(delivery.due_at - at - waited)
        waited = delivery.due_at - at
    assert tried == sorted(tried)
    assert (tried[0], tried[-1], len(tried)) == (timedelta(seconds=5), timedelta(hours=4), 25)


def test_a_longer_pause_that_is_asked_for_is_kept() -> None:
    late = retry_later(waiting, Away("HTTP 429", 429, timedelta(minutes=10)), at)
    soon = retry_later(waiting, Away("HTTP 429", 429, timedelta(seconds=1)), at)
    assert (late.due_at, soon.due_at) == (at + timedelta(minutes=10), at + timedelta(seconds=5))


def fact(sequence: int, kind: str = "events", connection_id: str = "c1") -> StoredEvent:
    made = RecordChanged("created", "document", "1", (), initial=False) if kind == "records" else None
    about = About("breezedoc", "ada", connection_id, "client/x")
    return describe(made or ConnectionRefreshed(1, None), about, f"{kind}{sequence}", sequence, at)


def test_events_are_given_over_until_three_days_after_they_were_stored_or_sent_again() -> None:
    old = Waiting(fact(4), at - give_up_after)
    letter = send_again(replace(waiting, key=letter_key("events4"), due_at=None, dead_at=at), at)
    assert is_over(waiting, old, at)
    assert not is_over(waiting, old, at - timedelta(seconds=1))
    assert not is_over(letter, old, at + timedelta(days=2))
    assert is_over(letter, old, at + timedelta(days=3))


def test_published_events_are_routed_by_type_once_for_each_subject() -> None:
    listeners = [Listener("w2", ("*",)), Listener("w1", ("connection",))]
    events = [fact(7), fact(3, "records"), fact(8), fact(2, "records", "c0"), fact(1, connection_id="")]
    begun = [(each.webhook_id, each.key, each.events_from, each.records_from) for each in route(listeners, events, at)]
    assert begun == [
        ("w1", "c1", 7, None),
        ("w1", "client/x", 1, None),
        ("w2", "c0", None, 2),
        ("w2", "c1", 7, 3),
        ("w2", "client/x", 1, None),
    ]


def test_an_event_that_was_published_again_meanwhile_is_not_skipped() -> None:
    published_again = replace(waiting, events_from=2)
    assert advance(waiting, waiting, fact(4)).events_from == 5
    assert advance(published_again, waiting, fact(4)).events_from == 2


away, refused, delivered = Away("ReadTimeout"), Refused(500), Delivered(204)
ROUNDS: dict[str, tuple[tuple[tuple[Outcome, ...], ...], str, int, timedelta | None]] = {
    "delivered": (((delivered,),), "active", 0, None),
    "refused by one": (((refused,),), "failing", 0, None),
    "refused for ever": (((refused,),) * 9, "failing", 0, None),
    "two rounds without an answer": (((away,),) * 2, "failing", 2, None),
    "many at once without an answer": (((away,) * 8,), "failing", 1, None),
    "away": (((away,),) * 3, "failing", 3, pauses.first),
    "away for long": (((away,),) * 9, "failing", 9, pauses.longest),
    "away and asked for more": (((Away("HTTP 503", 503, timedelta(hours=1)),),) * 3, "failing", 3, timedelta(hours=1)),
    "one of many answers": (((away, refused, away),) * 5, "failing", 0, None),
    "back": ((*(((away,),) * 5), (delivered,)), "active", 0, None),
    "gone": (((delivered, Gone(), delivered),), "gone", 0, None),
}


@pytest.mark.parametrize("case", ROUNDS)
def test_only_an_endpoint_that_answers_nothing_is_left_alone(case: str) -> None:
    rounds, state, failures, left_alone_for = ROUNDS[case]
    found = endpoint
    for outcomes in rounds:
        found = note(found, outcomes, at)
    retry_at = None if left_alone_for is None else at + left_alone_for
    assert (found.state, found.failures, found.retry_at) == (state, failures, retry_at)
    assert found.is_ready(at) is (retry_at is None and state != "gone")


def test_a_pause_ends_with_a_resume_and_so_does_what_failed_before() -> None:
    gone = note(note(endpoint, [away], at), [Gone()], at)
    assert pause(endpoint, at).state == "paused"
    assert pause(gone, at + timedelta(days=1)).paused_at == at
    assert resume(gone) == endpoint


def test_an_endpoint_that_is_away_is_asked_now_and_only_a_retry_sends_everything() -> None:
    gone_away = note(note(note(endpoint, [away], at), [away], at), [away], at)
    asked, retried = ask_now(gone_away), retry(gone_away)
    assert [each.is_ready(at) for each in (gone_away, asked, retried)] == [False, True, True]
    assert [each.is_away for each in (gone_away, asked, retried)] == [True, True, False]
    assert (retried.state, retried.error) == ("failing", "ReadTimeout")


trial = begin_trial("w1", at - timedelta(days=1), at)
TRIALS: dict[str, tuple[Outcome, str | None]] = {
    "taken": (delivered, None),
    "refused": (refused, "HTTP 500"),
    "without an answer": (away, "ReadTimeout"),
    "no more wanted": (Gone(), "HTTP 410: the endpoint is gone"),
}


@pytest.mark.parametrize(("outcome", "error"), TRIALS.values(), ids=TRIALS.keys())
def test_a_test_is_made_once_and_keeps_what_became_of_it(outcome: Outcome, error: str | None) -> None:
    made = end_trial(trial, trial, outcome)
    assert (trial.is_trial, trial.event_id, waiting.is_trial) == (True, None, False)
    assert (made.due_at, made.error, made.waits_since) == (None, error, at)


def test_a_test_that_was_asked_for_again_meanwhile_is_made_again() -> None:
    again = begin_trial("w1", at - timedelta(days=1), at + timedelta(seconds=1))
    assert end_trial(again, trial, delivered) == again


def test_after_a_change_both_secrets_sign_for_a_while() -> None:
    changed = rotate(endpoint, Sealed("new"), Sealed("old"), at, timedelta(hours=1))
    during = changed.secrets_at(at + timedelta(minutes=59))
    assert during == [("secret", Sealed("new")), ("previous_secret", Sealed("old"))]
    assert changed.secrets_at(at + timedelta(hours=1)) == [("secret", Sealed("new"))]


def test_the_reference_library_verifies_a_signature_by_each_secret_and_by_no_other() -> None:
    old, new = make_secret(), make_secret()
    body = '{"name":"Ada Łovelace"}'
    headers = dict(sign("e1", body, [new, old], at))
    with time_machine.travel(at):
        for secret in (old, new):
            assert Webhook(secret.reveal()).verify(body, headers) == {"name": "Ada Łovelace"}
        for secret, changed in ((make_secret(), body), (new, body + " ")):
            with pytest.raises(WebhookVerificationError):
                Webhook(secret.reveal()).verify(changed, headers)
    assert headers["webhook-id"] == "e1"


def test_a_secret_is_new_each_time_and_prints_as_nothing() -> None:
    one, other = make_secret(), make_secret()
    assert one != other
    assert one.reveal().startswith("whsec_")
    assert str(one) == "***"
    assert isinstance(one, Secret)
