"""Connect an account by a personal access token: read whose it is, and save it sealed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from models.account import read_account
from models.api_response import ApiOutcome, Forbidden, Unauthorized
from models.crypto.secrets import Secret
from models.crypto.vault import Vault
from models.errors import Permanent, SyncError, Transient
from models.journal import Verb
from models.messaging import messages
from models.oauth.connection import Connection, personal_client
from models.oauth.token_pair import TokenPair
from models.oauth.token_response import TokensGranted
from models.store import Store
from worker.provider.client import Called, ProviderClient
from worker.tokens.data_keys import fetching_keys
from worker.tokens.save import Authorized, save_authorized


class TokenRefused(Permanent):
    """The provider refuses this token; the text says why."""


class AccountUnknown(Transient):
    """The provider did not say whose token it is; another attempt may succeed."""


@dataclass(frozen=True, slots=True)
class ConnectToken:
    """One call and one transaction; if either fails, nothing has changed."""

    store: Store
    vault: Vault
    providers: Mapping[str, ProviderClient]
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]

    def __call__(self, provider: str, user_id: str, token: Secret, team_ids: tuple[int, ...] = ()) -> Connection:
        """Return the account's connection, new or revived. Raises `TokenRefused` or `AccountUnknown`."""
        client = self.providers[provider]
        called = client.read_account(token)
        account = read_account(client.provider, called.outcome)
        if account is None:
            raise _explain(client.provider.shown_name, called)
        now = self.now()
        pair = TokenPair(TokensGranted(access_token=token, refresh_token=None, expires_in=None, scope=None), now)
        authorized = Authorized(provider, user_id, personal_client, account, pair, team_ids)
        connection = self._save(authorized, called, now)
        self.send(messages.carry_out_sync(connection.id))
        self.send(messages.publish_events())
        return connection

    @fetching_keys
    def _save(self, authorized: Authorized, called: Called[ApiOutcome], now: datetime) -> Connection:
        with self.store.writing() as tx:
            found = tx.connections.lock_account(authorized.provider, authorized.user_id, authorized.account.id)
            connection = save_authorized(tx, self.vault, found, authorized, now)
            tx.journal.decide(connection.id, now, Verb.authorized, generation=connection.generation, by=personal_client)
            tx.journal.log(called.log_for(connection.id))
        return connection


def _explain(name: str, called: Called[ApiOutcome]) -> SyncError:
    match called.outcome:
        case Unauthorized():
            return TokenRefused(f"{name} does not know this token (401): copy it again, or make a new one")
        case Forbidden():
            return TokenRefused(f"the account's plan at {name} has no API access (403)")
        case outcome:
            return AccountUnknown(f"{name} did not say whose token this is ({type(outcome).__name__}): try again")
