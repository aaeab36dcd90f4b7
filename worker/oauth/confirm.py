"""Confirm an authorization: the application says that its user's browser brought the code."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from models.audit.entry import Channel
from models.crypto.secrets import Secret
from models.messaging import messages
from models.messaging.commands import Confirm as Given
from models.oauth.confirmation import Verdict
from models.store import Store
from models.store.confirming import confirm


@dataclass(frozen=True, slots=True)
class Confirm:
    """Lets the code leave, or ends the authorization; the decision is committed before anything is sent."""

    store: Store
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]

    def __call__(self, authorization_id: str, user_id: str, confirmation: str) -> Verdict:
        given = Given(authorization_id, user_id, Secret(confirmation))
        with self.store.writing() as tx:
            verdict = confirm(tx, given, self.now(), Channel.message)
        match verdict:
            case Verdict.accepted:
                self.send(messages.exchange_code(authorization_id))
            case Verdict.refused:
                self.send(messages.publish_events())
        return verdict
