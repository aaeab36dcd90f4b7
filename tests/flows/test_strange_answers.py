"""Whatever the API answers, a run ends: read, left out, limited or failed with a reason, and nothing is deleted."""

import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from models.oauth.connection import Connection
from models.sync.sync_run import SyncRun
from tests.flows.answering import Answer, answering, as_json, list_page
from tests.flows.between import changes_of, listed, stored
from tests.harness import House

"""Where the answer decides and nothing of it reaches the database."""


def connect(house: House, documents: int = 12) -> tuple[Connection, int]:
    account = house.control.add_user("Ida", documents=documents, invoices=3)
    connection = house.connect("ida", account)
    house.work()
    return connection, account


def read_to_the_end(house: House, connection: Connection) -> SyncRun:
    """One run that is asked for, with all its pauses; AssertionError where it does not end."""
    house.flows.sync(connection.id)
    for _ in range(14):
        house.work()
        with house.store.reading() as tx:
            run = tx.runs.newest(connection.id)
        assert run is not None
        if run.status != "running":
            return run
        house.turn(seconds=330)
        house.flows.sync(connection.id, asked=False)
    raise AssertionError("the run does not end")


def asked(house: House, connection: Connection, path: str) -> int:
    with house.store.reading() as tx:
        return sum(call.path == path for call in tx.journal.calls_of(connection.id, limit=100_000))


def deep(levels: int) -> str:
    return '{"data":' * levels + "1" + "}" * levels


def page_with(*elements: str, total: str = "12", last: str = "1", more: str = "") -> str:
    return f'{{"current_page":1,"data":[{",".join(elements)}],"last_page":{last},"total":{total}{more}}}'


failed = ("failed", "unreadable")
strange: dict[str, tuple[dict[str, Any], tuple[str, str | None]]] = {
    "a plan that forbids the list": ({"status": 403}, ("completed", "plan_required")),
    "a list that the account lacks": ({"status": 404}, ("completed", "not_found")),
    "500": ({"status": 500}, failed),
    "503 for ever": ({"status": 503, "retry_after": 5}, failed),
    "429 without an end": ({"status": 429, "retry_after": 200, "count": 5}, ("completed", None)),
    "HTML": ({"kind": "html"}, failed),
    "a redirect": ({"kind": "redirect"}, failed),
    "no answer": ({"kind": "drop"}, failed),
    "a cut body": ({"kind": "cut", "moment": "after"}, failed),
    "an empty body": ({"kind": "garbage", "body": ""}, failed),
    "a list": ({"kind": "garbage", "body": "[]"}, failed),
    "half a page": ({"kind": "garbage", "body": page_with('{"id":1001}')[:30]}, failed),
    "deep nesting": ({"kind": "garbage", "body": deep(5000)}, failed),
    "elements as an object": (
        {"kind": "garbage", "body": page_with().replace("[]", "{}")},
        ("completed", "list_shifting"),
    ),
    "a total as a text": ({"kind": "garbage", "body": page_with(total='"12"')}, ("completed", "list_shifting")),
    "a total beyond 64 bit": ({"kind": "garbage", "body": page_with(total="1" * 30)}, failed),
    "a number of ten thousand digits": ({"kind": "garbage", "body": page_with(total="1" * 10_000)}, failed),
    "pages beyond 64 bit": ({"kind": "garbage", "body": page_with(last="9" * 20)}, failed),
    "a million pages, all of them the first": (
        {"kind": "garbage", "body": page_with('{"id":1001}', last="1000000")},
        failed,
    ),
    "a page of two thousand": (
        {"kind": "garbage", "body": page_with(*('{"id":1}' for _ in range(2000)), total="2000")},
        failed,
    ),
    "an id that is null": ({"kind": "garbage", "body": page_with('{"id":null}')}, ("failed", "nameless_records")),
    "texts for records": ({"kind": "garbage", "body": page_with('"a"', "7", "[]")}, ("failed", "nameless_records")),
    "fewer than it says": ({"kind": "garbage", "body": page_with('{"id":1001}')}, ("completed", "list_shifting")),
    "an id twice": (
        {"kind": "garbage", "body": page_with('{"id":1}', '{"id":1}', total="2")},
        ("completed", "list_shifting"),
    ),
}


