"""Save a granted pair: beside its authorization first, then as a connection's new generation."""

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import uuid4

from models.account import Account
from models.audit.entry import Action, Entry
from models.crypto.secrets import Sealed, Secret
from models.crypto.vault import KeyMissing, SealBroken, Vault
from models.messaging.events import ConnectionAuthorized, Fact
from models.oauth.authorization import Authorization, place_of
from models.oauth.claims import Claims
from models.oauth.connection import Connection, NewPair, Status, add_others, authorize
from models.oauth.credential import Credential, kept_refresh_token, place_of_token
from models.oauth.token_pair import TokenPair, pack
from models.store import Transaction
from models.sync.sync_run import on_its_way
from worker.tokens.oauth_clients import OAuthClients
from worker.tokens.refusals import forget_refusal
from worker.tokens.revocation_queue import cancel_revocations


@dataclass(frozen=True, slots=True)
class Authorized:
    """An account that a user has just authorized, with its tokens.

    client_id: the OAuth client that the tokens were issued to, or `personal_client`.
    team_ids: the teams to sync; empty means those of before, or all.
    """

    provider: str
    user_id: str
    client_id: str
    account: Account
    pair: TokenPair
    team_ids: tuple[int, ...]


def save_exchanged(
    tx: Transaction, vault: Vault, clients: OAuthClients, granted: Authorization, pair: TokenPair, now: datetime
) -> Authorization:
    """Save a pair beside its authorization (see `grant`), which goes on from here however often it is interrupted."""
    saved = replace(granted, tokens=vault.seal(pack(pair), place_of(granted.id, "tokens")))
    tx.authorizations.save(saved)
    clients.accept(tx, saved.provider, saved.client_id, now)
    exchanged = Entry(
        action=Action.code_exchanged,
        provider=saved.provider,
        user_id=saved.user_id,
        connection_id=saved.target_connection_id,
        authorization_id=saved.id,
    )
    tx.audit.add(exchanged, now)
    return saved


def save_authorized(
    tx: Transaction, vault: Vault, found: Connection | None, authorized: Authorized, now: datetime
) -> Connection:
    """Save a pair as the next generation of the connection that was found, or as a new connection.

    A pair without a refresh token leaves the old one in use (see `kept_refresh_token`). A full sync of it is due at
    once, which the caller sends. Older grants are no longer revoked, and a run that reads other teams' lists ends.
    """
    connection = _add_connection(tx, authorized, now) if found is None else _revive(tx, found, now)
    pair, granted = authorized.pair, authorized.pair.granted
    kept = None if granted.refresh_token else _kept_refresh_token(tx, found, authorized.client_id)
    moved = _move_kept(vault, kept, connection)
    refreshable = granted.refresh_token is not None or moved is not None
    saved, facts = authorize(
        connection,
        NewPair(pair.issued_at, granted.expires_in, granted.scope, refreshable),
        client_id=authorized.client_id,
        email=authorized.account.email,
        team_ids=authorized.team_ids,
        reauthorized=found is not None,
    )
    saved = replace(saved, sync_due_at=now, sync_requested=True)
    if saved.team_ids != connection.team_ids:
        tx.runs.end(saved.id, "teams_changed")
    tx.connections.save(saved, connection.generation, Claims(refresh=None, sync=now + on_its_way))
    tx.credentials.put(
        Credential(
            connection_id=saved.id,
            access_token=seal_token(vault, granted.access_token, saved, "access_token"),
            refresh_token=seal_token(vault, granted.refresh_token, saved, "refresh_token") or moved,
            issued_at=pair.issued_at,
            expires_at=saved.expires_at,
        )
    )
    tx.outbox.append(saved.about, name_others(tx, saved, facts), now)
    return saved


def _move_kept(vault: Vault, kept: Sealed | None, connection: Connection) -> Sealed | None:
    """Seal a refresh token that stays in use to the next generation; one whose key is lost is of no use any more."""
    try:
        return seal_again(vault, kept, connection, replace(connection, generation=connection.generation + 1))
    except KeyMissing:
        return None


def _revive(tx: Transaction, found: Connection, now: datetime) -> Connection:
    """Forget what ended, or was about to end, the connection."""
    forget_refusal(tx, found)
    cancel_revocations(tx, found, now)
    return found


def _add_connection(tx: Transaction, authorized: Authorized, now: datetime) -> Connection:
    connection = _new_connection(authorized, now)
    tx.connections.add(connection)
    return connection


def name_others(tx: Transaction, connection: Connection, facts: tuple[Fact, ...]) -> tuple[Fact, ...]:
    """Return the facts, with the users who have the same account connected if one says that it was authorized."""
    if not any(isinstance(fact, ConnectionAuthorized) for fact in facts):
        return facts
    return add_others(facts, tx.connections.others_of_account(connection))


def _kept_refresh_token(tx: Transaction, found: Connection | None, client_id: str) -> Sealed | None:
    return None if found is None else kept_refresh_token(found, tx.credentials.get(found.id), client_id)


def _new_connection(authorized: Authorized, now: datetime) -> Connection:
    return Connection(
        id=uuid4().hex,
        user_id=authorized.user_id,
        provider=authorized.provider,
        client_id=authorized.client_id,
        account_id=authorized.account.id,
        status=Status.active,
        created_at=now,
    )


def seal_token(vault: Vault, token: Secret | None, connection: Connection, field: str) -> Sealed | None:
    """Seal a token to its connection's row and generation; None if there is no token."""
    return None if token is None else vault.seal(token, place_of_token(connection, field))


def seal_again(vault: Vault, kept: Sealed | None, before: Connection, after: Connection) -> Sealed | None:
    """Seal a refresh token that stays in use to the next generation of its connection; None if there is none.

    A broken seal stays as it is. Raises `KeyMissing` or `KeyNotAtHand`.
    """
    if kept is None:
        return None
    try:
        token = vault.open(kept, place_of_token(before, "refresh_token"))
    except SealBroken:
        return kept
    return vault.seal(token, place_of_token(after, "refresh_token"))
