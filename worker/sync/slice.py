"""A slice: the part of a run that one job reads."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from models.crypto.secrets import Secret
from models.oauth.connection import Connection
from models.oauth.credential import Credential
from models.store.sync_runs import SyncRows
from models.sync.decision import PageRead, StepDecision, StepRows
from models.sync.snapshot import Draft, Snapshot, add_new, is_quiet, keep, most_records, saved
from models.sync.sync_run import SyncList, SyncRun, put_parents
from worker.provider.rate_limit import Allowance


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """What one job reads with.

    run: the run that it leased, as its last step left it.
    plan: the lists of the run, in order; those of parents come into their place once they are fixed.
    connection, credential: as this job saw them last.
    generation: of the access token that it reads with.
    access_token: that token.
    allowance: the requests that it reserved; it is settled when the job lets the run go.
    at: when the last step decided.
    snapshot: what is stored of the lists; None if that is too much to be kept in memory.
    draft: what was read and is not written.
    one_by_one: whether pages with new records do not wait for the next ones.
    written: the slice before the first of the pages that wait; None if none does.
    has_pages: whether pages of the run are stored.
    is_stored: whether the run itself is; until then its lease is in the connection's row.
    """

    run: SyncRun
    plan: tuple[SyncList, ...]
    connection: Connection
    credential: Credential
    generation: int
    access_token: Secret
    allowance: Allowance
    at: datetime
    snapshot: Snapshot | None = None
    draft: Draft = field(default_factory=Draft)
    one_by_one: bool = False
    written: "Slice | None" = None
    has_pages: bool = False
    is_stored: bool = True

    def after(self, decision: StepDecision, rows: StepRows) -> "Slice":
        """Return the slice after a decision was written, with the rows that it was made on."""
        run = decision.run or self.run
        draft = saved(self.draft, decision, rows)
        snapshot = None if self.snapshot is None else self.snapshot.after(decision)
        if snapshot is not None and snapshot.count() > most_records:
            # All that the run has seen is stored now, and is loaded page by page from here on.
            snapshot = None
        return replace(
            self,
            run=run,
            plan=put_parents(self.plan, run.parents),
            connection=decision.connection or rows.connection,
            credential=decision.credential or rows.credential or self.credential,
            at=decision.at,
            snapshot=snapshot,
            draft=draft if snapshot is not None else Draft(),
            written=None,
            has_pages=self.has_pages or bool(draft.pages),
            is_stored=self.is_stored or decision.run is not None,
        )

    def keep(self, decision: StepDecision, rows: StepRows, answer: PageRead) -> "Slice | None":
        """Return the slice with a page in memory that the decision is about; None if it has to be written.

        A page after which the run is at another list is written with what waits.
        """
        if self.snapshot is None or decision.run is None or not is_quiet(decision):
            return None
        draft = keep(self.draft, self.snapshot, decision, rows)
        draft = add_new(draft, decision, self.at, answer.size)
        waits = draft.waiting.since is not None
        ends_list = decision.run.place != self.run.place
        if (waits and (self.one_by_one or ends_list)) or not draft.waiting.may_wait(decision.at):
            return None
        return replace(
            self,
            run=decision.run,
            at=decision.at,
            snapshot=self.snapshot.after(decision),
            draft=draft,
            written=(self.written or self) if waits else None,
        )

    def go_back(self) -> "Slice | None":
        """Return the slice as it was before the first page that waits, to read on from there page by page; None if no
        page waits. The requests that were made since are still to be logged."""
        if self.written is None:
            return None
        return replace(self.written, draft=replace(self.written.draft, log=self.draft.log), at=self.at, one_by_one=True)

    def has(self, rows: SyncRows) -> bool:
        """Whether this job still has the lease of its run, by the rows as they are now."""
        owner = self.run.lease_owner
        if self.is_stored:
            return rows.run is not None and rows.run.id == self.run.id and rows.run.lease_owner == owner
        return rows.run is None and rows.lease is not None and rows.lease.is_held_by(owner)
