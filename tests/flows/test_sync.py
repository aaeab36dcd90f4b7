"""A sync: what counts as deleted, what a run survives, what is published, and how much is requested."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from sqlalchemy import text

from models.crypto.vault import Vault, new_key
from models.journal import Problem
from models.messaging import messages
from models.oauth.connection import Connection
from tests.databases import both_databases
from tests.flows.answering import Answer, answering, as_json, list_page
from tests.flows.between import Between, before_page, between, changes_of, listed, slowly, stored
from tests.harness import House
from worker.operations.story import describe_state


@pytest.fixture(params=["pages in memory", "page by page"], autouse=True)
def reading(request: pytest.FixtureRequest, house: House) -> None:
    """The same for an account whose pages a job keeps in its memory, and for one that is too large for that."""
    if request.param == "page by page":
        house.keep_no_page_in_memory()


def connect(house: House, documents: int, **fields: Any) -> tuple[Connection, int]:
    """A connection whose account holds so many documents, read once."""
    account = house.control.add_user("Ida", documents=documents, **fields)
    connection = house.connect("ida", account)
    house.work()
    assert stored(house, connection.id) == set(listed(house, account))
    return connection, account


def read(house: House, connection: Connection) -> None:
    """One run that someone asked for, to its end."""
    house.flows.sync(connection.id)
    house.work()


def test_a_record_that_slips_over_a_page_s_edge_is_not_taken_for_gone(house: House) -> None:
    connection, account = connect(house, 25)
    first = listed(house, account)[0]

    def remove_one_and_add_one() -> None:
        house.control.delete_document(account, first)
        house.control.add_documents(account, 1)

    before_page(house, "/documents", 2, remove_one_and_add_one)
    read(house, connection)
    assert stored(house, connection.id) == set(listed(house, account))
    assert changes_of(house, kind="deleted") == [("deleted", str(first))], "the hidden one was never said to be gone"


def test_a_list_that_never_holds_still_deletes_nothing_and_the_next_run_makes_up_for_it(house: House) -> None:
    connection, account = connect(house, 25)
    gone = listed(house, account)[0]
    house.control.delete_document(account, gone)

    def add_one(_: int, path: str, page: int) -> None:
        if path == "/documents" and page == 2:
            house.control.add_documents(account, 1)

    between(house, add_one)
    read(house, connection)
    assert changes_of(house, kind="deleted") == []
    assert "reading.unproven" in [decision.verb for decision in house.decisions(connection.id)]
    between(house, lambda *_: None)
    read(house, connection)
    assert changes_of(house, kind="deleted") == [("deleted", str(gone))]
    assert stored(house, connection.id) == set(listed(house, account))


def test_a_vanishing_is_held_back_for_a_second_run(house: House) -> None:
    connection, account = connect(house, 40)
    for document in listed(house, account)[:30]:
        house.control.delete_document(account, document)
    read(house, connection)
    assert changes_of(house, kind="deleted") == []
    assert house.types()[-1] == "sync.completed"
    with house.store.reading() as tx:
        assert tx.records.resource_problems(connection.id)["document"] == "many_gone"
    [held] = [d.evidence for d in house.decisions(connection.id) if d.evidence.get("resource") == "document"]
    assert (held["gone"], held["of"]) == (30, 40)
    read(house, connection)
    assert len(changes_of(house, kind="deleted")) == 30
    assert stored(house, connection.id) == set(listed(house, account))
    with house.store.reading() as tx:
        assert tx.records.resource_problems(connection.id) == {}


def problems(house: House, connection: Connection) -> dict[str, str]:
    with house.store.reading() as tx:
        return tx.records.resource_problems(connection.id)


def test_what_a_quiet_look_shows_is_back_and_the_next_vanishing_is_held_back_as_well(house: House) -> None:
    connection, _ = connect(house, 0)
    shown = [120]

    def documents(page: int) -> Answer:
        ids = range(1, shown[0] + 1)[(page - 1) * 50 : page * 50]
        last = -(-shown[0] // 50)
        return as_json(list_page([{"id": i} for i in ids], page=page, last=last, total=shown[0]))

    with answering(house, int(connection.account_id), {"/documents": documents}) as api:
        read(house, connection)
        shown[0] = 20
        read(house, connection)
        assert problems(house, connection) == {"document": "many_gone"}
        shown[0] = 120
        before = len(api.asked)
        house.turn(minutes=25)
        house.sweep()
        assert sum("/documents" in target for target in api.asked[before:]) == 1, "a look, and it is quiet"
        assert problems(house, connection) == {}
        shown[0] = 20
        read(house, connection)
    assert changes_of(house, kind="deleted") == []
    assert problems(house, connection) == {"document": "many_gone"}


def test_a_few_of_a_small_account_are_not_a_vanishing(house: House) -> None:
    connection, account = connect(house, 8)
    for document in listed(house, account)[1:]:
        house.control.delete_document(account, document)
    read(house, connection)
    assert len(stored(house, connection.id)) == 1


def test_an_emptied_resource_is_held_back_however_small_it_was(house: House) -> None:
    connection, account = connect(house, 1)
    house.control.delete_document(account, listed(house, account)[0])
    read(house, connection)
    assert len(stored(house, connection.id)) == 1
    read(house, connection)
    assert stored(house, connection.id) == set()


def test_a_vanishing_that_has_grown_since_it_was_held_back_is_held_back_again(house: House) -> None:
    connection, account = connect(house, 20)
    for gone in (11, 9):
        for document in listed(house, account)[:gone]:
            house.control.delete_document(account, document)
        read(house, connection)
        assert changes_of(house, kind="deleted") == []
    read(house, connection)
    assert len(changes_of(house, kind="deleted")) == 20


def test_what_one_team_s_list_held_back_says_nothing_of_another_s(house: House) -> None:
    connection = house.connect("ida", house.control.add_user("Ida", plan="agency"), team_ids=(7, 8))
    shown = {7: 30, 8: 20}

    def documents(team: int) -> Callable[[int], Answer]:
        return lambda _: as_json(list_page([{"id": 100 * team + i} for i in range(shown[team])]))

    answers = {f"/teams/{team}/documents": documents(team) for team in shown}
    with answering(house, int(connection.account_id), answers):
        read(house, connection)
        shown[7] = 0
        read(house, connection)
        assert problems(house, connection) == {"team_document:7": "many_gone"}
        shown[8] = 0
        read(house, connection)
        assert changes_of(house, "team_document", "deleted") == []
        read(house, connection)
    assert len(changes_of(house, "team_document", "deleted")) == 50


def test_a_signature_shows_from_the_events_alone(house: House) -> None:
    connection, account = connect(house, 12)
    [document] = [d for d in house.control.documents(account) if d["id"] == listed(house, account)[3]]
    signer = document["recipients"][0]
    house.control.complete_document(account, document["id"], signer["id"])
    read(house, connection)
    [of_document] = [e for e in house.told("record.updated") if e["resource"] == "document"]
    assert (of_document["external_id"], of_document["changed"]) == (str(document["id"]), ["recipients", "updated_at"])
    [of_signer] = [e for e in house.told("record.updated") if e["resource"] == "recipient"]
    assert of_signer["external_id"] == str(signer["id"])
    assert "completed_at" in of_signer["changed"]


def test_an_opening_shows_from_the_events_alone(house: House) -> None:
    connection, account = connect(house, 12)
    unopened = next(
        (d["id"], r["id"]) for d in house.control.documents(account) for r in d["recipients"] if not r["opened_at"]
    )
    house.control.open_document(account, *unopened)
    read(house, connection)
    [of_signer] = [e for e in house.told("record.updated") if e["resource"] == "recipient"]
    assert "opened_at" in of_signer["changed"]
    assert "completed_at" not in of_signer["changed"]


def requests(house: House, connection: Connection) -> list[str]:
    with house.store.reading() as tx:
        return [call.path for call in tx.journal.calls_of(connection.id, limit=100_000)]


def test_a_quiet_account_is_asked_only_whether_it_is_there(house: House) -> None:
    connection, _ = connect(house, 12)
    read(house, connection)
    before = len(requests(house, connection))
    house.turn(minutes=16)
    house.sweep()
    assert requests(house, connection)[before:] == ["/me"]
    house.turn(minutes=5)
    house.sweep()
    assert "/documents" in requests(house, connection)[before + 1 :]


def test_a_revocation_shows_within_one_interval_however_quiet_the_account(house: House) -> None:
    connection, account = connect(house, 2)
    for _ in range(6):
        house.turn(minutes=16)
        house.sweep()
    house.control.revoke_user(account)
    house.turn(minutes=16)
    house.sweep()
    house.sweep()
    assert house.connection(connection.id).revoked_reason == "access_revoked"


def read_when_due(house: House, connection: Connection) -> list[str]:
    """The next run that reads more than the account, due by itself; which paths it asked for."""
    before = len(requests(house, connection))
    house.turn(minutes=20)
    for _ in range(6):
        house.sweep()
        house.turn(seconds=61)
    return requests(house, connection)[before:]


def test_a_long_list_is_peeked_at_between_full_readings_and_a_signature_is_seen_all_the_same(house: House) -> None:
    connection, account = connect(house, 130)
    assert 1 <= len(read_when_due(house, connection)) < 20, "two peeks, and the short lists"
    house.control.complete_document(account, listed(house, account)[5])
    read_when_due(house, connection)
    assert ("updated", str(listed(house, account)[5])) in changes_of(house)


def test_what_a_peek_can_not_see_is_seen_by_the_next_full_sync(house: House) -> None:
    connection, account = connect(house, 130)
    house.control.edit_document(account, listed(house, account)[5], "A new title")
    read_when_due(house, connection)
    assert changes_of(house, kind="updated") == []
    for _ in range(3):
        read_when_due(house, connection)
    assert changes_of(house, kind="updated") == [("updated", str(listed(house, account)[5]))]


def test_a_request_while_a_run_is_read_or_waits_makes_one_more_and_no_other(house: House) -> None:
    connection, _ = connect(house, 12)
    own = house.flows.sync.take(connection.id)
    assert own is not None
    for _ in range(5):
        house.flows.sync(connection.id)
        house.flows.sync(connection.id, asked=False)
    assert house.flows.sync.hand_on(own)
    house.flows.sync(connection.id, asked=False)
    for _ in range(3):
        house.sweep()
    assert len(house.told("sync.completed", connection.id)) == 3


def test_a_job_reads_no_longer_if_the_clock_is_set_back(house: House) -> None:
    connection = house.connect("ida", house.control.add_user("Ida", documents=60))
    house.queue.held.clear()
    watched = between(house, lambda *_: house.clock.turn(timedelta(seconds=-25)))
    seconds = count()
    replace(house.flows.sync, monotonic=lambda: float(next(seconds)))(connection.id)
    assert watched.asked == 4, "a second each"
    assert messages.read_connection(connection.id) in house.queue.held


@both_databases
def test_what_is_due_while_a_run_is_under_way_makes_no_other(house: House) -> None:
    connection, _ = connect(house, 12)
    own = house.flows.sync.take(connection.id)
    assert own is not None
    house.flows.sync(connection.id, asked=False)
    assert house.flows.sync.hand_on(own)
    house.flows.sync(connection.id, asked=False)
    house.sweep()
    assert len(house.told("sync.completed", connection.id)) == 2


@both_databases
@pytest.mark.parametrize("ending", ["disconnected", "revoked"])
def test_a_connection_that_ends_in_the_middle_keeps_what_was_committed(house: House, ending: str) -> None:
    account = house.control.add_user("Ida", documents=25)
    connection = house.connect("ida", account)

    def end() -> None:
        if ending == "disconnected":
            house.flows.disconnect(connection.id)
        else:
            house.control.revoke_user(account)

    before_page(house, "/documents", 3, end, page_by_page=True)
    house.work()
    house.sweep()
    assert house.connection(connection.id).status == ending
    assert len(stored(house, connection.id)) == 20
    with house.store.reading() as tx:
        assert tx.runs.running(connection.id) is None
    assert "sync.completed" not in house.types()


class Killed(BaseException):
    """A worker's end, which nothing in it can answer to."""


