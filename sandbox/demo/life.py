"""The demo's six steps: each causes something and then checks that it happened."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import uuid4

from sandbox.demo.application import Application, NotSeenError

DOCUMENTS = 12
EMAIL = "ada@example.com"
SHORT_LIFE = 12
"""Lifetime of the first access token in seconds: the sweep refreshes it after about nine."""

SPENT_NOTHING = ("scope_rejected",)
"""Outcomes that do not use up a refresh token: a presentation after one of them counts as the first."""


@dataclass(frozen=True, slots=True)
class Step:
    """`play` returns in a few words what it saw, and raises if it did not see it."""

    title: str
    play: Callable[[], str]


@dataclass(slots=True)
class Life:
    """One user of the application, with their own account at the provider."""

    application: Application
    user_id: str = field(default_factory=lambda: f"demo-{uuid4().hex[:6]}")
    account: int = 0
    connection_id: str = ""
    result_page: str = ""

    def steps(self) -> list[Step]:
        return [
            Step("The user connects an account", self.connect),
            Step("All data is synced for the first time", self.read_first),
            Step("A document is signed at the provider", self.sign_document),
            Step("The tokens are refreshed before they expire", self.await_refresh),
            Step("The user revokes access at the provider", self.revoke),
            Step("The user authorizes again", self.come_back),
        ]

    def connect(self) -> str:
        control = self.application.control
        usual_life = control.state()["settings"]["access_ttl"]
        self.account = control.add_user("Ada", documents=DOCUMENTS, templates=3, invoices=2, email=EMAIL)
        control.set(access_ttl=SHORT_LIFE)
        try:
            back = self.application.return_to
            options = () if back is None else ("--return-to", back)
            self._authorize(self.application.type_command("connect-link", self.user_id, "--name", "Ada", *options))
        finally:
            control.set(access_ttl=usual_life)
        event = self.application.expect("connection.authorized", self.connection_id)
        require(event.data["account_id"] == str(self.account), "the account of the user who allowed access")
        who = "a click" if back is None else "the application"
        return (
            f"connection.authorized: {event.data['email']}, confirmed by {who}, access token valid for {SHORT_LIFE} s"
        )

    def read_first(self) -> str:
        event = self.application.expect("sync.completed", self.connection_id)
        created = sum(counts["created"] for counts in event.data["resources"].values())
        self.application.expect("record.created", self.connection_id, times=created)
        require(self._stored_documents() == DOCUMENTS, f"{DOCUMENTS} rows in breezedoc_document")
        return f"sync.completed: {created} records, {DOCUMENTS} rows in the view breezedoc_document"

    def sign_document(self) -> str:
        control = self.application.control
        document = control.documents(self.account)[0]["id"]
        control.complete_document(self.account, document)
        self.application.type_command("sync", self.connection_id)
        event = self.application.expect("record.updated", self.connection_id)
        changed = event.data["changed"]
        require(
            (event.data["external_id"], "recipients" in changed) == (str(document), True), "the recipients as changed"
        )
        return f"record.updated: {event.data['resource']} {document}, changed: {', '.join(changed)}"

    def await_refresh(self) -> str:
        event = self.application.expect("connection.refreshed", self.connection_id)
        expires_at = self.application.expect("connection.authorized", self.connection_id).data["expires_at"]
        left = (datetime.fromisoformat(expires_at) - event.at).total_seconds()
        require(left > 0, "a refresh before the old access token expires")
        require(self.most_presentations() == 1, "each refresh token presented once")
        return f"connection.refreshed: generation {event.data['generation']}, {left:.1f} s before the first one expired"

    def revoke(self) -> str:
        self.application.control.revoke_user(self.account)
        self.application.type_command("sync", self.connection_id)
        event = self.application.expect("connection.reauthorization_required", self.connection_id)
        left_over = self.application.ask_database(
            "SELECT count(access_token) + count(refresh_token) AS tokens FROM credential WHERE connection_id = :id",
            self.connection_id,
        )
        require(left_over.tokens == 0, "the tokens to be erased")
        return f"connection.reauthorization_required: {event.data['reason']}, both tokens erased"

    def come_back(self) -> str:
        before = self.connection_id
        read_before = self.application.count_by_type(before)["sync.completed"]
        self._authorize(self.application.type_command("connect-link", self.user_id, "--connection", before))
        require(self.connection_id == before, "the same connection's id")
        event = self.application.expect("connection.authorized", before, times=2)
        require(event.data["reauthorized"] is True, "an event that says reauthorized")
        completed = self.application.expect("sync.completed", before, times=read_before + 1)
        created = sum(counts["created"] for counts in completed.data["resources"].values())
        require((created, self._stored_documents()) == (0, DOCUMENTS), "the data kept, and no record event repeated")
        return f"connection.authorized: the same connection, {DOCUMENTS} documents kept"

    def most_presentations(self) -> int:
        """Return the highest number of times that one of the user's refresh tokens was presented while it was valid."""
        tokens = self.application.control.counters()["refresh_tokens"]
        return max((count_presentations(token) for token in tokens if token["user_id"] == self.account), default=0)

    def most_requests(self) -> int:
        """Return the highest number of API requests for the user within one minute of the provider's clock."""
        minutes = self.application.control.counters(tokens=False)["api_requests"].get(str(self.account), {})
        return max(minutes.values(), default=0)

    def _authorize(self, link: str) -> None:
        answer = self.application.follow_link(link, self.user_id, self.account)
        require(answer["status"] == "connected", f"a result page that says connected, not {answer['status']}")
        self.connection_id, self.result_page = answer["connection_id"], answer["page"]

    def _stored_documents(self) -> int:
        query = "SELECT count(*) AS documents FROM breezedoc_document WHERE connection_id = :id"
        return int(self.application.ask_database(query, self.connection_id).documents)


def count_presentations(token: dict[str, Any]) -> int:
    """Count how often one refresh token was presented, without refusals that did not use it up."""
    return sum(one["outcome"] not in SPENT_NOTHING for one in token["presentations"])


def require(holds: bool, what: str) -> None:
    if not holds:
        raise NotSeenError(f"expected {what}")
