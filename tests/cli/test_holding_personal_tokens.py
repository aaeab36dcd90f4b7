"""`breezesync provider hold|release|accept` with connections by personal access token, which nothing can refresh."""

from models.oauth.connection import Connection, personal_client
from tests.cli.conftest import Desk
from tests.flows.test_connect_token import connect_token


def connect(desk: Desk, account: int, user: str) -> Connection:
    """Connect by a personal access token, and read the account once."""
    connection = connect_token(desk.house, account, user)
    desk.house.work()
    return connection


def hold_refused(desk: Desk, *connections: Connection) -> None:
    """Hold the provider's connections, and have the API refuse these."""
    desk.read("provider", "hold", "breezedoc")
    for connection in connections:
        desk.house.flows.sync(connection.id)
    assert {desk.house.connection(each.id).problem for each in connections} == {"held"}


def told_to_connect(desk: Desk) -> list[str]:
    return [event["connection_id"] for event in desk.house.told("connection.reauthorization_required")]


def test_the_hold_includes_personal_tokens_once_there_is_one(either_desk: Desk) -> None:
    desk = either_desk
    oauth_alone = [{"provider": "breezedoc", "client_id": "sandbox-client", "held": 0}]
    assert desk.read("provider", "hold", "breezedoc") == oauth_alone
    connect(desk, 1, "ada")
    personal = {"provider": "breezedoc", "client_id": personal_client, "held": 0}
    assert desk.read("provider", "hold", "breezedoc") == [personal, *oauth_alone]


def test_what_is_held_is_shown_and_its_user_told_nothing(either_desk: Desk) -> None:
    desk = either_desk
    ada = connect(desk, 1, "ada")
    desk.house.control.revoke_user(1)
    hold_refused(desk, ada)
    shown = {client["client_id"]: client["held"] for client in desk.read("provider", "status")}
    assert shown[personal_client] == 1
    held = {hold["client_id"]: hold["held"] for hold in desk.read("status")["holds"]}
    assert held == {personal_client: 1, "sandbox-client": 0}
    assert "1 connections by personal access token at breezedoc are held" in desk.type("status").stdout
    assert any("it is held" in step for step in desk.read("explain", ada.id)["next"])
    assert any(
        "personal access token" in check["said"] and "breezesync provider accept breezedoc" in check["remedy"]
        for check in desk.read("doctor", code=1)["checks"]
    )
    assert told_to_connect(desk) == []
    assert desk.house.credential(ada.id).access_token is not None


def test_accepted_ones_end_as_revoked_and_a_good_one_stays(either_desk: Desk) -> None:
    desk = either_desk
    ada, grace = connect(desk, 1, "ada"), connect(desk, 2, "grace")
    desk.house.control.revoke_user(1)
    hold_refused(desk, ada)
    accepted = {each["client_id"]: each["accepted"] for each in desk.read("provider", "accept", "breezedoc")}
    assert accepted == {personal_client: 1, "sandbox-client": 0}
    ended = desk.house.connection(ada.id)
    assert (ended.status, ended.revoked_reason) == ("revoked", "access_revoked")
    assert desk.house.credential(ada.id).access_token is None
    assert (told_to_connect(desk), desk.house.connection(grace.id).status) == ([ada.id], "active")
    assert any("breezesync connect-token ada" in step for step in desk.read("explain", ada.id)["next"])
    decided = {event["client_id"]: event["decision"] for event in desk.house.told("provider.mass_refusal_ended")}
    assert decided[personal_client] == "accepted"
    assert desk.type("provider", "accept", "breezedoc").exit_code == 1


def test_released_ones_are_read_again_and_go_on_if_their_tokens_are_good(either_desk: Desk) -> None:
    desk = either_desk
    ada, grace = connect(desk, 1, "ada"), connect(desk, 2, "grace")
    desk.house.control.replace_keys()
    hold_refused(desk, ada, grace)
    desk.house.control.restore_keys()
    released = {each["client_id"]: each["released"] for each in desk.read("provider", "release", "breezedoc")}
    assert released == {personal_client: 2, "sandbox-client": 0}
    for _ in range(3):
        desk.house.sweep()
    after = [desk.house.connection(each.id) for each in (ada, grace)]
    assert {(each.status.value, each.problem) for each in after} == {("active", None)}
    assert all(
        (each.last_synced_at or each.created_at) > (before.last_synced_at or before.created_at)
        for each, before in zip(after, (ada, grace), strict=True)
    )
    assert told_to_connect(desk) == []
    assert desk.read("status")["holds"] == []


def test_a_released_one_that_is_refused_again_ends(desk: Desk) -> None:
    ada = connect(desk, 1, "ada")
    desk.house.control.revoke_user(1)
    hold_refused(desk, ada)
    desk.read("provider", "release", "breezedoc")
    for _ in range(30):
        desk.house.turn(seconds=60)
        desk.house.sweep()
    assert desk.house.connection(ada.id).status == "revoked"
    assert told_to_connect(desk) == [ada.id]


def test_nothing_is_held_without_a_hold(desk: Desk) -> None:
    connect(desk, 1, "ada")
    for command in ("release", "accept"):
        result = desk.type("provider", command, "breezedoc")
        assert (result.exit_code, result.stderr) == (1, "Nothing of breezedoc is held.\n")
