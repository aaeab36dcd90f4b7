"""Exchanging an authorization code: the request, the tokens kept, the account asked, the connection made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never
from uuid import uuid4

import structlog

from models import messages
from models.account import Account, read_account
from models.authorization import (
    Authorization,
    Step,
    code_lifetime,
    exchange_lease,
    give_up_after,
    is_put_off,
    open_steps,
)
from models.connection import Connection
from models.credential import token_deadline
from models.events import AuthorizationFailed, FailureReason
from models.page import ApiOutcome, Forbidden, Throttled, Unauthorized
from models.provider import OAuthClient
from models.refresh_policy import retry_at
from models.secrets import Secret
from models.store import Store, Transaction
from models.token_pair import TokenPair, unpack
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
from models.vault import Vault, VaultError
from worker.client_book import ClientBook, ClientUnknown
from worker.holding import hold_authorized, hold_exchanged, place_of, time_to_connect
from worker.letting_go import let_go, take_back
from worker.parking import Parking, Ticket
from worker.provider_client import Called, ProviderClient

most_presentations = 2


@dataclass(frozen=True, slots=True)
class Taken:
    """A code leased and ready to leave, but only before `send_before`."""

    authorization: Authorization
    client: OAuthClient
    code: Secret
    verifier: Secret | None
    send_before: datetime


@dataclass(frozen=True, slots=True)
class Exchange:
    """Goes on from wherever the authorization stands: code received, or tokens kept and the account not yet known."""

    store: Store
    vault: Vault
    clients: ClientBook
    providers: Mapping[str, ProviderClient]
    parking: Parking
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]

    lease: timedelta = exchange_lease

    def __call__(self, authorization_id: str) -> None:
        taken = self._take(authorization_id)
        granted = self._keep_surely(taken, self._present(taken)) if isinstance(taken, Taken) else taken
        if granted is not None:
            self._connect(granted)
        self.send(messages.publish_events())

    def _take(self, authorization_id: str) -> Taken | Authorization | None:
        """A code to present, or an authorization whose tokens are kept and that only lacks its account."""
        parked = self._find_parked(authorization_id)
        with self.store.writing() as tx:
            now = self.now()
            found = tx.authorizations.lock(authorization_id)
            if found is None:
                structlog.get_logger("exchange").warning("authorization.unknown")
            if found is None or found.step not in open_steps:
                return None
            if parked is not None and found.step is Step.received:
                return hold_exchanged(tx, self.vault, self.clients, found, parked, now, now + time_to_connect)
            if (found.lease_until is not None and found.lease_until > now) or is_put_off(found, now):
                return None
            until = now + self.lease
            leased = replace(found, lease_owner=uuid4().hex, lease_until=until, due_at=until)
            match found.step:
                case Step.started if found.expires_at <= now:
                    self._fail(tx, found, "expired", "the user did not come back from the provider in time")
                case Step.granted:
                    tx.authorizations.save(leased)
                    return leased
                case Step.received if found.presented_at is not None and (
                    found.attempts >= most_presentations or _code_is_over(found, now)
                ):
                    self._fail(tx, found, "answer_lost", "the provider's answer to the code exchange was lost")
                case Step.received if _code_is_over(found, now):
                    self._fail(tx, found, "expired", "the code could not be exchanged in time")
                case Step.received:
                    return self._intend(tx, leased)
                case _:
                    pass
        return None

    def _find_parked(self, authorization_id: str) -> TokenPair | None:
        """Tokens that were won and could not be written; looked for only where the code was presented before."""
        with self.store.reading() as tx:
            found = tx.authorizations.get(authorization_id)
        if found is None or found.step is not Step.received or found.presented_at is None:
            return None
        return self.parking.find(Ticket("exchange", authorization_id))

    def _intend(self, tx: Transaction, leased: Authorization) -> Taken | None:
        """All that can fail comes before the intent, so that a code that counts as presented was on its way."""
        now, provider = self.now(), self.providers[leased.provider]
        if leased.code is None or leased.lease_until is None:
            raise AssertionError("an exchange was taken without a code or a lease")
        try:
            client = self.clients.find_in(tx, leased.provider, leased.client_id)
            code = self.vault.open(leased.code, place_of(leased, "code"))
            verifier = (
                None if leased.verifier is None else self.vault.open(leased.verifier, place_of(leased, "verifier"))
            )
        except (ClientUnknown, VaultError) as error:
            structlog.get_logger("exchange").error("exchange.impossible", authorization_id=leased.id, error=str(error))
            self._wait(tx, leased, retry_at(now, 2, None))
            return None
        wait = tx.paces.take(leased.provider, provider.provider.token_requests_per_minute, "exchange", now)
        if wait is not None:
            self._wait(tx, leased, wait)
            return None
        meant = replace(leased, presented_at=now, attempts=leased.attempts + 1)
        tx.authorizations.save(meant)
        return Taken(meant, client, code, verifier, leased.lease_until - provider.token_deadline)

    def _present(self, taken: Taken) -> Called[TokenOutcome]:
        found = taken.authorization
        provider = self.providers[found.provider]
        return provider.exchange_code(taken.client, taken.code, taken.verifier, found.redirect_uri, taken.send_before)

    def _keep_surely(self, taken: Taken, called: Called[TokenOutcome]) -> Authorization | None:
        """Whatever keeps the tokens from being written, they are parked before anything else happens."""
        answered_at = self.now()
        try:
            return self._keep(taken.authorization, called)
        except BaseException:
            if isinstance(called.outcome, TokensGranted):
                self.parking.park(Ticket("exchange", taken.authorization.id), TokenPair(called.outcome, answered_at))
            raise

    def _keep(self, taken: Authorization, called: Called[TokenOutcome]) -> Authorization | None:
        """Writes the outcome down before anything else is done with it; returns what can go on at once."""
        now, outcome = self.now(), called.outcome
        with self.store.writing() as tx:
            tx.journal.log(called.log_for(taken.id))
            found = tx.authorizations.lock(taken.id)
            if found is None or found.step is not Step.received:
                return None
            if found.lease_owner != taken.lease_owner and not isinstance(outcome, TokensGranted):
                return None
            match outcome:
                case TokensGranted():
                    pair = TokenPair(outcome, now)
                    return hold_exchanged(tx, self.vault, self.clients, found, pair, now, now + time_to_connect)
                case GrantRefused(evidence) | ScopeRefused(evidence) | RequestRefused(evidence):
                    reason: FailureReason = "code_rejected"
                    if found.attempts > 1:
                        reason = "answer_lost"
                    elif isinstance(outcome, GrantRefused) and outcome.expired:
                        reason = "expired"
                    self._fail(
                        tx, found, reason, evidence.hint or evidence.description or "the code was refused", evidence
                    )
                case ClientRefused(evidence):
                    self._fail(tx, found, "client_rejected", evidence.description or "our client was refused", evidence)
                    self.clients.reject(tx, found.provider, found.client_id, evidence, now)
                case NotNow(evidence, retry_after, throttled):
                    until = now + (retry_after or timedelta(seconds=3))
                    if throttled:
                        tx.paces.pause(found.provider, until)
                    self._wait(tx, replace(found, presented_at=None, attempts=found.attempts - 1), until)
                    self._note(tx, found, "exchange.not_now", evidence)
                case OutcomeUnknown(evidence):
                    self._wait(tx, found, now + token_deadline)
                    self._note(tx, found, "exchange.unknown", evidence)
                case _:
                    assert_never(outcome)
        return None

    def _connect(self, granted: Authorization) -> None:
        """Asks whose tokens these are and makes the connection; any trouble but a refusal is waited out."""
        if granted.tokens is None:
            raise AssertionError("an authorization was granted without tokens")
        pair = unpack(self.vault.open(granted.tokens, place_of(granted, "tokens")))
        provider = self.providers[granted.provider]
        called = provider.read_account(pair.granted.access_token)
        now = self.now()
        account = read_account(provider.provider, called.outcome)
        with self.store.writing() as tx:
            tx.journal.log(called.log_for(granted.id))
            found = tx.authorizations.lock(granted.id)
            if found is None or found.step is not Step.granted:
                return
            if account is None:
                self._put_off(tx, found, called, now)
                return
            connection = self._save_connection(tx, found, account, pair, now)
            stray = None
            if connection is None:
                token = pair.granted.refresh_token or pair.granted.access_token
                stray = let_go(tx, self.vault, provider.provider, granted.client_id, token, now)
            if connection is not None:
                tx.journal.hand_over(granted.id, connection.id)
        self.parking.drop(Ticket("exchange", granted.id))
        if connection is not None:
            self.send(messages.sync_connection(connection.id))
        if stray is not None:
            self.send(messages.revoke_grant(stray))

    def _save_connection(
        self, tx: Transaction, found: Authorization, account: Account, tokens: TokenPair, now: datetime
    ) -> Connection | None:
        target = found.target_connection_id
        before = (
            tx.connections.lock(target)
            if target
            else tx.connections.lock_account(found.provider, found.user_id, account.id)
        )
        if target and (before is None or before.account_id != account.id):
            self._fail(tx, found, "account_mismatch", "another account answered than the one to be authorized again")
            return None
        if before is not None:
            take_back(tx, before, now)
        held = hold_authorized(
            tx,
            self.vault,
            before,
            found.user_id,
            account,
            tokens,
            found.provider,
            found.client_id,
            found.team_ids,
            now,
        )
        tx.journal.decide(held.id, now, "authorized", generation=held.generation, authorization_id=found.id)
        ended = _end(found, Step.connected)
        tx.authorizations.save(replace(ended, connection_id=held.id))
        return held

    def _put_off(self, tx: Transaction, found: Authorization, called: Called[ApiOutcome], now: datetime) -> None:
        """No account yet. 401 and 403 will not change by waiting; anything else is tried again for a day."""
        name = self.providers[found.provider].provider.name
        match called.outcome:
            case Unauthorized():
                self._fail(tx, found, "code_rejected", f"{name} refused the tokens that it had just issued")
            case Forbidden():
                self._fail(
                    tx, found, "denied", f"the account's plan at {name} does not include access for applications"
                )
            case Throttled(retry_after):
                self._wait(tx, found, now + retry_after)
            case _ if now - (found.code_received_at or now) > give_up_after:
                self._fail(tx, found, "answer_lost", f"{name} never told whose account it is")
            case _:
                self._wait(tx, replace(found, attempts=found.attempts + 1), retry_at(now, found.attempts + 1, None))

    def _fail(
        self,
        tx: Transaction,
        found: Authorization,
        reason: FailureReason,
        description: str,
        evidence: Evidence | None = None,
    ) -> None:
        now = self.now()
        tx.authorizations.save(replace(_end(found, Step.failed), reason=reason, description=description))
        tx.outbox.append(found.about, [AuthorizationFailed(found.id, reason, description)], now)
        self._note(tx, found, f"failed.{reason}", evidence or Evidence())

    def _wait(self, tx: Transaction, found: Authorization, until: datetime) -> None:
        tx.authorizations.save(replace(found, lease_owner=None, lease_until=None, due_at=until))

    def _note(self, tx: Transaction, found: Authorization, verb: str, evidence: Evidence) -> None:
        shown = {"status": evidence.status, "error": evidence.error, "hint": evidence.hint}
        tx.journal.decide(found.id, self.now(), verb, **shown)


def _code_is_over(found: Authorization, now: datetime) -> bool:
    return now - (found.code_received_at or found.created_at) > code_lifetime


def _end(found: Authorization, step: Step) -> Authorization:
    return replace(
        found, step=step, code=None, verifier=None, tokens=None, due_at=None, lease_owner=None, lease_until=None
    )
