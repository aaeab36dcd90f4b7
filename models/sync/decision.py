"""What a sync knows when it decides, and what it decided: plain values between the database and the rules."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from models.clock import is_due
from models.journal import ListProblem, Note
from models.messaging import messages
from models.messaging.events import Fact, RevokedReason
from models.oauth.claims import Claims, released
from models.oauth.connection import Connection
from models.oauth.credential import Credential
from models.oauth.hold import Hold, Refusal
from models.provider import Provider
from models.sync.absence import ListSeen, PageSeen
from models.sync.records import Item, Known, RecordChanges
from models.sync.since import Marks
from models.sync.sync_run import SyncList, SyncRun, run_lease


@dataclass(frozen=True, slots=True)
class PageRead:
    """The answer to a request for a page: its records, and what it says about its list.

    account_id: the id of the account that it names, if the page is the account.
    cursor: what the request for the next page needs besides its number (see `PageAsked`).
    size: how many bytes its body had.
    """

    items: tuple[Item, ...]
    seen: PageSeen
    account_id: str | None = None
    cursor: str | None = None
    size: int = 0


@dataclass(frozen=True, slots=True)
class NothingYet:
    """The answer takes its time: what waits in the job's memory does not wait with it."""


@dataclass(frozen=True, slots=True)
class NothingLeft:
    """Every list of the run was read or skipped, so no request was made."""


@dataclass(frozen=True, slots=True)
class ParentsNeeded:
    """The run is at a resource whose parents it has not fixed, so no request was made."""


@dataclass(frozen=True, slots=True)
class StoredPage:
    """What is stored about a page that was just read.

    known: the stored records among its ids.
    earlier: pages of its list in this pass that it is compared with (see `choose_compared`).
    living: how many records of its list are stored and not deleted; only loaded for a look at the newest records.
    read_before: whether its list was ever read to its end.
    """

    known: Mapping[str, Known] = field(default_factory=dict)
    earlier: tuple[PageSeen, ...] = ()
    living: int = 0
    read_before: bool = True


