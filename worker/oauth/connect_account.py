"""Turn an authorization's tokens into a connection: read whose account they open, and save it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from models.account import Account, read_account
from models.api_response import ApiOutcome
from models.crypto.vault import Vault
from models.errors import StoreConflict
from models.journal import Verb
from models.messaging import messages
from models.oauth.authorization import Authorization, AuthorizationChange, Step, open_steps, place_of
from models.oauth.connection import Connection, Status
from models.oauth.exchange_outcome import (
    EndGrant,
    KeepNewer,
    Later,
    MakeConnection,
    await_refresh,
    connect,
    decide_account,
    decide_without_account,
)
from models.oauth.token_pair import TokenPair, unpack
from models.store import Store, Transaction
from models.store.authorization_change import apply_change
from worker.provider.client import Called, ProviderClient
from worker.tokens.data_keys import fetching_keys
from worker.tokens.revocation_queue import UnneededGrant, queue_revocation, revoke_unconnected
from worker.tokens.save import Authorized, save_authorized
from worker.tokens.spool import Parking, Ticket


@dataclass(frozen=True, slots=True)
class Granted:
    """An authorization whose tokens are saved; `pair` is None if they have to be opened first."""

    authorization: Authorization
    pair: TokenPair | None = None


def find_later(tx: Transaction, before: Connection) -> Later:
    """Return what the user and the application did last with a connection, whose row is locked."""
    authorized_at = tx.connections.authorized_at(before.id)
    if before.status is not Status.disconnected:
        return Later(authorized_at)
    ends = [each.evidence for each in tx.journal.decisions_of(before.id) if each.verb == Verb.disconnected]
    asked_at = ends[-1].get("asked_at") if ends else None
    return Later(authorized_at, datetime.fromisoformat(str(asked_at)) if asked_at else None)


@dataclass(frozen=True, slots=True)
class ConnectAccount:
    """The tokens are saved: however often this is interrupted, it begins again without the code."""

    store: Store
    vault: Vault
    providers: Mapping[str, ProviderClient]
    parking: Parking
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]

    def __call__(self, granted: Granted) -> None:
        """Read whose tokens these are and save the connection; any trouble but a refusal is waited out."""
        own, pair = granted.authorization, granted.pair or self._open(granted.authorization)
        called = self.providers[own.provider].read_account(pair.granted.access_token)
        try:
            sends = self._save(own, pair, called)
        except StoreConflict:
            # The race: another browser connected the same account at the same moment. It is found now.
            sends = self._save(own, pair, called)
        for message in sends:
            self.send(message)

    @fetching_keys
    def _open(self, own: Authorization) -> TokenPair:
        if own.tokens is None:
            raise AssertionError("an authorization was granted without tokens")
        return unpack(self.vault.open(own.tokens, place_of(own.id, "tokens")))

    @fetching_keys
    def _save(self, own: Authorization, pair: TokenPair, called: Called[ApiOutcome]) -> list[messages.Message]:
        """Save what the answer means; return what is sent after the commit."""
        provider, now = self.providers[own.provider].provider, self.now()
        account = read_account(provider, called.outcome)
        with self.store.writing() as tx:
            tx.journal.log(called.log_for(own.id))
            found = tx.authorizations.lock(own.id)
            if found is None or found.step is not Step.granted:
                return []
            if account is None:
                change = decide_without_account(found, called.outcome, provider.name, pair, now)
                return self._apply_without_account(tx, change, pair, now)
            match self._decide(tx, found, account, pair, now):
                case AuthorizationChange() as change:
                    apply_change(tx, change, now)
                    return []
                case KeepNewer(change):
                    apply_change(tx, change, now)
                    sends = []
                case MakeConnection() as decision:
                    sends = self._make_connection(tx, found, decision, pair, now)
                case EndGrant() as decision:
                    sends = self._end_grant(tx, decision, account.id, pair, now)
        self.parking.drop(Ticket("exchange", own.id))
        return sends

    def _apply_without_account(
        self, tx: Transaction, change: AuthorizationChange, pair: TokenPair, now: datetime
    ) -> list[messages.Message]:
        """Write what becomes of an authorization without an account; a grant that is given up is revoked upstream."""
        apply_change(tx, change, now)
        own = change.authorization
        if own.step in open_steps:
            return []
        provider = self.providers[own.provider].provider
        revocation_id = revoke_unconnected(tx, self.vault, provider, own, pair.granted, now)
        return [] if revocation_id is None else [messages.revoke_grant(revocation_id)]

    def _decide(
        self, tx: Transaction, found: Authorization, account: Account, pair: TokenPair, now: datetime
    ) -> MakeConnection | KeepNewer | EndGrant | AuthorizationChange:
        target = found.target_connection_id
        if target:
            before = tx.connections.lock(target)
        else:
            before = tx.connections.lock_account(found.provider, found.user_id, account.id)
        shares_grant = tx.connections.is_lived_by(found.provider, found.client_id, account.id)
        later = Later() if before is None else find_later(tx, before)
        decision = decide_account(found, account, before, later, shares_grant)
        if before is None or pair.granted.refresh_token is not None or not isinstance(decision, MakeConnection):
            return decision
        # The race: a refresh of the old refresh token, which stays in use, is under way.
        return await_refresh(found, before, tx.credentials.get(before.id), now) or decision

    def _make_connection(
        self, tx: Transaction, found: Authorization, decision: MakeConnection, pair: TokenPair, now: datetime
    ) -> list[messages.Message]:
        authorized = Authorized(found.provider, found.user_id, found.client_id, decision.account, pair, found.team_ids)
        saved = save_authorized(tx, self.vault, decision.before, authorized, now)
        tx.journal.decide(saved.id, now, Verb.authorized, generation=saved.generation, authorization_id=found.id)
        apply_change(tx, connect(found, saved.id), now)
        tx.journal.hand_over(found.id, saved.id, found.created_at)
        return [messages.carry_out_sync(saved.id)]

    def _end_grant(
        self, tx: Transaction, decision: EndGrant, account_id: str, pair: TokenPair, now: datetime
    ) -> list[messages.Message]:
        """End the authorization, and at the provider the grant that no one asked for."""
        apply_change(tx, decision.change, now)
        if not decision.revokes:
            return []
        own = decision.change.authorization
        provider = self.providers[own.provider].provider
        token = pair.granted.refresh_token or pair.granted.access_token
        unneeded = UnneededGrant(own.client_id, token, account_id=account_id)
        revocation_id = queue_revocation(tx, self.vault, provider, unneeded, now)
        return [] if revocation_id is None else [messages.revoke_grant(revocation_id)]
