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
    place_of,
)
from models.oauth.breaker import Sighting, endpoint_of, look_again_at
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
from worker.provider.client import Called, ProviderClient
from worker.tokens.data_keys import fetching_keys
from worker.tokens.oauth_clients import ClientUnknown, OAuthClients
from worker.tokens.revocation_queue import revoke_unconnected
from worker.tokens.save import save_exchanged
from worker.tokens.spool import Parking, Ticket


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

    def __call__(self, authorization_id: str) -> None:
        loaded = self.load(authorization_id)
        granted = self.save(loaded, self.ask(loaded)) if isinstance(loaded, CodeRequest) else loaded
        if granted is not None:
            self.connect_account(granted)
        self.send(messages.publish_events())

    @fetching_keys
    def load(self, authorization_id: str) -> CodeRequest | Granted | None:
        """Lease the authorization: return its code to present, or its tokens if only the account is missing."""
        parked = self._find_parked(authorization_id)
        with self.store.writing() as tx:
            now = self.now()
            found = tx.authorizations.lock(authorization_id)
            if found is None:
                structlog.get_logger("exchange").warning("authorization.unknown")
                return None
            if parked is not None and found.step is Step.received:
                saving = grant(found, now + time_to_connect)
                return Granted(save_exchanged(tx, self.vault, self.clients, saving, parked, now), parked)
            match plan_exchange(found, uuid4().hex, self.lease, now, _keeps_until(tx, found, now)):
                case ReadAccount(leased):
                    tx.authorizations.save(leased)
                    return Granted(leased)
                case PresentCode(leased):
                    return self._save_intent(tx, leased, now)
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

    def _find_parked(self, authorization_id: str) -> TokenPair | None:
        """Return tokens that were granted and could not be written; only a code that was presented can have any."""
        with self.store.reading() as tx:
            found = tx.authorizations.get(authorization_id)
        if found is None or found.step is not Step.received or found.presented_at is None:
            return None
        return self.parking.find(Ticket("exchange", authorization_id))

    def _save_intent(self, tx: Transaction, leased: Authorization, now: datetime) -> CodeRequest | None:
        """Save that the code is about to be presented.

        All that can fail comes before the intent, so that a code that counts as presented was on its way.
        """
        provider = self.providers[leased.provider]
        if leased.code is None or leased.lease_until is None:
            raise AssertionError("an exchange was taken without a code or a lease")
        try:
            client = self.clients.find_in(tx, leased.provider, leased.client_id)
            code = self.vault.open(leased.code, place_of(leased.id, "code"))
            sealed = leased.verifier
            verifier = None if sealed is None else self.vault.open(sealed, place_of(leased.id, "verifier"))
        except (ClientUnknown, VaultError) as error:
            is_unknown = isinstance(error, ClientUnknown)
            reason = "client_unknown" if is_unknown else "code_unreadable"
            verb = Verb.exchange_client_unknown if is_unknown else Verb.exchange_code_unreadable
            apply_change(tx, keep_waiting(leased, reason, str(error), verb, retry_at(now, 2, None)), now)
            return None
        wait_until = tx.paces.take(leased.provider, provider.provider.token_requests_per_minute, "exchange", now)
        if wait_until is not None:
            tx.authorizations.save(wait_for_rate_limit(leased, wait_until))
            return None
        self.vault.require()
        self.parking.reserve(Ticket("exchange", leased.id))
        intent = replace(leased, presented_at=now, attempts=leased.attempts + 1)
        tx.authorizations.save(intent)
        send_before = leased.lease_until - provider.patience.deadline
        return CodeRequest(intent, client, code, verifier, send_before, after_unknown=leased.presented_at is not None)

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


def _keeps_until(tx: Transaction, found: Authorization, now: datetime) -> datetime | None:
    """Return when the client's breaker is looked at again; None if it lets codes leave."""
    client = tx.clients.get(found.provider, found.client_id)
    return look_again_at(client, now) if client is not None and client.keeps_codes else None
