"""One trial: connect everyone, then break one thing after another, and see each time what it cost."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from models.crypto.secrets import Secret
from sandbox.client import Control
from tests.torture.fleet.alerts import Alert, is_ready, read_alerts
from tests.torture.fleet.ledger import Counts, Ledger, Listener
from tests.torture.fleet.stack import Stack, copy_checkout
from tests.torture.fleet.users import Arrivals, Users, Visits

ACCESS_LIFE = 300
ARRIVING = 3000


@dataclass
class Row:
    """What one fault cost; times in seconds. `recovered` is None if it never was as before."""

    name: str
    began_at: float
    took: float
    recovered: float | None
    counts: Counts
    visits: Visits
    most_late: int
    alerts: list[Alert] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        counts = self.counts
        wrong = (counts.ended, counts.doubled_events, counts.missing, self.visits.lost)
        return self.recovered is not None and not any(wrong)

    def cells(self) -> tuple[str, ...]:
        counts, visits = self.counts, self.visits
        alerts = [
            f"{alert.name} +{alert.fired_at - self.began_at:.0f} s, "
            + ("still" if alert.cleared_at is None else f"cleared +{alert.cleared_at - self.began_at:.0f} s")
            for alert in self.alerts
        ]
        return (
            self.name,
            f"{self.took:.0f} s",
            "never" if self.recovered is None else f"{self.recovered:.0f} s",
            str(self.most_late),
            str(counts.ended),
            f"{counts.doubled_tokens}/{counts.doubled_codes}",
            str(counts.missing),
            str(counts.doubled_events),
            str(counts.repeats),
            f"{visits.came} ({visits.lost} lost)",
            f"{visits.refused}, {visits.longest:.0f} s",
            "; ".join(alerts) or "none",
        )


HEAD = (
    "what",
    "took",
    "recovered after",
    "most late",
    "connections lost",
    "tokens/codes doubled",
    "events lost",
    "events doubled",
    "repeats (same id)",
    "users",
    "failed answers, longest wait",
    "alerts fired",
)


def draw(rows: list[Row], title: str) -> str:
    """Return the table as Markdown."""
    lines = [HEAD, tuple("---" for _ in HEAD), *(row.cells() for row in rows)]
    return "\n".join([title, "", *(f"| {' | '.join(line)} |" for line in lines)])


@dataclass
class Trial:
    """`directory` holds the copy of the checkout, its secrets too."""

    directory: Path
    connections: int
    down: int
    patience: int

    def __post_init__(self) -> None:
        self.stack = Stack(self.directory)
        self.interval = max(60, self.connections * 3 // 10)
        self.observed, self.prometheus = "no Prometheus", ""

    def title(self) -> str:
        return (
            f"{self.connections} connections, read every {self.interval} s, tokens of {ACCESS_LIFE} s, one more user a "
            f"second; 3 workers, 2 schedulers, 2 webs; {self.observed}"
        )

    def run(self) -> list[Row]:
        self.directory.mkdir(parents=True, exist_ok=True)
        copy_checkout(self.directory)
        say("starting the fleet")
        self.stack.up(self.interval)
        self._observe()
        self._open()
        say(f"connecting {self.connections} users")
        self.users.connect_all(self.control.add_users(self.connections, documents=8, templates=2, invoices=2))
        self.users.take()
        self.arrivals.start()
        self._settle()
        began = time.time()
        faults: dict[str, Callable[[], None]] = {
            "nothing, for a minute": lambda: time.sleep(60),
            "rolling restart": self._roll,
            "a worker killed": lambda: self.stack.kill_processes_of(self.stack.containers("worker")[0]),
            "a web killed": lambda: self.stack.kill_processes_of(self.stack.containers("web")[0]),
            "Redis restarted": lambda: self.stack.restart("redis"),
            "PostgreSQL restarted": lambda: self.stack.restart("postgres"),
            f"the sandbox down for {self.down} s": self._sandbox_down,
        }
        rows = [self._break(name, fault) for name, fault in faults.items()]
        self.arrivals.ended.set()
        if self.prometheus:
            self._add_alerts(rows, began)
        return rows

    def end(self) -> None:
        self.stack.compose("--profile", "observability", "down", "--volumes", "--remove-orphans")

    def _observe(self) -> None:
        """Start Prometheus, and Grafana if its image is here; say which."""
        started = []
        for service in ("prometheus", "grafana"):
            try:
                self.stack.compose("--profile", "observability", "up", "--detach", "--no-deps", service)
                started.append(service.capitalize())
            except RuntimeError as error:
                say(f"without {service}: {str(error).strip().splitlines()[-1]}")
        deadline = time.monotonic() + 60
        if "Prometheus" in started:
            self.prometheus = f"http://{self.stack.address('prometheus', 'boards')}:9090"
            while not is_ready(self.prometheus) and time.monotonic() < deadline:
                time.sleep(1)
            self.observed = "with " + " and ".join(started)

    def _open(self) -> None:
        self.control = Control(f"http://{self.stack.address('sandbox', 'trial')}:8799")
        self.control.set(token_rate_limit=0, access_ttl=ACCESS_LIFE)
        stack = self.stack

        def find(name: str, service: str, network: str) -> str:
            url = stack.secret(name).replace("+psycopg", "")
            return url.replace(f"@{service}:", f"@{stack.address(service, network)}:")

        listener = Listener(lambda: find("application_redis_url", "redis", "redis"))
        listener.start()
        self.ledger = Ledger(lambda: find("cli_database_url", "postgres", "database"), listener, self.control)
        secret = Secret(stack.secret("connect_secret"))
        certificate = str(stack.directory / "secrets/tls_certificate")
        self.users = Users(f"https://localhost:{stack.port}", certificate, secret, self.control)
        self.arrivals = Arrivals(self.users, self.control.add_users(ARRIVING, documents=2))

    def _settle(self) -> None:
        """Wait until the fleet has read everyone."""
        if self._wait_recovered(time.monotonic(), []) is None:
            raise RuntimeError(f"the fleet never came to rest: {self.ledger.work()}, {self.stack.unhealthy()}")

    def _break(self, name: str, fault: Callable[[], None]) -> Row:
        before = self.ledger.count()
        self.users.take()
        self.arrivals.open.set()
        began_at, began = time.time(), time.monotonic()
        say(name)
        fault()
        took, late = time.monotonic() - began, list[int]()
        time.sleep(10)  # users come for a while after it, too
        self.arrivals.open.clear()
        recovered = self._wait_recovered(began + took, late)
        self.arrivals.idle.wait(self.patience)
        self._wait_recovered(time.monotonic(), [])
        counts = self.ledger.count() - before
        row = Row(name, began_at, took, recovered, counts, self.users.take(), max(late, default=0))
        say(" | ".join(row.cells()))
        return row

    def _wait_recovered(self, since: float, late: list[int]) -> float | None:
        """Return how long it took until all was healthy, nothing late and all published, for three looks in a row."""
        good_since, looks = since, 0
        while time.monotonic() - since < self.patience:
            work = self.ledger.work()
            late.append(work.late if work is not None else 0)
            if work is None or not work.is_done or self.stack.unhealthy():
                good_since, looks = time.monotonic(), 0
            elif (looks := looks + 1) == 3:
                return good_since - since
            time.sleep(1)
        return None

    def _roll(self) -> None:
        self.stack.run("make", "roll")

    def _sandbox_down(self) -> None:
        """Cut its network: its ledger lives on, and whoever connects gets no answer. No one can consent meanwhile."""
        self.arrivals.open.clear()
        self.arrivals.idle.wait(self.patience)
        self.stack.cut_off("sandbox", "provider")
        time.sleep(self.down)
        self.stack.connect_again("sandbox", "provider")
        self.arrivals.open.set()

    def _add_alerts(self, rows: list[Row], began: float) -> None:
        """Wait until no alert fires any more, and give each to the fault in whose time it began to."""
        deadline = time.monotonic() + self.patience
        say("waiting for alerts to clear")
        while True:
            time.sleep(45)
            alerts = read_alerts(self.prometheus, began, time.time())
            if all(alert.cleared_at for alert in alerts) or time.monotonic() > deadline:
                break
        for alert in alerts:
            [*_, row] = [row for row in rows if row.began_at <= alert.fired_at] or rows[:1]
            row.alerts.append(alert)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)  # noqa: T201 - a trial takes long
