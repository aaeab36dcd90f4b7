"""Refreshing a pair of tokens: lease and intent, the request, and a save that no newer truth is lost to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never
from uuid import uuid4

import structlog

from models.api_response import ApiOutcome
from models.crypto.vault import KeyMissing, Place, SealBroken, Vault
from models.messaging import messages
from models.oauth.connection import Connection, Status, may_hold
from models.oauth.credential import Credential, Leave, Present, Resolve, answer, forget_presentation, plan_refresh
from models.oauth.refresh_policy import asked_for, throttled_pause
from models.oauth.token_pair import TokenPair
from models.oauth.token_response import (
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
from models.oauth.unknown_outcome import Lost, PresentAgain, Presumed, Unspent, Wait, resolve
from models.store import Store, Transaction
from worker.oauth.intent import Intent, Taken
from worker.oauth.settling import Settling
from worker.provider.client import Called, ProviderClient
from worker.tokens.oauth_clients import ClientBook
from worker.tokens.revocation_queue import let_go_late
from worker.tokens.save import hold_rotation
from worker.tokens.spool import Parking, Ticket


@dataclass(frozen=True, slots=True)
class Refresh:
    """Each step is safe to be the last one: whoever comes next finds in the rows what was done and what was not."""

    store: Store
    vault: Vault
    clients: ClientBook
    providers: Mapping[str, ProviderClient]
    parking: Parking
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]

    @property
    def settling(self) -> Settling:
        return Settling(self.clients, self.now)

    @property
    def intent(self) -> Intent:
        return Intent(self.vault, self.clients, self.providers, self.settling, self.now)

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
            patience = self.providers[connection.provider].patience
            plan = plan_refresh(connection, credential, now, patience.settle)
            if isinstance(plan, Leave) and plan.until is not None:
                tx.connections.put_off_refresh(connection.id, plan.until)
            if isinstance(plan, Leave) or credential is None:
                return None
            if isinstance(plan, Resolve) and now < plan.at:
                self.settling.wait(tx, connection, plan.at)
                return None
            if self._is_paused(tx, connection, now, patience.lease):
                return None
            if isinstance(plan, Present):
                return self.intent(tx, connection, credential, owner)
            credential = replace(credential, lease_owner=owner, lease_until=now + patience.lease)
            tx.credentials.put(credential)
        return self._resolve(connection, credential, owner)

    def _resolve(self, connection: Connection, credential: Credential, owner: str) -> Taken | None:
        """The token was presented and no pair came of it: look where one would be parked, probe with the old access
        token, then do what is allowed."""
        provider = self.providers[connection.provider]
        parked = self.parking.find(Ticket("refresh", connection.id, connection.generation))
        try:
            called = None if parked else self._probe(connection, credential)
        except KeyMissing as missing:
            self._put_aside(connection, owner, missing)
            return None
        probe = None if called is None else called.outcome
        with self.store.writing() as tx:
            now = self.now()
            if called is not None:
                tx.journal.log(called.log_for(connection.id))
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
                    self.settling.wait(tx, held, until)
                    return None
                case Lost():
                    self.settling.end(tx, held, current, "rotation_lost", "refresh", Evidence())
                case Unspent():
                    return self.intent(tx, held, forget_presentation(current), owner)
                case Presumed():
                    return self.intent(tx, held, current, owner, after_unknown=True, presumed=True)
                case PresentAgain():
                    return self.intent(tx, held, current, owner, after_unknown=True)
                case _:
                    assert_never(verdict)
        self.send(messages.publish_events())
        return None

    def _probe(self, connection: Connection, credential: Credential) -> Called[ApiOutcome] | None:
        """What the account resource says to the old access token; None where that tells nothing of the rotation, or
        where the token has expired or is broken. Raises `KeyMissing` where an operator can still put that right."""
        provider = self.providers[connection.provider]
        if not provider.provider.rotation_ends_access:
            return None
        if credential.access_token is None or (credential.expires_at or self.now()) < self.now():
            return None
        try:
            token = self.vault.open(credential.access_token, Place("credential", connection.id, "access_token"))
        except SealBroken:
            return None
        return provider.read_account(token, connection.account_id)

    def _put_aside(self, connection: Connection, owner: str, missing: KeyMissing) -> None:
        with self.store.writing() as tx:
            held, current = self._lock_own(tx, connection, owner)
            if held is not None and current is not None:
                current = replace(current, lease_owner=None, lease_until=None)
                self.intent.put_aside(tx, held, current, missing)

    def _present(self, taken: Taken) -> Called[TokenOutcome]:
        provider = self.providers[taken.connection.provider]
        return provider.refresh(taken.client, taken.refresh_token, taken.scope, taken.send_before)

    def _save_surely(self, taken: Taken, called: Called[TokenOutcome]) -> None:
        """Whatever keeps the pair from being written, it is parked before anything else happens."""
        with self.parking.shielding(taken.ticket, called.outcome, self.now()):
            self._save(taken, called)

    def _save(self, taken: Taken, called: Called[TokenOutcome]) -> None:
        now, settling, outcome = self.now(), self.settling, called.outcome
        with self.store.writing() as tx:
            tx.journal.log(called.log_for(taken.connection.id))
            connection = tx.connections.lock(taken.connection.id)
            credential = tx.credentials.get(taken.connection.id)
            if connection is None or credential is None:
                return
            is_settled = credential.presented_generation != taken.generation
            if not may_hold(connection, taken.generation) or (is_settled and not isinstance(outcome, TokensGranted)):
                tx.journal.decide(connection.id, now, "refresh.superseded", generation=taken.generation)
                if isinstance(outcome, TokensGranted):
                    provider = self.providers[connection.provider].provider
                    let_go_late(tx, self.vault, provider, connection, outcome, now)
                return
            match outcome:
                case TokensGranted():
                    hold_rotation(tx, self.vault, self.clients, connection, credential, TokenPair(outcome, now))
                case _ if credential.lease_owner != taken.owner or connection.status is not Status.active:
                    tx.journal.decide(connection.id, now, "refresh.handed_over", generation=taken.generation)
                    return
                case GrantRefused(evidence, expired):
                    self.clients.accept(tx, connection.provider, connection.client_id, now)
                    reason, detected_by = taken.blame(credential, expired)
                    settling.end(tx, connection, credential, reason, detected_by, evidence)
                case OutcomeUnknown(evidence):
                    settling.leave_unknown(tx, connection, credential, evidence)
                case ScopeRefused(evidence):
                    settling.drop_scope(tx, connection, taken.take_back(credential), taken.scope, evidence)
                case ClientRefused(evidence):
                    settling.leave_client(tx, connection, taken.take_back(credential), evidence)
                case RequestRefused(evidence):
                    settling.put_back(tx, connection, taken.take_back(credential), None, problem="refresh_malformed")
                    settling.note(tx, connection, "refresh.malformed", evidence)
                case NotNow(evidence, retry_after, throttled, sure):
                    pause = asked_for(retry_after)
                    if throttled:
                        tx.paces.pause(connection.provider, now + (pause or throttled_pause))
                    left = taken.take_back(credential) if sure or taken.after_unknown else answer(credential, now)
                    until = None if pause is None else now + pause
                    settling.put_back(tx, connection, left, until, problem="provider_unavailable")
                    settling.note(tx, connection, "refresh.not_now" if sure else "refresh.unavailable", evidence)
                case _:
                    assert_never(outcome)
        self.send(messages.publish_events())
        if isinstance(outcome, ScopeRefused):
            self.send(messages.refresh_token(taken.connection.id))
        if isinstance(outcome, TokensGranted) and credential.refused_generation == taken.generation:
            self.send(messages.read_connection(taken.connection.id))

    def _is_paused(self, tx: Transaction, connection: Connection, now: datetime, lease: timedelta) -> bool:
        """Whether the connection's client is refused at present; one job at a time gets through to try it again.

        The refresh stays due as it was: the sweep leaves it in line for as long as the pause lasts.
        """
        client = tx.clients.get(connection.provider, connection.client_id)
        if client is None or not client.is_rejected:
            return False
        if tx.clients.take_probe(connection.provider, connection.client_id, now, now + lease):
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
