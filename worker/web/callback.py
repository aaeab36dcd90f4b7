"""Back from the provider: the code is stored, and the result is shown."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from models.audit.entry import Action
from models.crypto.secrets import Secret
from models.messaging import messages
from models.oauth.authorization import (
    Authorization,
    awaits_application,
    awaits_click,
    awaits_user,
    came_too_late,
    comes_without_state,
    end_by_error,
    end_by_stateless_error,
    flow_of,
    hash_of,
    is_issuer,
    place_of,
    receive_code,
)
from models.oauth.confirmation import confirmation_of
from models.provider import Provider
from models.store import Transaction
from models.store.authorization_change import apply_change
from worker.web.cookies import Bindings
from worker.web.refusal import Refused, refuse_late, refuse_stranger
from worker.web.start import Opening, describe, is_bound

longest_code = 8192
id_pattern = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Callback(Opening):
    """The browser's part of an authorization; every decision is committed before the response."""

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
            raise refuse_stranger()
        with self.store.writing() as tx:
            # The race: two redirects with one state. The row's lock lets the second see that it was used.
            found = self._find(tx, provider, query, bindings, now)
            if awaits_click(found):
                raise refuse_stranger(found)
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
                confirmation = confirmation_of(bindings[flow_of(found.state_hash)])
                found = receive_code(found, sealed, now, hash_of(confirmation), provider.code_seconds)
                tx.authorizations.save_received(found)
            tx.audit.add(describe(Action.callback_accepted, found, address), now)
        if not awaits_application(found):
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

    def _find(
        self, tx: Transaction, provider: Provider, query: Mapping[str, str], bindings: Bindings, now: datetime
    ) -> Authorization:
        """Lock the authorization that state and browser name. Raises `Refused`.

        Some providers send `invalid_scope` without a state; then the browser's newest open authorization is meant.
        """
        state, error = query.get("state", ""), query.get("error", "")
        if state:
            found = tx.authorizations.lock_by_state(hash_of(state))
        elif comes_without_state(error, provider.error_aliases):
            hashes = [hash_of(secret) for secret in bindings.values()]
            newest = tx.authorizations.newest_of_browser(provider.name, hashes, now)
            found = None if newest is None else tx.authorizations.lock(newest.id)
        else:
            found = None
        if found is None or found.provider != provider.name:
            raise refuse_stranger()
        if came_too_late(found, now):
            # Its cookie has expired with it, so the browser can't be checked: this page must not lead any further.
            raise refuse_late(found)
        if not is_bound(found, bindings):
            raise refuse_stranger(found)
        return found
