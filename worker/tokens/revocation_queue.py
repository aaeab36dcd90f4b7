"""Queue grants for revocation at their provider, and cancel that if the account is authorized again."""

from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

import structlog

from models.crypto.secrets import Sealed, Secret
from models.crypto.vault import Place, Vault, VaultError
from models.messaging.events import ConnectionDisconnected
from models.oauth.authorization import Authorization
from models.oauth.connection import Connection, Status, personal_client
from models.oauth.credential import place_of_token
from models.oauth.revocation import Revocation
from models.oauth.token_response import TokensGranted
from models.provider import Provider
from models.store import Transaction


@dataclass(frozen=True, slots=True)
class UnneededGrant:
    """A grant to end at its provider.

    client_id: the client it was issued to, which need not be the newest of the settings.
    token: its refresh token or access token; None if there is none, or it can't be opened.
    connection_id: the connection that it belonged to.
    user_id, account_id: whose it is, if it never belonged to one; the account if it is known.
    tells: whether its end is that connection's `connection.disconnected` event.
    """

    client_id: str
    token: Secret | None
    connection_id: str | None = None
    user_id: str | None = None
    account_id: str | None = None
    tells: bool = False


def queue_revocation(
    tx: Transaction, vault: Vault, provider: Provider | None, grant: UnneededGrant, now: datetime
) -> str | None:
    """Add a revocation that is due now and return its id; None without a revocation endpoint or a token to revoke."""
    if provider is None or not provider.revoke_url or grant.token is None or grant.client_id == personal_client:
        return None
    revocation_id = uuid4().hex
    tx.revocations.add(
        Revocation(
            id=revocation_id,
            provider=provider.name,
            client_id=grant.client_id,
            token=vault.seal(grant.token, place_of_grant(revocation_id)),
            created_at=now,
            due_at=now,
            connection_id=grant.connection_id,
            user_id=grant.user_id,
            account_id=grant.account_id,
            tells=grant.tells,
        )
    )
    return revocation_id


def let_go_late(
    tx: Transaction,
    vault: Vault,
    provider: Provider | None,
    connection: Connection,
    granted: TokensGranted,
    now: datetime,
) -> None:
    """Revoke a pair that was granted after its connection was disconnected.

    In any other status it is left alone: the connection may use the same grant.
    """
    if connection.status is Status.disconnected:
        token = granted.refresh_token or granted.access_token
        queue_revocation(tx, vault, provider, UnneededGrant(connection.client_id, token, connection.id), now)


def revoke_unconnected(
    tx: Transaction, vault: Vault, provider: Provider, own: Authorization, granted: TokensGranted, now: datetime
) -> str | None:
    """Revoke the tokens of an authorization that failed; return the revocation's id, None if there is none.

    If the user has another connection of that client, nothing is revoked: some providers keep one grant for each user
    and client, and whose account the tokens open is not known.
    """
    if tx.connections.is_used_by(own.provider, own.client_id, own.user_id):
        return None
    token = granted.refresh_token or granted.access_token
    return queue_revocation(tx, vault, provider, UnneededGrant(own.client_id, token, user_id=own.user_id), now)


def is_needed_again(tx: Transaction, revocation: Revocation) -> bool:
    """Return whether the user, or whoever has the account, has a connection by now that may use the same grant.

    Only of a grant that never became a connection: one's own revocations are cancelled with it.
    """
    provider, client_id = revocation.provider, revocation.client_id
    if revocation.account_id is not None:
        return tx.connections.is_lived_by(provider, client_id, revocation.account_id)
    return revocation.user_id is not None and tx.connections.is_used_by(provider, client_id, revocation.user_id)


def open_token(vault: Vault, connection: Connection, sealed: Sealed | None, field: str) -> Secret | None:
    """Open a connection's token to revoke it; None if there is none, or if no key opens it."""
    if sealed is None:
        return None
    try:
        return vault.open(sealed, place_of_token(connection, field))
    except VaultError as error:
        structlog.get_logger("letting_go").error("token.unreadable", connection_id=connection.id, error=str(error))
        return None


def cancel_revocations(tx: Transaction, connection: Connection, now: datetime) -> None:
    """Drop a connection's revocations because its account is authorized again; publish a disconnect still unpublished.

    Ending the old grant might end the new one too: some providers keep one grant for each user and client.
    """
    for revocation in tx.revocations.of(connection.id):
        tx.revocations.end(revocation.id)
        if revocation.tells:
            tx.outbox.append(connection.about, [ConnectionDisconnected(revoked_upstream=False)], now)


def place_of_grant(revocation_id: str) -> Place:
    return Place("revocation", revocation_id, "token")
