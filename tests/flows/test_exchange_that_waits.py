"""A code that cannot be presented for reasons of ours says why, once, and is exchanged when that is mended."""

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
