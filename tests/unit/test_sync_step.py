"""What the answer to a step of a sync does: tables, no database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.api_response import Failed, Forbidden, Missing, Page, Throttled, Unauthorized
from models.crypto.secrets import Sealed
from models.journal import ListProblem, Problem, Verb
from models.messaging import messages
from models.messaging.events import (
    AccessLimited,
    AccessRestored,
    ReauthorizationRequired,
    RecordChanged,
    SyncCompleted,
    SyncFailed,
)
from models.oauth.claims import Claims, released
from models.oauth.connection import Connection, Status
from models.oauth.credential import Credential
from models.provider import Provider, Resource
from models.rate_limit import Wait
from models.sync.absence import ListSeen, PageSeen
from models.sync.decision import (
    Deletion,
    ListRead,
    ListSkipped,
    NothingLeft,
    PageNote,
    PageRead,
    StepDecision,
    StepRows,
    StoredPage,
    StoredResource,
)
from models.sync.page import parse_page
from models.sync.records import Known
from models.sync.step import StepAnswer, decide_step, hand_on, may_end_list
from models.sync.sync_run import RunStatus, SyncRun, fail, finish, on_its_way, plan_lists, run_lease

now = datetime(2026, 11, 24, 12, tzinfo=UTC)
second, minute = timedelta(seconds=1), timedelta(minutes=1)
until = now + run_lease
account = Resource(name="account", path="/me")
documents = Resource(name="document", path="/documents", paging="laravel", peek="newest=1")
teams = Resource(name="t", path="/teams/{team}/x", paging="laravel", per_team=True)
provider = Provider(
    name="p",
    authorize_url="https://p/a",
    token_url="https://p/t",
    api_url="https://p/api",
    resources=(account, documents, teams),
    peek_above=1,
)
plan = plan_lists(provider, (4, 2))
connection = Connection(
    "c1", "ada", "p", "client", "1", Status.active, created_at=now, generation=3, sync_due_at=now, team_ids=(4, 2)
)
limited = replace(connection, access_limited=True, problem="plan_required")
run = SyncRun("r1", "c1", RunStatus.running, now - minute, place=1, lease_owner="w", lease_until=now + second)
credential = Credential("c1", Sealed("v1.k.a"), Sealed("v1.k.r"))
rows = StepRows(
    connection=connection,
    credential=credential,
    run=run,
    plan=plan,
    generation=3,
    provider=provider,
    interval=15 * minute,
)


def at(**changes: Any) -> StepRows:
    """The rows with another run."""
    return replace(rows, run=replace(run, **changes))


def decided(subject: Connection = connection, **changes: Any) -> StepDecision:
    """The decision; one that goes on claims the sync for as long as it leases the run."""
    claims = Claims(refresh=None, sync=until) if changes.get("goes_on") else released
    return StepDecision(subject=subject, at=now, **{"claims": claims} | changes)


def parked(after: timedelta, by: StepRows = rows, **changes: Any) -> StepDecision:
    """The decision that only waits."""
    waiting = replace(
        by.run, lease_owner=None, lease_until=None, resume_at=now + after, failures=changes.pop("failures", 0)
    )
    due = replace(changes.pop("connection", connection), sync_due_at=now + after)
    return decided(connection=due, run=waiting, **changes)


def skipped(key: str, problem: ListProblem, **changes: Any) -> StepDecision:
    """The decision that leaves the list at place 1 and continues with the next resource."""
    following = replace(run, lease_until=until, place=2, **changes)
    zeros = dict.fromkeys(("created", "updated", "deleted", "unchanged"), 0)
    return decided(
        connection=connection,
        run=replace(following, counts={"document": zeros}),
        lists=(ListSkipped(key, problem),),
        goes_on=True,
    )


refused = replace(connection, problem=Problem.access_refused)
given_up = {"reason": "provider_unavailable", "description": "document: HTTP 500"}
steps: dict[str, tuple[StepRows, StepAnswer, StepDecision]] = {
    "429": (rows, Throttled(20 * second), parked(20 * second)),
    "no room": (rows, Wait(3.5), parked(3.5 * second)),
    "404": (rows, Missing(), skipped("document", ListProblem.not_found)),
    "403 for a list": (rows, Forbidden(), skipped("document", ListProblem.plan_required)),
    "5xx": (rows, Failed("HTTP 500"), parked(5 * second, failures=1)),
    "5xx with Retry-After": (rows, Failed("HTTP 500", minute), parked(minute, failures=1)),
    "5xx for the fifth time": (
        at(failures=4),
        Failed("HTTP 500"),
        skipped("document", ListProblem.unreadable, **given_up),
    ),
    "5xx for the second time after another list": (
        at(failures=1, reason="provider_unavailable", description="account: HTTP 502"),
        Failed("HTTP 500"),
        skipped("document", ListProblem.unreadable, reason="provider_unavailable", description="account: HTTP 502"),
    ),
    "401 for an older token": (replace(rows, generation=2), Unauthorized(), parked(timedelta())),
    "401 for the current token": (
        rows,
        Unauthorized(),
        replace(
            parked(80 * second, connection=replace(connection, refresh_due_at=now)),
            credential=replace(credential, refused_generation=3, refused_at=now),
            claims=Claims(refresh=now + on_its_way, sync=None),
            notes=(),
            send=(messages.carry_out_refresh("c1"),),
        ),
    ),
    "401 again while the refresh is under way": (
        replace(rows, credential=replace(credential, refused_generation=3)),
        Unauthorized(),
        parked(320 * second, connection=refused),
    ),
    "401 for a token that was refreshed a moment ago": (
        replace(rows, credential=replace(credential, refused_generation=2, refused_at=now - minute)),
        Unauthorized(),
        parked(5 * second, connection=refused, failures=1),
    ),
    "401 without a credential": (replace(rows, credential=None), Unauthorized(), decided()),
}


@pytest.mark.parametrize("case", steps)
def test_an_answer_that_is_no_page_decides_where_the_run_continues(case: str) -> None:
    given, answer, expected = steps[case]
    assert replace(decide_step(given, answer, now), notes=()) == expected


def test_a_401_that_forces_a_refresh_is_noted() -> None:
    [note] = decide_step(rows, Unauthorized(), now).notes
    assert (note.verb, note.evidence) == (Verb.access_refused, {"generation": 3, "status": 401})


def test_a_401_without_a_refresh_token_ends_the_grant() -> None:
    personal = replace(credential, refresh_token=None)
    decision = decide_step(replace(rows, credential=personal), Unauthorized(), now)
    assert (decision.ended, decision.goes_on) == ("access_revoked", False)
    assert decision.connection is not None
    assert decision.connection.status is Status.revoked
    assert decision.facts == (ReauthorizationRequired("access_revoked", "api", "/auth/p"),)
    assert [note.verb for note in decision.notes] == [Verb.revoked_access_revoked]


one_created = {"document": {"created": 1, "updated": 0, "deleted": 0, "unchanged": 7}}
at_account, at_end = at(place=0), at(place=4)
plan_required = "the account's plan has no API access (403)"
all_forbidden = dict.fromkeys(("document", "t:4", "t:2"), "plan_required")
ends: dict[str, tuple[StepRows, StepAnswer, SyncRun, tuple[object, ...], str | None]] = {
    "403 for the account": (
        at_account,
        Forbidden(),
        fail(at_account.run, "plan_required", plan_required, now),
        (AccessLimited(), SyncFailed("r1", "plan_required", plan_required)),
        "plan_required",
    ),
    "the account fails for the fifth time": (
        at(place=0, failures=4),
        Failed("HTTP 500"),
        fail(at(place=0, failures=5).run, "provider_unavailable", "HTTP 500", now),
        (SyncFailed("r1", "provider_unavailable", "HTTP 500"),),
        "sync_failing",
    ),
    "nothing left": (at_end, NothingLeft(), finish(at_end.run, now), (SyncCompleted("r1", {}, 60_000),), None),
    "nothing left of a run that no one asked for, after others": (
        replace(at_end, connection=replace(connection, last_synced_at=now - minute)),
        NothingLeft(),
        finish(at_end.run, now),
        (),
        None,
    ),
    "nothing left of a run that someone asked for, after others": (
        replace(at(place=4, requested=True), connection=replace(connection, last_synced_at=now - minute)),
        NothingLeft(),
        finish(at(place=4, requested=True).run, now),
        (SyncCompleted("r1", {}, 60_000),),
        None,
    ),
    "nothing left of a run that found a change, after others": (
        replace(at(place=4, counts=one_created), connection=replace(connection, last_synced_at=now - minute)),
        NothingLeft(),
        finish(at(place=4, counts=one_created).run, now),
        (SyncCompleted("r1", one_created, 60_000),),
        None,
    ),
    "nothing left, one list forbidden": (
        replace(at_end, problems={"document": "plan_required", "t:4": "not_found"}),
        NothingLeft(),
        finish(at_end.run, now),
        (SyncCompleted("r1", {}, 60_000),),
        None,
    ),
    "nothing left, every list forbidden": (
        replace(at_end, problems=all_forbidden),
        NothingLeft(),
        fail(at_end.run, "plan_required", plan_required, now),
        (AccessLimited(), SyncFailed("r1", "plan_required", plan_required)),
        "plan_required",
    ),
    "nothing left, the account limited before": (
        replace(at_end, problems=all_forbidden, connection=limited),
        NothingLeft(),
        fail(at_end.run, "plan_required", plan_required, now),
        (SyncFailed("r1", "plan_required", plan_required),),
        "plan_required",
    ),
    "nothing left, one list skipped": (
        at(place=4, reason="provider_unavailable", description="document: HTTP 500"),
        NothingLeft(),
        fail(at_end.run, "provider_unavailable", "document: HTTP 500", now),
        (SyncFailed("r1", "provider_unavailable", "document: HTTP 500"),),
        "sync_failing",
    ),
}


@pytest.mark.parametrize("case", ends)
def test_a_run_is_completed_or_failed(case: str) -> None:
    given, answer, ended, facts, problem = ends[case]
    decision = decide_step(given, answer, now)
    assert (decision.run, decision.facts, decision.goes_on) == (ended, facts, False)
    assert decision.connection is not None
    assert decision.connection.problem == problem
    assert decision.connection.sync_due_at is not None
    assert decision.connection.sync_due_at > now
    assert (decision.connection.last_synced_at == now) is (ended.status is RunStatus.completed)
    assert [note.verb for note in decision.notes] == ([Verb.sync_failed] if ended.status is RunStatus.failed else [])


def page(*ids: str, number: int = 1, last: int = 1, total: int | None = None) -> PageRead:
    """A page of documents that are nothing but their ids."""
    elements = tuple({"id": each} for each in ids)
    return parse_page(Page(elements, number, last, len(ids) if total is None else total), documents, provider)


def account_page(identity: str = "1") -> PageRead:
    """The account, as the API answers for it."""
    return parse_page(Page(({"id": identity},), 1, 1, 1), account, provider)


def known(*ids: str, source: str = "document", deleted: bool = False) -> dict[str, Known]:
    return {item.external_id: Known(item.content_hash, item.data, deleted, source) for item in page(*ids).items}


def stored(*ids: str, pages: tuple[PageSeen, ...] = (), before: tuple[PageSeen, ...] = ()) -> StoredResource:
    """The documents that are stored, and what this run saw of their list."""
    return StoredResource((ListSeen("document", pages, before),), {"document": set(ids)})


whole = PageSeen(1, 2, 1, ("a", "b"))
positions: dict[str, tuple[StepRows, PageRead, tuple[int, int, int]]] = {
    "a page in the middle": (rows, page("a", "b", last=3, total=6), (1, 2, 0)),
    "the last page": (replace(rows, resource=stored("a", "b")), page("a", "b"), (2, 1, 0)),
    "the last page, one is missing": (replace(rows, resource=stored("a", "b", "c")), page("a", "b"), (1, 1, 1)),
    "the same in the next pass": (
        replace(at(pass_number=1), resource=stored("a", "b", "c", before=(whole,))),
        page("a", "b"),
        (2, 1, 0),
    ),
    "a quiet look": (
        replace(at(page=0), page=StoredPage(known("a"), living=9), resource=stored()),
        page("a", last=9, total=9),
        (2, 1, 0),
    ),
    "a look that shows a change": (
        replace(at(page=0), page=StoredPage(living=9), resource=stored()),
        page("a", last=9, total=9),
        (1, 1, 0),
    ),
    "a look that shows another total": (
        replace(at(page=0), page=StoredPage(known("a"), living=8), resource=stored()),
        page("a", last=9, total=9),
        (1, 1, 0),
    ),
    "the account, before a long list": (
        replace(at(place=0, depth="usual"), resource=StoredResource(next_living=2)),
        account_page(),
        (1, 0, 0),
    ),
    "the account, before a short list": (
        replace(at(place=0, depth="usual"), resource=StoredResource(next_living=1)),
        account_page(),
        (1, 1, 0),
    ),
    "the account, in a full sync": (
        replace(at(place=0), resource=StoredResource(next_living=2)),
        account_page(),
        (1, 1, 0),
    ),
    "one team's list": (at(place=2), page("a"), (3, 1, 0)),
}


@pytest.mark.parametrize("case", positions)
def test_a_page_decides_which_list_and_page_come_next(case: str) -> None:
    given, answer, expected = positions[case]
    decision = decide_step(given, answer, now)
    assert decision.goes_on
    assert decision.run is not None
    assert (decision.run.place, decision.run.page, decision.run.pass_number) == expected
    assert decision.run.lease_until == until
    assert (decision.connection, decision.claims.sync) == (connection, until)


def test_a_page_writes_what_is_new_changed_or_moved_and_nothing_else() -> None:
    before = known("same", "moved") | {"edited": Known("old", {"id": "edited", "title": "x"}, False, "document")}
    before |= {"moved": replace(before["moved"], source="elsewhere")} | known("back", deleted=True)
    given = replace(rows, page=StoredPage(before))
    answer = page("same", "moved", "edited", "back", "new", last=9, total=99)
    decision = decide_step(given, answer, now)
    changes = decision.changes
    assert changes is not None
    assert [item.external_id for item in changes.new] == ["new"]
    assert [item.external_id for item in changes.changed] == ["edited", "back"]
    assert changes.moved == ("moved",)
    assert decision.facts == (
        RecordChanged("updated", "document", "edited", ("title",), False),
        RecordChanged("created", "document", "back", ("id",), False),
        RecordChanged("created", "document", "new", ("id",), False),
    )
    assert decision.page == PageNote("document", 0, answer.seen)
    assert decision.run is not None
    assert decision.run.counts == {"document": {"created": 2, "updated": 1, "deleted": 0, "unchanged": 2}}


def test_the_first_read_of_a_list_marks_its_events() -> None:
    given = replace(rows, page=StoredPage(read_before=False))
    assert decide_step(given, page("a", last=2), now).facts == (
        RecordChanged("created", "document", "a", ("id",), True),
    )


proofs: dict[str, tuple[StoredResource, tuple[str, ...], tuple[ListRead, ...], list[Verb]]] = {
    "one of three is gone": (stored("a", "b", "c", before=(whole,)), ("c",), (ListRead("document"),), []),
    "all others are gone": (
        stored("a", "b", *map(str, range(20)), before=(whole,)),
        (),
        (ListRead("document", ListProblem.many_gone, 20),),
        [Verb.deletion_held_back],
    ),
    "all others are gone for the second run": (
        replace(stored("a", "b", *map(str, range(20)), before=(whole,)), held_back={"document": 20}),
        tuple(sorted(map(str, range(20)))),
        (ListRead("document"),),
        [],
    ),
    "more are gone than in the run before": (
        replace(stored("a", "b", *map(str, range(20)), before=(whole,)), held_back={"document": 19}),
        (),
        (ListRead("document", ListProblem.many_gone, 20),),
        [Verb.deletion_held_back],
    ),
}


@pytest.mark.parametrize("case", proofs)
def test_the_end_of_a_resource_decides_what_is_deleted(case: str) -> None:
    resource, gone, lists, verbs = proofs[case]
    given = replace(at(pass_number=1), resource=resource, page=StoredPage(known("a", "b")))
    decision = decide_step(given, page("a", "b"), now)
    assert decision.deletion == (Deletion("document", gone) if gone else None)
    assert decision.lists == lists
    assert [note.verb for note in decision.notes] == verbs
    deleted = [each for each in decision.facts if isinstance(each, RecordChanged) and each.kind == "deleted"]
    assert [each.external_id for each in deleted] == list(gone)
    assert decision.run is not None
    assert decision.run.counts["document"]["deleted"] == len(gone)


def test_a_list_that_never_stays_the_same_deletes_nothing() -> None:
    given = replace(at(pass_number=2), resource=stored("a", "b", "c"))
    decision = decide_step(given, page("a", total=2), now)
    assert (decision.deletion, decision.lists) == (None, (ListRead("document", ListProblem.list_shifting),))
    assert [note.verb for note in decision.notes] == [Verb.reading_unproven]


def test_a_record_that_moved_from_another_team_is_not_missing_there() -> None:
    seen = PageSeen(1, 1, 1, ("a",))
    resource = StoredResource((ListSeen("t:4", (seen,)), ListSeen("t:2", ())), {"t:4": {"a", "b"}, "t:2": {"c"}})
    given = replace(at(place=3), page=StoredPage(known("b", source="t:4")), resource=resource)
    decision = decide_step(given, page("b", "c"), now)
    assert (decision.deletion, decision.lists) == (None, (ListRead("t:4"), ListRead("t:2")))


@pytest.mark.parametrize(
    ("answer", "problem", "deleted"),
    [
        (Failed("HTTP 500"), ListProblem.unreadable, None),
        (PageRead((), PageSeen(1, 1, 1, (), 1)), ListProblem.nameless_records, None),
        (Missing(), ListProblem.not_found, Deletion("t", ("b",))),
        (Forbidden(), ListProblem.plan_required, Deletion("t", ("b",))),
    ],
    ids=["fails", "has no ids", "is not found", "is forbidden"],
)
def test_a_record_may_have_moved_to_a_team_s_list_that_fails_and_not_to_one_that_is_not_ours(
    answer: StepAnswer, problem: ListProblem, deleted: Deletion | None
) -> None:
    seen = PageSeen(1, 1, 1, ("a",))
    resource = StoredResource((ListSeen("t:4", (seen,), (seen,)), ListSeen("t:2", ())), {"t:4": {"a", "b"}})
    given = replace(at(place=3, pass_number=1, failures=4), resource=resource)
    decision = decide_step(given, answer, now)
    why = None if deleted else ListProblem.other_list_unread
    assert (decision.deletion, decision.lists) == (deleted, (ListSkipped("t:2", problem), ListRead("t:4", why)))
    before = replace(resource, lists=resource.lists[::-1], problems={"t:2": problem.value})
    last = replace(given, plan=(*plan[:2], plan[3], plan[2]), resource=before, page=StoredPage(known("a")))
    assert decide_step(last, page("a"), now).deletion == deleted, "it was skipped before"


def test_the_first_list_that_answers_ends_a_limit_and_the_account_alone_does_not() -> None:
    of_list = decide_step(replace(rows, connection=limited), page("a", last=2), now)
    assert of_list.facts[0] == AccessRestored()
    assert of_list.connection == connection
    of_account = decide_step(replace(at(place=0), connection=limited), account_page(), now)
    assert of_account.connection == limited


def test_a_page_shows_that_the_api_accepts_the_token() -> None:
    doubted = replace(credential, refused_generation=2, refused_at=now - minute)
    assert decide_step(replace(rows, credential=doubted), page("a", last=2), now).credential == credential
    assert decide_step(rows, page("a", last=2), now).credential is None


def test_a_run_that_is_handed_on_is_left_to_its_message() -> None:
    decision = hand_on(rows, now)
    assert decision == replace(parked(timedelta()), claims=Claims(refresh=None, sync=now + on_its_way))
    assert parked(timedelta()).claims == released


may_end: dict[str, tuple[StepRows, StepAnswer, bool]] = {
    "a page in the middle": (rows, page("a", last=2), False),
    "the last page": (rows, page("a"), True),
    "a look": (at(page=0), page("a", last=2), True),
    "404": (rows, Missing(), True),
    "403": (rows, Forbidden(), True),
    "5xx": (rows, Failed("HTTP 500"), False),
    "5xx for the fifth time": (at(failures=4), Failed("HTTP 500"), True),
    "429": (rows, Throttled(second), False),
    "nothing left": (at_end, NothingLeft(), False),
}


@pytest.mark.parametrize("case", may_end)
def test_only_an_answer_that_may_end_its_list_needs_the_evidence(case: str) -> None:
    given, answer, expected = may_end[case]
    assert may_end_list(given, answer) is expected
