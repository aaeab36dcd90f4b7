"""Refresh a pair of tokens: take the connection, ask the token endpoint, decide, and save the outcome."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import uuid4

import structlog

from models.api_response import ApiOutcome
from models.audit.entry import Channel, received
from models.crypto.secrets import Sealed, Secret
from models.crypto.vault import KeyMissing, SealBroken, Vault, VaultError
from models.journal import Verb
from models.messaging import messages
from models.oauth.client import OAuthClient, StoredClient, refresh_scope
from models.oauth.connection import Connection, Status
from models.oauth.credential import (
    Credential,
    Leave,
    Present,
    Resolve,
    place_of_token,
    plan_refresh,
    release_lease,
)
from models.oauth.hold import describe_refusal, is_counted, judge, limits_of
from models.oauth.refresh_decision import RefreshDecision, claim_until, postpone, save_pair
from models.oauth.refresh_intent import (
    Attempt,
    Presentation,
    attempt_after,
    begin_resolving,
    intend,
    pause_client,
    set_aside,
    settle_unknown,
)
from models.oauth.refresh_outcome import decide
from models.oauth.refusal_outcome import carry_out
from models.oauth.token_pair import TokenPair
from models.oauth.token_rate_limit import Purpose
from models.oauth.token_response import Evidence, GrantRefused, TokenOutcome, TokensGranted
from models.oauth.unknown_outcome import resolve
from models.store import Store, Transaction
from models.store.connections import Refreshable
from worker.metrics.counters import Metrics
from worker.oauth.apply_refresh import RefreshWriter
from worker.oauth.reserve import Opened, Reserve, Reserved, is_kept_back
from worker.provider.client import Called, ProviderClient
from worker.tokens.data_keys import fetching_keys
from worker.tokens.oauth_clients import ClientUnknown, OAuthClients
from worker.tokens.spool import Parking, Ticket


@dataclass(frozen=True, slots=True)
class RefreshRequest:
    """A request that may leave: its intent is committed, and everything it needs is open."""

    connection: Connection
    presentation: Presentation
    client: OAuthClient
    refresh_token: Secret

    @property
    def ticket(self) -> Ticket:
        return Ticket("refresh", self.connection.id, self.presentation.generation)


@dataclass(frozen=True, slots=True)
class Refresh:
    """The flow. A process may die after any step: the rows say what was done, and the next job goes on from there."""

    store: Store
    vault: Vault
    clients: OAuthClients
    providers: Mapping[str, ProviderClient]
    parking: Parking
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]
    sync_interval: timedelta = timedelta(minutes=15)
    metrics: Metrics = field(default_factory=Metrics)

    @property
    def writer(self) -> RefreshWriter:
        return RefreshWriter(self.vault, self.clients, self.providers)

    def __call__(self, connection_id: str, asked: bool = False, message_id: str | None = None) -> None:
        """Refresh what is due; what is `asked` for is made due first, at most once a minute for each connection.

        `message_id` is the application's message that asks; None if the same request can't come twice.
        """
        if asked:
            self._make_due(connection_id, message_id)
        request = self.take(connection_id)
        if request is not None:
            self.save_or_park(request, self.ask(request))

    def _make_due(self, connection_id: str, message_id: str | None) -> None:
        with self.store.writing() as tx:
            # Race: the message is retried, or delivered again, after what it asked for was due or even done.
            if message_id is not None and tx.journal.names_message(connection_id, message_id):
                return
            now = self.now()
            if not tx.connections.request_refresh(connection_id, now):
                return
            detail = {"message_id": message_id}
            tx.audit.add(received(Channel.message, "refresh", detail, connection_id=connection_id), now)
            if message_id is not None:
                tx.journal.decide(connection_id, now, Verb.refresh_requested, message_id=message_id)

    @property
    def reserve(self) -> Reserve:
        return Reserve(self.store, self.vault, self.clients, self.providers, self.now)

    def take(self, connection_id: str) -> RefreshRequest | None:
        """Commit lease and intent; None if nothing may leave now. An unknown outcome is resolved first."""
        owner = uuid4().hex
        taken = self.load(connection_id, owner, self.reserve(connection_id))
        return self._resolve(*taken, owner) if isinstance(taken, tuple) else taken

    @fetching_keys
    def load(
        self, connection_id: str, owner: str, reserved: Reserved[Opened] | None
    ) -> RefreshRequest | tuple[Connection, Credential] | None:
        """Return a request that may leave now, or the rows whose unknown outcome this job may resolve."""
        with self.store.writing() as tx:
            found = tx.connections.lock_refreshable(connection_id)
            now = self.now()
            if found is None:
                if tx.connections.get(connection_id) is None:
                    structlog.get_logger("refresh").warning("connection.unknown")
                return None
            connection, credential = found.connection, found.credential
            patience = self.providers[connection.provider].patience
            plan = plan_refresh(connection, credential, now, patience.settle)
            if isinstance(plan, Leave):
                if plan.until is not None:
                    self.writer.apply(tx, claim_until(connection, plan.until, now))
                return None
            if isinstance(plan, Resolve) and now < plan.at:
                self.writer.apply(tx, postpone(connection, plan.at, now))
                return None
            if isinstance(plan, Present):
                return self._prepare(tx, found, Attempt(owner), now, reserved)
            lease_until = now + patience.lease
            self.writer.apply(tx, begin_resolving(connection, credential, owner, lease_until, now))
        return connection, credential

    def ask(self, request: RefreshRequest) -> Called[TokenOutcome]:
        """Present the refresh token, unless it is too late for that."""
        provider, presentation = self.providers[request.connection.provider], request.presentation
        scope, send_before = presentation.attempt.scope, presentation.send_before
        return provider.refresh(request.client, request.refresh_token, scope, send_before)

    def save_or_park(self, request: RefreshRequest, called: Called[TokenOutcome]) -> None:
        """Save the outcome; a pair that can't be saved, or not soon, is parked."""
        # Race: the database is away or hangs between answer and save, and the process may end before it is back.
        with self.parking.shielding(request.ticket, called.outcome, self.now()):
            self.save(request, called)

    def save(self, request: RefreshRequest, called: Called[TokenOutcome]) -> None:
        """Decide what the answer means for the rows as they are now, and write it; a pair is as old as its answer."""
        now, connection_id = self.now(), request.connection.id
        with self.store.writing() as tx:
            tx.journal.log(called.log_for(connection_id))
            connection, credential = tx.connections.lock_pair(connection_id)
            if connection is None or credential is None:
                return
            client = _load_client(tx, connection, called.outcome)
            decision = decide(connection, credential, client, request.presentation, called.outcome, now)
            if isinstance(called.outcome, GrantRefused) and decision.runs_end is not None:
                decision = self._judge(tx, decision, called.outcome, credential, request.presentation)
            self.writer.apply(tx, decision)
        self._send_all(decision)
        self.metrics.note_refresh(request.connection, credential.issued_at, decision)

    def _resolve(self, connection: Connection, credential: Credential, owner: str) -> RefreshRequest | None:
        """Find out what came of the last presentation: look for a parked pair, then probe with the old access token."""
        # Race: the pair came, but its save failed: it is parked, and must not count as lost.
        parked = self.parking.find(Ticket("refresh", connection.id, connection.generation))
        try:
            called = None if parked else self._probe(connection, credential)
            return self._settle(connection, owner, parked, called)
        except KeyMissing as missing:
            with self.store.writing() as tx:
                if (own := self._lock_own(tx, connection, owner)) is not None:
                    self._set_aside(tx, *own, missing, self.now())
            return None

    @fetching_keys
    def _settle(
        self, connection: Connection, owner: str, parked: TokenPair | None, called: Called[ApiOutcome] | None
    ) -> RefreshRequest | None:
        """Write what came of the last presentation; return the next one if it may leave now."""
        with self.store.writing() as tx:
            if called is not None:
                tx.journal.log(called.log_for(connection.id))
            own = self._lock_own(tx, connection, owner)
            if own is None:
                return None
            current, credential = own
            now, attempt = self.now(), None
            if parked is not None:
                decision = save_pair(current, credential, parked)
            else:
                probe = None if called is None else called.outcome
                profile = self.providers[connection.provider].provider
                verdict = resolve(profile, credential, probe, now, _is_kept_back(tx, connection))
                decision = settle_unknown(current, credential, verdict, probe, now)
                attempt = attempt_after(verdict, owner)
            self.writer.apply(tx, decision)
            if attempt is not None:
                client = tx.clients.get(current.provider, current.client_id)
                found = Refreshable(current, decision.credential or credential, client)
                return self._prepare(tx, found, attempt, now)
        self._send_all(decision)
        return None

    def _probe(self, connection: Connection, credential: Credential) -> Called[ApiOutcome] | None:
        """Ask the account resource with the old access token; None if its answer would prove nothing, or if the token
        has expired or is broken. Raises `KeyMissing`, which an operator can still mend."""
        provider, now = self.providers[connection.provider], self.now()
        if not provider.provider.rotation_ends_access:
            return None
        if credential.access_token is None or (credential.expires_at or now) < now:
            return None
        try:
            token = self._open(connection, credential.access_token)
        except SealBroken:
            return None
        return provider.read_account(token, connection.account_id)

    @fetching_keys
    def _open(self, connection: Connection, access_token: Sealed) -> Secret:
        return self.vault.open(access_token, place_of_token(connection, "access_token"))

    def _prepare(
        self,
        tx: Transaction,
        found: Refreshable,
        attempt: Attempt,
        now: datetime,
        reserved: Reserved[Opened] | None = None,
    ) -> RefreshRequest | None:
        """Do all that can fail, then write lease and intent; so what counts as presented was about to leave.

        None if something is missing or the fleet's budget is used up: the refresh is sent again when it is due.
        """
        connection, credential = found.connection, found.credential
        if credential.refresh_token is None:
            return None
        before = release_lease(credential)
        if reserved is not None and (not reserved.is_fresh(now) or reserved.opened.sealed != credential.refresh_token):
            reserved = None
        if reserved is None:
            # The row that was read beside the locked ones is as old as the wait for their lock.
            found = replace(found, client=tx.clients.get(connection.provider, connection.client_id))
        if is_kept_back(found):
            # It stays due as it was: the sweep leaves it in line for as long as the breaker is open.
            self.writer.apply(tx, claim_until(connection, None, now, before if before != credential else None))
            return None
        try:
            ready = self._use(reserved, tx, found, attempt, now)
        except ClientUnknown as unknown:
            self._pause_unknown_client(tx, connection, before, unknown, now)
            return None
        except VaultError as error:
            self._set_aside(tx, connection, before, error, now)
            return None
        if ready.wait is not None:
            self.writer.apply(tx, claim_until(connection, ready.wait, now, before))
            return None
        self.vault.require()
        self.parking.reserve(Ticket("refresh", connection.id, connection.generation))
        provider = self.providers[connection.provider]
        attempt = replace(attempt, scope=refresh_scope(found.client, provider.provider))
        presentation, intent = intend(connection, before, attempt, provider.provider, provider.patience, now)
        self.writer.apply(tx, intent)
        return RefreshRequest(connection, presentation, ready.opened.client, ready.opened.refresh_token)

    def _use(
        self, reserved: Reserved[Opened] | None, tx: Transaction, found: Refreshable, attempt: Attempt, now: datetime
    ) -> Reserved[Opened]:
        """Return what was reserved, or reserve it here."""
        if reserved is not None:
            return reserved
        opened = self.reserve.open(tx, found)
        purpose: Purpose = "resolve" if attempt.after_unknown else "refresh"
        provider = self.providers[found.connection.provider].provider
        return Reserved(opened, tx.paces.take(provider.name, provider.token_requests_per_minute, purpose, now), now)

    def _set_aside(
        self, tx: Transaction, connection: Connection, credential: Credential, error: VaultError, now: datetime
    ) -> None:
        self.writer.apply(tx, set_aside(connection, credential, now))
        structlog.get_logger("refresh").error("refresh.impossible", connection_id=connection.id, error=str(error))

    def _pause_unknown_client(
        self, tx: Transaction, connection: Connection, credential: Credential, unknown: ClientUnknown, now: datetime
    ) -> None:
        """Pause a client whose secret is missing, as if the token endpoint had rejected it."""
        stored = tx.clients.lock(connection.provider, connection.client_id)
        evidence = Evidence(error="client_unknown", description=str(unknown))
        troubled = replace(connection, problem="client_unknown")
        self.writer.apply(tx, pause_client(troubled, credential, stored, evidence, now))

    def _lock_own(self, tx: Transaction, connection: Connection, owner: str) -> tuple[Connection, Credential] | None:
        """Return both rows, locked; None if this job lost its lease or something newer was saved."""
        current, credential = tx.connections.lock_pair(connection.id)
        if current is None or credential is None:
            return None
        # Race: during the probe the user authorized again, the account was disconnected, or the lease ran out and
        # another job took over.
        if current.generation != connection.generation or current.status is not Status.active:
            return None
        return (current, credential) if credential.lease_owner == owner else None

    def _judge(
        self,
        tx: Transaction,
        ended: RefreshDecision,
        outcome: GrantRefused,
        credential: Credential,
        presentation: Presentation,
    ) -> RefreshDecision:
        """Decide whether a refused connection ends, waits or is held, by how many others were refused."""
        connection = ended.subject
        refusal = describe_refusal(ended)
        # Race: many are refused at once; the client's lock lets each of them count those before it.
        tx.clients.lock(connection.provider, connection.client_id)
        limits = limits_of(self.providers[connection.provider].provider)
        situation = tx.refusals.situation(refusal, limits, self.sync_interval)
        if not (is_counted(refusal.reason) or outcome.unreadable or situation.is_held):
            return ended
        judgement = judge(situation, outcome.unreadable, ended.at)
        return carry_out(judgement, ended, refusal, credential, presentation)

    def _send_all(self, decision: RefreshDecision) -> None:
        for message in decision.send:
            self.send(message)


def _load_client(tx: Transaction, connection: Connection, outcome: TokenOutcome) -> StoredClient:
    """Lock the client, unless the answer is about a token: then its row need not change."""
    if isinstance(outcome, TokensGranted | GrantRefused):
        return StoredClient(connection.provider, connection.client_id)
    return tx.clients.lock(connection.provider, connection.client_id)


def _is_kept_back(tx: Transaction, connection: Connection) -> bool:
    """Whether the connection's client is behind an open breaker."""
    client = tx.clients.get(connection.provider, connection.client_id)
    return client is not None and client.is_open
