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
from models.gateway.access import Access, Give, Plan, plan_access
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
from worker.provider.rate_limit import Budgets, Granted, Settlement
from worker.tokens.access import refuse_access
from worker.tokens.data_keys import fetching_keys

minute: Final = timedelta(minutes=1)
most_unwritten: Final = 10_000
"""Lines of the request log that wait while the database is away; older ones go."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a call needs: a token that lives for `least`, and a request of the account's budget if it `reserves`."""

    key: GatewayKey
    connection_id: str
    least: timedelta
    reserves: bool = False


@dataclass(frozen=True, slots=True)
class Admission:
    """What a wish came to: `plan` is `Give` and `token` there, or the plan says why not.

    granted: the request that was reserved, or how long the account has none left.
    """

    access: Access
    plan: Plan
    token: Secret | None = None
    granted: Granted | Wait | None = None


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
        """Load the connections, open the tokens that can be given, and reserve."""
        found = self.find(list({wish.connection_id for wish in wishes}))
        now = self.now()
        planned = [self._plan(wish, found.get(wish.connection_id), now) for wish in wishes]
        if self.vault.external is not None:
            given = [each.access.access_token for each in planned if isinstance(each, Admission)]
            self.vault.fetch_for([sealed for sealed in given if sealed is not None])
        return [self._admit(wish, each) for wish, each in zip(wishes, planned, strict=True)]

    def _plan(self, wish: Wish, access: Access | None, now: datetime) -> Admission | Problem:
        if access is None or not wish.key.sees(access.connection.provider):
            return Problem(ProblemType.connection_unknown, "No connection that this key sees has this id.")
        profile = self.providers.get(access.connection.provider)
        if profile is None:
            return Problem(ProblemType.connection_unknown, "The connection's provider is not in PROVIDERS.")
        return Admission(access, plan_access(access, wish.least, now, profile.path_prefix))

    def _admit(self, wish: Wish, planned: Admission | Problem) -> Admission | Problem:
        if isinstance(planned, Problem) or not isinstance(planned.plan, Give):
            return planned
        try:
            token = self._open(planned.access)
        except (KeyMissing, SealBroken) as error:
            structlog.get_logger("gateway").error(
                "token.unreadable", connection_id=planned.access.connection.id, error=str(error)
            )
            return Problem(
                ProblemType.unavailable, "The access token can't be opened with the configured keys.", minute
            )
        if not wish.reserves:
            return Admission(planned.access, planned.plan, token)
        connection = planned.access.connection
        granted = self.budgets.reserve(self.providers[connection.provider], connection.account_id)
        return Admission(planned.access, planned.plan, token, granted)

    @fetching_keys
    def _open(self, access: Access) -> Secret:
        if access.access_token is None:
            raise AssertionError("a connection without an access token was admitted")
        return self.vault.open(access.access_token, place_of_token(access.connection, "access_token"))

    def reserve(self, connection: Connection) -> Granted | Wait:
        return self.budgets.reserve(self.providers[connection.provider], connection.account_id)

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
                tx.audit.add(entry_of(key, Action.command_received, connection, asked), now)
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
        for each in done:
            profile = self.providers[each.connection.provider]
            age = max(monotonic() - each.answered, 0)
            settled = replace(each.settled, ages=[age for _ in each.settled.ages])
            self.budgets.settle(profile, each.connection.account_id, settled)
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


def entry_of(
    key: GatewayKey, action: Action, connection: Connection, detail: Mapping[str, object], address: str | None = None
) -> Entry:
    """Return the audit's line about what an application did with a connection."""
    return Entry(
        action=action,
        actor=key.actor,
        provider=connection.provider,
        user_id=connection.user_id,
        connection_id=connection.id,
        address=address,
        detail=detail,
    )
