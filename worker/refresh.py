"""Refreshing a pair of tokens: lease and intent, the request, and a save that no newer truth is lost to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never
from uuid import uuid4

from models import messages
from models.connection import Connection, NewPair, Status, may_hold, refresh, revoke
from models.credential import Credential, Leave, Present, lease_length, plan_refresh, settle_time, token_deadline
from models.errors import SyncError
from models.events import Detector, RevokedReason
from models.refresh_policy import retry_at
from models.resolution import Lost, PresentAgain, Unspent, Wait, resolve
from models.secrets import Sealed, Secret
from models.store import Store, Transaction
from models.token_pair import TokenPair
from models.token_response import (
    ClientRefused,
    Evidence,
    GrantRefused,
    NotNow,
    OutcomeUnknown,
    RequestRefused,
    ScopeRefused,
    TokenOutcome,
    TokensGranted,
)
from models.vault import Place, Vault
from worker.client_book import ClientBook
from worker.parking import Parking, refresh_ticket
from worker.provider_client import ProviderClient

client_pauses = tuple(timedelta(seconds=s) for s in (30, 60, 300, 900))


@dataclass(frozen=True, slots=True)
class Taken:
    """What this job leased: it alone may present the refresh token of `generation`, and only before `send_before`."""

    connection: Connection
    credential: Credential
    owner: str
    send_before: datetime
    after_unknown: bool = False

    @property
    def generation(self) -> int:
        return self.connection.generation


@dataclass(frozen=True, slots=True)
class Refresh:
    """`settle` is how long a provider may work on after we gave up: no probe before that says anything."""

    store: Store
    vault: Vault
    clients: ClientBook
    providers: Mapping[str, ProviderClient]
    parking: Parking
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]
    settle: timedelta = settle_time

    def __call__(self, connection_id: str) -> None:
        self.take_in()
        taken = self._take(connection_id)
        if taken is not None:
            self._save_surely(taken, self._present(taken))

    def take_in(self) -> int:
        """Saves every pair that was parked while the database was away; returns how many are still parked."""
        tickets = [ticket for ticket in self.parking.tickets() if ticket.startswith("refresh-")]
        for ticket in tickets:
            with self.store.writing() as tx:
                connection = tx.connections.lock(ticket.split("-")[1])
                if connection is None or ticket != refresh_ticket(connection.id, connection.generation):
                    self.parking.drop(ticket)
                else:
                    self._take_in(tx, connection)
        return len(tickets)

    def _take(self, connection_id: str) -> Taken | None:
        now, owner = self.now(), uuid4().hex
        with self.store.writing() as tx:
            connection = tx.connections.lock(connection_id)
            credential = tx.credentials.get(connection_id)
            if connection is None or self._take_in(tx, connection):
                return None
            plan = plan_refresh(connection, credential, now, self._settle(connection))
            if isinstance(plan, Leave) or credential is None:
                return None
            if self._is_paused(tx, connection, now):
                return None
            if isinstance(plan, Present):
                if not self._has_budget(tx, connection, now):
                    return None
                credential = tx.credentials.present(credential, connection.generation, owner, now, now + lease_length)
                return Taken(connection, credential, owner, now + lease_length - token_deadline)
            if now < plan.at:
                self._wait(tx, connection, plan.at)
                return None
            credential = replace(credential, lease_owner=owner, lease_until=now + lease_length)
            tx.credentials.put(credential)
        return self._resolve(connection, credential, owner)

    def _resolve(self, connection: Connection, credential: Credential, owner: str) -> Taken | None:
        """The token was presented and no answer was kept: probe with the old access token, then do what is allowed."""
        provider = self.providers[connection.provider]
        now = self.now()
        probe = None
        if credential.access_token is not None and (credential.expires_at is None or credential.expires_at > now):
            place = Place("credential", connection.id, "access_token")
            probe = provider.read_account(self.vault.open(credential.access_token, place)).outcome
        now = self.now()
        verdict = resolve(provider.provider, credential, probe, now)
        with self.store.writing() as tx:
            held = self._lock_own(tx, connection, owner)
            if held is None:
                return None
            evidence = {"probe": type(probe).__name__ if probe else "none", "generation": connection.generation}
            tx.journal.decide(connection.id, now, f"resolved.{type(verdict).__name__.lower()}", **evidence)
            match verdict:
                case Wait(until):
                    tx.credentials.put(replace(credential, lease_owner=None, lease_until=None))
                    self._wait(tx, connection, until)
                    return None
                case Lost():
                    self._end(tx, connection, credential, "rotation_lost", "refresh", Evidence())
                case Unspent():
                    fresh = replace(credential, presentations=0)
                    shown = tx.credentials.present(fresh, connection.generation, owner, now, now + lease_length)
                    return Taken(connection, shown, owner, now + lease_length - token_deadline)
                case PresentAgain():
                    shown = tx.credentials.present(credential, connection.generation, owner, now, now + lease_length)
                    return Taken(connection, shown, owner, now + lease_length - token_deadline, after_unknown=True)
                case _:
                    assert_never(verdict)
        self.send(messages.publish_events())
        return None

    def _present(self, taken: Taken) -> TokenOutcome:
        connection, credential = taken.connection, taken.credential
        provider = self.providers[connection.provider]
        client = self.clients.find(connection.provider, connection.client_id)
        if credential.refresh_token is None:
            raise AssertionError("a refresh was taken without a refresh token")
        token = self.vault.open(credential.refresh_token, Place("credential", connection.id, "refresh_token"))
        with self.store.reading() as tx:
            stored = tx.clients.get(connection.provider, connection.client_id)
        scope = "" if stored is not None and stored.omit_refresh_scope else provider.provider.refresh_scope
        return provider.refresh(client, token, scope, taken.send_before)

    def _save_surely(self, taken: Taken, outcome: TokenOutcome) -> None:
        """Whatever keeps the pair from being written, it is parked before anything else happens."""
        try:
            self._save(taken, outcome)
        except SyncError:
            if isinstance(outcome, TokensGranted):
                ticket = refresh_ticket(taken.connection.id, taken.generation)
                self.parking.park(ticket, TokenPair(outcome, self.now()))
            raise

    def _take_in(self, tx: Transaction, connection: Connection) -> bool:
        """Saves a pair that was parked for this connection, if it is still the newest truth; True where one was."""
        parked = self.parking.find(refresh_ticket(connection.id, connection.generation))
        credential = tx.credentials.get(connection.id)
        if parked is None or credential is None or not may_hold(connection, connection.generation):
            return False
        self._hold(tx, connection, credential, parked.granted, parked.issued_at)
        self.send(messages.publish_events())
        return True

    def _save(self, taken: Taken, outcome: TokenOutcome) -> None:
        now = self.now()
        with self.store.writing() as tx:
            connection = tx.connections.lock(taken.connection.id)
            credential = tx.credentials.get(taken.connection.id)
            if connection is None or credential is None:
                return
            if not may_hold(connection, taken.generation) or credential.presented_generation != taken.generation:
                tx.journal.decide(connection.id, now, "refresh.superseded", generation=taken.generation)
                return
            match outcome:
                case TokensGranted():
                    self._hold(tx, connection, credential, outcome, now)
                case _ if credential.lease_owner != taken.owner or connection.status is not Status.active:
                    tx.journal.decide(connection.id, now, "refresh.handed_over", generation=taken.generation)
                    return
                case GrantRefused(evidence, expired):
                    reason, detected_by = self._blame(taken, credential, expired)
                    self._end(tx, connection, credential, reason, detected_by, evidence)
                case OutcomeUnknown(evidence):
                    tx.credentials.put(replace(credential, lease_owner=None, lease_until=None))
                    self._wait(tx, connection, now + self._settle(connection))
                    self._note(tx, connection, "refresh.unknown", evidence)
                case ScopeRefused(evidence):
                    self._drop_scope(tx, connection, credential, evidence)
                case ClientRefused(evidence):
                    self._put_back(tx, connection, credential, self._reject_client(tx, connection, evidence))
                case RequestRefused(evidence):
                    self._put_back(tx, connection, credential, None, problem="refresh_malformed")
                    self._note(tx, connection, "refresh.malformed", evidence)
                case NotNow(evidence, retry_after, throttled):
                    until = None if retry_after is None else now + retry_after
                    if throttled:
                        tx.paces.pause(connection.provider, until or now + timedelta(minutes=1))
                    self._put_back(tx, connection, credential, until, problem="provider_unavailable")
                    self._note(tx, connection, "refresh.not_now", evidence)
                case _:
                    assert_never(outcome)
        self.send(messages.publish_events())
        if isinstance(outcome, ScopeRefused):
            self.send(messages.refresh_token(taken.connection.id))
        if isinstance(outcome, TokensGranted) and credential.refused_generation == taken.generation:
            self.send(messages.sync_connection(taken.connection.id))

    def _hold(
        self, tx: Transaction, connection: Connection, credential: Credential, granted: TokensGranted, now: datetime
    ) -> None:
        held, facts = refresh(connection, NewPair(now, granted.expires_in, granted.scope))
        if credential.refused_generation == connection.generation:
            held = replace(held, sync_due_at=now)
        kept = credential.refresh_token
        tx.credentials.put(
            Credential(
                connection_id=held.id,
                access_token=self._seal(granted.access_token, held.id, "access_token"),
                refresh_token=self._seal(granted.refresh_token, held.id, "refresh_token")
                if granted.refresh_token
                else kept,
                issued_at=now,
                expires_at=held.expires_at,
                refused_generation=credential.refused_generation,
                refused_at=credential.refused_at,
            )
        )
        tx.connections.save(held, connection.generation)
        tx.outbox.append(held.about, facts, now)
        tx.journal.decide(held.id, now, "refresh.saved", generation=held.generation)
        self.clients.recover(tx, held.provider, held.client_id, now)

    def _end(
        self,
        tx: Transaction,
        connection: Connection,
        credential: Credential,
        reason: RevokedReason,
        detected_by: Detector,
        evidence: Evidence,
    ) -> None:
        now = self.now()
        ended, facts = revoke(connection, reason, detected_by, now, f"/auth/{connection.provider}")
        tx.connections.save(ended, connection.generation)
        tx.credentials.put(
            replace(credential, access_token=None, refresh_token=None, lease_owner=None, lease_until=None)
        )
        tx.runs.end(connection.id, reason)
        tx.outbox.append(connection.about, facts, now)
        self._note(tx, connection, f"revoked.{reason}", evidence)

    def _blame(self, taken: Taken, credential: Credential, expired: bool) -> tuple[RevokedReason, Detector]:
        """Why the grant is dead: by our own note of a lost answer first, then by what the API and the hint said."""
        if taken.after_unknown:
            return "rotation_lost", "refresh"
        by_api = credential.refused_generation == taken.generation
        if expired:
            return "refresh_expired", "api" if by_api else "refresh"
        return ("access_revoked", "api") if by_api else ("refresh_rejected", "refresh")

    def _put_back(
        self,
        tx: Transaction,
        connection: Connection,
        credential: Credential,
        until: datetime | None,
        problem: str | None = None,
    ) -> None:
        """The answer proved that the token was not spent: the intent goes, the refresh comes back later."""
        failures = credential.failures + 1
        tx.credentials.put(_unspent(replace(credential, failures=failures)))
        due = until or retry_at(self.now(), failures, connection.expires_at)
        self._wait(tx, replace(connection, problem=problem or connection.problem), due)

    def _drop_scope(self, tx: Transaction, connection: Connection, credential: Credential, evidence: Evidence) -> None:
        """Nothing was spent. Without `scope` the grant keeps the one it has (RFC 6749 §6); where even that is
        refused, the client is at fault."""
        client = tx.clients.get(connection.provider, connection.client_id)
        if client is not None and client.omit_refresh_scope:
            self._put_back(tx, connection, credential, self._reject_client(tx, connection, evidence))
            return
        tx.clients.ensure(connection.provider, connection.client_id)
        tx.clients.change(connection.provider, connection.client_id, omit_refresh_scope=True)
        tx.credentials.put(_unspent(credential))
        self._note(tx, connection, "refresh.scope_refused", evidence)

    def _reject_client(self, tx: Transaction, connection: Connection, evidence: Evidence) -> datetime:
        self._note(tx, connection, "client.rejected", evidence)
        provider, client_id = connection.provider, connection.client_id
        return self.clients.reject(tx, provider, client_id, evidence, client_pauses, self.now())

    def _has_budget(self, tx: Transaction, connection: Connection, now: datetime) -> bool:
        """Takes one request from the fleet's budget; without one the refresh stays due and is sent again in time."""
        profile = self.providers[connection.provider].provider
        wait = tx.paces.take(connection.provider, profile.token_requests_per_minute, "refresh", now)
        if wait is not None:
            tx.connections.put_off_refresh(connection.id, wait)
        return wait is None

    def _settle(self, connection: Connection) -> timedelta:
        """How long the provider may work on; where only a grace is left to us, most of that grace."""
        profile = self.providers[connection.provider].provider
        if profile.refresh_reuse == "grace":
            return min(self.settle, timedelta(seconds=profile.grace_seconds) * 2 / 3)
        return self.settle

    def _is_paused(self, tx: Transaction, connection: Connection, now: datetime) -> bool:
        """Whether the connection's client is refused at present; one job at a time gets through to try it again."""
        client = tx.clients.get(connection.provider, connection.client_id)
        if client is None or client.paused_until is None:
            return False
        if tx.clients.take_probe(connection.provider, connection.client_id, now, now + lease_length):
            return False
        self._wait(tx, connection, max(client.paused_until, now + timedelta(seconds=5)))
        return True

    def _lock_own(self, tx: Transaction, connection: Connection, owner: str) -> Connection | None:
        held = tx.connections.lock(connection.id)
        credential = tx.credentials.get(connection.id)
        unchanged = held is not None and held.generation == connection.generation and held.status is Status.active
        return held if unchanged and credential is not None and credential.lease_owner == owner else None

    def _wait(self, tx: Transaction, connection: Connection, until: datetime) -> None:
        tx.connections.save(replace(connection, refresh_due_at=until), connection.generation)

    def _note(self, tx: Transaction, connection: Connection, verb: str, evidence: Evidence) -> None:
        tx.journal.decide(
            connection.id,
            self.now(),
            verb,
            generation=connection.generation,
            status=evidence.status,
            error=evidence.error,
            hint=evidence.hint,
            description=evidence.description,
        )

    def _seal(self, token: Secret, connection_id: str, field: str) -> Sealed:
        return self.vault.seal(token, Place("credential", connection_id, field))


def _unspent(credential: Credential) -> Credential:
    return replace(
        credential,
        lease_owner=None,
        lease_until=None,
        presented_at=None,
        presented_generation=None,
        presentations=0,
    )