class Dying(Between):
    """A provider client whose worker is killed between the second page of documents and its commit."""

    def read_page(self, resource: Any, path: str, asked: Any, *more: Any) -> Any:
        called = super().read_page(resource, path, asked, *more)
        if (path, asked.number) == ("/documents", 2):
            raise Killed
        return called


@both_databases
def test_a_job_that_lost_its_run_writes_nothing_of_what_it_kept_in_memory(house: House) -> None:
    connection, account = connect(house, 25)
    house.turn(minutes=2)
    before = runs(house, connection)

    def overtake() -> None:
        house.turn(seconds=91)
        house.control.add_documents(account)
        house.flows.sync(connection.id)

    before_page(house, "/documents", 2, overtake)
    house.flows.sync(connection.id, message_id="slow")
    told = changes_of(house)
    assert len(told) == len(set(told)) == 26
    house.sweep()
    assert runs(house, connection) > before
    assert changes_of(house) == told


@both_databases
def test_a_refused_token_is_refreshed_without_waiting_for_the_sweep(house: House) -> None:
    connection, account = connect(house, 1)
    house.control.revoke_user(account)
    house.flows.sync(connection.id)
    house.work()
    assert house.types()[-1] == "connection.reauthorization_required"


@both_databases
def test_a_worker_that_dies_costs_one_page_read_again_and_no_event_twice(house: House) -> None:
    account = house.control.add_user("Ida", documents=25)
    house.connect("ida", account)
    dying = Dying(house.flows.sync.providers["breezedoc"], slowly(house))
    house.flows.sync.providers["breezedoc"] = dying  # type: ignore[index]  # a dict in truth
    with pytest.raises(Killed):
        house.work()
    between(house, lambda *_: None)
    house.turn(seconds=91)
    house.sweep()
    told = changes_of(house)
    assert len(told) == len(set(told)) == 25
    assert house.control.counters(tokens=False)["totals"]["/api/documents"] == {"200": 4}, (
        "three pages, one of them twice"
    )


