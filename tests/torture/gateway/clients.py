"""The application's servers: threads that ask the gateways for tokens and calls, and note what came of each request."""

import hashlib
import http.client
import json
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.torture.gateway.stack import key
from tests.torture.gateway.verdict import Sent

kinds = ("token", "get", "post")
shares = (50, 30, 20)
ttls = (0, 5, 10, 15, 60, 3_600)
kept_open = 20.0
"""Seconds for which a connection is kept that nothing is sent on: the gateway closes it after 60."""


@dataclass
class Accounts:
    """The connection of each account, which changes if its user has to authorize again."""

    ids: dict[str, str] = field(default_factory=dict)

    def choose(self, dice: random.Random) -> tuple[str, str]:
        account = dice.choice(sorted(self.ids))
        return account, self.ids[account]


@dataclass
class Wire:
    """A connection to a gateway that is kept open, and when it was opened and used last."""

    port: int
    opened_at: float = field(default_factory=time.time)
    used_at: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=90)


@dataclass
class Client(threading.Thread):
    """One of them: it asks, and pauses for `pause` seconds on average, until `stopping` is set."""

    number: int
    seed: int
    ports: Sequence[int]
    accounts: Accounts
    stopping: threading.Event
    pause: float
    sent: list[Sent] = field(default_factory=list)
    wires: "dict[int, Wire]" = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self.dice = random.Random(f"{self.seed} {self.number}")

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        while not self.stopping.wait(self.dice.expovariate(1 / self.pause)):
            [kind] = self.dice.choices(kinds, shares)
            self.sent.append(self.ask(kind))
        for wire in self.wires.values():
            wire.connection.close()

    def ask(self, kind: str) -> Sent:
        account, connection_id = self.accounts.choose(self.dice)
        port, marker = self.dice.choice(self.ports), f"{self.number}-{len(self.sent)}"
        path = f"/v1/connections/{connection_id}/" + ("token" if kind == "token" else "proxy/notes")
        body = json.dumps({"min_ttl": self.dice.choice(ttls)}) if kind == "token" else json.dumps({"text": marker})
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": marker, "Content-Type": "application/json"}
        wire = self.take_wire(port)
        sent_at = time.time()
        try:
            wire.connection.request("GET" if kind == "get" else "POST", path, None if kind == "get" else body, headers)
            answer = wire.connection.getresponse()
            known = read(answer, answer.read())
            wire.used_at = time.time()
            self.wires[port] = wire
        except (OSError, http.client.HTTPException) as error:
            wire.connection.close()
            known = {"status": 0, "word": type(error).__name__}
        return Sent(marker, kind, connection_id, account, port, wire.opened_at, sent_at, time.time(), **known)

    def take_wire(self, port: int) -> Wire:
        wire = self.wires.pop(port, None)
        if wire is not None and time.time() - wire.used_at < kept_open:
            return wire
        if wire is not None:
            wire.connection.close()
        return Wire(port)


def read(answer: http.client.HTTPResponse, content: bytes) -> dict[str, Any]:
    """What an answer says, as fields of `Sent`."""
    if answer.headers.get("breezesync-source") == "provider":
        return {"status": answer.status, "word": "answered", "is_from_provider": True}
    body = json.loads(content)
    if "access_token" in body:
        token = hashlib.sha256(body["access_token"].encode()).hexdigest()
        return {"status": answer.status, "word": "answered", "token": token, "generation": body["generation"]}
    return {"status": answer.status, "word": body["type"], "carried_out": body.get("carried_out", "")}
