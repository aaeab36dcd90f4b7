"""A sync writes nothing of another account, and a swap of all records at once is not believed."""

from dataclasses import replace

from models.api_response import Failed, Page
from models.journal import ListProblem, Problem, Verb
from models.messaging.events import SyncFailed
from models.sync.absence import PageSeen
from models.sync.decision import ListSkipped, PageRead
from models.sync.page import parse_page
from models.sync.step import decide_step, may_end_list
from models.sync.sync_run import plan_lists
from tests.unit.test_sync_step import account_page, at, documents, known, now, page, provider, rows, stored


def test_the_account_is_read_first_wherever_the_profile_names_it() -> None:
    moved = replace(provider, resources=(*provider.resources[1:], provider.resources[0]))
    assert next(each.key for each in plan_lists(moved, (4,))) == "account"


def test_another_account_fails_the_run_and_writes_nothing() -> None:
    decision = decide_step(at(place=0), account_page("2"), now)
    assert decision.run is not None
    assert decision.run.reason == "account_mismatch"
    assert (decision.changes, decision.page, decision.lists, decision.goes_on) == (None, None, (), False)
    assert [type(each) for each in decision.facts] == [SyncFailed]


def test_an_answer_without_an_account_is_asked_for_again() -> None:
    nameless = PageRead((), PageSeen(1, 1, 1, (), 1))
    decision = decide_step(at(place=0), nameless, now)
    assert decision.run is not None
    assert (decision.run.failures, decision.changes, decision.run.reason) == (1, None, None)


def test_twelve_swapped_for_twelve_others_are_held_back() -> None:
    old, new = [f"old{i}" for i in range(12)], [f"new{i}" for i in range(12)]
    seen = PageSeen(1, 12, 1, tuple(new))
    counts = {"document": {"created": 12, "updated": 0, "deleted": 0, "unchanged": 0}}
    given = replace(at(pass_number=1, counts=counts), resource=stored(*old, *new, before=(seen,)))
    answer = page(*new)
    decision = decide_step(replace(given, page=replace(given.page, known=known(*new))), answer, now)
    assert decision.deletion is None
    assert [note.verb for note in decision.notes] == [Verb.deletion_held_back]
    assert decision.notes[0].evidence["of"] == 12


def test_a_list_whose_every_record_has_no_id_fails_the_run() -> None:
    answer = parse_page(Page(({"title": "a"}, {"title": "b"}), 1, 1, 2), documents, provider)
    given = replace(rows, resource=stored())
    assert may_end_list(given, answer)
    decision = decide_step(given, answer, now)
    assert decision.run is not None
    assert (decision.run.reason, decision.run.description) == ("unreadable", "document: no record has an id")
    assert ListSkipped("document", ListProblem.nameless_records) in decision.lists


def test_a_list_that_keeps_failing_is_noted_once_until_it_is_read() -> None:
    noted = []
    for failures in range(4):
        decision = decide_step(at(failures=failures), Failed("the body is no page"), now)
        noted.append([note.verb for note in decision.notes])
    assert noted == [[], [Verb.list_failing], [], []]
    decision = decide_step(at(failures=1), Failed("the body is no page"), now)
    assert decision.notes[0].evidence == {"list": "document", "why": "the body is no page"}
    assert decision.connection is not None
    assert decision.connection.problem == Problem.list_failing
    read = decide_step(replace(rows, connection=decision.connection), page("a", last=2), now)
    assert [note.verb for note in read.notes] == [Verb.list_recovered]
    assert read.connection is not None
    assert read.connection.problem is None
