"""Refreshing a pair of tokens: lease and intent, the request, and a save that no newer truth is lost to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never
from uuid import uuid4

import structlog

from models import messages
from models.connection import Connection, Status, may_hold, revoke
from models.credential import Credential, Leave, Present, Resolve, lease_length, plan_refresh, settle_time
from models.events import Detector, RevokedReason
from models.pace import Purpose
from models.page import ApiOutcome
from models.provider import OAuthClient
from models.refresh_policy import probe_again_at, retry_at
from models.resolution import Lost, PresentAgain, Unspent, Wait, resolve, settle_for
from models.secrets import Secret
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
from models.vault import Place, Vault, VaultError
from worker.client_book import ClientBook, ClientUnknown
from worker.holding import hold_rotation
from worker.letting_go import let_go
from worker.parking import Parking, Ticket
from worker.provider_client import ProviderClient


@dataclass(frozen=True, slots=True)
class Taken:
    """What this job leased, ready to leave: it alone may present the refresh token of `generation`, and only before
    `send_before`. `before` is the credential without this presentation: what an answer that spent nothing brings back.
    """

    connection: Connection
    before: Credential
    owner: str
    send_before: datetime
    client: OAuthClient
    refresh_token: Secret
    scope: str
    after_unknown: bool = False

    @property
    def generation(self) -> int:
        return self.connection.generation

    @property
    def ticket(self) -> Ticket:
        return Ticket("refresh", self.connection.id, self.generation)


@dataclass(frozen=True, slots=True)
class Refresh:
    """`settle` is how long a provider may work on after we gave up: no probe before that says anything.

    `lease` covers the time to send and the request's whole deadline; `settle` is longer by what the clocks of two
    machines may differ.
    """

    store: Store
    vault: Vault
    clients: ClientBook
    providers: Mapping[str, ProviderClient]
    parking: Parking
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]
    settle: timedelta = settle_time
    lease: timedelta = lease_length

    def __call__(self, connection_id: str) -> None:
        taken = self._take(connection_id)
        if taken is not None:
            self._save_surely(taken, self._present(taken))

    def _take(self, connection_id: str) -> Taken | None:
        owner = uuid4().hex
        with self.store.writing() as tx:
            now = self.now()
            connection = tx.connections.lock(connection_id)
            credential = tx.credentials.get(connection_id)
            if connection is None:
                structlog.get_logger("refresh").warning("connection.unknown")
                return None
            plan = plan_refresh(connection, credential, now, self._settle(connection))
            if isinstance(plan, Leave) or credential is None:
                return None
            if isinstance(plan, Resolve) and now < plan.at:
                self._wait(tx, connection, plan.at)
                return None
            if self._is_paused(tx, connection, now):
                return None
            if isinstance(plan, Present):
                return self._intend(tx, connection, credential, owner)
            credential = replace(credential, lease_owner=owner, lease_until=now + self.lease)
            tx.credentials.put(credential)
        return self._resolve(connection, credential, owner)

    def _intend(
        self,
        tx: Transaction,
        connection: Connection,
        credential: Credential,
        owner: str,
        after_unknown: bool = False,
    ) -> Taken | None:
        """Lease and intent. All that can fail comes before them, so that what counts as presented was on its way."""
        now = self.now()
        if credential.refresh_token is None:
            return None
        sealed, credential = credential.refresh_token, replace(credential, lease_owner=None, lease_until=None)
        tx.credentials.put(credential)
        try:
            client = self.clients.find_in(tx, connection.provider, connection.client_id)
            token = self.vault.open(sealed, Place("credential", connection.id, "refresh_token"))
        except ClientUnknown as unknown:
            evidence = Evidence(error="client_unknown", description=str(unknown))
            self._leave_client(tx, replace(connection, problem="client_unknown"), credential, evidence)
            return None
        except VaultError as error:
            self._put_aside(tx, connection, credential, error)
            return None
        if not self._has_budget(tx, connection, "resolve" if after_unknown else "refresh", now):
            return None
        stored = tx.clients.get(connection.provider, connection.client_id)
        provider = self.providers[connection.provider]
        scope = "" if stored is not None and stored.omit_refresh_scope else provider.provider.refresh_scope
        lease_until = now + self.lease
        tx.credentials.present(credential, connection.generation, owner, now, lease_until)
        send_before = lease_until - provider.token_deadline
        if after_unknown and provider.provider.refresh_reuse == "grace" and credential.presented_at is not None:
            grace = timedelta(seconds=provider.provider.grace_seconds)
            send_before = min(send_before, credential.presented_at + grace)
        return Taken(connection, credential, owner, send_before, client, token, scope, after_unknown)

    def _put_aside(self, tx: Transaction, connection: Connection, credential: Credential, error: VaultError) -> None:
        """Nothing can leave before an operator has put back what is missing; until then it is tried now and then."""
        self._put_back(tx, connection, credential, None, problem="token_unreadable")
        tx.journal.decide(connection.id, self.now(), "refresh.token_unreadable", generation=connection.generation)
        structlog.get_logger("refresh").error("refresh.impossible", connection_id=connection.id, error=str(error))

    def _resolve(self, connection: Connection, credential: Credential, owner: str) -> Taken | None:
        """The token was presented and no answer was kept: look where a pair would be parked, probe with the old
        access token, then do what is allowed."""
        provider = self.providers[connection.provider]
        parked = self.parking.find(Ticket("refresh", connection.id, connection.generation))
        probe = None if parked else self._probe(connection, credential)
        with self.store.writing() as tx:
            now = self.now()
            held, current = self._lock_own(tx, connection, owner)
            if held is None or current is None:
                return None
            if parked is not None:
                hold_rotation(tx, self.vault, self.clients, held, current, parked)
                verdict = None
            else:
                verdict = resolve(provider.provider, current, probe, now)
                evidence = {"probe": type(probe).__name__ if probe else "none", "generation": held.generation}
                tx.journal.decide(held.id, now, f"resolved.{type(verdict).__name__.lower()}", **evidence)
            match verdict:
                case None:
                    pass
                case Wait(until):
                    tx.credentials.put(replace(current, lease_owner=None, lease_until=None))
                    self._wait(tx, held, until)
                    return None
                case Lost():
                    self._end(tx, held, current, "rotation_lost", "refresh", Evidence())
                case Unspent():
                    unspent = replace(current, presented_at=None, presented_generation=None, presentations=0)
                    return self._intend(tx, held, unspent, owner)
                case PresentAgain():
                    return self._intend(tx, held, current, owner, after_unknown=True)
                case _:
                    assert_never(verdict)
        self.send(messages.publish_events())
        return None

    def _probe(self, connection: Connection, credential: Credential) -> ApiOutcome | None:
        """What the account resource says to the old access token; None where it has expired, or does not open."""
        if credential.access_token is None or (credential.expires_at or self.now()) < self.now():
            return None
        try:
            token = self.vault.open(credential.access_token, Place("credential", connection.id, "access_token"))
        except VaultError:
            return None
        return self.providers[connection.provider].read_account(token, connection.account_id).outcome

    def _present(self, taken: Taken) -> TokenOutcome:
        provider = self.providers[taken.connection.provider]
        return provider.refresh(taken.client, taken.refresh_token, taken.scope, taken.send_before)

    def _save_surely(self, taken: Taken, outcome: TokenOutcome) -> None:
        """Whatever keeps the pair from being written, it is parked before anything else happens."""
        answered_at = self.now()
        try:
            self._save(taken, outcome)
        except BaseException:
            if isinstance(outcome, TokensGranted):
                self.parking.park(taken.ticket, TokenPair(outcome, answered_at))
            raise

    def _save(self, taken: Taken, outcome: TokenOutcome) -> None:
        now = self.now()
        with self.store.writing() as tx:
            connection = tx.connections.lock(taken.connection.id)
            credential = tx.credentials.get(taken.connection.id)
            if connection is None or credential is None:
                return
            if not may_hold(connection, taken.generation) or credential.presented_generation != taken.generation:
                tx.journal.decide(connection.id, now, "refresh.superseded", generation=taken.generation)
                if isinstance(outcome, TokensGranted) and connection.status is Status.disconnected:
                    provider = self.providers[connection.provider].provider
                    token = outcome.refresh_token or outcome.access_token
                    let_go(tx, self.vault, provider, connection.client_id, token, now, connection.id)
                return
            match outcome:
                case TokensGranted():
                    hold_rotation(tx, self.vault, self.clients, connection, credential, TokenPair(outcome, now))
                case _ if credential.lease_owner != taken.owner or connection.status is not Status.active:
                    tx.journal.decide(connection.id, now, "refresh.handed_over", generation=taken.generation)
                    return
                case GrantRefused(evidence, expired):
                    self.clients.accept(tx, connection.provider, connection.client_id, now)
                    reason, detected_by = self._blame(taken, credential, expired)
                    self._end(tx, connection, credential, reason, detected_by, evidence)
                case OutcomeUnknown(evidence):
                    tx.credentials.put(replace(credential, lease_owner=None, lease_until=None))
                    self._wait(tx, connection, now + self._settle(connection))
                    self._note(tx, connection, "refresh.unknown", evidence)
                case ScopeRefused(evidence):
                    self._drop_scope(tx, connection, _unshown(credential, taken), taken.scope, evidence)
                case ClientRefused(evidence):
                    self._leave_client(tx, connection, _unshown(credential, taken), evidence)
                case RequestRefused(evidence):
                    self._put_back(tx, connection, _unshown(credential, taken), None, problem="refresh_malformed")
                    self._note(tx, connection, "refresh.malformed", evidence)
                case NotNow(evidence, retry_after, throttled):
                    until = None if retry_after is None else now + retry_after
                    if throttled:
                        tx.paces.pause(connection.provider, until or now + timedelta(minutes=1))
                    self._put_back(tx, connection, _unshown(credential, taken), until, problem="provider_unavailable")
                    self._note(tx, connection, "refresh.not_now", evidence)
                case _:
                    assert_never(outcome)
        self.send(messages.publish_events())
        if isinstance(outcome, ScopeRefused):
            self.send(messages.refresh_token(taken.connection.id))
        if isinstance(outcome, TokensGranted) and credential.refused_generation == taken.generation:
            self.send(messages.read_connection(taken.connection.id))

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
        """Nothing was spent: the refresh comes back later."""
        failures = credential.failures + 1
        tx.credentials.put(replace(credential, failures=failures))
        due = until or retry_at(self.now(), failures, connection.expires_at)
        self._wait(tx, replace(connection, problem=problem or connection.problem), due)

    def _drop_scope(
        self, tx: Transaction, connection: Connection, credential: Credential, sent: str, evidence: Evidence
    ) -> None:
        """Nothing was spent. Without `scope` the grant keeps the one it has (RFC 6749 §6); where even that is
        refused, the client is at fault."""
        if not sent:
            self._leave_client(tx, connection, credential, evidence)
            return
        tx.clients.omit_refresh_scope(connection.provider, connection.client_id)
        tx.credentials.put(credential)
        tx.connections.put_off_refresh(connection.id, None)
        self._note(tx, connection, "refresh.scope_refused", evidence)

    def _leave_client(
        self, tx: Transaction, connection: Connection, credential: Credential, evidence: Evidence
    ) -> None:
        """The client is refused, and nothing was spent: its refreshes pause, and this one goes behind the others."""
        now, failures = self.now(), credential.failures + 1
        self._note(tx, connection, "client.rejected", evidence)
        paused_until = self.clients.reject(tx, connection.provider, connection.client_id, evidence, now)
        due = probe_again_at(paused_until, now, failures, connection.expires_at)
        self._put_back(tx, connection, credential, due)

    def _has_budget(self, tx: Transaction, connection: Connection, purpose: Purpose, now: datetime) -> bool:
        """Takes one request from the fleet's budget; without one the refresh stays due and is sent again in time."""
        profile = self.providers[connection.provider].provider
        wait = tx.paces.take(connection.provider, profile.token_requests_per_minute, purpose, now)
        if wait is not None:
            tx.connections.put_off_refresh(connection.id, wait)
        return wait is None

    def _settle(self, connection: Connection) -> timedelta:
        return settle_for(self.providers[connection.provider].provider, self.settle)

    def _is_paused(self, tx: Transaction, connection: Connection, now: datetime) -> bool:
        """Whether the connection's client is refused at present; one job at a time gets through to try it again.

        The refresh stays due as it was: the sweep leaves it in line for as long as the pause lasts.
        """
        client = tx.clients.get(connection.provider, connection.client_id)
        if client is None or not client.is_rejected:
            return False
        if tx.clients.take_probe(connection.provider, connection.client_id, now, now + self.lease):
            return False
        tx.connections.put_off_refresh(connection.id, None)
        return True

    def _lock_own(
        self, tx: Transaction, connection: Connection, owner: str
    ) -> tuple[Connection, Credential] | tuple[None, None]:
        """Both rows as they stand now, while the lease is still this job's and nothing newer is true."""
        held = tx.connections.lock(connection.id)
        credential = tx.credentials.get(connection.id)
        unchanged = held is not None and held.generation == connection.generation and held.status is Status.active
        if held is None or credential is None or not unchanged or credential.lease_owner != owner:
            return None, None
        return held, credential

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


def _unshown(credential: Credential, taken: Taken) -> Credential:
    """Lease and intent of this presentation go; the note of an earlier one, still unresolved, comes back."""
    before = taken.before
    return replace(
        credential,
        lease_owner=None,
        lease_until=None,
        presented_at=before.presented_at,
        presented_generation=before.presented_generation,
        presentations=before.presentations,
    )
