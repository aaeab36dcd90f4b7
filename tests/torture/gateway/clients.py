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


@dataclass
class Accounts:
    """The connection of each account, which changes if its user has to authorize again."""

    ids: dict[str, str] = field(default_factory=dict)

    def choose(self, dice: random.Random) -> tuple[str, str]:
        account = dice.choice(sorted(self.ids))
        return account, self.ids[account]


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
    wires: dict[int, tuple[http.client.HTTPConnection, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self.dice = random.Random(f"{self.seed} {self.number}")

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        while not self.stopping.wait(self.dice.expovariate(1 / self.pause)):
            [kind] = self.dice.choices(kinds, shares)
            self.sent.append(self.ask(kind))
        for wire, _ in self.wires.values():
            wire.close()

    def ask(self, kind: str) -> Sent:
        account, connection_id = self.accounts.choose(self.dice)
        port, marker = self.dice.choice(self.ports), f"{self.number}-{len(self.sent)}"
        path = f"/v1/connections/{connection_id}/" + ("token" if kind == "token" else "proxy/notes")
        body = json.dumps({"min_ttl": self.dice.choice(ttls)}) if kind == "token" else json.dumps({"text": marker})
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": marker, "Content-Type": "application/json"}
        wire, opened_at = self.wires.pop(port) if port in self.wires else (_open(port), time.time())
        sent_at = time.time()
        known: dict[str, Any] = {"status": 0, "word": "broken"}
        try:
            wire.request("GET" if kind == "get" else "POST", path, None if kind == "get" else body, headers)
            answer = wire.getresponse()
            known = read(answer, answer.read())
            self.wires[port] = wire, opened_at
        except (OSError, http.client.HTTPException):
            wire.close()
        return Sent(marker, kind, connection_id, account, port, opened_at, sent_at, time.time(), **known)


def _open(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, timeout=90)


def read(answer: http.client.HTTPResponse, content: bytes) -> dict[str, Any]:
    """What an answer says, as fields of `Sent`."""
    if answer.headers.get("breezesync-source") == "provider":
        return {"status": answer.status, "word": "answered", "is_from_provider": True}
    body = json.loads(content)
    if "access_token" in body:
        token = hashlib.sha256(body["access_token"].encode()).hexdigest()
        return {"status": answer.status, "word": "answered", "token": token, "generation": body["generation"]}
    return {"status": answer.status, "word": body["type"], "carried_out": body.get("carried_out", "")}