def runs(house: House, connection: Connection) -> int:
    """How many runs of the connection are stored."""
    with house.store.reading() as tx:
        query = text("SELECT count(*) FROM sync_run WHERE connection_id = :id")
        return int(tx.sql.execute(query, {"id": connection.id}).scalar_one())


def completed(house: House, connection: Connection) -> int:
    return len(house.told("sync.completed", connection.id))


@both_databases
def test_a_message_that_is_delivered_again_because_its_worker_died_costs_no_other_reading(house: House) -> None:
    connection, _ = connect(house, 25)
    house.flows.sync.providers["breezedoc"] = Dying(house.flows.sync.providers["breezedoc"], lambda *_: None)  # type: ignore[index]  # a dict in truth
    with pytest.raises(Killed):
        house.flows.sync(connection.id, message_id="m1")
    between(house, lambda *_: None)
    house.turn(seconds=91)
    house.flows.sync(connection.id, message_id="m1")
    house.sweep()
    assert completed(house, connection) == 2
    house.flows.sync(connection.id, message_id="m1")
    house.sweep()
    assert completed(house, connection) == 2, "nor does it once its run has ended"
    house.turn(minutes=20)
    house.flows.sync(connection.id, message_id="m1")
    house.sweep()
    assert runs(house, connection) == 3, "it stands for what is due, as any message does"


