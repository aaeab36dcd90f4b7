"""What one answer changes in a run: records and events of its page, the run's place, what a whole reading proves."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import assert_never

import structlog

from models.api_response import Page
from models.messaging.events import RecordChanged
from models.oauth.connection import Connection
from models.provider import Provider
from models.store import Transaction
from models.sync.absence import (
    ListSeen,
    PageSeen,
    ReadAgain,
    Unproven,
    Whole,
    ends_list,
    is_confirmed,
    is_quiet,
    is_vanishing,
    judge,
)
from models.sync.records import compare, read_item
from models.sync.sync_run import SyncList, SyncRun, add_counts, count_seen, places_of, plan_lists


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a run, inside the transaction that commits it; each method returns the run as it goes on."""

    tx: Transaction
    provider: Provider
    connection: Connection
    now: datetime

    def plan(self, run: SyncRun) -> tuple[SyncList, ...]:
        return plan_lists(self.provider, self.connection.team_ids, run.depth)

    def keep(self, run: SyncRun, sync_list: SyncList, page: Page) -> SyncRun:
        """Writes what the page changed and tells of it; then the next page, list or resource."""
        connection_id, resource = self.connection.id, sync_list.resource
        strict = self.provider.null_is_absent
        read = [read_item(raw, resource.id, resource.volatile, strict) for raw in page.elements]
        items = [item for item in read if item is not None]
        known = self.tx.records.known(connection_id, resource.name, [item.external_id for item in items])
        changes = compare(known, items, strict)
        initial = not self.tx.records.was_read_before(connection_id, sync_list.key)
        self.tx.records.write(connection_id, resource.name, sync_list.key, changes, known, self.now)
        facts = [RecordChanged(c.kind, resource.name, c.item.external_id, c.fields, initial) for c in changes]
        self.tx.outbox.append(self.connection.about, facts, self.now)
        tally = {kind: sum(c.kind == kind for c in changes) for kind in ("created", "updated")}
        tally["unchanged"] = len(items) - len(changes)
        run = replace(run, counts=add_counts(run.counts, resource.name, tally))
        ids = tuple(item.external_id for item in items)
        seen = PageSeen(page.number, page.total, page.last, ids, len(read) - len(items))
        if run.page == 0:
            living = self.tx.records.count_living(connection_id, resource.name, sync_list.key)
            if not is_quiet(seen, len(changes), living):
                return replace(run, page=1)
            self.tx.records.note_read(connection_id, sync_list.key, self.now)
            return self._end_list(run)
        self.tx.runs.note_page(run.id, sync_list.key, run.reading, seen)
        before = self.tx.runs.page_of(run.id, sync_list.key, run.reading, page.number - 1)
        if ends_list(seen, before, self.provider.longest_list):
            return self._end_list(run)
        return replace(run, page=run.page + 1)

    def leave(self, run: SyncRun, sync_list: SyncList, problem: str) -> SyncRun:
        """This list can't be read: nothing of it counts as gone, and the run goes on with the next."""
        self.tx.records.note_problem(self.connection.id, sync_list.key, problem)
        self.tx.runs.drop_pages(run.id, sync_list.key)
        return self._end_list(run)

    def _end_list(self, run: SyncRun) -> SyncRun:
        """The next list, or after the resource's last one what they prove together."""
        places = places_of(self.plan(run), run.place)
        return self._open(run, run.place + 1) if run.place + 1 in places else self._end_resource(run, places)

    def _open(self, run: SyncRun, place: int) -> SyncRun:
        planned = self.plan(run)
        peeks = False
        if place < len(planned) and run.depth == "usual" and run.reading == 0 and planned[place].resource.peek:
            name, key = planned[place].resource.name, planned[place].key
            peeks = self.tx.records.count_living(self.connection.id, name, key) > self.provider.peek_above
        return replace(run, place=place, page=0 if peeks else 1)

    def _end_resource(self, run: SyncRun, places: range) -> SyncRun:
        planned = [self.plan(run)[place] for place in places]
        name, runs = planned[0].resource.name, self.tx.runs
        lists = [
            ListSeen(r.key, runs.pages_of(run.id, r.key, run.reading), runs.pages_of(run.id, r.key, run.reading - 1))
            for r in planned
        ]
        read = [each for each in lists if each.pages]
        living = {each.key: self.tx.records.living_ids(self.connection.id, name, each.key) for each in read}
        verdict = judge(lists, living, run.reading, self.provider.longest_list)
        if isinstance(verdict, ReadAgain):
            return self._open(replace(run, reading=run.reading + 1), places.start)
        if read:
            seen = {external_id for each in read for page in each.pages for external_id in page.ids}
            run = replace(run, counts=count_seen(run.counts, name, len(seen)))
        match verdict:
            case Whole(gone):
                run = self._mark_gone(run, name, living, frozenset(gone))
            case Unproven(why):
                for each in read:
                    self.tx.records.note_read(self.connection.id, each.key, self.now, why)
                self._note("reading.unproven", why, resource=name)
            case _:
                assert_never(verdict)
        return self._open(replace(run, reading=0), places.stop)

    def _mark_gone(self, run: SyncRun, name: str, living: Mapping[str, set[str]], gone: frozenset[str]) -> SyncRun:
        """What is proven gone is told as deleted; where that is very much at once, only by the second run in a row."""
        records, connection_id = self.tx.records, self.connection.id
        lost = {key: len(ids & gone) for key, ids in living.items()}
        of = sum(map(len, living.values()))
        if self._is_held_back(lost, of):
            for key, count in lost.items():
                records.note_read(connection_id, key, self.now, "many_gone" if count else None, count or None)
            self._note("deletion.held_back", "many_gone", resource=name, gone=len(gone), of=of)
            return run
        if gone:
            ids = sorted(gone)
            records.mark_deleted(connection_id, name, ids, self.now)
            facts = [RecordChanged("deleted", name, external_id, (), False) for external_id in ids]
            self.tx.outbox.append(self.connection.about, facts, self.now)
        for key in living:
            records.note_read(connection_id, key, self.now)
        return replace(run, counts=add_counts(run.counts, name, {"deleted": len(gone)}))

    def _is_held_back(self, lost: Mapping[str, int], living: int) -> bool:
        """Whether so much is gone, counted by list, that it takes a second run, and this is not yet the one."""
        count, share = self.provider.vanishing_records, self.provider.vanishing_share
        if not is_vanishing(sum(lost.values()), living, share, count):
            return False
        held = {key: self.tx.records.held_back(self.connection.id, key) or 0 for key in lost}
        return not is_confirmed(lost, held)

    def _note(self, verb: str, problem: str, **evidence: object) -> None:
        self.tx.journal.decide(self.connection.id, self.now, verb, problem=problem, **evidence)
        structlog.get_logger("reading").warning(verb, problem=problem, **evidence)
