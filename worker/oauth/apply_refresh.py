"""Write what a refresh decided: state, events and notes in one transaction."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from models.crypto.vault import Vault
from models.oauth.claims import unchanged_claims
from models.oauth.client import StoredClient
from models.oauth.connection import Connection
from models.oauth.credential import Credential
from models.oauth.hold import Refusal
from models.oauth.refresh_decision import RefreshDecision
from models.oauth.token_response import TokensGranted
from models.provider import Provider
from models.store import Transaction, credentials
from models.store.connections import saving
from worker.provider.client import ProviderClient
from worker.tokens.end_connection import end_connection
from worker.tokens.oauth_clients import OAuthClients
from worker.tokens.refusals import begin_hold, forget_refusal, note_recovery
from worker.tokens.revocation_queue import let_go_late
from worker.tokens.save import name_others, seal_again, seal_token


@dataclass(frozen=True, slots=True)
class RefreshWriter:
    """The only writer of a refresh's decisions."""

    vault: Vault
    clients: OAuthClients
    providers: Mapping[str, ProviderClient]

    def apply(self, tx: Transaction, decision: RefreshDecision) -> None:
        """Write the decision in the transaction that locked its rows."""
        subject, at = decision.subject, decision.at
        stored = None
        if decision.granted is not None:
            stored, refusal = tx.refusals.standing(subject)
            note_recovery(tx, subject, refusal, self._profile(subject), at)
        if decision.runs_end is not None and decision.connection is not None:
            ended = (decision.connection, decision.facts)
            profile = self._profile(subject)
            prefix = "" if profile is None else profile.path_prefix
            end_connection(tx, ended, decision.credential, decision.runs_end, at, prefix)
        else:
            self._save(tx, decision)
        for note in decision.notes:
            tx.journal.decide(subject.id, at, note.verb, **note.evidence)
        self._save_client(tx, decision, stored)
        if decision.endpoint_paused_until is not None:
            tx.paces.pause(subject.provider, decision.endpoint_paused_until)
        if decision.unsaved is not None:
            let_go_late(tx, self.vault, self._profile(subject), subject, decision.unsaved, at)
        if decision.runs_end is not None and decision.refusal is None:
            forget_refusal(tx, subject)
        if decision.refusal is not None:
            self._keep_refusal(tx, decision, decision.refusal)

    def _save_client(self, tx: Transaction, decision: RefreshDecision, stored: StoredClient | None) -> None:
        """Save what the answer proved of the client; `stored` is its row if this transaction has read it already."""
        subject, at = decision.subject, decision.at
        if decision.client is not None:
            self.clients.save(tx, decision.client, decision.client_facts, at)
        if decision.client_accepted and stored is not None:
            self.clients.accept_known(tx, stored, at)
        elif decision.client_accepted:
            self.clients.accept(tx, subject.provider, subject.client_id, at)

    def _keep_refusal(self, tx: Transaction, decision: RefreshDecision, refusal: Refusal) -> None:
        """Save the refusal; the client is locked since it was judged."""
        tx.refusals.put(refusal)
        profile = self._profile(decision.subject)
        if decision.hold is not None and profile is not None:
            begin_hold(tx, decision.hold, profile, decision.at)

    def _profile(self, connection: Connection) -> Provider | None:
        client = self.providers.get(connection.provider)
        return None if client is None else client.provider

    def _save(self, tx: Transaction, decision: RefreshDecision) -> None:
        subject = decision.subject
        after = decision.connection or subject
        changes = decision.connection is not None or decision.claims != unchanged_claims
        sealed = None
        if decision.credential is not None:
            sealed = self._seal(decision.credential, decision.granted, subject, after)
        # What came of the last presentation and the intent of the next one may be written to the same rows.
        tx.appends.flush_writes()
        if sealed is not None:
            statement, values = credentials.saving(sealed, has_new_tokens=decision.granted is not None)
            tx.appends.write(statement, **values)
        if changes:
            statement, values = saving(after, subject.generation, decision.claims)
            tx.appends.write(statement, **values)
        tx.outbox.append(subject.about, name_others(tx, subject, decision.facts), decision.at)

    def _seal(
        self, credential: Credential, granted: TokensGranted | None, before: Connection, after: Connection
    ) -> Credential:
        """Put new tokens into their row; without a new refresh token the old one stays (RFC 6749 §6)."""
        if granted is None:
            return credential
        refresh_token = seal_token(self.vault, granted.refresh_token, after, "refresh_token")
        return replace(
            credential,
            access_token=seal_token(self.vault, granted.access_token, after, "access_token"),
            refresh_token=refresh_token or seal_again(self.vault, credential.refresh_token, before, after),
        )