@pytest.mark.parametrize("case", strange)
def test_a_strange_list_ends_bounded_and_deletes_nothing(house: House, case: str) -> None:
    fault, (status, problem) = strange[case]
    connection, account = connect(house)
    before = asked(house, connection, "/documents")
    house.control.inject("api", **{"count": None, **fault}, match={"path": "/api/documents"})
    run = read_to_the_end(house, connection)
    assert (run.status, house.connection(connection.id).status) == (status, "active")
    assert asked(house, connection, "/documents") - before <= 8
    assert stored(house, connection.id) >= set(listed(house, account))
    assert changes_of(house, kind="deleted") == []
    with house.store.reading() as tx:
        assert tx.records.resource_problems(connection.id).get("document") == problem
        assert tx.records.count(connection.id)["invoice"] == 3, "the lists after it are read all the same"
    house.control.clear_faults()
    assert read_to_the_end(house, connection).status == "completed"


def sweep_to_the_end(house: House, connection: Connection) -> SyncRun:
    """One run that is asked for, with all its pauses and the refreshes that it forces; AssertionError where it does
    not end within the hour."""
    house.flows.sync(connection.id)
    for _ in range(120):
        house.sweep()
        with house.store.reading() as tx:
            run = tx.runs.newest(connection.id)
        assert run is not None
        if run.status != "running":
            return run
        house.turn(seconds=30)
    raise AssertionError("the run does not end")


def forced(house: House, connection: Connection) -> int:
    """How many refreshes a 401 has forced so far."""
    return sum(decision.verb == "access.refused" for decision in house.decisions(connection.id))


refusals = {
    "one list": (["/documents"], {"document"}),
    "every list": (
        ["/documents", "/templates", "/recipients", "/invoices"],
        {"document", "template", "recipient", "invoice"},
    ),
}


@pytest.mark.parametrize("case", refusals)
def test_a_list_that_refuses_every_token_is_left_after_one_forced_refresh(house: House, case: str) -> None:
    paths, unread = refusals[case]
    connection, account = connect(house)
    for path in paths:
        house.control.inject("api", status=401, count=None, match={"path": f"/api{path}"})
    run = sweep_to_the_end(house, connection)
    assert (run.status, run.reason) == ("failed", "provider_unavailable")
    assert run.description == "document: HTTP 401 for a token that was only just issued"
    with house.store.reading() as tx:
        assert tx.records.resource_problems(connection.id) == dict.fromkeys(unread, "unreadable")
    seen = {name for name, counts in run.counts.items() if counts["unchanged"]}
    assert seen == {"account", "document", "recipient", "invoice"} - unread, "whatever answers is read all the same"
    assert (forced(house, connection), house.connection(connection.id).status) == (1, "active")
    assert stored(house, connection.id) == set(listed(house, account))
    house.control.clear_faults()
    assert sweep_to_the_end(house, connection).status == "completed"
    assert house.connection(connection.id).problem is None


def test_an_account_that_refuses_every_token_fails_the_run_and_is_not_revoked(house: House) -> None:
    connection, _ = connect(house)
    house.control.inject("api", status=401, count=None, match={"path": "/api/me"})
    run = sweep_to_the_end(house, connection)
    assert (run.status, run.reason) == ("failed", "provider_unavailable")
    assert (forced(house, connection), house.connection(connection.id).status) == (1, "active")


def test_a_grant_that_dies_after_a_list_has_refused_its_token_is_still_found_dead(house: House) -> None:
    connection, account = connect(house)
    house.control.inject("api", status=401, count=None, match={"path": "/api/documents"})
    sweep_to_the_end(house, connection)
    house.control.revoke_user(account)
    for _ in range(6):
        house.turn(minutes=5)
        house.sweep()
    assert house.connection(connection.id).revoked_reason == "access_revoked"


@pytest.mark.parametrize("fault", [{"status": 500}, {"kind": "html"}, {"kind": "garbage", "body": "[]"}])
def test_an_account_that_says_nothing_of_itself_fails_the_run_and_nothing_else_is_asked(
    house: House, fault: dict[str, Any]
) -> None:
    connection, account = connect(house)
    before = asked(house, connection, "/documents")
    house.control.inject("api", **fault, count=None, match={"path": "/api/me"})
    run = read_to_the_end(house, connection)
    assert (run.status, run.reason) == ("failed", "provider_unavailable")
    assert asked(house, connection, "/documents") == before
    assert house.types()[-1] == "sync.failed"
    assert stored(house, connection.id) == set(listed(house, account))


def test_a_full_reading_that_failed_is_made_up_for_at_the_next_turn(house: House) -> None:
    connection, _ = connect(house)
    house.control.inject("api", status=500, count=None, match={"path": "/api/documents"})
    assert sweep_to_the_end(house, connection).status == "failed"
    house.control.clear_faults()
    house.turn(minutes=20)
    house.sweep()
    with house.store.reading() as tx:
        run = tx.runs.newest(connection.id)
    assert run is not None
    assert (run.status, run.depth) == ("completed", "full")


