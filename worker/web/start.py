"""From the connect link to the provider: the link is opened once, and whose browser it is may have to be confirmed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hmac import compare_digest
from secrets import token_urlsafe
from uuid import uuid4

from models.audit.entry import Action, Entry
from models.crypto.sealed_box import Sealer
from models.crypto.secrets import Secret
from models.messaging import messages
from models.oauth.authorization import (
    Authorization,
    Confirmation,
    Step,
    awaits_user,
    came_too_late,
    challenge_of,
    flow_of,
    hash_of,
    lifetime,
    open_steps,
    place_of,
    state_of,
)
from models.oauth.client import Registration
from models.oauth.confirmation import Verdict, choose_mode, decide_click, form_token_of
from models.oauth.connect_link import ConnectLink, LinkRefused, read_link
from models.provider import Provider
from models.store import Store, Transaction
from models.store.authorization_change import apply_change
from worker.web.cookies import Bindings
from worker.web.locations import find_way_on
from worker.web.refusal import Refused, refuse_late, refuse_stranger, refuse_used

answers = ("continue", "not_me")


@dataclass(frozen=True, slots=True)
class Question:
    """What our page asks before the provider does: whether the browser is this person's.

    application, provider, person: as the page names them.
    flow, form_token: what its form brings along.
    return_to: where the browser goes in the end, if the link says so.
    """

    application: str
    provider: str
    person: str
    flow: str
    form_token: str
    return_to: str | None


@dataclass(frozen=True, slots=True)
class Begun:
    """An opened link: where the browser goes, the flow's name, and the secret that binds the browser to it.

    With a `question`, our page is shown first, and the browser goes there by a click.
    """

    location: str
    flow: str
    binding: str
    question: Question | None = None


@dataclass(frozen=True, slots=True)
class Clicked:
    """A click on our page: where the browser goes; None if the person said that the link is not theirs."""

    authorization: Authorization
    location: str | None


@dataclass(frozen=True, slots=True)
class Opening:
    """The browser's way from the link to the provider; every decision is committed before the response.

    `app_name` is the application's name on our page; if it is empty, the OAuth client's id is shown.
    """

    store: Store
    sealer: Sealer
    providers: Mapping[str, Provider]
    clients: Mapping[str, Registration]
    connect_secrets: tuple[Secret, ...]
    return_origins: frozenset[str]
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]
    confirmation: Confirmation = Confirmation.page
    app_name: str = ""

    def begin(self, name: str, token: str, bindings: Bindings, address: str | None = None) -> Begun:
        """Open a connect link, once; the browser that opened it may come again while its flow is open.

        `address` is the client's, for the audit.
        """
        provider, client = self._provider(name), self.clients.get(name)
        if client is None:
            raise Refused(404, "This provider is not set up", "Ask the application's operator to set its OAuth client.")
        now = self.now()
        try:
            link = read_link(token, self.connect_secrets, now, self.return_origins, name)
        except LinkRefused as refused:
            raise Refused(400, "This link can't be used", str(refused), reason=refused.reason) from None
        binding, link_hash = token_urlsafe(32), hash_of(f"{link.user_id}\n{link.jti}")
        authorization = self._start(provider, client, link, binding, now)
        with self.store.writing() as tx:
            self._check_target(tx, authorization)
            if not tx.authorizations.add(authorization, link_hash):
                return self._begin_again(provider, link, tx.authorizations.by_link(link_hash), bindings, now)
            tx.audit.add(describe(Action.link_opened, authorization, address), now)
        return self._lead_on(provider, link, authorization, binding)

    def click(self, name: str, form: Mapping[str, str], bindings: Bindings) -> Clicked:
        """Take the answer of our page's form, from the browser that it was shown to; a second one changes nothing."""
        provider, now = self._provider(name), self.now()
        binding, answer = bindings.get(form.get("flow", "")), form.get("answer", "")
        if binding is None or not compare_digest(form_token_of(binding).encode(), form.get("form_token", "").encode()):
            raise refuse_stranger()
        if answer not in answers:
            raise Refused(400, "This page can't be used like that", "Go back to the application and start again.")
        with self.store.writing() as tx:
            found = self._lock_bound(tx, provider, binding, bindings)
            if came_too_late(found, now):
                raise refuse_late(found)
            decision = decide_click(found, answer == "continue", now)
            if decision.change is not None:
                apply_change(tx, decision.change, now)
                found = decision.change.authorization
        match decision.verdict:
            case Verdict.accepted | Verdict.repeated:
                return Clicked(found, self._authorize_url(provider, found, binding))
            case Verdict.refused:
                self.send(messages.publish_events())
                return Clicked(found, None)
        turned_down = found.confirmation is Confirmation.page and found.reason == "not_confirmed"
        return Clicked(found, None if turned_down else find_way_on(found, bindings))

    def _provider(self, name: str) -> Provider:
        provider = self.providers.get(name)
        if provider is None:
            raise Refused(404, "There is no such provider", "Check the link, or go back to the application.")
        return provider

    def _lock_bound(self, tx: Transaction, provider: Provider, binding: str, bindings: Bindings) -> Authorization:
        """Lock the authorization of the flow whose secret the browser has. Raises `Refused`."""
        # The race: two clicks at once. The row's lock lets the second see what the first has changed.
        found = tx.authorizations.lock_by_state(hash_of(state_of(binding)))
        if found is None or found.provider != provider.name or not is_bound(found, bindings):
            raise refuse_stranger(found)
        return found

    def _check_target(self, tx: Transaction, authorization: Authorization) -> None:
        """Refuse a link to authorize a connection again that is not this user's at this provider."""
        if authorization.target_connection_id is None:
            return
        target = tx.connections.get(authorization.target_connection_id)
        if target is None or (target.user_id, target.provider) != (authorization.user_id, authorization.provider):
            advice = "It names a connection that is not there. Ask for a new one."
            raise Refused(400, "This link can't be used", advice, reason="connection_unknown")

    def _start(
        self, provider: Provider, client: Registration, link: ConnectLink, binding: str, now: datetime
    ) -> Authorization:
        """Return a new authorization; its verifier is sealed, and only its challenge can be read here."""
        authorization_id, verifier = uuid4().hex, token_urlsafe(48)
        sealed = self.sealer.seal(Secret(verifier), place_of(authorization_id, "verifier"))
        return Authorization(
            id=authorization_id,
            provider=provider.name,
            client_id=client.client_id,
            user_id=link.user_id,
            redirect_uri=client.redirect_uri,
            step=Step.started,
            state_hash=hash_of(state_of(binding)),
            browser_hash=hash_of(binding),
            created_at=now,
            expires_at=now + lifetime,
            verifier=sealed if provider.pkce else None,
            challenge=challenge_of(verifier) if provider.pkce else None,
            return_to=link.return_to,
            team_ids=link.team_ids,
            target_connection_id=link.connection_id,
            confirmation=choose_mode(self.confirmation, link.return_to),
        )

    def _begin_again(
        self, provider: Provider, link: ConnectLink, found: Authorization | None, bindings: Bindings, now: datetime
    ) -> Begun:
        """Send the browser that opened this link on: to the provider, or if it was there already to the result."""
        binding = None if found is None else bindings.get(flow_of(found.state_hash))
        if found is None or binding is None or not is_bound(found, bindings) or found.provider != provider.name:
            raise refuse_used(found)
        if awaits_user(found, now):
            return self._lead_on(provider, link, found, binding)
        if found.step not in open_steps or found.step is Step.started:
            raise refuse_used(found)
        way_on = find_way_on(found, bindings)
        location = way_on if "://" in way_on else f"{provider.name}/{way_on}"
        return Begun(location, flow_of(found.state_hash), binding)

    def _lead_on(self, provider: Provider, link: ConnectLink, found: Authorization, binding: str) -> Begun:
        """Send a browser to the provider, past our page if the authorization asks for that."""
        flow, location = flow_of(found.state_hash), self._authorize_url(provider, found, binding)
        if found.confirmation is not Confirmation.page:
            return Begun(location, flow, binding)
        application = self.app_name or found.client_id
        person = name_person(link.name, link.user_id)
        token = form_token_of(binding)
        return Begun(
            location, flow, binding, Question(application, provider.shown_name, person, flow, token, found.return_to)
        )

    def _authorize_url(self, provider: Provider, found: Authorization, binding: str) -> str:
        return provider.authorize_url_for(found.client_id, found.redirect_uri, state_of(binding), found.challenge)


def name_person(name: str | None, user_id: str) -> str:
    """Return the person as our page says it: the application's users may have chosen their names, so with the id."""
    return user_id if name is None else f"{name} ({user_id})"


def is_bound(authorization: Authorization, bindings: Bindings) -> bool:
    """Return whether the browser with these cookies is the one that began the authorization."""
    secret = bindings.get(flow_of(authorization.state_hash))
    return secret is not None and compare_digest(hash_of(secret), authorization.browser_hash)


def describe(action: Action, authorization: Authorization, address: str | None) -> Entry:
    """Return the audit's entry about a browser's step of an authorization."""
    return Entry(
        action=action,
        provider=authorization.provider,
        user_id=authorization.user_id,
        connection_id=authorization.target_connection_id,
        authorization_id=authorization.id,
        address=address,
        detail={"reason": authorization.reason},
    )
