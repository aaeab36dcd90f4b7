"""The breaker of a client: nothing leaves while the token endpoint is out, and everything goes on when it is back."""

from itertools import pairwise
from typing import Any

import pytest

from models.oauth.breaker import pause, resume
from models.oauth.client import Cause, StoredClient
from tests.flows.test_client_trouble import asked, client, connect_many, shown, statuses
from tests.harness import House

outages: dict[str, dict[str, Any]] = {
    "502": {"status": 502},
    "503": {"status": 503},
    "redirect": {"kind": "redirect"},
    "HTML 200": {"kind": "html"},
    "HTML 403": {"kind": "html", "status": 403},
    "reset": {"kind": "drop"},
}
status_of = {"502": 502, "503": 503, "redirect": 302, "HTML 200": 200, "HTML 403": 403, "reset": None}
opens_at_once = ("redirect", "HTML 200", "HTML 403")


def break_endpoint(house: House, outage: str) -> int:
    return house.control.inject("token", count=None, **outages[outage])


def pass_time(house: House, seconds: int, step: int = 10) -> None:
    for _ in range(0, seconds, step):
        house.turn(seconds=step)
        house.sweep()


@pytest.mark.parametrize("outage", outages)
def test_after_a_few_uncertain_answers_no_other_token_leaves_until_a_probe_is_answered(
    house: House, outage: str
) -> None:
    connections = connect_many(house, 8)
    fault = break_endpoint(house, outage)
    house.sweep()
    few = 1 if outage in opens_at_once else 3
    assert shown(house) == few
    assert client(house).cause is Cause.unavailable
    pass_time(house, 300)
    assert shown(house) == few
    probes = asked(house) - few
    assert 5 <= probes <= 12
    [event] = house.told("provider.unavailable")
    assert event["status"] == status_of[outage]
    assert (event["client_id"], event["endpoint"]) == ("sandbox-client", house.profile.token_url)
    assert house.told("provider.available") == []
    house.control.remove_fault(fault)
    pass_time(house, 240)
    assert len(house.told("provider.unavailable")) == len(house.told("provider.available")) == 1
    assert statuses(house, connections) == {"active"}
    assert {house.connection(each.id).generation for each in connections} == {2}
    assert house.presentations() <= 2


def test_a_code_waits_for_the_end_of_an_outage(house: House) -> None:
    connect_many(house, 1)
    fault = break_endpoint(house, "HTML 403")
    house.sweep()
    authorization_id = house.consent("grace", 2)
    pass_time(house, 120)
    assert step_of(house, authorization_id) == "received"
    assert all(not code["presentations"] for code in house.control.counters()["codes"] if code["user_id"] == 2)
    house.control.remove_fault(fault)
    pass_time(house, 120)
    assert step_of(house, authorization_id) == "connected"


def test_a_code_whose_life_ends_in_an_outage_fails_as_unavailable_unless_it_was_presented(house: House) -> None:
    connect_many(house, 1)
    fault = break_endpoint(house, "502")
    presented = house.consent("linus", 3)
    house.work()
    house.control.remove_fault(fault)
    break_endpoint(house, "redirect")
    house.sweep()
    kept_back = house.consent("grace", 2)
    pass_time(house, 720, step=20)
    failed = house.told("connection.authorization_failed")
    reasons = {event["authorization_id"]: event["reason"] for event in failed}
    assert reasons == {presented: "answer_lost", kept_back: "provider_unavailable"}
    assert house.told("provider.client_rejected") == []


def step_of(house: House, authorization_id: str) -> str:
    with house.store.reading() as tx:
        found = tx.authorizations.get(authorization_id)
    assert found is not None
    return found.step.value


def test_a_grant_that_was_in_flight_when_the_breaker_opened_closes_it(house: House) -> None:
    slow, *others = connect_many(house, 5)
    taken = house.flows.refresh.take(slow.id)
    assert taken is not None
    called = house.flows.refresh.ask(taken)
    fault = break_endpoint(house, "502")
    house.sweep()
    assert client(house).cause is Cause.unavailable
    house.turn(seconds=1)
    house.flows.refresh.save(taken, called)
    assert client(house).cause is None
    assert len(house.told("provider.available")) == 1
    house.control.remove_fault(fault)
    pass_time(house, 120)
    assert {house.connection(each.id).generation for each in (slow, *others)} == {2}


def test_an_answer_from_before_the_breaker_closed_does_not_open_it_again(house: House) -> None:
    slow, *_ = connect_many(house, 5)
    taken = house.flows.refresh.take(slow.id)
    assert taken is not None
    fault = break_endpoint(house, "HTML 403")
    called = house.flows.refresh.ask(taken)
    house.sweep()
    house.control.remove_fault(fault)
    pass_time(house, 10, step=5)
    assert client(house).cause is None
    house.flows.refresh.save(taken, called)
    assert client(house).cause is None
    assert len(house.told("provider.unavailable")) == 1


def test_only_one_of_two_messages_probes(house: House) -> None:
    connect_many(house, 1)
    break_endpoint(house, "redirect")
    house.sweep()
    house.turn(seconds=3)
    begun = [house.flows.probe_client.begin("breezedoc", "sandbox-client") for _ in range(2)]
    assert [each is None for each in begun] == [False, True]


def test_where_it_is_harmless_a_token_is_presented_until_an_answer_is_certain(house: House) -> None:
    [connection] = connect_many(house, 1)
    house.control.inject("token", moment="after", kind="drop", count=1)
    fault = house.control.inject(
        "token", moment="before", kind="drop", count=6, match={"user_id": connection.account_id}
    )
    presented_at = []
    for _ in range(60):
        before = house.presentations()
        pass_time(house, 60, step=30)
        if house.presentations() > before:
            presented_at.append(house.clock())
    house.control.remove_fault(fault)
    assert len(presented_at) >= 5, "six answers were lost, and none of them counted as a loss"
    pauses = [round((later - earlier).total_seconds() / 60) for earlier, later in pairwise(presented_at)]
    assert pauses == sorted(pauses)
    after = house.connection(connection.id)
    assert after.status.value == "active" or after.revoked_reason == "rotation_lost"


def test_an_operator_pauses_a_client_and_resumes_it(house: House) -> None:
    connections = connect_many(house, 3)
    change_client(house, lambda stored: pause(stored, house.clock()))
    authorization_id = house.consent("grace", 2)
    pass_time(house, 120)
    assert (asked(house), step_of(house, authorization_id)) == (0, "received")
    change_client(house, lambda stored: resume(stored, house.clock()))
    pass_time(house, 60)
    assert step_of(house, authorization_id) == "connected"
    assert {house.connection(each.id).generation for each in connections} == {2}
    assert house.told("provider.unavailable") == []


def change_client(house: House, change: Any) -> None:
    with house.store.writing() as tx:
        changed: StoredClient = change(tx.clients.lock("breezedoc", "sandbox-client"))
        tx.clients.save(changed)


@pytest.mark.parametrize("generation", [12, 13])
def test_the_sandbox_checks_the_client_before_it_misses_the_refresh_token(house: House, generation: int) -> None:
    house.control.set(passport=generation)
    provider = house.flows.refresh.providers["breezedoc"]
    oauth_client = house.flows.refresh.clients.find("breezedoc", "sandbox-client")
    assert provider.probe(oauth_client).outcome.evidence.error == "invalid_request"  # type: ignore[union-attr]
    house.control.change_client("sandbox-client", client_secret="another")
    assert provider.probe(oauth_client).outcome.evidence.error == "invalid_client"  # type: ignore[union-attr]