def gigabytes(of: int) -> Iterator[bytes]:
    """A page that never gets to its end."""
    yield b'{"current_page":1,"last_page":1,"total":1,"data":["'
    for _ in range(of):
        yield b"x" * (1 << 20)


def test_two_hundred_megabytes_are_not_read_to_their_end(house: House) -> None:
    connection, account = connect(house)
    sent: list[int] = []

    def endless(_: int) -> Answer:
        def count() -> Iterator[bytes]:
            for chunk in gigabytes(200):
                sent.append(len(chunk))
                yield chunk

        return 200, count()

    with answering(house, int(connection.account_id), {"/documents": endless}) as api:
        tracemalloc.start()
        run = read_to_the_end(house, connection)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert run.description is not None
    assert (run.status, "too large" in run.description) == ("failed", True)
    assert sum("/documents" in target for target in api.asked) == 5
    assert sum(sent) < 5 * 64 << 20
    assert peak < 160 << 20
    assert stored(house, connection.id) == set(listed(house, account))


def endings(house: House, connection: Connection, pages: Any) -> tuple[str, int]:
    """How a run ends over such pages of documents, and how many of them it asked for."""
    with answering(house, int(connection.account_id), {"/documents": pages}) as api:
        run = read_to_the_end(house, connection)
    return run.status, sum("/documents" in target for target in api.asked)


million = 1_000_000


def test_a_million_pages_with_nothing_on_them_are_left_after_two(house: House) -> None:
    connection, account = connect(house)

    def pages(page: int) -> Answer:
        return as_json(list_page([{"id": 1}] if page == 1 else [], page=page, last=million, total=10 * million))

    assert endings(house, connection, pages) == ("completed", 6)
    assert stored(house, connection.id) >= set(listed(house, account))


def test_a_million_pages_that_are_all_the_same_are_left_after_two(house: House) -> None:
    connection, account = connect(house)
    same = [{"id": number} for number in range(1, 11)]

    def pages(page: int) -> Answer:
        return as_json(list_page(same, page=page, last=million, total=10 * million))

    assert endings(house, connection, pages) == ("completed", 6)
    assert stored(house, connection.id) >= set(listed(house, account))


def test_a_list_without_an_end_is_read_as_far_as_the_profile_allows(house: House) -> None:
    connection, account = connect(house)
    client = house.flows.sync.providers["breezedoc"]
    object.__setattr__(client.provider, "longest_list", 20)

    def pages(page: int) -> Answer:
        return as_json(list_page([{"id": 10**6 + page}], page=page, last=million, total=million))

    assert endings(house, connection, pages) == ("completed", 20)
    assert stored(house, connection.id) >= set(listed(house, account))
    with house.store.reading() as tx:
        assert tx.records.resource_problems(connection.id)["document"] == "list_too_long"


def test_a_link_to_the_next_page_is_never_followed(house: House) -> None:
    connection, _ = connect(house)

    def pages(page: int) -> Answer:
        links = {"next_page_url": "http://127.0.0.1:1/evil", "links": {"next": "/documents?page=1"}}
        return as_json(list_page([{"id": page}], page=page, last=3, total=3, **links))

    with answering(house, int(connection.account_id), {"/documents": pages}) as api:
        read_to_the_end(house, connection)
    asked_pages = [target.partition("&page=")[2] for target in api.asked if target.startswith("/documents")]
    assert asked_pages == ["1", "2", "3", "1", "2", "3"], "once, and once more for the proof that the others are gone"


def test_records_that_were_gone_and_are_back_are_told_as_created_with_their_history(house: House) -> None:
    connection, _ = connect(house, documents=0)
    shown: dict[str, list[dict[str, Any]]] = {"documents": [{"id": 1, "title": "a"}, {"id": 2, "title": "b"}]}
    with answering(house, int(connection.account_id), {"/documents": lambda _: as_json(list_page(shown["documents"]))}):
        read_to_the_end(house, connection)
        shown["documents"] = [{"id": 1, "title": "a"}]
        read_to_the_end(house, connection)
        shown["documents"] = [{"id": 1, "title": "a"}, {"id": 2, "title": "b"}]
        house.turn(minutes=5)
        read_to_the_end(house, connection)
    assert changes_of(house) == [("created", "1"), ("created", "2"), ("deleted", "2"), ("created", "2")]
    with house.store.reading() as tx:
        rows = tx.sql.exec_driver_sql(
            "SELECT first_seen_at, changed_at, deleted_at FROM record WHERE external_id = '2'"
        )
        [(first_seen_at, changed_at, deleted_at)] = rows.all()
    assert first_seen_at < changed_at
    assert deleted_at is None


