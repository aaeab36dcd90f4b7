"""What a 401 for an access token does, whoever met it while calling for an application: the gateway, or a job."""

from datetime import datetime

from models.gateway.access import is_newer_coming
from models.messaging import messages
from models.oauth.access_refusal import AccessRefusal, Final, Force, Known, judge_access_refusal
from models.oauth.connection import Status
from models.store import Transaction
from models.store.requested_sync import request_sync
from models.sync.sync_run import on_its_way

Refused = tuple[AccessRefusal | None, tuple[messages.Message, ...]]


def refuse_access(tx: Transaction, connection_id: str, generation: int, now: datetime) -> Refused:
    """Write a 401 for the access token of `generation`, as a sync does; what to send then comes with it.

    None if the connection is not active. A refusal that no refresh can answer is left to a sync, which meets it and
    judges it.
    """
    access = tx.gateway.lock(connection_id)
    if access is None or access.credential is None or access.connection.status is not Status.active:
        return None, ()
    connection = access.connection
    refusal = judge_access_refusal(connection, access.credential, generation, access.is_refreshable, now)
    if isinstance(refusal, Force):
        tx.gateway.refuse_access(connection, refusal.credential, now, now + on_its_way)
        tx.journal.decide(connection.id, now, refusal.note.verb, **refusal.note.evidence)
        return refusal, (messages.carry_out_refresh(connection.id),)
    if isinstance(refusal, Final):
        request_sync(tx, connection.id, now)
        return refusal, (messages.carry_out_sync(connection.id),)
    if isinstance(refusal, Known) and is_newer_coming(access, generation, now):
        # Race: a refresh that fell due for another reason replaces the token, which the provider ends before we know.
        return Known(is_same=True), ()
    return refusal, ()
