"""A granted pair into its rows: beside its authorization first, then as a connection's new generation."""

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

from models.account import Account
from models.crypto.secrets import Sealed, Secret
from models.crypto.vault import Place, Vault
from models.oauth.authorization import Authorization, Step
from models.oauth.connection import Connection, NewPair, Status, authorize
from models.oauth.credential import Credential
from models.oauth.token_pair import TokenPair, pack
from models.store import Transaction
from models.sync.sync_run import on_its_way
from worker.tokens.oauth_clients import OAuthClients

time_to_connect = timedelta(seconds=5)
"""Whoever keeps an exchange's tokens goes on with them at once; only where it died does the sweep send another."""


def hold_exchanged(
    tx: Transaction,
    vault: Vault,
    clients: OAuthClients,
    found: Authorization,
    pair: TokenPair,
    now: datetime,
    due_at: datetime,
) -> Authorization:
    """The tokens stand beside their authorization, which goes on from here however often it is interrupted.

    Nobody else is to go on with it before `due_at`.
    """
    granted = replace(
        found,
        step=Step.granted,
        code=None,
        verifier=None,
        tokens=vault.seal(pack(pair), place_of(found, "tokens")),
        due_at=due_at,
        attempts=0,
        lease_until=None,
    )
    tx.authorizations.save(granted)
    clients.accept(tx, found.provider, found.client_id, now)
    return granted


def hold_authorized(
    tx: Transaction,
    vault: Vault,
    found: Connection | None,
    user_id: str,
    account: Account,
    pair: TokenPair,
    provider: str,
    client_id: str,
    team_ids: tuple[int, ...],
    now: datetime,
) -> Connection:
    """The tokens of an account that a user has just authorized, as the next generation of the connection that was
    found, or as a new one; due for a sync at once, which the caller sends. A reading of other teams' lists ends."""
    connection = found or Connection(
        id=uuid4().hex,
        user_id=user_id,
        provider=provider,
        client_id=client_id,
        account_id=account.id,
        status=Status.active,
        created_at=now,
    )
    if found is None:
        tx.connections.add(connection)
    granted = pair.granted
    refreshable = granted.refresh_token is not None
    held, facts = authorize(
        connection,
        NewPair(pair.issued_at, granted.expires_in, granted.scope, refreshable),
        client_id=client_id,
        email=account.email,
        team_ids=team_ids,
        reauthorized=found is not None,
    )
    held = replace(held, sync_due_at=now)
    if held.team_ids != connection.team_ids:
        tx.runs.end(held.id, "teams_changed")
    tx.connections.save(held, connection.generation)
    tx.connections.leave_sync_to_message(held.id, now + on_its_way)
    tx.credentials.put(
        Credential(
            connection_id=held.id,
            access_token=seal_token(vault, granted.access_token, held.id, "access_token"),
            refresh_token=seal_token(vault, granted.refresh_token, held.id, "refresh_token"),
            issued_at=pair.issued_at,
            expires_at=held.expires_at,
        )
    )
    tx.outbox.append(held.about, facts, now)
    return held


def seal_token(vault: Vault, token: Secret | None, connection_id: str, field: str) -> Sealed | None:
    """Seal a token to its connection's row; None if there is no token."""
    return None if token is None else vault.seal(token, Place("credential", connection_id, field))


def place_of(authorization: Authorization, field: str) -> Place:
    """Where an authorization's secrets are sealed to."""
    return Place("authorization", authorization.id, field)
