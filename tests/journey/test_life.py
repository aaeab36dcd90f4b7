"""One connection's life across processes, as the application hears it on the streams."""

from tests.processes import Event, Fleet, Listener


def numbers(events: list[Event]) -> list[int]:
    return [event.sequence for event in events]


def test_every_record_is_told_once_and_counted_without_gaps(fleet: Fleet, listener: Listener) -> None:
    account = fleet.control.add_user("Radia", documents=23, templates=3, invoices=2)
    connection = fleet.connect("radia", account)
    fleet.has_synced(listener, connection)
    told, records = listener.about(connection, "connection."), listener.about(connection, "record.")
    [completed] = listener.about(connection, "sync.")
    assert [event.type for event in told] == ["connection.authorized"]
    assert numbers(told) + numbers([completed]) == [1, 2]
    assert numbers(records) == list(range(1, len(records) + 1))
    assert len({event.id for event in listener.heard}) == len(listener.heard)
    assert {event.stream for event in records} == {"breezesync:records"}
    assert sum(event.data["resource"] == "document" for event in records) == 23
    created = {name: counts["created"] for name, counts in completed.data["resources"].items()}
    assert sum(created.values()) == len(records)
    [row] = fleet.rows("SELECT count(*) AS documents FROM breezedoc_document WHERE connection_id = :id", id=connection)
    assert row.documents == 23


def test_a_signed_document_is_told_with_what_changed(fleet: Fleet, listener: Listener) -> None:
    account = fleet.control.add_user("Frances", documents=5)
    connection = fleet.connect("frances", account)
    fleet.has_synced(listener, connection)
    before = len(listener.about(connection, "record."))
    document = fleet.control.documents(account)[2]["id"]
    fleet.control.complete_document(account, document)
    fleet.ask("sync_user", "sync", user_id="frances")
    fleet.has_synced(listener, connection, times=2)
    after = listener.about(connection, "record.")[before:]
    [updated] = [event for event in after if event.data["resource"] == "document"]
    assert (updated.type, updated.data["external_id"]) == ("record.updated", str(document))
    assert "recipients" in updated.data["changed"]
    assert updated.data["initial"] is False


def test_short_lived_tokens_are_refreshed_before_they_expire(fleet: Fleet, listener: Listener) -> None:
    account = fleet.control.add_user("Hedy", documents=1)
    fleet.control.set(access_ttl=12)
    try:
        connection = fleet.connect("hedy", account)
    finally:
        fleet.control.set(access_ttl=31_536_000)
    fleet.wait_until(lambda: bool(listener.about(connection, "connection.refreshed")), "connection.refreshed")
    authorized, refreshed = listener.about(connection, "connection.")
    assert refreshed.document["time"] < authorized.data["expires_at"]
    own = [token for token in fleet.control.counters()["refresh_tokens"] if token["user_id"] == account]
    spent = [[p["outcome"] for p in token["presentations"] if p["outcome"] != "scope_rejected"] for token in own]
    assert spent == [["rotated"], []]


def test_a_revocation_is_heard_once_and_the_same_connection_revives(fleet: Fleet, listener: Listener) -> None:
    account = fleet.control.add_user("Joan", documents=4)
    connection = fleet.connect("joan", account)
    fleet.has_synced(listener, connection)
    fleet.control.revoke_user(account)
    fleet.ask("sync_connection", "sync", connection_id=connection)
    kind = "connection.reauthorization_required"
    fleet.wait_until(lambda: bool(listener.about(connection, kind)), kind)
    [asked] = listener.about(connection, kind)
    assert (asked.data["reason"], asked.data["detected_by"]) == ("access_revoked", "api")
    [sealed] = fleet.rows("SELECT access_token, refresh_token FROM credential WHERE connection_id = :id", id=connection)
    assert (sealed.access_token, sealed.refresh_token) == (None, None)
    assert fleet.connect("joan", account) == connection
    fleet.has_synced(listener, connection, times=2)
    again = listener.about(connection, "connection.authorized")[-1]
    assert again.data["reauthorized"] is True
    assert len(listener.about(connection, "record.created")) == len(listener.about(connection, "record."))
    told = [event for event in listener.about(connection) if event.stream == "breezesync:events"]
    assert numbers(told) == list(range(1, len(told) + 1))
    [row] = fleet.rows("SELECT status FROM connection WHERE id = :id", id=connection)
    assert row.status == "active"
