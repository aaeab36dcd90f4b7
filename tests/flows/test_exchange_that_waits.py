"""A code that cannot be presented for reasons of ours says why, once, and is exchanged when that is mended."""

from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from models.crypto.vault import Vault, new_key
from models.oauth.authorization import Authorization
from tests.harness import House, join_house


def found(house: House, authorization_id: str) -> Authorization:
    with house.store.reading() as tx:
        authorization = tx.authorizations.get(authorization_id)
    assert authorization is not None
    return authorization


@pytest.mark.parametrize("trouble", ["client_unknown", "code_unreadable"])
def test_an_exchange_that_is_impossible_gives_its_reason(house: House, trouble: str) -> None:
    identity = house.consent()
    vault = house.vault if trouble == "client_unknown" else Vault((new_key("other"),))
    configured = () if trouble == "client_unknown" else None
    broken = join_house(
        house.store, house.provider, house.profile, vault, house.clock, house.spool, configured=configured
    )
    with capture_logs() as logs:
        for _ in range(3):
            broken.flows.exchange(identity)
            house.turn(seconds=30)
    assert found(house, identity).reason == trouble
    assert [decision.verb for decision in house.decisions(identity)] == [f"exchange.{trouble}"]
    assert [(line["event"], line["reason"]) for line in logs if line["event"].startswith("authorization.")] == [
        ("authorization.received", trouble)
    ]
    assert house.told("connection.authorization_failed") == []
    for provider in broken.flows.refresh.providers.values():
        provider.close()
    house.flows.exchange(identity)
    after = found(house, identity)
    assert (after.step, after.reason) == ("connected", None)


OUTAGES: dict[str, dict[str, Any]] = {
    "503 for as long as the code lives": {"status": 503},
    "429 for as long as the code lives": {"status": 429, "retry_after": 30},
    "429 that asks for longer than the code lives": {"status": 429, "retry_after": 900},
}


@pytest.mark.parametrize("outage", OUTAGES)
def test_a_code_that_outlives_an_outage_was_the_provider_s_matter(house: House, outage: str) -> None:
    house.control.inject("token", count=1000, **OUTAGES[outage])
    identities = [house.consent("ada", 1), house.consent("grace", 2)]
    house.work()
    for _ in range(22):
        house.turn(seconds=30)
        house.sweep()
    failed = house.told("connection.authorization_failed")
    assert [event["reason"] for event in failed] == ["provider_unavailable"] * 2
    assert {event["authorization_id"] for event in failed} == set(identities)
    assert all("provider" in event["description"] for event in failed)
    assert house.told("provider.client_rejected") == []


def test_a_code_that_expired_at_the_provider_during_its_outage_is_not_called_late(house: House) -> None:
    fault = house.control.inject("token", status=503, count=1000)
    identity = house.consent()
    house.work()
    house.control.advance(601)
    house.control.remove_fault(fault)
    house.clock.turn(timedelta(seconds=60))
    house.sweep()
    assert (found(house, identity).step, found(house, identity).reason) == ("failed", "provider_unavailable")
