"""All of one sandbox's state, and how it starts over."""

import secrets
from dataclasses import replace
from typing import Any

from sandbox.accounts import Directory
from sandbox.clock import Clock
from sandbox.counters import Counters
from sandbox.faults import Faults
from sandbox.grants import Client, Grants
from sandbox.limits import Windows
from sandbox.settings import Settings


class World:
    """Everything a sandbox remembers. One event loop's thread touches it, so nothing is locked."""

    def __init__(self, settings: Settings) -> None:
        self._initial = settings
        self.reset()

    def reset(self) -> None:
        """Back to how it started: users, clients, settings, clock; every token is forgotten."""
        self.settings = self._initial
        self.clock = Clock()
        self.grants = Grants()
        self.directory = Directory(self.clock.now)
        self.directory.add_defaults()
        self.windows = Windows()
        self.faults = Faults()
        self.counters = Counters()
        self.sessions: dict[str, int] = {}
        client = Client(self.settings.client_id, self.settings.client_secret, self.settings.redirect_uris, "breezesync")
        self.grants.clients[client.id] = client

    def change_settings(self, **changes: Any) -> None:
        """Raises ValueError for a value that a switch doesn't take."""
        self.settings = replace(self.settings, **changes)

    def reset_counters(self) -> None:
        """Forgets what was counted and presented; tokens and limits live on."""
        self.counters = Counters()
        for token in self.grants.refresh_tokens.values():
            token.presentations.clear()
        for code in self.grants.codes.values():
            code.presentations.clear()

    def log_in(self, user_id: int) -> str:
        """Opens a browser session; answers its cookie."""
        cookie = secrets.token_urlsafe(24)
        self.sessions[cookie] = user_id
        return cookie
