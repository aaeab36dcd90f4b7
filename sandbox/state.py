"""All state of one sandbox."""

import secrets
from dataclasses import replace
from typing import Any

from sandbox.accounts import Directory
from sandbox.clock import Clock
from sandbox.counters import Counters
from sandbox.faults import Faults
from sandbox.grants import Client, Grants
from sandbox.limits import Windows
from sandbox.outages import Outages
from sandbox.settings import Settings


class SandboxState:
    """The state of one sandbox. Only the event loop's thread uses it, so there are no locks."""

    def __init__(self, settings: Settings) -> None:
        self._initial = settings
        self.reset()

    def reset(self) -> None:
        """Return to the state at the start: users, clients, settings and clock; no tokens."""
        self.settings = self._initial
        self.clock = Clock()
        self.grants = Grants()
        self.directory = Directory(self.clock.now)
        self.directory.add_defaults()
        self.windows = Windows()
        self.faults = Faults()
        self.outages = Outages(self.faults)
        self.counters = Counters()
        self.sessions: dict[str, int] = {}
        client = Client(self.settings.client_id, self.settings.client_secret, self.settings.redirect_uris, "breezesync")
        self.grants.clients[client.id] = client

    def change_settings(self, **changes: Any) -> None:
        """Change settings. Raises ValueError for a value that is not allowed."""
        self.settings = replace(self.settings, **changes)

    def reset_counters(self) -> None:
        """Delete counts and presentations; tokens and limits stay."""
        self.counters = Counters()
        for token in self.grants.refresh_tokens.values():
            token.presentations.clear()
        for code in self.grants.codes.values():
            code.presentations.clear()

    def log_in(self, user_id: int) -> str:
        """Start a browser session; return its cookie."""
        cookie = secrets.token_urlsafe(24)
        self.sessions[cookie] = user_id
        return cookie
