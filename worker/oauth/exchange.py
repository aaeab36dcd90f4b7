"""Exchanging an authorization code: lease and intent, the request, and the tokens kept before anything else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never
from uuid import uuid4

import structlog

from models.crypto.secrets import Secret
from models.crypto.vault import Vault, VaultError
from models.messaging import messages
from models.messaging.events import FailureReason
from models.oauth.authorization import (
    Authorization,
    Step,
    code_lifetime,
    exchange_lease,
    is_put_off,
    open_steps,
)
from models.oauth.client import OAuthClient
from models.oauth.refresh_policy import asked_for, retry_at, throttled_pause
from models.oauth.token_pair import TokenPair
from models.oauth.token_response import (
    ClientRefused,
    GrantRefused,
    NotNow,
    OutcomeUnknown,
    RequestRefused,
    ScopeRefused,
    TokenOutcome,
    TokensGranted,
)
from models.store import Store, Transaction
from worker.oauth.authorizing import Authorizing
from worker.oauth.connect_account import Connecting
from worker.provider.client import Called, ProviderClient
from worker.tokens.oauth_clients import ClientUnknown, OAuthClients
from worker.tokens.save import hold_exchanged, place_of, time_to_connect
from worker.tokens.spool import Parking, Ticket

most_presentations = 2


@dataclass(frozen=True, slots=True)
class Taken:
    """A code leased and ready to leave, but only before `send_before`; `after_unknown` where it has left before, and it
    is not known what became of it."""

    authorization: Authorization
    client: OAuthClient
    code: Secret
    verifier: Secret | None
    send_before: datetime
    after_unknown: bool = False


@dataclass(frozen=True, slots=True)
class Exchange:
    """Goes on from wherever the authorization stands: code received, or tokens kept and the account not yet known."""

    store: Store
    vault: Vault
    clients: OAuthClients
    providers: Mapping[str, ProviderClient]
    parking: Parking
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]

    lease: timedelta = exchange_lease

    @property
    def row(self) -> Authorizing:
        return Authorizing(self.now)

    @property
    def connecting(self) -> Connecting:
        return Connecting(self.store, self.vault, self.providers, self.parking, self.send, self.now)

    def __call__(self, authorization_id: str) -> None:
        taken = self._take(authorization_id)
        granted = self._keep_surely(taken, self._present(taken)) if isinstance(taken, Taken) else taken
        if granted is not None:
            self.connecting(granted)
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
                    self.row.fail(tx, found, "expired", "the user did not come back from the provider in time")
                case Step.granted:
                    tx.authorizations.save(leased)
                    return leased
                case Step.received if found.attempts >= (1 if _code_is_over(found, now) else most_presentations):
                    self.row.fail(tx, found, "answer_lost", "the provider's answer to the code exchange was lost")
                case Step.received if _code_is_over(found, now):
                    self.row.fail(tx, found, "expired", "the code could not be exchanged in time")
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
            self.row.wait(tx, leased, retry_at(now, 2, None))
            return None
        wait = tx.paces.take(leased.provider, provider.provider.token_requests_per_minute, "exchange", now)
        if wait is not None:
            self.row.wait(tx, leased, wait)
            return None
        meant = replace(leased, presented_at=now, attempts=leased.attempts + 1)
        tx.authorizations.save(meant)
        send_before = leased.lease_until - provider.patience.deadline
        return Taken(meant, client, code, verifier, send_before, after_unknown=leased.presented_at is not None)

    def _present(self, taken: Taken) -> Called[TokenOutcome]:
        found = taken.authorization
        provider = self.providers[found.provider]
        return provider.exchange_code(taken.client, taken.code, taken.verifier, found.redirect_uri, taken.send_before)

    def _keep_surely(self, taken: Taken, called: Called[TokenOutcome]) -> Authorization | None:
        """Whatever keeps the tokens from being written, they are parked before anything else happens."""
        with self.parking.shielding(Ticket("exchange", taken.authorization.id), called.outcome, self.now()):
            return self._keep(taken, called)

    def _keep(self, taken: Taken, called: Called[TokenOutcome]) -> Authorization | None:
        """Writes the outcome down before anything else is done with it; returns what can go on at once."""
        now, outcome, own = self.now(), called.outcome, taken.authorization
        with self.store.writing() as tx:
            tx.journal.log(called.log_for(own.id))
            found = tx.authorizations.lock(own.id)
            if found is None or found.step is not Step.received:
                return None
            if found.lease_owner != own.lease_owner and not isinstance(outcome, TokensGranted):
                return None
            match outcome:
                case TokensGranted():
                    pair = TokenPair(outcome, now)
                    return hold_exchanged(tx, self.vault, self.clients, found, pair, now, now + time_to_connect)
                case GrantRefused(evidence) | ScopeRefused(evidence) | RequestRefused(evidence):
                    reason: FailureReason = "code_rejected"
                    if taken.after_unknown:
                        reason = "answer_lost"
                    elif isinstance(outcome, GrantRefused) and outcome.expired:
                        reason = "expired"
                    self.row.fail(
                        tx, found, reason, evidence.hint or evidence.description or "the code was refused", evidence
                    )
                case ClientRefused(evidence):
                    self.row.fail(
                        tx, found, "client_rejected", evidence.description or "our client was refused", evidence
                    )
                    self.clients.reject(tx, found.provider, found.client_id, evidence, now)
                case NotNow(evidence, retry_after, throttled, sure):
                    pause = asked_for(retry_after) or (throttled_pause if throttled else timedelta(seconds=3))
                    if throttled:
                        tx.paces.pause(found.provider, now + pause)
                    before = None if sure and not taken.after_unknown else found.presented_at
                    until = min(now + pause, _end_of_code(found))
                    self.row.wait(tx, replace(found, presented_at=before, attempts=found.attempts - 1), until)
                    self.row.note(tx, found, "exchange.not_now", evidence)
                case OutcomeUnknown(evidence):
                    self.row.wait(tx, found, now + self.providers[found.provider].patience.deadline)
                    self.row.note(tx, found, "exchange.unknown", evidence)
                case _:
                    assert_never(outcome)
        return None


def _code_is_over(found: Authorization, now: datetime) -> bool:
    return now >= _end_of_code(found)


def _end_of_code(found: Authorization) -> datetime:
    return (found.code_received_at or found.created_at) + code_lifetime
