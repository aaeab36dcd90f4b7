"""One user's life through the flows, nothing going wrong but what a user does."""

import pytest

from tests.harness import House

pytestmark = pytest.mark.usefixtures("everything_is_told")


def test_connecting_stores_a_sealed_pair_and_says_so(house: House) -> None:
    connection = house.connect("ada", 1)
    assert (connection.status, connection.generation, connection.account_id) == ("active", 1, "1")
    [event] = house.told("connection.authorized")
    assert (event["account_id"], event["reauthorized"], event["sequence"]) == ("1", False, 1)


def test_the_first_sync_reads_every_resource(house: House) -> None:
    connection = house.connect("ada", 1)
    house.work()
    [event] = house.told("sync.completed")
    assert event["resources"]["document"] == {"created": 12, "updated": 0, "deleted": 0, "unchanged": 0}
    assert event["resources"]["account"]["created"] == 1
    created = house.told("record.created")
    assert all(record["initial"] for record in created)
    with house.store.reading() as tx:
        assert tx.records.count(connection.id)["document"] == 12


def test_the_first_sync_runs_once_although_a_sweep_comes_before_a_worker(house: House) -> None:
    connection = house.connect("ada", 1)
    house.sweep()
    assert len(house.told("sync.completed", connection.id)) == 1


def test_a_first_sync_whose_message_was_lost_is_sent_by_the_sweep(house: House) -> None:
    connection = house.connect("ada", 1)
    house.queue.held.clear()
    house.turn(seconds=11)
    house.sweep()
    assert house.connection(connection.id).last_synced_at is not None


def test_an_unchanged_account_writes_nothing(house: House) -> None:
    connection = house.connect("ada", 1)
    house.work()
    before = [event for event in house.told() if event["type"].startswith("record.")]
    house.flows.sync(connection.id)
    house.work()
    assert [event for event in house.told() if event["type"].startswith("record.")] == before
    counts = house.told("sync.completed")[-1]["resources"]["document"]
    assert counts == {"created": 0, "updated": 0, "deleted": 0, "unchanged": 12}


def test_edited_added_and_deleted_documents_become_events(house: House) -> None:
    connection = house.connect("ada", 1)
    house.work()
    documents = house.control.documents(1)
    house.control.edit_document(1, documents[0]["id"], "A new title")
    house.control.delete_document(1, documents[1]["id"])
    [added] = house.control.add_documents(1, 1)
    house.flows.sync(connection.id)
    house.work()
    told = [(e["type"], e["external_id"]) for e in house.told() if e.get("resource") == "document"][12:]
    assert sorted(told) == sorted(
        [
            ("record.updated", str(documents[0]["id"])),
            ("record.deleted", str(documents[1]["id"])),
            ("record.created", str(added)),
        ]
    )
    [updated] = house.told("record.updated")
    assert "title" in updated["changed"]


def test_a_due_refresh_replaces_both_tokens_once(house: House) -> None:
    connection = house.connect("ada", 1)
    house.work()
    before = house.credential(connection.id)
    house.make_refresh_due(connection.id)
    house.sweep()
    after = house.credential(connection.id)
    assert house.connection(connection.id).generation == 2
    assert (after.access_token, after.refresh_token) != (before.access_token, before.refresh_token)
    assert house.presentations() == 1
    assert [event["generation"] for event in house.told("connection.refreshed")] == [2]


def test_a_revocation_seen_by_the_api_asks_for_a_new_authorization_once(house: House) -> None:
    connection = house.connect("ada", 1)
    house.work()
    house.control.revoke_user(1)
    house.flows.sync(connection.id)
    house.sweep()
    house.flows.sync(connection.id)
    house.flows.refresh(connection.id)
    house.sweep()
    after = house.connection(connection.id)
    assert (after.status, after.revoked_reason) == ("revoked", "access_revoked")
    credential = house.credential(connection.id)
    assert (credential.access_token, credential.refresh_token) == (None, None)
    [event] = house.told("connection.reauthorization_required")
    assert (event["reason"], event["detected_by"]) == ("access_revoked", "api")
    assert house.presentations() == 1


def test_a_revocation_seen_by_a_refresh_is_told_as_such(house: House) -> None:
    connection = house.connect("ada", 1)
    house.control.revoke_user(1)
    house.make_refresh_due(connection.id)
    house.flows.refresh(connection.id)
    [event] = house.told("connection.reauthorization_required")
    assert (event["reason"], event["detected_by"]) == ("refresh_rejected", "refresh")


def test_authorizing_again_revives_the_same_connection_with_its_data(house: House) -> None:
    connection = house.connect("ada", 1)
    house.work()
    house.control.revoke_user(1)
    house.make_refresh_due(connection.id)
    house.flows.refresh(connection.id)
    again = house.connect("ada", 1, connection_id=connection.id)
    house.work()
    assert (again.id, again.status, again.generation) == (connection.id, "active", 2)
    assert house.told("connection.authorized")[-1]["reauthorized"] is True
    assert house.told("sync.completed")[-1]["resources"]["document"]["created"] == 0
    assert [event["sequence"] for event in house.told("sync.completed")] == [2, 5]


def test_another_account_does_not_take_a_connection_over(house: House) -> None:
    connection = house.connect("ada", 1)
    before = house.credential(connection.id)
    authorization_id = house.consent("ada", 2, connection_id=connection.id)
    house.flows.exchange(authorization_id)
    [event] = house.told("connection.authorization_failed")
    assert event["reason"] == "account_mismatch"
    assert house.credential(connection.id) == before


def test_denying_ends_the_authorization(house: House) -> None:
    authorization_id = house.consent("ada", 1, allow=False)
    with house.store.reading() as tx:
        found = tx.authorizations.get(authorization_id)
    assert found is not None
    assert (found.step, found.reason) == ("denied", "denied")
    [event] = house.told("connection.authorization_failed")
    assert event["reason"] == "denied"


def test_disconnecting_erases_the_tokens(house: House) -> None:
    connection = house.connect("ada", 1)
    house.work()
    house.flows.disconnect(connection.id)
    credential = house.credential(connection.id)
    assert (credential.access_token, credential.refresh_token) == (None, None)
    assert house.connection(connection.id).status == "disconnected"
    assert house.told("connection.disconnected")[0]["revoked_upstream"] is False


@pytest.mark.no_cover  # runs the same few lines very often
def test_a_large_account_pauses_at_the_limit_and_goes_on(house: House) -> None:
    connection = house.connect("linus", 3)
    for _ in range(8):
        house.work()
        house.turn(seconds=61)
        house.sweep()
    [event] = house.told("sync.completed", connection.id)
    assert event["resources"]["document"]["created"] == 1000
    totals = house.control.counters(tokens=False)["totals"]
    assert "429" not in {status for statuses in totals.values() for status in statuses}
