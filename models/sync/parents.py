"""Lists that are read once for each record of another resource, their parents: the events of each calendar.

A run's position is a place in its plan, and parents come and go. So a run fixes whose lists it reads when it gets to
the resource, which until then has one place in the plan. Whatever job continues the run finds the same lists there.

The lists of all parents are one resource: a record that moves from one to another is not deleted. If a parent's list is
not read, it keeps what it had until the parent's own record is deleted. Then it counts as empty, so its records are
deleted unless another list has them. If ids are unique below a parent only, no other list can. Otherwise a record that
is missing may be in a list that was not read, and is not deleted either.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from models.journal import ListProblem
from models.paging.json_path import look_up
from models.paging.link import leads_up
from models.provider import Resource
from models.sync.decision import ListNote, ListRead, ListSkipped, StepDecision, StepRows, StoredParents, go_on
from models.sync.list_end import end_without_lists
from models.sync.sync_run import Parents, name_list, put_parents

longest_key = 500


def fix_parents(rows: StepRows, now: datetime) -> StepDecision:
    """Fix whose lists the run reads; it stays at its place, where they are now. If there are none, it is at the next
    list, and the records of deleted parents are deleted at once, unless a parent has a list that cannot be read."""
    resource, run = rows.sync_list.resource, rows.run
    path = rows.provider.parent_key_of(resource)
    fixed = choose_parents(resource, path, rows.parents)
    # Race: the profile gave it no parent when another job read its one list.
    begun = replace(run, page=1, cursor=None, pass_number=0, failures=0)
    run = replace(begun, parents={**run.parents, resource.name: fixed})
    nameless = _find_nameless(resource, path, rows.parents)
    notes = (*_note_problems(resource, nameless, rows.parents), *_note_unread(resource, fixed, nameless, rows.parents))
    decision = StepDecision(subject=rows.connection, at=now, connection=rows.connection, lists=notes)
    if fixed.read:
        return go_on(decision, run)
    return end_without_lists(replace(rows, plan=put_parents(rows.plan, run.parents)), decision, run, resource)


def choose_parents(resource: Resource, path: str, stored: StoredParents) -> Parents:
    """Return the first parents that can be named in a path, and the lists whose parent is deleted.

    Parents with one key have one list. It is the first one's, unless its records are others below each of them.
    """
    read: dict[str, str] = {}
    for each in stored.ids[: resource.most_parents]:
        key = read_key(stored.records.get(each), path)
        if key is not None and (resource.id_scope == "parent" or key not in read.values()):
            read[each] = key
    living = {name_list(resource, each) for each in stored.ids}
    return Parents(tuple(read.items()), tuple(sorted(key for key in stored.lists if key not in living)))


def read_key(record: object, path: str) -> str | None:
    """Return what names a parent in a path, as it is before it is encoded: a text or a whole number. None if there is
    none, or if it would lead to another path."""
    value = look_up(record, path)
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    key = str(value)
    return None if len(key) > longest_key or "" in key.split("/") or leads_up(key) else key


def _find_nameless(resource: Resource, path: str, stored: StoredParents) -> list[str]:
    """Return the lists of parents that would be read if they could be named."""
    first = stored.ids[: resource.most_parents]
    return [name_list(resource, each) for each in first if read_key(stored.records.get(each), path) is None]


def _note_problems(resource: Resource, nameless: Sequence[str], stored: StoredParents) -> Iterator[ListNote]:
    """Yield what is new: parents that cannot be named, and whether there are too many of them."""
    for key in nameless:
        if stored.problems.get(key) != ListProblem.unusable_parent:
            yield ListSkipped(key, ListProblem.unusable_parent)
    before, many = stored.problems.get(resource.name), len(stored.ids) > resource.most_parents
    if many and before != ListProblem.too_many_parents:
        yield ListSkipped(resource.name, ListProblem.too_many_parents)
    if not many and before is not None:
        yield ListRead(resource.name)


def _note_unread(
    resource: Resource, fixed: Parents, nameless: Sequence[str], stored: StoredParents
) -> Iterator[ListNote]:
    """Yield the lists that are not read any more and have the last problem that they had when they were."""
    named = {name_list(resource, each) for each, _ in fixed.read}.union(nameless)
    for key in sorted(stored.problems):
        if key.startswith(name_list(resource, "")) and key not in named:
            yield ListSkipped(key, None)
