"""What the flows count is what the provider saw and the database says."""

import pytest

from tests.harness import House

pytestmark = pytest.mark.usefixtures("everything_is_told")


def total(house: House, name: str, **labels: str) -> float:
    """Add up the samples of a metric that have these labels."""
    registry = house.flows.sync.metrics.registry
    samples = (sample for family in registry.collect() for sample in family.samples)
    return sum(
        sample.value
        for sample in samples
        if sample.name == f"breezesync_{name}" and labels.items() <= sample.labels.items()
    )


def test_a_life_is_counted(house: House) -> None:
    connection = house.connect("ada", 1)
    house.work()
    house.flows.refresh(connection.id, asked=True)
    house.work()
    assert total(house, "token_requests_total", grant="authorization_code", outcome="granted") == 1
    assert total(house, "token_requests_total", grant="refresh_token", outcome="granted") == 1
    assert total(house, "token_requests_total") == seen_at_token_endpoint(house)
    assert total(house, "refresh_lateness_seconds_count") == 1
    assert total(house, "records_changed_total", resource="document", change="created") == 12
    assert total(house, "sync_runs_total", depth="full", outcome="completed") == 1
    assert total(house, "api_requests_total", status="200") == total(house, "api_request_seconds_count") > 5
    assert 0 < total(house, "budget_used_ratio", provider="breezedoc") <= 1


def test_a_grant_that_is_dead_is_refused_once_and_noticed_once(house: House) -> None:
    connection = house.connect("ada", 1)
    house.work()
    house.control.revoke_user(1)
    for _ in range(3):
        house.flows.sync(connection.id)
        house.work()
    assert house.connection(connection.id).status == "revoked"
    assert total(house, "revocation_detection_seconds_count") == 1
    assert total(house, "token_requests_total", outcome="refused") <= 1
    assert total(house, "token_requests_total") == seen_at_token_endpoint(house)


def seen_at_token_endpoint(house: House) -> int:
    return sum(house.control.counters(tokens=False)["token_requests"].values())
