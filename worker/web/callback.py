"""The pages of a user's browser: the connect link, the provider's redirect back, the result."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hmac import compare_digest
from secrets import token_urlsafe
from urllib.parse import urlsplit
from uuid import uuid4

from models.audit.entry import Action, Entry
from models.crypto.sealed_box import Sealer
from models.crypto.secrets import Secret
from models.messaging import messages
from models.oauth.authorization import (
    Authorization,
    Step,
    awaits_user,
    came_too_late,
    challenge_of,
    comes_without_state,
    end_by_error,
    end_by_stateless_error,
    flow_of,
    hash_of,
    is_issuer,
    lifetime,
    open_steps,
    place_of,
    receive_code,
    state_of,
)
from models.oauth.client import Registration
from models.oauth.connect_link import ConnectLink, LinkRefused, loopback_hosts, read_link
from models.provider import Provider
from models.store import Store, Transaction
from worker.oauth.authorization_change import apply_change
from worker.web.cookies import Bindings

longest_code = 8192
id_pattern = re.compile("[0-9a-f]{32}")


class Refused(Exception):
    """A request that is refused: the HTTP status, what the user can do about it, and a way back if there is one.

    For the audit, `reason` says more than the title, and `about` is the authorization that the request was for.
    """

    def __init__(
        self,
        status: int,
        title: str,
        advice: str,
        return_to: str | None = None,
        reason: str | None = None,
        about: Authorization | None = None,
    ) -> None:
        super().__init__(title)
        self.status = status
        self.title = title
        self.advice = advice
        self.return_to = return_to
        self.reason = reason
        self.about = about


@dataclass(frozen=True, slots=True)
class Begun:
    """An opened link: where the browser goes, the flow's name, and the secret that binds the browser to it."""

    location: str
    flow: str
    binding: str


