"""Letting go of an account: tokens erased at once, the provider told afterwards where it has an endpoint."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from models.crypto.secrets import Secret
from models.crypto.vault import Vault
from models.messaging import messages
from models.oauth.connection import Connection, Status, clocks_differ, disconnect, is_superseded
from models.oauth.token_pair import TokenPair
from models.store import Store, Transaction
from worker.provider.client import ProviderClient
from worker.tokens.revocation_queue import let_go, open_token
from worker.tokens.spool import Parking, Ticket
from worker.tokens.spool_backends import ParkingUnavailable


@dataclass(frozen=True, slots=True)
class Parked:
    """A pair that was found parked, and under what."""

    ticket: Ticket
    pair: TokenPair


@dataclass(frozen=True, slots=True)
class Disconnect:
    """One transaction, whatever provider and Redis do meanwhile: after it no token is left that could be used here.

    `connection.disconnected` says whether the provider was told, so it is part of this transaction only where there is
    nobody to tell; else the revocation that begins here ends with it.
    """

    store: Store
    vault: Vault
    providers: Mapping[str, ProviderClient]
    parking: Parking
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]

    def __call__(
        self, connection_id: str, erase: bool = False, sent: messages.Sent | None = None, asked: bool = True
    ) -> None:
        """`sent` is the message that asks, None where nothing can ask twice; with `asked` False only what is due in the
        row is done."""
        parked = self._find_parked(connection_id)
        with self.store.writing() as tx:
            connection = tx.connections.lock(connection_id)
            if connection is None:
                structlog.get_logger("disconnect").warning("connection.unknown")
                return
            asked_at = self._when_asked(tx, connection_id, sent, asked)
            if asked_at is None or self._is_superseded(tx, connection_id, asked_at, sent):
                return
            wants_erasure = tx.connections.take_disconnect(connection_id) or erase
            revocation_id = None
            is_over = connection.status is Status.disconnected
            if is_over or (parked is not None and parked.ticket != _ticket(connection)):
                parked = None
            if not is_over:
                revocation_id = self._end(tx, connection, parked, sent)
            elif sent is not None:
                tx.journal.decide(connection_id, self.now(), "disconnect.repeated", message_id=sent.id)
            if wants_erasure:
                erased = tx.records.erase(connection_id)
                tx.journal.decide(connection_id, self.now(), "records.erased", records=erased)
        if parked is not None:
            self.parking.drop(parked.ticket)
        if revocation_id is not None:
            self.send(messages.revoke_grant(revocation_id))
        self.send(messages.publish_events())

    def _find_parked(self, connection_id: str) -> Parked | None:
        """A pair that waits to be saved, looked for before any lock is held: Redis may be slow. One that comes later
        is taken in, and ended then."""
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

    def _when_asked(
        self, tx: Transaction, connection_id: str, sent: messages.Sent | None, asked: bool
    ) -> datetime | None:
        """When this was asked for; None where it is done with: by the same message, or by another for the same row."""
        if not asked:
            return tx.connections.disconnect_due_at(connection_id)
        if sent is None:
            return self.now()
        return None if tx.journal.names_message(connection_id, sent.id) else sent.at

    def _is_superseded(
        self, tx: Transaction, connection_id: str, asked_at: datetime, sent: messages.Sent | None
    ) -> bool:
        """Whether the user has authorized since it was asked for; then it is noted, and due no more."""
        now = self.now()
        if now - asked_at <= clocks_differ:
            return False
        authorized_at = self._authorized_at(tx, connection_id)
        if authorized_at is None or not is_superseded(asked_at, authorized_at):
            return False
        if sent is None:
            tx.connections.take_disconnect(connection_id)
        evidence = {"asked_at": asked_at.isoformat(), "authorized_at": authorized_at.isoformat()}
        message_id = None if sent is None else sent.id
        tx.journal.decide(connection_id, now, "disconnect.superseded", **evidence, message_id=message_id)
        structlog.get_logger("disconnect").warning("disconnect.superseded", **evidence)
        return True

    def _authorized_at(self, tx: Transaction, connection_id: str) -> datetime | None:
        """When the user last said yes, or the newest token came that nothing refreshes."""
        times = [tx.authorizations.authorized_at(connection_id)]
        credential = tx.credentials.get(connection_id)
        if credential is not None and credential.access_token is not None and credential.refresh_token is None:
            times.append(credential.issued_at)
        return max((at for at in times if at is not None), default=None)

    def _end(
        self, tx: Transaction, connection: Connection, parked: Parked | None, sent: messages.Sent | None
    ) -> str | None:
        now = self.now()
        client = self.providers.get(connection.provider)
        provider = None if client is None else client.provider
        token = self._newest_token(tx, connection, parked)
        revocation_id = let_go(tx, self.vault, provider, connection.client_id, token, now, connection.id, tells=True)
        ended, facts = disconnect(connection, now, told_later=revocation_id is not None)
        tx.connections.save(ended, connection.generation)
        credential = tx.credentials.get(connection.id)
        if credential is not None:
            tx.credentials.put(replace(credential, access_token=None, refresh_token=None))
        tx.runs.end(connection.id, "disconnected")
        tx.outbox.append(connection.about, facts, now)
        evidence = {"provider_to_be_told": revocation_id is not None, "message_id": None if sent is None else sent.id}
        tx.journal.decide(connection.id, now, "disconnected", **evidence)
        return revocation_id

    def _newest_token(self, tx: Transaction, connection: Connection, parked: Parked | None) -> Secret | None:
        """Of a pair that waits to be saved, or of the one that stands; the refresh token ends the most (§2.1)."""
        if parked is not None and parked.pair.granted.refresh_token is not None:
            return parked.pair.granted.refresh_token
        credential = tx.credentials.get(connection.id)
        if credential is None:
            return None
        return open_token(self.vault, connection.id, credential.refresh_token, "refresh_token") or open_token(
            self.vault, connection.id, credential.access_token, "access_token"
        )


def _ticket(connection: Connection) -> Ticket:
    return Ticket("refresh", connection.id, connection.generation)
