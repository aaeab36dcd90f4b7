"""Exchange an authorization code: save lease and intent, send the request, save the tokens before anything else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import uuid4

import structlog

from models.crypto.vault import Vault, VaultError
from models.journal import Verb
from models.messaging import messages
from models.oauth.authorization import (
    Authorization,
    AuthorizationChange,
    Step,
    exchange_lease,
    failed_steps,
    grant,
    keep_waiting,
    put_off,
)
from models.oauth.breaker import Sighting, endpoint_of
from models.oauth.exchange_outcome import (
    CodeRequest,
    ExchangeDecision,
    PresentCode,
    ReadAccount,
    decide_exchange,
    plan_exchange,
    time_to_connect,
    wait_for_rate_limit,
)
from models.oauth.refresh_policy import retry_at
from models.oauth.token_pair import TokenPair
from models.oauth.token_response import TokenOutcome, TokensGranted
from models.store import Store, Transaction
from models.store.authorization_change import apply_change
from worker.oauth.connect_account import ConnectAccount, Granted
from worker.oauth.reserve import Reserved
from worker.oauth.reserve_code import OpenedCode, ReserveCode, keeps_until
from worker.provider.client import Called, ProviderClient
from worker.tokens.data_keys import fetching_keys
from worker.tokens.oauth_clients import ClientUnknown, OAuthClients
from worker.tokens.revocation_queue import revoke_unconnected
from worker.tokens.save import save_exchanged
from worker.tokens.spool import Parking, Ticket


@dataclass(frozen=True, slots=True)
class Looked:
    """What a job saw before it locked the row: when the code was presented last, and the tokens that are parked."""

    presented_at: datetime | None = None
    parked: TokenPair | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """Goes on from the authorization's step: code received, or tokens saved and the account not yet known.

    `lease` is how long no other worker takes the authorization.
    """

    store: Store
    vault: Vault
    clients: OAuthClients
    providers: Mapping[str, ProviderClient]
    parking: Parking
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]

    lease: timedelta = exchange_lease

    @property
    def connect_account(self) -> ConnectAccount:
        return ConnectAccount(self.store, self.vault, self.providers, self.parking, self.send, self.now)

    @property
    def reserve(self) -> ReserveCode:
        return ReserveCode(self.store, self.vault, self.clients, self.providers, self.now)

    def __call__(self, authorization_id: str) -> None:
        loaded = self.load(authorization_id)
        granted = self.save(loaded, self.ask(loaded)) if isinstance(loaded, CodeRequest) else loaded
        if granted is not None:
            self.connect_account(granted)
        self.send(messages.publish_events())

    @fetching_keys
    def load(self, authorization_id: str) -> CodeRequest | Granted | None:
        """Lease the authorization: return its code to present, or its tokens if only the account is missing."""
        looked = self._find_parked(authorization_id)
        parked = looked.parked
        reserved = None if parked is not None else self.reserve(authorization_id)
        with self.store.writing() as tx:
            found = tx.authorizations.lock(authorization_id)
            now = self.now()
            if found is None:
                structlog.get_logger("exchange").warning("authorization.unknown")
                return None
            if parked is not None and found.step is Step.received:
                saving = grant(found, now + time_to_connect)
                return Granted(save_exchanged(tx, self.vault, self.clients, saving, parked, now), parked)
            match plan_exchange(found, uuid4().hex, self.lease, now, keeps_until(tx, found, now)):
                case ReadAccount(leased):
                    tx.authorizations.save(leased)
                    return Granted(leased)
                case PresentCode() if found.presented_at not in (None, looked.presented_at):
                    # The race: it was presented while this job stood still. What was granted then may be parked.
                    tx.authorizations.save(put_off(found, now))
                case PresentCode(leased):
                    return self._save_intent(tx, leased, reserved, now)
                case AuthorizationChange() as change:
                    apply_change(tx, change, now)
                case None:
                    pass
        return None

    def ask(self, request: CodeRequest) -> Called[TokenOutcome]:
        """Present the code at the token endpoint."""
        found = request.authorization
        provider = self.providers[found.provider]
        return provider.exchange_code(
            request.client, request.code, request.verifier, found.redirect_uri, request.send_before
        )

    def save(self, request: CodeRequest, called: Called[TokenOutcome]) -> Granted | None:
        """Write the outcome down before anything else; return the tokens if there are any.

        Whatever keeps tokens from being written, they are parked first.
        """
        now, own = self.now(), request.authorization
        deadline = self.providers[own.provider].patience.deadline
        with (
            self.parking.shielding(Ticket("exchange", own.id), called.outcome, now),
            self.store.writing() as tx,
        ):
            tx.journal.log(called.log_for(own.id))
            found = tx.authorizations.lock(own.id)
            decision = None if found is None else decide_exchange(found, request, called.outcome, deadline, now)
            granted = None if decision is None else self._apply(tx, decision, now)
            if granted is not None or found is None:
                return granted
            endpoint = endpoint_of(self.providers[own.provider].provider)
            seen = Sighting(called.outcome, own.id, endpoint, own.presented_at or now)
            self.clients.observe(tx, own.provider, own.client_id, seen, now)
            if decision is None and found.step in failed_steps and isinstance(called.outcome, TokensGranted):
                # The race: the authorization was given up before this answer came.
                provider = self.providers[own.provider].provider
                revoke_unconnected(tx, self.vault, provider, found, called.outcome, now)
            return None

    def _find_parked(self, authorization_id: str) -> Looked:
        """Look for tokens that were granted and could not be written; only a code that was presented can have any."""
        with self.store.reading() as tx:
            found = tx.authorizations.get(authorization_id)
        if found is None or found.step is not Step.received or found.presented_at is None:
            return Looked()
        return Looked(found.presented_at, self.parking.find(Ticket("exchange", authorization_id)))

    def _save_intent(
        self, tx: Transaction, leased: Authorization, reserved: Reserved[OpenedCode] | None, now: datetime
    ) -> CodeRequest | None:
        """Save that the code is about to be presented.

        All that can fail comes before the intent, so that a code that counts as presented was on its way.
        """
        if leased.lease_until is None:
            raise AssertionError("an exchange was taken without a lease")
        try:
            if reserved is None or not reserved.is_fresh(now) or reserved.opened.sealed != leased.code:
                reserved = Reserved(self.reserve.open(tx, leased), self.reserve.take(tx, leased, now), now)
        except (ClientUnknown, VaultError) as error:
            is_unknown = isinstance(error, ClientUnknown)
            reason = "client_unknown" if is_unknown else "code_unreadable"
            verb = Verb.exchange_client_unknown if is_unknown else Verb.exchange_code_unreadable
            apply_change(tx, keep_waiting(leased, reason, str(error), verb, retry_at(now, 2, None)), now)
            return None
        if reserved.wait is not None:
            tx.authorizations.save(wait_for_rate_limit(leased, reserved.wait))
            return None
        self.vault.require()
        self.parking.reserve(Ticket("exchange", leased.id))
        intent = replace(leased, presented_at=now, attempts=leased.attempts + 1)
        tx.authorizations.save(intent)
        send_before = leased.lease_until - self.providers[leased.provider].patience.deadline
        opened, after_unknown = reserved.opened, leased.presented_at is not None
        return CodeRequest(intent, opened.client, opened.code, opened.verifier, send_before, after_unknown)

    def _apply(self, tx: Transaction, decision: ExchangeDecision, now: datetime) -> Granted | None:
        """Write a decision; return the tokens if it has any: they need not be opened again to go on."""
        authorization = decision.change.authorization
        if decision.pair is not None:
            saved = save_exchanged(tx, self.vault, self.clients, authorization, decision.pair, now)
            return Granted(saved, decision.pair)
        apply_change(tx, decision.change, now)
        if decision.paused_until is not None:
            tx.paces.pause(authorization.provider, decision.paused_until)
        return None
