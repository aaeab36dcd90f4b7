"""The intent to present a refresh token: everything that must stand in the database before the token leaves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from models.crypto.secrets import Secret
from models.crypto.vault import Place, Vault, VaultError
from models.messaging.events import Detector, RevokedReason
from models.oauth.connection import Connection
from models.oauth.credential import Credential, forget_presentation
from models.oauth.token_rate_limit import Purpose
from models.oauth.token_response import Evidence
from models.provider import OAuthClient
from models.store import Transaction
from worker.oauth.settling import Settling
from worker.provider.client import ProviderClient
from worker.tokens.oauth_clients import ClientBook, ClientUnknown
from worker.tokens.spool import Ticket


@dataclass(frozen=True, slots=True)
class Taken:
    """What one job leased, ready to leave: it alone may present the refresh token of `generation`, and only before
    `send_before`. `before` is the credential without this presentation: what an answer that spent nothing brings back.
    """

    connection: Connection
    before: Credential
    owner: str
    send_before: datetime
    client: OAuthClient
    refresh_token: Secret
    scope: str
    after_unknown: bool = False

    @property
    def generation(self) -> int:
        return self.connection.generation

    @property
    def ticket(self) -> Ticket:
        return Ticket("refresh", self.connection.id, self.generation)

    def blame(self, credential: Credential, expired: bool) -> tuple[RevokedReason, Detector]:
        """Why the grant is dead: by our own note of a lost answer first, then by what the API and the hint said."""
        if self.after_unknown:
            return "rotation_lost", "refresh"
        by_api = credential.refused_generation == self.generation
        if expired:
            return "refresh_expired", "api" if by_api else "refresh"
        return ("access_revoked", "api") if by_api else ("refresh_rejected", "refresh")

    def take_back(self, credential: Credential) -> Credential:
        """Lease and intent of this presentation go; the note of an earlier one, still unresolved, comes back."""
        return replace(
            credential,
            lease_owner=None,
            lease_until=None,
            presented_at=self.before.presented_at,
            presented_generation=self.before.presented_generation,
            presentations=self.before.presentations,
            answered_at=self.before.answered_at,
        )


@dataclass(frozen=True, slots=True)
class Intent:
    """All that can fail comes before lease and intent, so that what counts as presented was on its way."""

    vault: Vault
    clients: ClientBook
    providers: Mapping[str, ProviderClient]
    settling: Settling
    now: Callable[[], datetime]

    def __call__(
        self,
        tx: Transaction,
        connection: Connection,
        credential: Credential,
        owner: str,
        after_unknown: bool = False,
        presumed: bool = False,
    ) -> Taken | None:
        """Both rows are locked, and nothing stands against presenting; None where something is missing or the fleet's
        budget is used up: the refresh comes back by its due time.

        `presumed`: what is unknown of the presentation before counts as unspent, and its note stays until this one
        leaves."""
        now = self.now()
        if credential.refresh_token is None:
            return None
        sealed, credential = credential.refresh_token, replace(credential, lease_owner=None, lease_until=None)
        tx.credentials.put(credential)
        try:
            client = self.clients.find_in(tx, connection.provider, connection.client_id)
        except ClientUnknown as unknown:
            evidence = Evidence(error="client_unknown", description=str(unknown))
            self.settling.leave_client(tx, replace(connection, problem="client_unknown"), credential, evidence)
            return None
        try:
            token = self.vault.open(sealed, Place("credential", connection.id, "refresh_token"))
        except VaultError as error:
            self.put_aside(tx, connection, credential, error)
            return None
        if not self._has_budget(tx, connection, "resolve" if after_unknown else "refresh", now):
            return None
        stored = tx.clients.get(connection.provider, connection.client_id)
        provider = self.providers[connection.provider]
        scope = "" if stored is not None and stored.omit_refresh_scope else provider.provider.refresh_scope
        patience = provider.patience
        lease_until = now + patience.lease
        presented = forget_presentation(credential) if presumed else credential
        tx.credentials.present(presented, connection.generation, owner, now, lease_until)
        tx.connections.await_answer(connection.id, now + patience.settle)
        send_before = lease_until - patience.deadline
        if after_unknown and provider.provider.refresh_reuse == "grace" and presented.presented_at is not None:
            grace = timedelta(seconds=provider.provider.grace_seconds)
            send_before = min(send_before, presented.presented_at + grace)
        return Taken(connection, credential, owner, send_before, client, token, scope, after_unknown)

    def put_aside(self, tx: Transaction, connection: Connection, credential: Credential, error: VaultError) -> None:
        """Nothing can leave before an operator has put back what is missing; until then it is tried now and then."""
        self.settling.put_back(tx, connection, credential, None, problem="token_unreadable")
        tx.journal.decide(connection.id, self.now(), "refresh.token_unreadable", generation=connection.generation)
        structlog.get_logger("refresh").error("refresh.impossible", connection_id=connection.id, error=str(error))

    def _has_budget(self, tx: Transaction, connection: Connection, purpose: Purpose, now: datetime) -> bool:
        """Takes one request from the fleet's budget; without one the refresh stays due and is sent again in time."""
        profile = self.providers[connection.provider].provider
        wait = tx.paces.take(connection.provider, profile.token_requests_per_minute, purpose, now)
        if wait is not None:
            tx.connections.put_off_refresh(connection.id, wait)
        return wait is None
