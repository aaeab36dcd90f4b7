"""Calls as jobs: accepted once for each idempotency key, sealed, and shown with what came of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from uuid import uuid4

import structlog

from models.crypto.secrets import Sealed, Secret
from models.crypto.vault import Vault, VaultError
from models.errors import Transient
from models.gateway.access import require_authorization
from models.gateway.call import CallReason, CallStatus, StoredCall, bodies_kept
from models.gateway.call_request import CallRequest, show_answer
from models.gateway.keys import GatewayKey
from models.gateway.problems import ProblemType, Refusal, refuse
from models.journal import sentence_of
from models.messaging import messages
from models.oauth.connection import Connection, Status
from worker.gateway.desk import Desk
from worker.tokens.data_keys import fetching_keys


@dataclass(frozen=True, slots=True)
class Calls:
    """All of it blocks, as the desk does. Nothing here reaches the provider: workers do (`worker/calls/`)."""

    desk: Desk

    @property
    def vault(self) -> Vault:
        return self.desk.vault

    def accept(self, key: GatewayKey, connection_id: str, request: CallRequest, address: str | None) -> StoredCall:
        """Store a call that is due now, and send its message; or return the one of the same key. Raises `Refusal`."""
        if request.method not in key.methods:
            text = f"This key may not call with {request.method}: see methods= in its entry."
            raise refuse(ProblemType.not_allowed, text)
        connection = self._find_connection(key, connection_id)
        known = self._find_known(connection_id, request)
        if known is not None:
            return known
        if connection.status is not Status.active:
            raise self._refuse_ended(connection)
        call = self._seal(self._draft(key, connection_id, request, address), request)
        with self.desk.store.writing() as tx:
            # Race: the connection is disconnected, and what its calls said erased, while a key server is waited for.
            connection = tx.connections.lock(connection_id) or connection
            is_active = connection.status is Status.active
            # Race: the same call is accepted twice at once; the second finds the first one's row.
            is_new = is_active and tx.calls.add(call)
        if not is_new:
            known = self._find_known(connection_id, request)
            if known is None and not is_active:
                raise self._refuse_ended(connection)
            return call if known is None else known
        try:
            self.desk.send(messages.call(call.id))
        except Transient as error:
            # The call is due in its row: the sweep sends it once Redis is back.
            structlog.get_logger("gateway").warning("call.left_to_sweep", call_id=call.id, error=str(error))
        return call

    def find(self, key: GatewayKey, call_id: str) -> StoredCall:
        """Return a call whose connection the key sees, and whose method it may use. Raises `Refusal`."""
        with self.desk.store.reading() as tx:
            call = tx.calls.get(call_id)
            found = None if call is None else tx.gateway.find([call.connection_id]).get(call.connection_id)
        if call is None or found is None or not key.sees(found.connection.provider):
            raise refuse(ProblemType.call_unknown, "No call that this key sees has this id.")
        if call.method not in key.methods:
            raise refuse(ProblemType.not_allowed, f"This key may not call with {call.method}, nor see what came of it.")
        return call

    def show(self, call: StoredCall) -> Mapping[str, object]:
        """Return what an application may know of a call. Raises `Refusal`."""
        reason = call.reason
        return {
            "call_id": call.id,
            "connection_id": call.connection_id,
            "method": call.method,
            "path": call.path,
            "status": call.status.value,
            "answer": self._show_answer(call) if call.status is CallStatus.completed else None,
            "reason": reason,
            "description": None if reason is None else sentence_of(CallReason, reason),
            "attempts": call.attempts,
            "created_at": call.created_at.isoformat(),
            "due_at": None if call.due_at is None else call.due_at.isoformat(),
            "ended_at": None if call.ended_at is None else call.ended_at.isoformat(),
        }

    def _find_connection(self, key: GatewayKey, connection_id: str) -> Connection:
        found = self.desk.find([connection_id]).get(connection_id)
        if found is None or not key.sees(found.connection.provider):
            raise refuse(ProblemType.connection_unknown, "No connection that this key sees has this id.")
        if found.connection.provider not in self.desk.providers:
            raise refuse(ProblemType.connection_unknown, "The connection's provider is not in PROVIDERS.")
        return found.connection

    def _refuse_ended(self, connection: Connection) -> Refusal:
        return Refusal(require_authorization(connection, self.desk.providers[connection.provider].path_prefix))

    def _draft(self, key: GatewayKey, connection_id: str, request: CallRequest, address: str | None) -> StoredCall:
        now = self.desk.now()
        return StoredCall(
            id=uuid4().hex,
            connection_id=connection_id,
            idempotency_key=request.idempotency_key,
            method=request.method,
            path=request.path,
            actor=key.actor,
            status=CallStatus.pending,
            created_at=now,
            request=None,
            bodies_until=now + bodies_kept,
            due_at=now,
            address=address,
        )

    @fetching_keys
    def _seal(self, draft: StoredCall, request: CallRequest) -> StoredCall:
        sealed = self.vault.seal(Secret(request.pack()), draft.place_of("request"))
        return replace(draft, request=sealed)

    def _find_known(self, connection_id: str, request: CallRequest) -> StoredCall | None:
        """Return the call with this idempotency key. Raises `Refusal` if it is another call.

        Once its request is erased, only method and path are compared.
        """
        with self.desk.store.reading() as tx:
            known = tx.calls.by_key(connection_id, request.idempotency_key)
        if known is None:
            return None
        is_same = (known.method, known.path) == (request.method, request.path)
        if is_same and known.request is not None:
            is_same = self._open(known, known.request, "request").reveal() == request.pack()
        if not is_same:
            text = f"The call {known.id} has this idempotency_key, and another method, path, body or headers."
            raise refuse(ProblemType.idempotency_conflict, text)
        return known

    def _show_answer(self, call: StoredCall) -> Mapping[str, object]:
        is_kept = call.bodies_until is not None and self.desk.now() < call.bodies_until
        packed = self._open(call, call.answer, "answer").reveal() if is_kept and call.answer is not None else None
        return show_answer(call.answer_status or 0, packed)

    def _open(self, call: StoredCall, sealed: Sealed, field: str) -> Secret:
        try:
            return self._open_fetched(call, sealed, field)
        except VaultError as error:
            report_unreadable(call, error)
            raise refuse(ProblemType.unavailable, "The call can't be opened with the configured keys.", 60) from None

    @fetching_keys
    def _open_fetched(self, call: StoredCall, sealed: Sealed, field: str) -> Secret:
        return self.vault.open(sealed, call.place_of(field))


def report_unreadable(call: StoredCall, error: VaultError) -> None:
    """Log what an operator has to mend."""
    structlog.get_logger("gateway").error("call.unreadable", call_id=call.id, error=str(error))
