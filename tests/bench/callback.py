"""The provider's redirect back, at our web process and at a bare endpoint with one INSERT, in turns."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from statistics import quantiles
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import psycopg

from models.crypto.secrets import Secret
from models.oauth.connect_link import ConnectLink, sign_link
from tests.bench.jobs import Bench
from tests.bench.meters import cpu_seconds
from tests.bench.ours import Ours, plain
from tests.bench.processes import MeasurementFailed
from tests.databases import prepare_database
from tests.processes import Program
from tests.servers import reserved_port, wait_until

CALLBACKS = 200
"""In a round; the code of each is as long as Passport's."""
CODE = "def502" + "0" * 690


@dataclass
class Server:
    """A server of one side, and a connection to it that is kept alive as a proxy's is."""

    side: str
    program: Program
    wire: HTTPConnection
    idle: float = 0.0

    def get(self, path: str, cookie: str = "", address: str = "10.0.0.1") -> tuple[int, dict[str, str]]:
        """Return status and headers; our server is told another address for every user, as by a proxy."""
        self.wire.request("GET", path, headers={"Cookie": cookie, "X-Forwarded-For": address})
        answer = self.wire.getresponse()
        answer.read()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}


@contextmanager
def serving(ours: Ours, side: str, options: Sequence[str], **settings: str) -> Iterator[Server]:
    with reserved_port() as port:
        kept = ("--port", str(port), "--no-access-log", "--timeout-keep-alive", "300")
        program = ours.start(f"web-{side}", "uvicorn", *options, *kept, **settings)
        wire = HTTPConnection("127.0.0.1", port, timeout=30)
        server = Server(side, program, wire)

        def answers() -> bool:
            try:
                return server.get("/")[0] > 0
            except OSError:
                wire.close()
                return False

        wait_until(answers, f"{side} serves:\n{program.tail()}", 60)
        try:
            yield server
        finally:
            wire.close()
            program.kill()


def measure_callbacks(bench: Bench, ours: Ours, rounds: int) -> None:
    """Our rows and messages are in a place of their own: no worker exchanges the codes, then or later."""
    own = bench.world.databases.create_database()
    prepare_database(own)
    url = bench.world.databases.create_database()
    with psycopg.connect(plain(url)) as database:
        database.execute("CREATE TABLE callback (id bigserial PRIMARY KEY, path text, query text)")
    factory = ("--factory", "worker.main:web")
    with (
        serving(ours, "ours", factory, DATABASE_URL=own, REDIS_URL=bench.world.redis(3)) as web,
        serving(ours, "floor", ("tests.bench.bare:app",), DATABASE_URL=plain(url)) as bare,
    ):
        measure_idle(web, bare)
        for number in range(-1, rounds):
            for server, targets in ((web, open_links(web, ours, number)), (bare, bare_targets())):
                cpu, latencies = call_back(server, targets)
                if number >= 0:
                    bench.note("callback.cpu", server.side, cpu * 1_000)
                    bench.note("callback.p99", server.side, quantiles(latencies, n=100)[98] * 1_000)


def measure_idle(*servers: Server) -> None:
    before = [cpu_seconds(server.program.pid) for server in servers]
    time.sleep(3)
    for server, cpu in zip(servers, before, strict=True):
        server.idle = (cpu_seconds(server.program.pid) - cpu) / 3


def call_back(server: Server, targets: Sequence[tuple[str, str, str]]) -> tuple[float, list[float]]:
    """Return CPU seconds for one callback, and how many seconds each took."""
    latencies, begun, before = [], time.monotonic(), cpu_seconds(server.program.pid)
    for target in targets:
        asked = time.monotonic()
        status, _ = server.get(*target)
        latencies.append(time.monotonic() - asked)
        if status != 303:
            raise MeasurementFailed(f"a callback at {server.side} was answered with {status}")
    cpu = cpu_seconds(server.program.pid) - before - server.idle * (time.monotonic() - begun)
    return cpu / len(targets), latencies


def open_links(web: Server, ours: Ours, number: int) -> list[tuple[str, str, str]]:
    """Open a connect link for each callback, and return its path with its cookie and the user's address."""
    secret, now = Secret(ours.environment["CONNECT_SECRET"]), datetime.now(UTC)
    found = []
    for each in range(CALLBACKS):
        user, address = f"callback-{number}-{each}", f"10.1.{number + 1}.{each}"
        link = ConnectLink(user_id=user, issued_at=now, expires_at=now + timedelta(minutes=5), jti=uuid4().hex)
        status, headers = web.get(f"/auth/breezedoc?token={sign_link(link, secret)}", "", address)
        if status != 302:
            raise MeasurementFailed(f"a connect link was answered with {status}")
        state = parse_qs(urlsplit(headers["location"]).query)["state"][0]
        target = f"/auth/breezedoc/callback?code={CODE}&state={state}"
        found.append((target, headers["set-cookie"].partition(";")[0], address))
    return found


def bare_targets() -> list[tuple[str, str, str]]:
    return [(f"/callback?code={CODE}&state={uuid4().hex}", f"flow={uuid4().hex}", "10.0.0.1")] * CALLBACKS