@dataclass(frozen=True, slots=True)
class StoredResource:
    """What is stored about a resource when one of its lists may end, before this answer counts.

    lists: the pages of each of its lists; empty unless the last one may end.
    living: the ids of the records of each list that are not deleted.
    held_back: how many records of each list the run before kept although they were missing.
    next_living: how many records the list after this one has.
    marks: how far each of its lists was read, for those that can be read incrementally.
    problems: the problem of each list of the connection that has one; only loaded if a record may be in another list.
    orphans: the ids of the records that are not deleted in each list whose parent is.
    """

    lists: tuple[ListSeen, ...] = ()
    living: Mapping[str, Collection[str]] = field(default_factory=dict)
    held_back: Mapping[str, int] = field(default_factory=dict)
    next_living: int = 0
    marks: Mapping[str, Marks] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    orphans: Mapping[str, Collection[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredParents:
    """What is stored about a resource's parents, and about its own lists.

    ids: of all parents that are not deleted, in order.
    records: the parents that may be read, by id.
    lists: the resource's lists that have a state, or a record that is not deleted.
    problems: the problem of each list that has one.
    """

    ids: tuple[str, ...] = ()
    records: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    lists: Collection[str] = ()
    problems: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRows:
    """Everything that a step decides on but the answer and the time; the connection is locked.

    connection, credential, run: as they are stored now.
    plan: the lists of the run, in order.
    generation: of the access token that the request was made with.
    provider, interval: the provider's profile, and the usual time between two syncs.
    page: what is stored about the page that was read.
    resource: what is stored about its resource.
    problems: the problem of each list that has one; only loaded when nothing is left to read.
    parents: what is stored about the parents of the resource; only loaded when they are fixed.
    """

    connection: Connection
    credential: Credential | None
    run: SyncRun
    plan: tuple[SyncList, ...]
    generation: int
    provider: Provider
    interval: timedelta
    page: StoredPage = StoredPage()
    resource: StoredResource = StoredResource()
    problems: Mapping[str, str] = field(default_factory=dict)
    parents: StoredParents = StoredParents()

    @property
    def sync_list(self) -> SyncList:
        """Return the list that the run is at."""
        return self.plan[self.run.place]

    def is_account(self, sync_list: SyncList) -> bool:
        """Return whether the list is the account itself."""
        return sync_list.resource.path == self.provider.account_path


@dataclass(frozen=True, slots=True)
class ListRead:
    """A list was read to its end; `problem` is why that proved no deletion, `held_back` how many were missing.

    `marks` is how far it was read now; None if that stays as it is.
    """

    key: str
    problem: ListProblem | None = None
    held_back: int | None = None
    marks: Marks | None = None


@dataclass(frozen=True, slots=True)
class ListSkipped:
    """A list is not read; the pages that this run saw of it prove nothing. `problem` is why it cannot be read; None if
    it is not asked for any more."""

    key: str
    problem: ListProblem | None


ListNote = ListRead | ListSkipped


@dataclass(frozen=True, slots=True)
class PageNote:
    """A page to keep until its run ends, as evidence of its list's content in this pass."""

    key: str
    pass_number: int
    seen: PageSeen


@dataclass(frozen=True, slots=True)
class Deletion:
    """Records that are proven to be deleted."""

    resource: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDecision:
    """Everything that one transaction of a sync writes.

    subject: the connection as it was read and locked; its generation guards the save.
    at: the time of the decision, for events, notes and records.
    connection: the connection to save; None if it does not change.
    claims: what becomes of the connection's claims if it is saved.
    credential: the credential to save; None if it does not change.
    run: the run to save; None if it does not change.
    begins: whether the run is a new one.
    changes: the page's records to write.
    page: the page to keep as evidence.
    deletion: the records to mark as deleted.
    lists: what to note about lists.
    forgotten: lists of which nothing is kept: their parents are deleted.
    facts: the events, in order.
    notes: the journal's entries, in order.
    ended: why the connection's grant is dead; `connection` is the ended one then, and its run ends with it.
    refusal: the refusal to save, with the client locked; None if there is none.
    hold: the hold that it opens.
    recovered: whether the connection's earlier refusal has turned out wrong.
    goes_on: whether this job keeps the run and asks for the next page.
    send: the messages to send after the commit.
    """

    subject: Connection
    at: datetime
    connection: Connection | None = None
    claims: Claims = released
    credential: Credential | None = None
    run: SyncRun | None = None
    begins: bool = False
    changes: RecordChanges | None = None
    page: PageNote | None = None
    deletion: Deletion | None = None
    lists: tuple[ListNote, ...] = ()
    forgotten: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()
    notes: tuple[Note, ...] = ()
    ended: RevokedReason | None = None
    refusal: Refusal | None = None
    hold: Hold | None = None
    recovered: bool = False
    goes_on: bool = False
    send: tuple[messages.Message, ...] = ()

    @property
    def only_leases(self) -> bool:
        """Whether it begins a run that no one asked for: such a run is stored with the first thing that it writes.

        Until then it has a lease in its connection's row. If the job dies, there is nothing to continue: the connection
        is still due, and the next job begins a run of its own.
        """
        return self.begins and self.goes_on and self.run is not None and not self.run.requested


def go_on(decision: StepDecision, run: SyncRun) -> StepDecision:
    """Keep the run for this job's next page, and renew its lease.

    The sync stays due, claimed until the lease ends: if the job dies, the sweep sends another then. So the row is
    written without any column of an index, which PostgreSQL does on the row's own page.
    """
    until = decision.at + run_lease
    connection = decision.connection or decision.subject
    if not is_due(connection.sync_due_at, decision.at):
        connection = replace(connection, sync_due_at=decision.at)
    return replace(
        decision,
        connection=connection,
        claims=replace(decision.claims, sync=until),
        run=replace(run, lease_until=until),
        goes_on=True,
    )


def park(decision: StepDecision, run: SyncRun, until: datetime) -> StepDecision:
    """Release the run until then: it waits as a row, not in a thread."""
    connection = decision.connection or decision.subject
    return replace(
        decision,
        connection=replace(connection, sync_due_at=until),
        claims=replace(decision.claims, sync=None),
        run=replace(run, lease_owner=None, lease_until=None, resume_at=until),
        goes_on=False,
    )