@both_databases
def test_another_message_while_a_run_is_read_makes_one_more_as_does_the_same_one_for_another_connection(
    house: House,
) -> None:
    (first, _), (second, _) = connect(house, 25), connect(house, 1)
    before_page(house, "/documents", 2, lambda: house.flows.sync(first.id, message_id="m2"))
    house.flows.sync(first.id, message_id="m1")
    house.flows.sync(second.id, message_id="m1")
    for _ in range(3):
        house.sweep()
    assert (completed(house, first), completed(house, second)) == (3, 2)


def put_in_the_wrong_place(house: House, connection: Connection) -> None:
    with house.store.writing() as tx:
        credential = tx.credentials.get(connection.id)
        assert credential is not None
        tx.credentials.put(replace(credential, access_token=credential.refresh_token))


@pytest.mark.parametrize("trouble", ["a missing key", "a broken seal"])
def test_a_token_that_does_not_open_makes_its_run_wait_and_is_tried_every_interval(house: House, trouble: str) -> None:
    connection, _ = connect(house, 3)
    before, sync = house.credential(connection.id), house.flows.sync
    if trouble == "a missing key":
        sync = replace(sync, vault=Vault((new_key("k2"),)))
    else:
        put_in_the_wrong_place(house, connection)
    asked = len(requests(house, connection))
    for is_asked in (True, False):
        sync(connection.id, asked=is_asked)
        after = house.connection(connection.id)
        assert describe_state(after) == "active, but " + Problem.token_unreadable.sentence
        assert after.sync_due_at is not None
        assert timedelta(minutes=14) < after.sync_due_at - house.clock() <= timedelta(minutes=15)
        house.turn(minutes=16)
    assert [d.verb for d in house.decisions(connection.id)].count("sync.token_unreadable") == 1
    assert len(requests(house, connection)) == asked
    with house.store.writing() as tx:
        tx.credentials.put(before)
    house.sweep()
    assert len(house.told("sync.completed", connection.id)) == 2
    assert house.connection(connection.id).problem is None


