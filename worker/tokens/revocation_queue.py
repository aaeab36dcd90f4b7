"""A token on its way out: out of where it was used, into the row that tells the provider to end its grant."""

from datetime import datetime
from uuid import uuid4

import structlog

from models.crypto.secrets import Sealed, Secret
from models.crypto.vault import Place, Vault, VaultError
from models.messaging.events import ConnectionDisconnected
from models.oauth.connection import Connection, Status, personal_client
from models.oauth.revocation import Revocation
from models.oauth.token_response import TokensGranted
from models.provider import Provider
from models.store import Transaction


def let_go(
    tx: Transaction,
    vault: Vault,
    provider: Provider | None,
    client_id: str,
    token: Secret | None,
    now: datetime,
    connection_id: str | None = None,
    tells: bool = False,
) -> str | None:
    """The id of the revocation that is due now; None where there is no endpoint to tell, or nothing to tell it.

    The row's key, not its place in the settings, says which client the token belongs to.
    """
    if provider is None or not provider.revoke_url or token is None or client_id == personal_client:
        return None
    revocation_id = uuid4().hex
    sealed = vault.seal(token, place_of_token(revocation_id))
    tx.revocations.add(
        Revocation(revocation_id, provider.name, client_id, sealed, now, now, connection_id=connection_id, tells=tells)
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
    """A pair that was won when its connection was disconnected already: the provider is told to end it as well.

    Anywhere else it is left alone: what stands there may live by the same grant.
    """
    if connection.status is Status.disconnected:
        token = granted.refresh_token or granted.access_token
        let_go(tx, vault, provider, connection.client_id, token, now, connection.id)


def open_token(vault: Vault, connection_id: str, sealed: Sealed | None, field: str) -> Secret | None:
    """A connection's token for the last time; None where there is none, or where it does not open any more."""
    if sealed is None:
        return None
    try:
        return vault.open(sealed, Place("credential", connection_id, field))
    except VaultError as error:
        structlog.get_logger("letting_go").error("token.unreadable", connection_id=connection_id, error=str(error))
        return None


def take_back(tx: Transaction, connection: Connection, now: datetime) -> None:
    """The account is authorized again: what is still to be revoked of it is not, and a disconnect untold is told now.

    Ending the old grant might end the new one with it, where a provider keeps one grant for each user and client.
    """
    for revocation in tx.revocations.of(connection.id):
        tx.revocations.end(revocation.id)
        if revocation.tells:
            tx.outbox.append(connection.about, [ConnectionDisconnected(revoked_upstream=False)], now)


def place_of_token(revocation_id: str) -> Place:
    return Place("revocation", revocation_id, "token")
