"""A granted pair into its rows: beside its authorization first, then as a connection's new generation."""

from dataclasses import replace
from datetime import datetime

from models.authorization import Authorization, Step
from models.connection import Connection, NewPair, refresh
from models.credential import Credential
from models.secrets import Sealed, Secret
from models.store import Transaction
from models.token_pair import TokenPair, pack
from models.vault import Place, Vault
from worker.client_book import ClientBook


def hold_rotation(
    tx: Transaction, vault: Vault, clients: ClientBook, connection: Connection, credential: Credential, pair: TokenPair
) -> Connection:
    """The next generation of a connection; state, event and tokens in the caller's transaction.

    Both rows were read in it. An answer without a refresh token leaves the old one in its place (RFC 6749 §6).
    """
    granted, at = pair.granted, pair.issued_at
    held, facts = refresh(connection, NewPair(at, granted.expires_in, granted.scope))
    if credential.refused_generation == connection.generation:
        held = replace(held, sync_due_at=at)
    new_refresh_token = seal_token(vault, granted.refresh_token, held.id, "refresh_token")
    tx.credentials.put(
        Credential(
            connection_id=held.id,
            access_token=seal_token(vault, granted.access_token, held.id, "access_token"),
            refresh_token=new_refresh_token or credential.refresh_token,
            issued_at=at,
            expires_at=held.expires_at,
            refused_generation=credential.refused_generation,
            refused_at=credential.refused_at,
        )
    )
    tx.connections.save(held, connection.generation)
    tx.outbox.append(held.about, facts, at)
    tx.journal.decide(held.id, at, "refresh.saved", generation=held.generation)
    clients.accept(tx, held.provider, held.client_id, at)
    return held


def hold_exchanged(
    tx: Transaction, vault: Vault, clients: ClientBook, found: Authorization, pair: TokenPair, now: datetime
) -> Authorization:
    """The tokens stand beside their authorization, which goes on from here however often it is interrupted."""
    granted = replace(
        found,
        step=Step.granted,
        code=None,
        verifier=None,
        tokens=vault.seal(pack(pair), place_of(found, "tokens")),
        due_at=now,
        attempts=0,
        lease_until=None,
    )
    tx.authorizations.save(granted)
    clients.accept(tx, found.provider, found.client_id, now)
    return granted


def seal_token(vault: Vault, token: Secret | None, connection_id: str, field: str) -> Sealed | None:
    return None if token is None else vault.seal(token, Place("credential", connection_id, field))


def place_of(authorization: Authorization, field: str) -> Place:
    """Where an authorization's secrets are sealed to."""
    return Place("authorization", authorization.id, field)
