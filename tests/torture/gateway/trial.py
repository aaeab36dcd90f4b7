"""Fifty clients at three gateways, while gateways, workers and schedulers are killed and Redis is emptied."""

import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url

from tests.torture.gateway.clients import Accounts, Client
from tests.torture.gateway.stack import Stack, api_requests_per_minute, running_stack
from tests.torture.gateway.verdict import Arrival, Break, Ended, Evidence, TokenLife

look_seconds = 0.05
patience = 240.0
"""Until all is at rest: a token whose presenter was killed has its outcome resolved after 60 seconds."""
under_way = """
SELECT count(*) FROM credential JOIN connection ON id = connection_id
WHERE status = 'active' AND (presented_at IS NOT NULL OR lease_until > now())
"""
saved_pairs = "SELECT account_id, sum(generation) FROM connection GROUP BY account_id"


@dataclass
class Watch(threading.Thread):
    """Looks at the connections again and again, and has the user of one that ended authorize again."""

    stack: Stack
    accounts: Accounts
    users: dict[str, int]
    known: list[tuple[str, float, int]] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    is_quiet: bool = False
    """Whether, at the last look, every connection was active and no refresh was under way."""

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self.stopping = threading.Event()

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        with open_database(self.stack) as sql:
            while not self.stopping.wait(look_seconds):
                self.look(sql)

    def look(self, sql: "psycopg.Connection[Any]") -> None:
        rows = sql.execute("SELECT id, account_id, status, generation, revoked_reason FROM connection").fetchall()
        at = time.time()
        self.known += [(id_, at, generation) for id_, _, _, generation, _ in rows]
        ended = [(account, reason) for _, account, status, _, reason in rows if status != "active"]
        [(busy,)] = sql.execute(under_way).fetchall()
        self.is_quiet = not ended and not busy
        for account, reason in ended:
            self.ended.append(Ended(account, reason or ""))
            number = self.users[account]
            self.accounts.ids[account] = self.stack.fleet.connect(f"user{number}", number)


@dataclass
class Breaker:
    """Breaks things at random times; every process that it killed is started again at once."""

    stack: Stack
    dice: random.Random
    done: list[Break] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        """Break something every few seconds, and empty Redis once every two minutes."""
        end = time.monotonic() + seconds
        flushes = sorted(self.dice.uniform(0.1, 0.9) * seconds for _ in range(max(int(seconds // 120), 1)))
        due = sorted([*((at, "redis") for at in flushes), *self.plan(seconds)])
        for at, what in due:
            time.sleep(max(end - seconds + at - time.monotonic(), 0))
            began = time.time()
            port = breaks[what](self)
            self.done.append(Break(what, began, time.time(), port))
        time.sleep(max(end - time.monotonic(), 0))

    def plan(self, seconds: float) -> Iterator[tuple[float, str]]:
        at = 0.0
        while (at := at + self.dice.expovariate(1 / 7) + 1) < seconds:
            yield at, self.dice.choices(("gateway", "worker", "scheduler"), (4, 4, 1))[0]

    def kill_gateway(self) -> int:
        port = self.dice.choice(self.stack.ports)
        self.stack.gateways[port].kill()
        self.stack.start_gateway(port)
        self.stack.wait_until_ready(port)
        return port

    def kill_worker(self) -> int:
        """Kill one; half of the time while a token endpoint's answer is on its way to some worker."""
        if self.dice.random() < 0.5:
            deadline = time.monotonic() + 5
            while self.stack.proxy.holding == 0 and time.monotonic() < deadline:
                time.sleep(0.005)
        self.dice.choice(self.stack.programs("worker")).kill()
        self.stack.fleet.start_worker()
        return 0

    def kill_scheduler(self) -> int:
        self.dice.choice(self.stack.programs("scheduler")).kill()
        self.stack.fleet.start_scheduler()
        return 0

    def empty_redis(self) -> int:
        self.stack.valkey.flush()
        return 0


breaks: Mapping[str, Callable[[Breaker], int]] = {
    "gateway": Breaker.kill_gateway,
    "worker": Breaker.kill_worker,
    "scheduler": Breaker.kill_scheduler,
    "redis": Breaker.empty_redis,
}
"""What can be broken; each returns the port of a gateway, or 0."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`pause`: of each client after each answer, in seconds on average."""

    seconds: float
    seed: int
    clients: int
    accounts: int
    pause: float = 1.5


def run(plan: Plan, say: Callable[[str], None]) -> Evidence:
    """Run a trial; return what everyone saw."""
    with tempfile.TemporaryDirectory() as name, running_stack(Path(name), plan.accounts) as stack:
        say("connecting")
        with ThreadPoolExecutor(4) as users:
            ids = list(users.map(lambda number: stack.fleet.connect(f"user{number}", number), range(plan.accounts)))
        with open_database(stack) as sql:
            found: dict[str, str] = dict(sql.execute("SELECT id, account_id FROM connection").fetchall())
        accounts = Accounts({found[id_]: id_ for id_ in ids})
        watch = Watch(stack, accounts, {found[id_]: number for number, id_ in enumerate(ids)})
        watch.start()
        stopping = threading.Event()
        clients = [
            Client(number, plan.seed, stack.ports, accounts, stopping, plan.pause) for number in range(plan.clients)
        ]
        breaker = Breaker(stack, random.Random(plan.seed))
        delays = random.Random(plan.seed)
        stack.proxy.hold = lambda: delays.uniform(0, 0.3)
        for client in clients:
            client.start()
        say(f"breaking for {plan.seconds:g} s")
        breaker.run(plan.seconds)
        stopping.set()
        for client in clients:
            client.join()
        say("waiting until all is at rest")
        stack.fleet.wait_until(lambda: watch.is_quiet, "all is at rest", patience)
        watch.stopping.set()
        watch.join()
        return gather(stack, watch, clients, breaker)


def gather(stack: Stack, watch: Watch, clients: list[Client], breaker: Breaker) -> Evidence:
    """Collect it, once the processes have stopped and nothing is sent any more."""
    stack.fleet.stop()
    ledger = stack.fleet.toolkit.ledger()
    with open_database(stack) as sql:
        saved: dict[str, int] = dict(sql.execute(saved_pairs).fetchall())
        audited: dict[str, int] = dict(sql.execute("SELECT action, count(*) FROM audit GROUP BY action").fetchall())
    return Evidence(
        sent=[sent for client in clients for sent in client.sent],
        arrivals=[
            Arrival(each["at"], each["account"] or "", each["method"], each["marker"], each["status"])
            for each in ledger["requests"]
        ],
        tokens={token: TokenLife(**life) for token, life in ledger["tokens"].items()},
        notes=ledger["notes"],
        presentations=[shown.seen for shown in stack.proxy.shown.values()],
        families=list(stack.fleet.toolkit.families().values()),
        granted=ledger["pairs"],
        saved=saved,
        ended=watch.ended,
        known=watch.known,
        breaks=breaker.done,
        audited=audited,
        limit=api_requests_per_minute,
    )


@contextmanager
def open_database(stack: Stack) -> "Iterator[psycopg.Connection[Any]]":
    address = make_url(stack.fleet.database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as connection:
        yield connection