forms: dict[str, tuple[str, str, bool]] = {
    "another order of keys": ('{"id":1,"a":1,"b":2}', '{"b":2,"a":1,"id":1}', False),
    "one as a fraction": ('{"id":1,"a":1}', '{"id":1,"a":1.0}', False),
    "one with an exponent": ('{"id":1,"a":1}', '{"id":1,"a":1e0}', False),
    "an id as a text": ('{"id":1,"a":1}', '{"id":"1","a":1}', True),
    "a number as a text": ('{"id":1,"a":1}', '{"id":1,"a":"1"}', True),
    "a number beyond 64 bit": ('{"id":1,"a":123456789012345678901}', '{"id":1,"a":123456789012345678901}', False),
    "another one": ('{"id":1,"a":123456789012345678901}', '{"id":1,"a":123456789012345678902}', True),
    "a number without bounds": ('{"id":1,"a":1e999}', '{"id":1,"a":1e999}', False),
    "null and absent": ('{"id":1,"a":null}', '{"id":1}', True),
}


@pytest.mark.parametrize("case", forms)
def test_what_is_read_again_is_changed_only_where_it_means_something_else(house: House, case: str) -> None:
    first, second, changed = forms[case]
    connection, _ = connect(house, documents=0)
    shown = [first]
    with answering(
        house,
        int(connection.account_id),
        {"/documents": lambda _: as_json(list_page([json.loads(shown[0])]))},
    ):
        read_to_the_end(house, connection)
        shown[0] = second
        read_to_the_end(house, connection)
    assert len(changes_of(house, kind="updated")) == changed


odd = "a\x00b\ud800c"
"""JSON can say it. PostgreSQL holds no NUL, and no driver sends half a surrogate pair."""


def test_texts_that_no_database_holds_are_cleaned_before_they_reach_one(house: House) -> None:
    tokens = {"token_type": "Bearer", "access_token": "first", "refresh_token": "second", "scope": f"read {odd}"}
    house.control.inject("token", kind="garbage", status=200, body=json.dumps(tokens))
    with answering(house, 1, {"/me": lambda _: as_json({"id": odd, "email": f"{odd}@example.com"})}):
        connection = house.connect("ida", 1)
    assert (connection.account_id, connection.email, connection.scope) == ("ab?c", "ab?c@example.com", "read ab?c")
    [told] = house.told("connection.authorized")
    assert (told["account_id"], told["email"], told["scope"]) == ("ab?c", "ab?c@example.com", "read ab?c")


def test_a_scope_that_no_database_holds_costs_no_rotation(house: House) -> None:
    connection = house.refreshable()
    tokens = {"token_type": "Bearer", "access_token": "first", "refresh_token": "second", "scope": odd}
    house.control.inject("token", kind="garbage", status=200, body=json.dumps(tokens))
    house.flows.refresh(connection.id)
    after = house.connection(connection.id)
    assert (after.generation, after.scope) == (3, "ab?c")


@pytest.mark.parametrize("identity", ["\x00", "1" * 256, None])
def test_an_account_without_a_usable_id_connects_nobody_and_harms_nobody(house: House, identity: object) -> None:
    with answering(house, 1, {"/me": lambda _: as_json({"id": identity, "email": "ida@example.com"})}):
        authorization_id = house.consent("ida", 1)
        house.flows.exchange(authorization_id)
    with house.store.reading() as tx:
        found = tx.authorizations.get(authorization_id)
    assert found is not None
    assert (found.step, found.connection_id) == ("granted", None)
    house.turn(seconds=61)
    house.sweep()
    assert "connection.authorized" in house.types(), "the account names itself again, and nothing was lost"


@pytest.mark.parametrize("token", ["a\nb", "\ud800"])
@pytest.mark.parametrize("name", ["access_token", "refresh_token"])
def test_a_token_that_can_not_be_used_leaves_the_outcome_open(house: House, name: str, token: str) -> None:
    connection = house.refreshable()
    tokens = {"token_type": "Bearer", "access_token": "first", "refresh_token": "second", name: token}
    house.control.inject("token", kind="garbage", status=200, body=json.dumps(tokens))
    house.flows.refresh(connection.id)
    assert house.connection(connection.id).generation == 2
    assert house.decisions(connection.id)[-1].verb == "refresh.unknown"
