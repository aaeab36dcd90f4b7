"""Whose lists a run reads, and what becomes of the records of parents that are deleted."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.api_response import Failed, Page
from models.journal import ListProblem, Verb
from models.messaging.events import RecordChanged
from models.oauth.connection import Connection, Status
from models.provider import Provider, Resource
from models.sync.absence import ListSeen, PageSeen
from models.sync.decision import (
    Deletion,
    ListNote,
    ListRead,
    ListSkipped,
    NothingLeft,
    PageRead,
    ParentsNeeded,
    StepDecision,
    StepRows,
    StoredPage,
    StoredParents,
    StoredResource,
)
from models.sync.page import parse_page
from models.sync.parents import choose_parents, read_key
from models.sync.records import Known
from models.sync.snapshot import Draft, ListState, Snapshot, is_quiet, resource_of
from models.sync.step import decide_step
from models.sync.sync_run import Parents, RunStatus, SyncRun, end, finish, plan_lists, run_lease

now = datetime(2026, 11, 28, 12, tzinfo=UTC)
account = Resource(name="account", path="/me")
shelves = Resource(name="shelf", path="/shelves", paging="link", id="node.id")
books = Resource(name="book", path="/shelves/{parent}/books", paging="link", parent="shelf", most_parents=3)
labels = Resource(name="label", path="/labels", paging="laravel", peek="newest=1")
provider = Provider(
    name="p",
    authorize_url="https://p/a",
    token_url="https://p/t",
    api_url="https://p/api",
    resources=(account, shelves, books, labels),
    peek_above=1,
)
connection = Connection("c1", "ada", "p", "client", "1", Status.active, created_at=now, generation=3, sync_due_at=now)
run = SyncRun("r1", "c1", RunStatus.running, now, place=2, lease_owner="w", depth="usual")
two = {"book": Parents((("b", "b"), ("a", "x/y z")))}


def keys(parents: Mapping[str, Parents], **depth: Any) -> list[str]:
    return [each.key for each in plan_lists(provider, (), parents=parents, **depth)]


def test_the_lists_of_parents_come_where_their_resource_waited_for_them() -> None:
    assert keys({}) == ["account", "shelf", "book", "label"]
    assert keys(two) == ["account", "shelf", "book:b", "book:a", "label"]
    assert keys({"book": Parents(())}) == ["account", "shelf", "label"]
    assert keys({"cover": Parents((("b", "b"),))}) == keys({}), "which the profile has no longer"
    assert keys(two, depth="pulse") == ["account"]
    waits, *_ = (each for each in plan_lists(provider, ()) if each.resource.name == "book")
    assert waits.needs_parents
    read = [each for each in plan_lists(provider, (), parents=two) if each.resource.name == "book"]
    assert [(each.path, each.parent, each.needs_parents, each.label) for each in read] == [
        ("/shelves/b/books", "b", False, "book"),
        ("/shelves/x/y%20z/books", "a", False, "book"),
    ]


def test_a_parent_that_is_called_like_the_account_is_not_the_account() -> None:
    below = replace(provider, resources=(account, shelves, replace(books, path="/{parent}")))
    plan = plan_lists(below, (), parents={"book": Parents((("me", "me"),))})
    rows = rows_at(replace(run, place=2), plan=plan, provider=below)
    assert [(each.path, rows.is_account(each)) for each in plan] == [("/me", True), ("/shelves", False), ("/me", False)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("c1", "c1"),
        (17, "17"),
        (-1, "-1"),
        ("octo/hello", "octo/hello"),
        ("a@b.c#d?e %2F", "a@b.c#d?e %2F"),
        ("...", "..."),
        ("x" * 500, "x" * 500),
        ("x" * 501, None),
        ("", None),
        ("/", None),
        ("a//b", None),
        ("a/", None),
        ("/a", None),
        (".", None),
        ("a/../b", None),
        ("a/./b", None),
        ("%2e%2e", None),
        ("a/..;x", None),
        (True, None),
        (1.5, None),
        (None, None),
        ({"id": 1}, None),
        (["a"], None),
    ],
    ids=repr,
)
def test_what_names_a_parent_in_a_path(value: object, expected: str | None) -> None:
    assert read_key({"meta": {"slug": value}}, "meta.slug") == expected


def test_the_parents_key_is_their_id_unless_the_profile_names_another() -> None:
    assert provider.parent_key_of(books) == "node.id"
    assert provider.parent_key_of(replace(books, parent_key="slug")) == "slug"


def stored(*ids: str, **changes: Any) -> StoredParents:
    return StoredParents(ids=ids, records={each: {"node": {"id": each}} for each in ids}, **changes)


many = ListSkipped("book", ListProblem.too_many_parents)
unusable = ListSkipped("book:b", ListProblem.unusable_parent)
nameless = replace(stored("a", "b"), records={"a": {"node": {"id": 7}}, "b": {"id": "b"}})
choices: dict[str, tuple[StoredParents, Parents, tuple[ListNote, ...]]] = {
    "none": (stored(), Parents(), ()),
    "some": (stored("a", "b"), Parents((("a", "a"), ("b", "b"))), ()),
    "too many": (stored(*"abcd"), Parents((("a", "a"), ("b", "b"), ("c", "c"))), (many,)),
    "still too many": (
        stored(*"abcd", problems={"book": "too_many_parents"}),
        Parents((("a", "a"), ("b", "b"), ("c", "c"))),
        (),
    ),
    "no longer too many": (
        stored("a", problems={"book": "too_many_parents"}),
        Parents((("a", "a"),)),
        (ListRead("book"),),
    ),
    "one cannot be named": (nameless, Parents((("a", "7"),)), (unusable,)),
    "one still cannot be named": (
        replace(nameless, problems={"book:b": "unusable_parent"}),
        Parents((("a", "7"),)),
        (),
    ),
    "one beyond the bound had a problem": (
        stored(*"abcd", problems={"book": "too_many_parents", "book:d": "many_gone", "book:a": "many_gone", "x": "y"}),
        Parents((("a", "a"), ("b", "b"), ("c", "c"))),
        (ListSkipped("book:d", None),),
    ),
    "one beyond the bound could not be named": (
        stored(*"abcd", problems={"book": "too_many_parents", "book:d": "unusable_parent"}),
        Parents((("a", "a"), ("b", "b"), ("c", "c"))),
        (ListSkipped("book:d", None),),
    ),
    "one that can be named again has the key of another": (
        replace(
            stored("a", "b", problems={"book:b": "unusable_parent"}),
            records={key: {"node": {"id": 7}} for key in "ab"},
        ),
        Parents((("a", "7"),)),
        (ListSkipped("book:b", None),),
    ),
    "two of one key": (
        replace(stored("a", "b"), records={key: {"node": {"id": 7}} for key in "ab"}),
        Parents((("a", "7"),)),
        (),
    ),
    "lists of others": (
        stored(*"abcd", lists={"book:a", "book:d", "book:z", "book:f", "book"}),
        Parents((("a", "a"), ("b", "b"), ("c", "c")), ("book", "book:f", "book:z")),
        (many,),
    ),
}


def rows_at(at: SyncRun, **changes: Any) -> StepRows:
    given: dict[str, Any] = {
        "connection": connection,
        "credential": None,
        "run": at,
        "plan": plan_lists(provider, (), parents=at.parents),
        "generation": 3,
        "provider": provider,
        "interval": timedelta(minutes=15),
    }
    return StepRows(**given | changes)


def test_parents_of_one_key_are_read_each_if_ids_are_unique_below_them_only() -> None:
    same = StoredParents(ids=("a", "b"), records={key: {"node": {"id": 7}} for key in "ab"})
    below = replace(books, id_scope="parent")
    assert choose_parents(below, "node.id", same).read == (("a", "7"), ("b", "7"))


@pytest.mark.parametrize("case", choices)
def test_the_parents_of_a_run_are_fixed_where_it_is(case: str) -> None:
    given, expected, notes = choices[case]
    assert choose_parents(books, "node.id", given) == expected
    before = replace(run, page=3, cursor="c", pass_number=1, failures=1)
    decision = decide_step(rows_at(before, parents=given), ParentsNeeded(), now)
    assert decision.run is not None
    begun = replace(run, parents={"book": expected}, lease_until=now + run_lease, counts=decision.run.counts)
    assert decision.run == begun
    assert (decision.lists, decision.goes_on) == (notes, True)


def test_without_parents_the_run_is_at_the_next_list_and_what_deleted_ones_had_is_deleted() -> None:
    orphans = StoredResource(next_living=2, orphans={"book:z": {"1", "2"}, "book:y": set()})
    decision = decide_step(rows_at(run, resource=orphans), ParentsNeeded(), now)
    assert decision.run is not None
    assert (decision.run.place, decision.run.page) == (2, 0), "a look at the newest labels"
    assert decision.run.counts["book"]["deleted"] == 2
    assert (decision.deletion, decision.forgotten) == (Deletion("book", ("1", "2")), ("book:z", "book:y"))
    assert decision.facts == tuple(RecordChanged("deleted", "book", each, (), False) for each in "12")


def at_end(
    scope: Any, orphans: Mapping[str, set[str]], pass_number: int, last: PageSeen, moved: str = "", **stored: Any
) -> StepDecision:
    """Return what the last page of the second list decides; the first list had one book."""
    first = PageSeen(1, None, 1, ("1",))
    own = replace(provider, resources=(account, shelves, replace(books, id_scope=scope), labels), vanishing_records=0)
    before = () if pass_number == 0 else (first,), () if pass_number == 0 else (replace(last, last_page=1),)
    resource = StoredResource(
        lists=(ListSeen("book:b", (first,), before[0]), ListSeen("book:a", (), before[1])),
        living={"book:b": {"1"}, "book:a": set(last.ids)},
        orphans=orphans,
        **stored,
    )
    at = replace(run, place=3, pass_number=pass_number, parents=two)
    known = {each: Known("h", {}, False, "book:z") for each in moved}
    rows = rows_at(
        at, plan=plan_lists(own, (), parents=two), provider=own, resource=resource, page=StoredPage(known=known)
    )
    return decide_step(rows, PageRead((), last), now)


whole, shifting = PageSeen(1, None, 1, ("5",)), PageSeen(1, None, 1, ("5", "5"))
gone = {"book:z": {"2", "3"}}
ends: dict[str, tuple[StepDecision, tuple[str, ...], tuple[str, ...], int]] = {
    "no parent is deleted": (at_end("account", {}, 0, whole), (), (), 4),
    "what may be elsewhere is looked for once more": (at_end("account", gone, 0, whole), (), (), 2),
    "and is deleted": (at_end("account", gone, 1, whole), ("2", "3"), ("book:z",), 4),
    "what came to another list is not": (
        at_end("account", gone, 1, replace(whole, ids=("5", "2")), "2"),
        ("3",),
        ("book:z",),
        4,
    ),
    "it stays if the others shift": (at_end("account", gone, 2, shifting), (), (), 4),
    "below its parent it is nowhere else": (at_end("parent", gone, 0, whole), ("2", "3"), ("book:z",), 4),
    "even if the others shift": (at_end("parent", gone, 2, shifting), ("2", "3"), ("book:z",), 4),
    "a list without records is forgotten": (at_end("account", {"book:z": set()}, 0, whole), (), ("book:z",), 4),
}
"""What is decided, the records that it deletes, the lists that it forgets, and where the run is then."""


@pytest.mark.parametrize("case", ends)
def test_the_records_of_a_deleted_parent_are_deleted_unless_another_list_has_them(case: str) -> None:
    decision, deleted, forgotten, place = ends[case]
    assert decision.deletion == (Deletion("book", deleted) if deleted else None)
    told = [fact.external_id for fact in decision.facts if isinstance(fact, RecordChanged)]
    assert (tuple(told), decision.forgotten) == (deleted, forgotten)
    assert Verb.deletion_held_back not in [note.verb for note in decision.notes], "that is for parents"
    assert decision.run is not None
    assert decision.run.place == place
    assert is_quiet(decision) is not bool(decision.deletion or forgotten or decision.notes)


elsewhere: dict[str, tuple[dict[str, str], bool]] = {
    "every list was read": ({}, False),
    "a list has another problem": ({"book:a": "many_gone", "shelf": "many_gone", "label": "unreadable"}, False),
    "a list that was read had failed before": ({"book:b": "unreadable"}, False),
    "the parents are forbidden": ({"shelf": "plan_required"}, False),
    "there are too many parents": ({"book": "too_many_parents"}, True),
    "a parent cannot be named": ({"book:c": "unusable_parent"}, True),
    "the parents keep failing": ({"shelf": "unreadable"}, True),
    "parents have no id": ({"shelf": "nameless_records"}, True),
    "the parents shift": ({"shelf": "list_shifting"}, True),
    "their list is too long": ({"shelf": "list_too_long"}, True),
}


@pytest.mark.parametrize("case", elsewhere)
def test_a_record_may_have_moved_to_a_list_that_no_parent_is_read_for(case: str) -> None:
    problems, unproven = elsewhere[case]
    decision = at_end("account", gone, 1, whole, problems=problems)
    assert decision.deletion == (None if unproven else Deletion("book", ("2", "3")))
    why = ListProblem.other_list_unread if unproven else None
    assert decision.lists == (ListRead("book:b", why), ListRead("book:a", why))
    assert at_end("parent", gone, 0, whole, problems=problems).deletion == Deletion("book", ("2", "3"))


@pytest.mark.parametrize(("scope", "deleted"), [("account", None), ("parent", Deletion("book", ("2",)))])
def test_without_a_parent_that_can_be_named_its_list_may_have_what_a_deleted_one_had(
    scope: Any, deleted: Deletion | None
) -> None:
    own = replace(provider, resources=(account, shelves, replace(books, id_scope=scope), labels))
    given = StoredParents(ids=("b",), records={"b": {"id": "b"}})
    orphans = StoredResource(orphans={"book:z": {"2"}})
    rows = rows_at(run, plan=plan_lists(own, ()), provider=own, parents=given, resource=orphans)
    decision = decide_step(rows, ParentsNeeded(), now)
    assert (decision.deletion, decision.forgotten) == (deleted, ("book:z",) if deleted else ())


def test_what_a_job_keeps_knows_the_lists_of_deleted_parents() -> None:
    snapshot = Snapshot(
        {"book": {"1": Known("h", {}, False, "book:b"), "2": Known("h", {}, False, "book:z")}},
        {"book:b": ListState(True), "book:z": ListState(True)},
    )
    at = replace(run, place=3, parents={"book": replace(two["book"], gone=("book:z", "book:y"))})
    resource = resource_of(rows_at(at), snapshot, Draft())
    assert resource.living == {"book:b": {"1"}, "book:a": set()}
    assert resource.orphans == {"book:z": {"2"}, "book:y": set()}
    assert resource_of(rows_at(replace(at, place=2)), snapshot, Draft()) == StoredResource(), "another list follows"
    after = snapshot.after(at_end("parent", {"book:z": {"2"}}, 0, whole))
    assert (after.records["book"]["2"].deleted, "book:z" in after.lists, "book:b" in after.lists) == (True, False, True)


def test_an_id_that_is_unique_below_its_parent_comes_behind_the_parents() -> None:
    page = Page(({"id": 1}, {"id": "é/2"}, {"id": ""}), 1, 1, None)
    assert parse_page(page, books, provider, "a").seen.ids == ("1", "é/2")
    below = parse_page(page, replace(books, id_scope="parent"), provider, "a").seen
    assert (below.ids, below.nameless) == (("a/1", "a/é/2"), 1)
    [long] = parse_page(Page(({"id": 1},), 1, 1, None), replace(books, id_scope="parent"), provider, "p" * 255).seen.ids
    assert (len(long), long[:190]) == (255, "p" * 190)


def test_a_parents_id_is_in_no_event_or_log_of_a_list_that_fails() -> None:
    secret = {"book": Parents((("ada@example.com", "ada@example.com"),))}
    rows = rows_at(replace(run, parents=secret, failures=1))
    noted = decide_step(rows, Failed("there is no list", is_lasting=False), now)
    assert [note.evidence["list"] for note in noted.notes] == ["book"]
    skipped = decide_step(rows, Failed("there is no list", is_lasting=True), now)
    assert skipped.run is not None
    assert skipped.run.description == "book (/shelves/{parent}/books): there is no list"
    assert skipped.lists == (ListSkipped("book:ada@example.com", ListProblem.unreadable),)
    ended = decide_step(rows_at(replace(skipped.run, place=9)), NothingLeft(), now)
    assert [fact for fact in ended.facts if "example.com" in str(fact)] == []


def test_a_run_that_ends_keeps_no_parents() -> None:
    fixed = replace(run, parents=two)
    assert (finish(fixed, now).parents, end(fixed, "revoked").parents) == ({}, {})
