"""The pages of a user's browser: the connect link, the provider's redirect back, the result."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from secrets import token_urlsafe
from uuid import uuid4

from models.crypto.secrets import Secret
from models.crypto.vault import Place, Vault
from models.messaging import messages
from models.oauth.authorization import (
    Authorization,
    Step,
    awaits_user,
    challenge_of,
    end_by_error,
    hash_of,
    lifetime,
    receive_code,
)
from models.oauth.client import OAuthClient
from models.oauth.connect_link import LinkRefused, read_link
from models.provider import Provider
from models.store import Store, Transaction
from worker.oauth.authorization_change import apply_change

longest_code = 8192
id_pattern = re.compile("[0-9a-f]{32}")


class Refused(Exception):
    """A request that is refused: the HTTP status, and what the user can do about it."""

    def __init__(self, status: int, title: str, advice: str) -> None:
        super().__init__(title)
        self.status = status
        self.title = title
        self.advice = advice


@dataclass(frozen=True, slots=True)
class Callback:
    """The browser's part of an authorization; every decision is committed before the response."""

    store: Store
    vault: Vault
    providers: Mapping[str, Provider]
    clients: Mapping[str, OAuthClient]
    connect_secrets: tuple[Secret, ...]
    return_origins: frozenset[str]
    send: Callable[[messages.Message], None]
    now: Callable[[], datetime]

    def begin(self, name: str, token: str, browser: str | None) -> tuple[str, str]:
        """Open a connect link once; return where to send the browser, and the value that binds the browser to it."""
        provider, client = self._provider(name), self.clients.get(name)
        if client is None:
            raise Refused(404, "This provider is not set up", "Ask the application's operator to set its OAuth client.")
        now = self.now()
        try:
            link = read_link(token, self.connect_secrets, now, self.return_origins)
        except LinkRefused as refused:
            raise Refused(400, "This link can't be used", str(refused)) from None
        authorization_id, state, verifier = uuid4().hex, token_urlsafe(32), token_urlsafe(48)
        browser = browser or token_urlsafe(32)
        authorization = Authorization(
            id=authorization_id,
            provider=name,
            client_id=client.client_id,
            user_id=link.user_id,
            redirect_uri=client.redirect_uri,
            step=Step.started,
            state_hash=hash_of(state),
            browser_hash=hash_of(browser),
            created_at=now,
            expires_at=now + lifetime,
            verifier=self.vault.seal(Secret(verifier), Place("authorization", authorization_id, "verifier"))
            if provider.pkce
            else None,
            return_to=link.return_to,
            team_ids=link.team_ids,
            target_connection_id=link.connection_id,
        )
        with self.store.writing() as tx:
            self._check_target(tx, authorization)
            if not tx.authorizations.add(authorization, hash_of(f"{link.user_id}\n{link.jti}")):
                raise Refused(400, "This link was already used", "Go back to the application and ask for a new one.")
        challenge = challenge_of(verifier) if provider.pkce else None
        return provider.authorize_url_for(client.client_id, client.redirect_uri, state, challenge), browser

    def finish(self, name: str, query: Mapping[str, str], browser: str | None) -> str:
        """Take the provider's redirect back, which uses the state up; return the path of the result page."""
        provider, now = self._provider(name), self.now()
        code, error = query.get("code", ""), query.get("error", "")
        if not code and not error:
            raise Refused(400, "The provider sent nothing back", "Go back to the application and start again.")
        if (code and error) or len(code) > longest_code:
            raise Refused(400, "The provider's answer makes no sense", "Go back to the application and start again.")
        stranger = Refused(403, "This page can't be used", "Go back to the application and start again from there.")
        if browser is None or (query.get("iss") and provider.issuer and query["iss"] != provider.issuer):
            raise stranger
        with self.store.writing() as tx:
            found = self._find(tx, name, query, hash_of(browser), now)
            # The race: two redirects with one state. The row's lock lets the second see that it was used.
            if found is None or not awaits_user(found, now):
                raise stranger
            if error:
                apply_change(tx, end_by_error(found, error, query.get("error_description", "")), now)
            else:
                sealed = self.vault.seal(Secret(code), Place("authorization", found.id, "code"))
                tx.authorizations.save(receive_code(found, sealed, now))
        self.send(messages.publish_events() if error else messages.exchange_code(found.id))
        return f"/auth/{name}/done/{found.id}"

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
            raise Refused(400, "This link can't be used", "It names a connection that is not there. Ask for a new one.")

    def _find(
        self, tx: Transaction, name: str, query: Mapping[str, str], browser_hash: str, now: datetime
    ) -> Authorization | None:
        """Lock the authorization that matches state and browser.

        An error may come without a state; then the browser's newest open authorization is meant.
        """
        state = query.get("state", "")
        if not state and query.get("error"):
            found = tx.authorizations.newest_of_browser(name, browser_hash, now)
        else:
            found = tx.authorizations.by_state(hash_of(state))
        if found is None or found.provider != name or found.browser_hash != browser_hash:
            return None
        return tx.authorizations.lock(found.id)
