"""What a job keeps in its memory: which decisions it need not write, and what is stored once it writes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from models.journal import ListProblem, Note, Verb
from models.messaging.events import AccessRestored, RecordChanged
from models.oauth.connection import Connection, Status
from models.oauth.credential import Credential
from models.provider import Provider, Resource
from models.sync.absence import PageSeen
from models.sync.decision import (
    Deletion,
    ListRead,
    ListSkipped,
    PageNote,
    PageRead,
    StepDecision,
    StepRows,
)
from models.sync.records import Item, Known, RecordChanges
from models.sync.snapshot import (
    Draft,
    ListState,
    Snapshot,
    Waiting,
    add_new,
    is_quiet,
    keep,
    largest_waiting,
    longest_wait,
    most_waiting,
    resource_of,
    rows_of_page,
    saved,
    unsaved_after,
)
from models.sync.sync_run import RunStatus, SyncRun, plan_lists

now = datetime(2026, 11, 24, 12, tzinfo=UTC)
account = Resource(name="account", path="/me")
documents = Resource(name="document", path="/documents", paging="laravel")
teams = Resource(name="t", path="/teams/{team}/x", paging="laravel", per_team=True)
provider = Provider(
    name="p",
    authorize_url="https://p/a",
    token_url="https://p/t",
    api_url="https://p/api",
    resources=(account, documents, teams),
)
plan = plan_lists(provider, (4, 2))
connection = Connection("c1", "ada", "p", "client", "1", Status.active, created_at=now, generation=3)
at_documents, at_team_4, at_team_2 = (SyncRun("r1", "c1", RunStatus.running, now, place=place) for place in (1, 2, 3))
snapshot = Snapshot(
    {
        "document": {
            "1": Known("h1", {}, False, "document"),
            "2": Known("h2", {}, False, "document"),
            "3": Known("h3", {}, True, "document"),
        },
        "t": {"7": Known("h7", {}, False, "t:4"), "8": Known("h8", {}, False, "t:2")},
    },
    {"document": ListState(True), "t:4": ListState(True, "many_gone", 5), "t:2": ListState(False, "not_found")},
)
first, second = PageSeen(1, 4, 2, ("1", "2")), PageSeen(2, 4, 2, ("3", "4"))
of_another_pass = PageNote("document", 1, second)
item = Item("1", {"id": 1}, "new hash")
new = RecordChanges("document", "document", new=(Item("4", {"id": 4}, "h4"),))
going = StepDecision(
    subject=connection,
    at=now,
    connection=replace(connection, sync_due_at=now + timedelta(seconds=45)),
    run=replace(at_documents, page=2),
    page=PageNote("document", 0, first),
    changes=RecordChanges("document", "document"),
    goes_on=True,
)


def rows_at(run: SyncRun) -> StepRows:
    return StepRows(
        connection=connection,
        credential=Credential("c1", None, None),
        run=run,
        plan=plan,
        generation=3,
        provider=provider,
        interval=timedelta(minutes=15),
    )


def created(external_id: str) -> RecordChanged:
    return RecordChanged("created", "document", external_id, ("id",), True)


decisions: dict[str, tuple[StepDecision, bool]] = {
    "a page without a change": (going, True),
    "the end of a list without a change": (replace(going, lists=(ListRead("document"),)), True),
    "the job is done with the run": (replace(going, goes_on=False), False),
    "a run that begins": (replace(going, begins=True), False),
    "a new record": (replace(going, changes=new, facts=(created("4"),)), True),
    "a new record and another event": (replace(going, changes=new, facts=(AccessRestored(), created("4"))), False),
    "a changed record": (replace(going, changes=RecordChanges("document", "document", changed=(item,))), False),
    "a record that moved to this list": (replace(going, changes=RecordChanges("t", "t:4", moved=("8",))), False),
    "deleted records": (replace(going, deletion=Deletion("document", ("1",))), False),
    "an event": (replace(going, facts=(AccessRestored(),)), False),
    "a note": (replace(going, notes=(Note(Verb.list_recovered, {}),)), False),
    "a credential": (replace(going, credential=Credential("c1", None, None)), False),
    "a refusal that was wrong": (replace(going, recovered=True), False),
    "another problem of the connection": (replace(going, connection=replace(connection, problem="throttled")), False),
}


@pytest.mark.parametrize("case", decisions)
def test_only_a_decision_that_moves_the_run_on_and_adds_records_is_kept_in_memory(case: str) -> None:
    decision, expected = decisions[case]
    assert is_quiet(decision) == expected


def test_pages_are_kept_for_as_long_as_the_run_is_at_their_resource() -> None:
    draft = keep(Draft(), snapshot, going, rows_at(at_documents))
    assert (draft.pages, draft.unsaved) == ((PageNote("document", 0, first),),) * 2
    assert draft.pages_of("document", 0) == (first,)
    assert draft.pages_of("document", 1) == ()
    ends = replace(going, run=at_team_4, page=PageNote("document", 0, second), lists=(ListRead("document"),))
    assert keep(draft, snapshot, ends, rows_at(replace(at_documents, page=2))) == Draft()


def test_the_lists_of_all_teams_are_one_resource_and_a_skipped_one_proves_nothing() -> None:
    of_team_4 = replace(going, run=at_team_2, page=PageNote("t:4", 0, first), lists=())
    draft = keep(Draft(), snapshot, of_team_4, rows_at(at_team_4))
    assert draft.pages == (PageNote("t:4", 0, first),)
    skipped = replace(going, run=at_team_2, page=None, lists=(ListSkipped("t:4", ListProblem.not_found),))
    assert keep(draft, snapshot, skipped, rows_at(at_team_4)).pages == ()
    assert saved(draft, skipped, rows_at(at_team_4)) == Draft()


def test_what_was_written_is_still_evidence_and_no_longer_unsaved() -> None:
    draft = keep(Draft(log=()), snapshot, going, rows_at(at_documents))
    written = replace(going, page=PageNote("document", 0, second), run=replace(at_documents, page=3))
    assert saved(draft, written, rows_at(replace(at_documents, page=2))) == Draft(
        pages=(PageNote("document", 0, first), PageNote("document", 0, second))
    )
    ended = replace(written, run=replace(at_documents, status=RunStatus.completed))
    assert saved(draft, ended, rows_at(at_documents)) == Draft()


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        (ListRead("document"), False),
        (ListRead("document", ListProblem.many_gone, 2), True),
        (ListRead("t:4"), True),
        (ListRead("t:4", ListProblem.many_gone, 5), False),
        (ListRead("t:2", ListProblem.not_found), True),
        (ListSkipped("t:2", ListProblem.not_found), False),
        (ListSkipped("document", ListProblem.not_found), True),
        (ListRead("never seen"), True),
    ],
)
def test_a_list_whose_state_is_stored_already_is_not_written(note: ListRead | ListSkipped, expected: bool) -> None:
    assert snapshot.is_news(note) == expected


def test_a_list_that_is_read_after_it_was_skipped_is_news_although_it_is_stored_as_read() -> None:
    skipped = ListSkipped("document", ListProblem.nameless_records)
    after = snapshot.after(replace(going, lists=(skipped,)))
    assert after.is_news(ListRead("document"))
    assert not after.is_news(skipped)


def test_the_problems_of_lists_are_those_after_what_was_read() -> None:
    notes = (ListRead("t:4"), ListSkipped("document", ListProblem.plan_required))
    after = snapshot.after(replace(going, lists=notes))
    assert after.problems() == {"t:2": "not_found", "document": "plan_required"}


def test_a_page_is_compared_with_what_is_stored_and_with_earlier_pages() -> None:
    draft = Draft(pages=(PageNote("document", 0, first), PageNote("document", 1, second)))
    rows = rows_of_page(rows_at(replace(at_documents, page=2)), snapshot, draft, PageRead((), second))
    assert rows.page.known == {"3": Known("h3", {}, True, "document")}
    assert (rows.page.earlier, rows.page.living, rows.page.read_before) == ((first,), 0, True)
    look = rows_of_page(rows_at(replace(at_documents, page=0)), snapshot, draft, PageRead((), second))
    assert (look.page.earlier, look.page.living) == ((), 2)


def test_a_resource_ends_by_what_all_of_its_lists_have_shown_in_two_passes() -> None:
    draft = Draft(pages=(PageNote("t:4", 0, first), PageNote("t:4", 1, second), PageNote("t:2", 1, first)))
    resource = resource_of(rows_at(replace(at_team_2, pass_number=1)), snapshot, draft)
    assert [(each.key, each.pages, each.before) for each in resource.lists] == [
        ("t:4", (second,), (first,)),
        ("t:2", (first,), ()),
    ]
    assert resource.living == {"t:4": {"7"}, "t:2": {"8"}}
    assert resource.held_back == {"t:4": 5, "t:2": 0}


def test_the_snapshot_after_a_commit_has_what_was_committed() -> None:
    changes = RecordChanges("t", "t:4", new=(Item("9", {}, "h9"),), changed=(Item("7", {}, "x"),), moved=("8",))
    notes = (ListRead("t:4"), ListRead("t:2"))
    decision = replace(going, changes=changes, deletion=Deletion("document", ("1",)), lists=notes)
    after = snapshot.after(decision)
    assert after.records["t"] == {
        "7": Known("x", {}, False, "t:4"),
        "8": Known("h8", {}, False, "t:4"),
        "9": Known("h9", {}, False, "t:4"),
    }
    assert after.records["document"]["1"].deleted
    assert (after.state("t:4"), after.state("t:2")) == (ListState(True), ListState(True))
    assert not snapshot.records["document"]["1"].deleted, "the one before is as it was"


def test_new_records_wait_in_the_order_of_their_pages_and_since_the_first_was_asked_for() -> None:
    adding = replace(going, changes=new, facts=(created("4"),))
    of_team = RecordChanges("t", "t:4", new=(Item("9", {"id": 9}, "h9"),))
    draft = add_new(Draft(log=()), adding, now, 100)
    assert add_new(draft, going, now + longest_wait, 100) == draft, "a page without a new record waits for nothing"
    more = add_new(draft, replace(adding, changes=of_team, facts=(created("9"),)), now + longest_wait, 50)
    assert more.waiting == Waiting(now, (new, of_team), (created("4"), created("9")), 150)
    assert keep(more, snapshot, going, rows_at(at_documents)).waiting == more.waiting
    assert saved(more, going, rows_at(at_documents)).waiting == Waiting()


waits: dict[str, tuple[Waiting, timedelta, bool]] = {
    "nothing, however long": (Waiting(), timedelta(days=1), True),
    "a page that was just read": (Waiting(now, (new,), (created("4"),), 100), timedelta(), True),
    "almost as long as it may": (Waiting(now, (new,)), longest_wait - timedelta(milliseconds=1), True),
    "too long": (Waiting(now, (new,)), longest_wait, False),
    "as many records as may": (Waiting(now, (new,), (created("4"),) * most_waiting), timedelta(), True),
    "too many records": (Waiting(now, (new,), (created("4"),) * (most_waiting + 1)), timedelta(), False),
    "as much as may": (Waiting(now, (new,), size=largest_waiting), timedelta(), True),
    "too much": (Waiting(now, (new,), size=largest_waiting + 1), timedelta(), False),
}


@pytest.mark.parametrize("case", waits)
def test_new_records_wait_a_moment_and_only_so_many_of_them(case: str) -> None:
    waiting, length, expected = waits[case]
    assert waiting.may_wait(now + length) is expected


@pytest.mark.parametrize(
    ("draft", "decision", "expected"),
    [
        (Draft(), going, (PageNote("document", 0, first),)),
        (
            Draft(unsaved=(PageNote("document", 1, second),)),
            replace(going, page=None),
            (PageNote("document", 1, second),),
        ),
        (Draft(unsaved=(PageNote("document", 0, first),)), replace(going, run=at_team_4), ()),
        (Draft(), replace(going, run=None), ()),
    ],
    ids=["its own", "those before", "the run is at another resource", "a decision that leaves the run"],
)
def test_pages_are_stored_that_the_run_still_needs(
    draft: Draft, decision: StepDecision, expected: tuple[PageNote, ...]
) -> None:
    assert unsaved_after(draft, decision, plan, at_documents) == expected
