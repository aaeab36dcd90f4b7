"""Disconnect an account: erase its tokens at once, and revoke them afterwards if the provider has an endpoint."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import structlog

from models.audit.entry import Channel, received
from models.crypto.secrets import Secret
from models.crypto.vault import Vault
from models.gateway.call import answers_kept
from models.journal import Verb
from models.messaging import messages
from models.oauth.connection import (
    Connection,
    DisconnectPlan,
    DisconnectRequest,
    Status,
    disconnect,
    newest_disconnect,
    plan_disconnect,
)
from models.oauth.credential import Credential
from models.oauth.token_pair import TokenPair
from models.store import Store, Transaction
from worker.provider.client import ProviderClient
from worker.tokens.data_keys import fetching_keys
from worker.tokens.end_connection import end_connection
from worker.tokens.refusals import forget_refusal
from worker.tokens.revocation_queue import UnneededGrant, open_token, queue_revocation
from worker.tokens.spool import Parking, Ticket
from worker.tokens.spool_backends import ParkingUnavailable


@dataclass(frozen=True, slots=True)
class Parked:
    """A parked pair and its ticket."""

    ticket: Ticket
    pair: TokenPair


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a disconnect is decided from.

    parked: a pair of the connection's newest generation that is still to be saved.
    sent: the message that asks, if there is one.
    asked_at: when it was asked for; None if that was carried out before.
    pending: the request that is due in the row, if there is one.
    authorized_at: when the user authorized last.
    now: the one clock reading of the transaction.
    """

    connection: Connection
    parked: Parked | None
    sent: messages.Sent | None
    asked_at: datetime | None
    pending: DisconnectRequest | None
    authorized_at: datetime | None
    now: datetime

    def erases(self, erase: bool) -> bool:
        """Return whether the records go: if this request, whose `erase` is given, or the one in the row says so."""
        if self.asked_at is None:
            return False
        return newest_disconnect(self.pending, DisconnectRequest(self.asked_at, erase), self.authorized_at).erase


