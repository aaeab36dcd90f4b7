"""What the gateway reads and writes in the database and Redis, in threads: plain functions of many calls at once."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from time import monotonic
from typing import Final

import structlog

from models.audit.entry import Action, Channel, Entry
from models.crypto.secrets import Secret
from models.crypto.vault import KeyMissing, SealBroken, Vault
from models.errors import SyncError
from models.gateway.access import Access, Give, Plan, has_same_token, longest_unread, plan_access
from models.gateway.keys import GatewayKey
from models.gateway.problems import Problem, ProblemType
from models.journal import Request
from models.messaging import messages
from models.oauth.access_refusal import AccessRefusal
from models.oauth.connection import Connection
from models.oauth.credential import place_of_token
from models.provider import Provider
from models.rate_limit import Wait
from models.store import Store
from models.store.requested_sync import request_sync
from worker.provider.rate_limit import Account, Budgets, Granted, Settlement
from worker.tokens.access import refuse_access
from worker.tokens.data_keys import fetching_keys

minute: Final = timedelta(minutes=1)
most_unwritten: Final = 10_000
"""Lines of the request log that wait while the database is away; older ones go."""


@dataclass(frozen=True, slots=True)
class Noted:
    """A line of the audit, but for what it says of its connection.

    address: where the request came from.
    says_generation: whether its detail says which token of the connection was given.
    """

    action: Action
    detail: Mapping[str, object]
    address: str | None = None
    says_generation: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """What a call needs: a token that lives for `least`, and a request of the account's budget if it `reserves`.

    noted: the audit's line if it gets that; None if there is one already.
    """

    key: GatewayKey
    connection_id: str
    least: timedelta
    reserves: bool = False
    noted: Noted | None = None


@dataclass(frozen=True, slots=True)
class Admission:
    """What a wish came to: `plan` is `Give` and `token` there, or the plan says why not.

    granted: the request that was reserved, or how long the account has none left.
    """

    access: Access
    plan: Plan
    token: Secret | None = None
    granted: Granted | Wait | None = None

    def fulfils(self, wish: Wish) -> bool:
        """Return whether there is all that was wished for."""
        return self.token is not None and (not wish.reserves or isinstance(self.granted, Granted))


@dataclass(frozen=True, slots=True)
class Done:
    """A request that was answered, or got no answer: what is left to write about it.

    answered: when, by the monotonic clock.
    request: its line of the request log; None if it never left.
    settled: what became of its reservation.
    is_write: whether it may have changed something at the provider, so that the connection is read soon.
    """

    connection: Connection
    settled: Settlement
    answered: float
    request: Request | None = None
    is_write: bool = False


@dataclass(frozen=True, slots=True)
class Desk:
    """All of it blocks. One for each process; threads share it."""

    store: Store
    vault: Vault
    providers: Mapping[str, Provider]
    budgets: Budgets
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]
    unwritten: deque[Request] = field(default_factory=lambda: deque(maxlen=most_unwritten))

    def find(self, ids: Sequence[str]) -> Mapping[str, Access]:
        with self.store.reading() as tx:
            return tx.gateway.find(ids)

    def admit(self, wishes: Sequence[Wish]) -> Sequence[Admission | Problem]:
        """Load the connections, open the tokens that can be given, reserve, and write the audit's lines.

        They are safe on the disk when this returns.
        """
        ids, admitted = list({wish.connection_id for wish in wishes}), list[Admission | Problem]()
        try:
            with self.store.read_then_add(lambda tx: tx.gateway.find(ids)) as (found, tx):
                now = self.now()
                planned = [self._plan(wish, found.get(wish.connection_id), now) for wish in wishes]
                if self.vault.external is not None:
                    given = [each.access.access_token for each in planned if isinstance(each, Admission)]
                    self.vault.fetch_for([sealed for sealed in given if sealed is not None])
                admitted = self._reserve(wishes, [self._give(each) for each in planned])
                # Race: a connection is disconnected while Redis, or a key server, is waited for.
                if self.now() - now > longest_unread:
                    admitted = self._admit_still(wishes, admitted)
                for wish, each in zip(wishes, admitted, strict=True):
                    if wish.noted is not None and isinstance(each, Admission) and each.fulfils(wish):
                        tx.audit.add(entry_of(wish.key, wish.noted, each.access.connection), now)
        except SyncError:
            self._give_back(admitted)
            raise
        return admitted

    def _plan(self, wish: Wish, access: Access | None, now: datetime) -> Admission | Problem:
        if access is None or not wish.key.sees(access.connection.provider):
            return Problem(ProblemType.connection_unknown, "No connection that this key sees has this id.")
        profile = self.providers.get(access.connection.provider)
        if profile is None:
            return Problem(ProblemType.connection_unknown, "The connection's provider is not in PROVIDERS.")
        return Admission(access, plan_access(access, wish.least, now, profile.path_prefix))

    def _give(self, planned: Admission | Problem) -> Admission | Problem:
        if isinstance(planned, Problem) or not isinstance(planned.plan, Give):
            return planned
        try:
            return replace(planned, token=self._open(planned.access))
        except (KeyMissing, SealBroken) as error:
            structlog.get_logger("gateway").error(
                "token.unreadable", connection_id=planned.access.connection.id, error=str(error)
            )
            return Problem(
                ProblemType.unavailable, "The access token can't be opened with the configured keys.", minute
            )

    def _reserve(self, wishes: Sequence[Wish], given: Sequence[Admission | Problem]) -> list[Admission | Problem]:
        """Reserve a request for each call that can leave."""
        admitted = list(given)
        leaving = {
            place: each
            for place, (wish, each) in enumerate(zip(wishes, given, strict=True))
            if wish.reserves and isinstance(each, Admission) and each.token is not None
        }
        granted = self.budgets.reserve_all([self._account(each.access.connection) for each in leaving.values()])
        for (place, each), own in zip(leaving.items(), granted, strict=True):
            admitted[place] = replace(each, granted=own)
        return admitted

    def _admit_still(
        self, wishes: Sequence[Wish], admitted: Sequence[Admission | Problem]
    ) -> list[Admission | Problem]:
        """Return what the wishes come to by their connections as they are now; what no longer leaves is given back."""
        ids = list({wish.connection_id for wish in wishes})
        found, now = self.store.read_once(lambda tx: tx.gateway.find(ids)), self.now()
        confirmed, ended = list(admitted), list[Admission]()
        for place, (wish, each) in enumerate(zip(wishes, admitted, strict=True)):
            current = found.get(wish.connection_id)
            if isinstance(each, Problem) or each.token is None or has_same_token(each.access, current):
                continue
            newer = self._give(self._plan(wish, current, now))
            if isinstance(newer, Admission) and newer.token is not None:
                confirmed[place] = replace(newer, granted=each.granted)
            else:
                confirmed[place] = newer
                ended.append(each)
        self._give_back(ended)
        return confirmed

    def _account(self, connection: Connection) -> Account:
        return self.providers[connection.provider], connection.account_id

    def _give_back(self, admitted: Sequence[Admission | Problem]) -> None:
        """Settle what was reserved for calls that do not leave."""
        self.budgets.settle_all(
            [
                (*self._account(each.access.connection), Settlement(each.granted.second, each.granted.number))
                for each in admitted
                if isinstance(each, Admission) and isinstance(each.granted, Granted)
            ]
        )

    @fetching_keys
    def _open(self, access: Access) -> Secret:
        if access.access_token is None:
            raise AssertionError("a connection without an access token was admitted")
        return self.vault.open(access.access_token, place_of_token(access.connection, "access_token"))

    def record(self, entries: Sequence[Entry]) -> Sequence[None]:
        """Write lines of the audit; they are safe on the disk when this returns."""
        with self.store.writing() as tx:
            now = self.now()
            for entry in entries:
                tx.audit.add(entry, now)
        return [None] * len(entries)

    def ask_refresh(self, key: GatewayKey, access: Access) -> None:
        """Make a refresh due, once a minute for each connection, and send the message that carries it out."""
        connection = access.connection
        with self.store.writing() as tx:
            now = self.now()
            if tx.connections.request_refresh(connection.id, now):
                asked = {"command": "refresh", "channel": Channel.gateway.value}
                tx.audit.add(entry_of(key, Noted(Action.command_received, asked), connection), now)
        self.send(messages.carry_out_refresh(connection.id))

    def refuse(self, connection_id: str, generation: int) -> AccessRefusal | None:
        """Report a 401 for the access token of `generation`, as a sync does; None if the connection is not active."""
        with self.store.writing() as tx:
            refusal, sent = refuse_access(tx, connection_id, generation, self.now())
        for message in sent:
            self.send(message)
        return refusal

    def finish(self, done: Sequence[Done]) -> Sequence[None]:
        """Settle the budgets, write the request log, and make what was written to due for reading.

        Nothing here is lost for good if it fails: a reservation lapses, and the next sync is due anyway. The request
        log waits for the next time.
        """
        self.budgets.settle_all([(*self._account(each.connection), _aged(each, monotonic())) for each in done])
        self.unwritten.extend(each.request for each in done if each.request is not None)
        # Race: two gateways finish calls of the same accounts; connections are locked in the order of their ids.
        written = sorted({each.connection.id for each in done if each.is_write})
        if not self.unwritten and not written:
            return [None] * len(done)
        lines = list(self.unwritten)
        try:
            with self.store.writing() as tx:
                now = self.now()
                tx.journal.log(lines)
                for connection_id in written:
                    request_sync(tx, connection_id, now)
        except SyncError as error:
            structlog.get_logger("gateway").warning("calls.not_logged", lines=len(lines), error=str(error))
            return [None] * len(done)
        for _ in lines:
            self.unwritten.popleft()
        for connection_id in written:
            self.send(messages.carry_out_sync(connection_id))
        return [None] * len(done)


def entry_of(key: GatewayKey, noted: Noted, connection: Connection) -> Entry:
    """Return the audit's line about what an application did with a connection."""
    own = {"generation": connection.generation} if noted.says_generation else {}
    return Entry(
        action=noted.action,
        actor=key.actor,
        provider=connection.provider,
        user_id=connection.user_id,
        connection_id=connection.id,
        address=noted.address,
        detail={**own, **noted.detail},
    )


def _aged(done: Done, now: float) -> Settlement:
    """Return what became of a reservation, with how long ago that was."""
    age = max(now - done.answered, 0)
    return replace(done.settled, ages=[age for _ in done.settled.ages])
