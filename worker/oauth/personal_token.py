"""Connecting an account by a personal access token: asked whose it is, sealed, and read like any other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from models.account import Account, read_account
from models.api_response import ApiOutcome, Forbidden, Unauthorized
from models.crypto.secrets import Secret
from models.crypto.vault import Vault
from models.errors import Permanent, SyncError, Transient
from models.messaging import messages
from models.oauth.connection import Connection, personal_client
from models.oauth.token_pair import TokenPair
from models.oauth.token_response import TokensGranted
from models.store import Store
from worker.provider.client import Called, ProviderClient
from worker.tokens.revocation_queue import take_back
from worker.tokens.save import hold_authorized


class TokenRefused(Permanent):
    """The provider does not let this token in; the text says why."""


class AccountUnknown(Transient):
    """The provider did not say whose token it is; another try may tell."""


@dataclass(frozen=True, slots=True)
class ConnectToken:
    """One call and one transaction; where either fails nothing has changed."""

    store: Store
    vault: Vault
    providers: Mapping[str, ProviderClient]
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]

    def __call__(self, provider: str, user_id: str, token: Secret, team_ids: tuple[int, ...] = ()) -> Connection:
        """The account's connection, new or revived. Raises `TokenRefused` or `AccountUnknown`."""
        client = self.providers[provider]
        called = client.read_account(token)
        account = read_account(client.provider, called.outcome)
        if account is None:
            raise _explain(client.provider.shown_name, called)
        connection = self._save(provider, user_id, account, token, team_ids, called)
        self.send(messages.sync_connection(connection.id))
        self.send(messages.publish_events())
        return connection

    def _save(
        self,
        provider: str,
        user_id: str,
        account: Account,
        token: Secret,
        team_ids: tuple[int, ...],
        called: Called[ApiOutcome],
    ) -> Connection:
        now = self.now()
        pair = TokenPair(TokensGranted(access_token=token, refresh_token=None, expires_in=None, scope=None), now)
        with self.store.writing() as tx:
            found = tx.connections.lock_account(provider, user_id, account.id)
            if found is not None:
                take_back(tx, found, now)
            held = hold_authorized(
                tx, self.vault, found, user_id, account, pair, provider, personal_client, team_ids, now
            )
            tx.journal.decide(held.id, now, "authorized", generation=held.generation, by=personal_client)
            tx.journal.log(called.log_for(held.id))
        return held


def _explain(name: str, called: Called[ApiOutcome]) -> SyncError:
    match called.outcome:
        case Unauthorized():
            return TokenRefused(f"{name} does not know this token (401): copy it again, or make a new one")
        case Forbidden():
            return TokenRefused(f"the account's plan at {name} has no API access (403)")
        case outcome:
            return AccountUnknown(f"{name} did not say whose token this is ({type(outcome).__name__}): try again")
