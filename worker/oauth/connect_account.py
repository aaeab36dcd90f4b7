"""From an authorization's tokens to a connection: whose they are is asked, and the connection made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from models.account import Account, read_account
from models.api_response import ApiOutcome, Forbidden, Throttled, Unauthorized
from models.crypto.vault import Vault
from models.errors import StoreConflict
from models.messaging import messages
from models.oauth.authorization import Authorization, Step, end, give_up_after
from models.oauth.connection import Connection
from models.oauth.refresh_policy import retry_at
from models.oauth.token_pair import TokenPair, unpack
from models.store import Store, Transaction
from worker.oauth.authorizing import Authorizing
from worker.provider.client import Called, ProviderClient
from worker.tokens.revocation_queue import let_go, take_back
from worker.tokens.save import hold_authorized, place_of
from worker.tokens.spool import Parking, Ticket


@dataclass(frozen=True, slots=True)
class Connecting:
    """The tokens are kept: however often this is interrupted, it begins again without the code."""

    store: Store
    vault: Vault
    providers: Mapping[str, ProviderClient]
    parking: Parking
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]

    @property
    def row(self) -> Authorizing:
        return Authorizing(self.now)

    def __call__(self, granted: Authorization) -> None:
        """Asks whose tokens these are and makes the connection; any trouble but a refusal is waited out."""
        if granted.tokens is None:
            raise AssertionError("an authorization was granted without tokens")
        pair = unpack(self.vault.open(granted.tokens, place_of(granted, "tokens")))
        provider = self.providers[granted.provider]
        called = provider.read_account(pair.granted.access_token)
        try:
            self._save(granted, pair, called)
        except StoreConflict:
            # Another browser has connected the same account at the same moment: it is found now.
            self._save(granted, pair, called)

    def _save(self, granted: Authorization, pair: TokenPair, called: Called[ApiOutcome]) -> None:
        provider, now = self.providers[granted.provider].provider, self.now()
        account = read_account(provider, called.outcome)
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
                stray = self._let_go_stray(tx, granted, account, pair, now)
            else:
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
            self.row.fail(tx, found, "account_mismatch", "another account answered than the one to be authorized again")
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
        ended = end(found, Step.connected)
        tx.authorizations.save(replace(ended, connection_id=held.id))
        return held

    def _let_go_stray(
        self, tx: Transaction, granted: Authorization, account: Account, pair: TokenPair, now: datetime
    ) -> str | None:
        """A grant that nobody asked for is ended, unless a connection may live by the same one: some providers keep one
        for each user and client."""
        if tx.connections.is_lived_by(granted.provider, granted.client_id, account.id):
            tx.journal.decide(granted.id, now, "exchange.grant_spared", account_id=account.id)
            return None
        provider = self.providers[granted.provider].provider
        token = pair.granted.refresh_token or pair.granted.access_token
        return let_go(tx, self.vault, provider, granted.client_id, token, now)

    def _put_off(self, tx: Transaction, found: Authorization, called: Called[ApiOutcome], now: datetime) -> None:
        """No account yet. 401 and 403 will not change by waiting; anything else is tried again for a day."""
        name = self.providers[found.provider].provider.name
        match called.outcome:
            case Unauthorized():
                self.row.fail(tx, found, "code_rejected", f"{name} refused the tokens that it had just issued")
            case Forbidden():
                self.row.fail(
                    tx, found, "denied", f"the account's plan at {name} does not include access for applications"
                )
            case Throttled(retry_after):
                self.row.wait(tx, found, now + retry_after)
            case _ if now - (found.code_received_at or now) > give_up_after:
                self.row.fail(tx, found, "answer_lost", f"{name} never told whose account it is")
            case _:
                self.row.wait(tx, replace(found, attempts=found.attempts + 1), retry_at(now, found.attempts + 1, None))