def test_a_requested_sync_goes_on_at_once_when_the_key_is_back(house: House) -> None:
    connection, _ = connect(house, 3)
    replace(house.flows.sync, vault=Vault((new_key("k2"),)))(connection.id)
    completed = len(house.told("sync.completed", connection.id))
    house.flows.sync(connection.id)
    assert len(house.told("sync.completed", connection.id)) == completed + 1
    assert house.connection(connection.id).problem is None


def plan_events(house: House) -> list[str]:
    return [type_ for type_ in house.types() if "access" in type_]


def test_a_plan_without_api_access_is_told_once_and_so_is_its_return(house: House) -> None:
    connection, account = connect(house, 3)
    house.control.set_plan(account, "free")
    for _ in range(3):
        house.turn(minutes=16)
        house.sweep()
    assert plan_events(house) == ["connection.access_limited"]
    after = house.connection(connection.id)
    assert (after.status, after.problem) == ("active", "plan_required")
    assert stored(house, connection.id) == set(listed(house, account))
    house.control.set_plan(account, "pro")
    for _ in range(2):
        house.turn(minutes=16)
        house.sweep()
    assert plan_events(house) == ["connection.access_limited", "connection.access_restored"]
    assert house.connection(connection.id).problem is None


def test_one_list_that_is_forbidden_limits_nothing_else(house: House) -> None:
    connection, account = connect(house, 3, invoices=2)
    house.control.inject("api", status=403, count=None, match={"path": "/api/invoices"})
    for _ in range(3):
        read(house, connection)
    assert plan_events(house) == []
    assert house.types()[-1] == "sync.completed"
    with house.store.reading() as tx:
        assert tx.records.resource_problems(connection.id) == {"invoice": "plan_required"}
        assert tx.records.count(connection.id)["invoice"] == 2
    house.control.clear_faults()
    read(house, connection)
    with house.store.reading() as tx:
        assert tx.records.resource_problems(connection.id) == {}
    assert account


def test_an_account_all_of_whose_lists_are_forbidden_is_limited_until_one_answers(house: House) -> None:
    connection, _ = connect(house, 3)
    faults = [
        house.control.inject("api", status=403, count=None, match={"path": f"/api{path}"})
        for path in ("/documents", "/templates", "/recipients", "/invoices")
    ]
    for _ in range(2):
        read(house, connection)
    assert plan_events(house) == ["connection.access_limited"]
    house.control.remove_fault(faults[0])
    for _ in range(2):
        read(house, connection)
    assert plan_events(house) == ["connection.access_limited", "connection.access_restored"]