@dataclass(frozen=True, slots=True)
class Ended:
    """What was committed: the plan, the newest parked pair, and the revocation that begins, if any.

    erased: the calls whose answers may be kept outside of the database, each with the number of its requests.
    """

    plan: DisconnectPlan
    parked: Parked | None
    revocation_id: str | None
    erased: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Disconnect:
    """One transaction, whatever provider and Redis do meanwhile: after it no token is left that could be used here.

    `connection.disconnected` says whether the provider revoked the grant. It is part of this transaction only if there
    is no endpoint to revoke it; otherwise it comes with the end of the revocation that begins here.

    drop_answers: deletes the answers of calls that are kept outside of the database. One that is kept after that, by a
    job whose request is on its way, is dropped by the next job of its call.
    """

    store: Store
    vault: Vault
    providers: Mapping[str, ProviderClient]
    parking: Parking
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]
    drop_answers: Callable[[Mapping[str, int]], None]

    def __call__(
        self, connection_id: str, erase: bool = False, sent: messages.Sent | None = None, asked: bool = True
    ) -> None:
        """End a connection.

        `sent` is the message that asks, None if the same request can't come twice. With `asked` False only the request
        that is due in the row is carried out.
        """
        parked = self._find_parked(connection_id)
        ended = self._write(connection_id, parked, erase, sent, asked)
        if ended is None:
            return
        if ended.plan is DisconnectPlan.end and ended.parked is not None:
            self.parking.drop(ended.parked.ticket)
        if ended.erased:
            self.drop_answers(ended.erased)
        if ended.revocation_id is not None:
            self.send(messages.revoke_grant(ended.revocation_id))
        self.send(messages.publish_events())

    @fetching_keys
    def _write(
        self, connection_id: str, parked: Parked | None, erase: bool, sent: messages.Sent | None, asked: bool
    ) -> Ended | None:
        """Decide and write, in one transaction; None if there is nothing to end."""
        with self.store.writing() as tx:
            loaded = self._load(tx, connection_id, parked, sent, asked)
            if loaded is None:
                structlog.get_logger("disconnect").warning("connection.unknown")
                return None
            plan = plan_disconnect(loaded.connection, loaded.asked_at, loaded.authorized_at, loaded.now)
            if sent is not None and plan is not DisconnectPlan.nothing:
                asked_for = {"erase": erase, "message_id": sent.id}
                entry = received(Channel.message, "disconnect", asked_for, connection_id=connection_id)
                tx.audit.add(entry, loaded.now)
            match plan:
                case DisconnectPlan.nothing:
                    return None
                case DisconnectPlan.superseded:
                    self._note_superseded(tx, loaded)
                    return None
            tx.connections.take_disconnect(connection_id)
            revocation_id = self._end(tx, loaded) if plan is DisconnectPlan.end else None
            if plan is DisconnectPlan.repeated and sent is not None:
                tx.journal.decide(connection_id, loaded.now, Verb.disconnect_repeated, message_id=sent.id)
            calls = dict[str, int]()
            if loaded.erases(erase):
                erased = tx.records.erase(connection_id)
                calls = tx.calls.begun_since(connection_id, loaded.now - answers_kept)
                tx.calls.erase(connection_id)
                tx.journal.decide(connection_id, loaded.now, Verb.records_erased, records=erased)
        return Ended(plan, loaded.parked, revocation_id, calls)

    def _find_parked(self, connection_id: str) -> Parked | None:
        """Return a pair that is still to be saved. This runs before any row is locked: Redis may be slow.

        A pair that is parked later is revoked when it is recovered.
        """
        with self.store.reading() as tx:
            connection = tx.connections.get(connection_id)
        if connection is None or connection.status is Status.disconnected:
            return None
        ticket = _ticket(connection)
        try:
            pair = self.parking.find(ticket)
        except ParkingUnavailable:
            return None
        return None if pair is None else Parked(ticket, pair)

    def _load(
        self,
        tx: Transaction,
        connection_id: str,
        parked: Parked | None,
        sent: messages.Sent | None,
        asked: bool,
    ) -> Loaded | None:
        now = self.now()
        connection = tx.connections.lock(connection_id)
        if connection is None:
            return None
        pending = tx.connections.pending_disconnect(connection_id)
        if not asked:
            asked_at = None if pending is None else pending.asked_at
        elif sent is None:
            asked_at = now
        else:
            asked_at = None if tx.journal.names_message(connection_id, sent.id) else sent.at
        # The race: the connection may have got another pair since the parked one was looked for.
        newest = None if parked is None or parked.ticket != _ticket(connection) else parked
        return Loaded(connection, newest, sent, asked_at, pending, tx.connections.authorized_at(connection_id), now)

    def _note_superseded(self, tx: Transaction, loaded: Loaded) -> None:
        """Note that the user has authorized again since the request; it is no longer due."""
        connection_id, sent = loaded.connection.id, loaded.sent
        if sent is None:
            tx.connections.take_disconnect(connection_id)
        times = {"asked_at": loaded.asked_at, "authorized_at": loaded.authorized_at}
        evidence = {name: at.isoformat() for name, at in times.items() if at is not None}
        message_id = None if sent is None else sent.id
        tx.journal.decide(connection_id, loaded.now, Verb.disconnect_superseded, **evidence, message_id=message_id)
        structlog.get_logger("disconnect").warning("disconnect.superseded", **evidence)

    def _end(self, tx: Transaction, loaded: Loaded) -> str | None:
        """Write the end; return the id of the revocation that it begins, if any."""
        connection, sent, now = loaded.connection, loaded.sent, loaded.now
        forget_refusal(tx, connection)
        credential = tx.credentials.get(connection.id)
        client = self.providers.get(connection.provider)
        provider = None if client is None else client.provider
        # Only to revoke it is a token opened: without an endpoint for that, no key has to be at hand.
        is_revoked = provider is not None and bool(provider.revoke_url)
        token = self._newest_token(connection, credential, loaded.parked) if is_revoked else None
        unneeded = UnneededGrant(connection.client_id, token, connection.id, tells=True)
        revocation_id = queue_revocation(tx, self.vault, provider, unneeded, now)
        transition = disconnect(connection, now, told_later=revocation_id is not None)
        end_connection(tx, transition, credential, "disconnected", now)
        tx.journal.decide(
            connection.id,
            now,
            Verb.disconnected,
            provider_to_be_told=revocation_id is not None,
            asked_at=None if loaded.asked_at is None else loaded.asked_at.isoformat(),
            message_id=None if sent is None else sent.id,
        )
        return revocation_id

    def _newest_token(
        self, connection: Connection, credential: Credential | None, parked: Parked | None
    ) -> Secret | None:
        """Return the token to revoke, the refresh token if there is one: it ends the whole grant (RFC 7009 §2.1).

        A parked pair is newer than the saved one.
        """
        if parked is not None and parked.pair.granted.refresh_token is not None:
            return parked.pair.granted.refresh_token
        if credential is None:
            return None
        sealed_by_field = {"refresh_token": credential.refresh_token, "access_token": credential.access_token}
        opened = (open_token(self.vault, connection, sealed, field) for field, sealed in sealed_by_field.items())
        return next((token for token in opened if token is not None), None)


def _ticket(connection: Connection) -> Ticket:
    return Ticket("refresh", connection.id, connection.generation)