@dataclass(frozen=True, slots=True)
class Callback:
    """The browser's part of an authorization; every decision is committed before the response."""

    store: Store
    sealer: Sealer
    providers: Mapping[str, Provider]
    clients: Mapping[str, Registration]
    connect_secrets: tuple[Secret, ...]
    return_origins: frozenset[str]
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]

    def begin(self, name: str, token: str, bindings: Bindings, address: str | None = None) -> Begun:
        """Open a connect link, once; the browser that opened it may come again while its flow is open.

        `address` is the client's, for the audit.
        """
        provider, client = self._provider(name), self.clients.get(name)
        if client is None:
            raise Refused(404, "This provider is not set up", "Ask the application's operator to set its OAuth client.")
        now = self.now()
        try:
            link = read_link(token, self.connect_secrets, now, self.return_origins)
        except LinkRefused as refused:
            raise Refused(400, "This link can't be used", str(refused), reason=refused.reason) from None
        binding, link_hash = token_urlsafe(32), hash_of(f"{link.user_id}\n{link.jti}")
        authorization = self._start(provider, client, link, binding, now)
        with self.store.writing() as tx:
            self._check_target(tx, authorization)
            if not tx.authorizations.add(authorization, link_hash):
                return self._begin_again(provider, tx.authorizations.by_link(link_hash), bindings, now)
            tx.audit.add(describe(Action.link_opened, authorization, address), now)
        state, challenge = state_of(binding), authorization.challenge
        location = provider.authorize_url_for(client.client_id, client.redirect_uri, state, challenge)
        return Begun(location, flow_of(authorization.state_hash), binding)

    def finish(
        self, name: str, query: Mapping[str, str], bindings: Bindings, address: str | None = None
    ) -> Authorization:
        """Take the provider's redirect back, which uses the state up; return the authorization for its result page.

        The same browser with a used state is sent to the result page again, and nothing changes.
        """
        provider, now = self._provider(name), self.now()
        code, error = query.get("code", ""), query.get("error", "")
        if not code and not error:
            raise Refused(400, "The provider sent nothing back", "Go back to the application and start again.")
        if (code and error) or len(code) > longest_code:
            raise Refused(400, "The provider's answer makes no sense", "Go back to the application and start again.")
        if not is_issuer(provider.issuer, query.get("iss", "")):
            raise _stranger()
        with self.store.writing() as tx:
            # The race: two redirects with one state. The row's lock lets the second see that it was used.
            found = self._find(tx, provider, query, bindings, now)
            if not awaits_user(found, now):
                return found
            if error:
                change = (
                    end_by_error(found, error, query.get("error_description", ""), provider.error_aliases)
                    if query.get("state")
                    else end_by_stateless_error(found)
                )
                apply_change(tx, change, now)
                found = change.authorization
            else:
                sealed = self.sealer.seal(Secret(code), place_of(found.id, "code"))
                found = receive_code(found, sealed, now)
                tx.authorizations.save(found)
            tx.audit.add(describe(Action.callback_accepted, found, address), now)
        self.send(messages.publish_events() if error else messages.exchange_code(found.id))
        return found

    def outcome(self, name: str, authorization_id: str) -> Authorization:
        self._provider(name)
        found = None
        if id_pattern.fullmatch(authorization_id):
            with self.store.reading() as tx:
                found = tx.authorizations.get(authorization_id)
        if found is None or found.provider != name:
            raise Refused(404, "There is no such page", "Go back to the application and start again from there.")
        return found

    def _provider(self, name: str) -> Provider:
        provider = self.providers.get(name)
        if provider is None:
            raise Refused(404, "There is no such provider", "Check the link, or go back to the application.")
        return provider

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
        )

    def _begin_again(self, provider: Provider, found: Authorization | None, bindings: Bindings, now: datetime) -> Begun:
        """Send the browser that opened this link on: to the provider, or if it was there already to the result."""
        binding = None if found is None else bindings.get(flow_of(found.state_hash))
        if found is None or binding is None or not is_bound(found, bindings) or found.provider != provider.name:
            raise _used(found)
        if not awaits_user(found, now):
            if found.step in open_steps and found.step is not Step.started:
                return Begun(f"{provider.name}/{result_path(found)}", flow_of(found.state_hash), binding)
            raise _used(found)
        state = state_of(binding)
        location = provider.authorize_url_for(found.client_id, found.redirect_uri, state, found.challenge)
        return Begun(location, flow_of(found.state_hash), binding)

    def _find(
        self, tx: Transaction, provider: Provider, query: Mapping[str, str], bindings: Bindings, now: datetime
    ) -> Authorization:
        """Lock the authorization that state and browser name. Raises `Refused`.

        Some providers send `invalid_scope` without a state; then the browser's newest open authorization is meant.
        """
        state, error = query.get("state", ""), query.get("error", "")
        if state:
            found = tx.authorizations.by_state(hash_of(state))
        elif comes_without_state(error, provider.error_aliases):
            hashes = [hash_of(secret) for secret in bindings.values()]
            found = tx.authorizations.newest_of_browser(provider.name, hashes, now)
        else:
            found = None
        if found is None or found.provider != provider.name:
            raise _stranger()
        if came_too_late(found, now):
            # Its cookie has expired with it, so the browser can't be checked: this page must not lead any further.
            advice = "The connection was not made in time. Go back to the application and start again from there."
            raise Refused(403, "It took too long", advice, found.return_to, about=found)
        if not is_bound(found, bindings):
            raise _stranger(found)
        locked = tx.authorizations.lock(found.id)
        if locked is None:
            raise _stranger()
        return locked


def is_bound(authorization: Authorization, bindings: Bindings) -> bool:
    """Return whether the browser with these cookies is the one that began the authorization."""
    secret = bindings.get(flow_of(authorization.state_hash))
    return secret is not None and compare_digest(hash_of(secret), authorization.browser_hash)


def result_path(authorization: Authorization) -> str:
    """Return the result page's path relative to the callback's, whatever prefix a proxy puts before it."""
    return f"done/{authorization.id}"


def _stranger(found: Authorization | None = None) -> Refused:
    """Return the refusal of another browser; of this machine's several names only one has the cookie."""
    advice = "Go back to the application and start again from there."
    host = None if found is None else urlsplit(found.redirect_uri).hostname
    if host in loopback_hosts:
        advice += f" Open the link on {host}, not on another name of this machine: cookies belong to one name."
    return Refused(403, "This page can't be used", advice, reason="another_browser", about=found)


def _used(found: Authorization | None) -> Refused:
    advice = "Go back to the application and ask for a new one."
    return Refused(400, "This link was already used", advice, reason="used", about=found)


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