def test_a_team_that_is_forbidden_or_gone_limits_its_own_list_alone(house: House) -> None:
    account = house.control.add_user("Ida", documents=2, plan="agency")
    own, other = (house.control.add_team(account, documents=4, templates=1) for _ in range(2))
    stranger = house.control.add_team(house.control.add_user("Eve"), documents=3)
    connection = house.connect("ida", account, team_ids=(own, other, stranger, 999))
    house.work()
    assert len(stored(house, connection.id, f"team_document:{own}")) == 4
    with house.store.reading() as tx:
        assert tx.records.resource_problems(connection.id) == {
            f"team_document:{stranger}": "plan_required",
            "team_document:999": "not_found",
            f"team_template:{stranger}": "plan_required",
            "team_template:999": "not_found",
        }
    assert plan_events(house) == []
    house.control.inject("api", status=403, count=None, match={"path": f"/api/teams/{other}/documents"})
    read(house, connection)
    assert changes_of(house, "team_document", "deleted") == []
    assert len(stored(house, connection.id, f"team_document:{other}")) == 4


@both_databases
def test_authorizing_for_other_teams_in_the_middle_begins_anew_and_mixes_no_lists_up(house: House) -> None:
    account = house.control.add_user("Ida", documents=2, plan="agency")
    teams = [house.control.add_team(account, documents=14, templates=1) for _ in range(3)]
    connection = house.connect("ida", account, team_ids=tuple(teams))
    before_page(
        house,
        f"/teams/{teams[2]}/templates",
        1,
        lambda: house.connect("ida", account, connection_id=connection.id, team_ids=(teams[1],)),
        page_by_page=True,
    )
    house.work()
    house.sweep()
    assert len(stored(house, connection.id, f"team_document:{teams[1]}")) == 14
    assert changes_of(house, "team_document", "deleted") == []
    [completed] = house.told("sync.completed", connection.id)
    assert completed["resources"]["team_document"] == {"created": 0, "updated": 0, "deleted": 0, "unchanged": 14}


def test_a_list_s_long_retry_after_keeps_the_others_for_minutes_only(house: House) -> None:
    connection, _ = connect(house, 3)
    house.control.inject("api", status=503, retry_after=86_400, count=1, match={"path": "/api/documents"})
    house.flows.sync(connection.id)
    house.turn(minutes=10, seconds=1)
    house.sweep()
    assert len(house.told("sync.completed", connection.id)) == 2


def test_a_run_that_waits_for_room_is_brought_back_by_the_sweep_and_not_before(house: House) -> None:
    connection, _ = connect(house, 3)
    house.flows.sync.providers["breezedoc"].budgets.pause(house.profile, connection.account_id, 30)
    house.flows.sync(connection.id)
    asked = len(requests(house, connection))
    house.clock.turn(timedelta(seconds=20))
    house.sweep()
    assert len(requests(house, connection)) == asked
    house.clock.turn(timedelta(seconds=11))
    house.sweep()
    assert len(house.told("sync.completed", connection.id)) == 2


@pytest.mark.parametrize("asked", [True, False], ids=["requested", "due"])
def test_a_run_whose_job_died_goes_on_once_its_lease_is_over_and_not_before(house: House, asked: bool) -> None:
    connection = house.connect("ada", 1)
    house.work()
    if not asked:
        house.turn(minutes=20)
    own = house.flows.sync.take(connection.id, asked)
    assert own is not None

    def is_due() -> bool:
        due_at = house.connection(connection.id).sync_due_at
        return due_at is not None and due_at <= house.clock()

    house.sweep()
    assert is_due()
    house.turn(seconds=40)
    house.sweep()
    assert is_due()
    house.turn(seconds=6)
    house.sweep()
    assert not is_due()
