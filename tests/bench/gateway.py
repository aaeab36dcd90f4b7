"""A call through the gateway beside one through a minimal proxy: `python -m tests.bench.gateway`.

Both are one process behind the same uvicorn with h11, before the same API, in turns. The minimal one is Starlette and
httpx: it sends the request on with a token it was started with, and streams the answer. Ours does what it does in
production, with PostgreSQL and Valkey. Time and CPU are of the proxy's process alone.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from statistics import median
from uuid import uuid4

import httpx

from models.crypto.secrets import Secret
from models.crypto.vault import Key, Vault, new_key
from models.oauth.connection import Connection, Status
from models.oauth.credential import Credential, place_of_token
from models.store import Store, open_engine
from tests.databases import create_template
from tests.servers import plain_environment, reserved_port, running_postgres, running_valkey, wait_until

CHECKOUT = Path(__file__).parents[2]
API = """
body = b'{"data": [' + b", ".join(b'{"id": %d, "title": "A document"}' % i for i in range(20)) + b"]}"
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""
MINIMAL = """
import os
import httpx
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import StreamingResponse
from starlette.routing import Route
client = httpx.AsyncClient(base_url=os.environ["API"], trust_env=False)
async def proxy(request):
    headers = [(k, v) for k, v in request.headers.raw if k not in (b"host", b"authorization", b"connection")]
    headers.append((b"authorization", b"Bearer token"))
    url = httpx.URL(path="/" + request.path_params["path"], query=request.url.query.encode())
    out = client.build_request(request.method, url, headers=headers, content=request.stream())
    answer = await client.send(out, stream=True)
    return StreamingResponse(
        answer.aiter_raw(), answer.status_code, dict(answer.headers), background=BackgroundTask(answer.aclose)
    )
app = Starlette(routes=[Route("/v1/connections/{id}/proxy/{path:path}", proxy, methods=["GET", "POST"])])
"""


@dataclass(frozen=True)
class Measured:
    """One turn: of each call how long it took, in ms, and the CPU of the proxy for one, in ms."""

    times: list[float]
    cpu: float

    def at(self, share: float) -> float:
        return sorted(self.times)[min(int(len(self.times) * share), len(self.times) - 1)]


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(name: str, port: int, directory: Path, **environment: str) -> Iterator[int]:
    """Run an application of uvicorn in a process of its own: its process id."""
    words = [sys.executable, "-m", "uvicorn", name, "--http", "h11", "--port", str(port), "--no-access-log"]
    words += ["--factory"] if name.startswith("worker.") else ["--log-level", "warning"]
    own = {**plain_environment(), "PYTHONPATH": f"{CHECKOUT}:{directory}", **environment}
    with (directory / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(words, env=own, cwd=directory, stdout=log, stderr=log)
    try:
        wait_until(lambda: answers(port), f"{name} answers", 120)
        yield process.pid
    finally:
        process.terminate()
        process.wait(40)


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).status_code > 0
    except httpx.TransportError:
        return False


def fill(store: Store, keys: tuple[Key, ...], count: int) -> list[str]:
    """Store connections whose tokens live for a day."""
    vault, now, ids = Vault(keys), datetime.now(UTC), []
    with store.writing() as tx:
        for number in range(count):
            connection = Connection(
                uuid4().hex,
                f"user-{number}",
                "breezedoc",
                "client",
                str(number),
                Status.active,
                now,
                generation=1,
                expires_at=now + timedelta(days=1),
            )
            sealed = vault.seal(Secret("token"), place_of_token(connection, "access_token"))
            tx.connections.add(connection)
            tx.credentials.put(Credential(connection.id, sealed, None, issued_at=now))
            ids.append(connection.id)
    return ids


async def load(port: int, ids: Sequence[str], at_once: int, seconds: float) -> list[float]:
    """Call from so many connections that are kept open, each after the answer to its last; return each call's time."""
    times: list[float] = []
    end = time.perf_counter() + seconds

    async def call(own: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        request = f"GET /v1/connections/{own}/proxy/documents?page=1 HTTP/1.1\r\nHost: gateway\r\n"
        request += "Authorization: Bearer a key\r\nAccept: application/json\r\n\r\n"
        while time.perf_counter() < end:
            started = time.perf_counter()
            writer.write(request.encode())
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if not head.startswith(b"http/1.1 200"):
                raise AssertionError((head, await reader.read(500)))
            length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
            times.append((time.perf_counter() - started) * 1000)
        writer.close()

    await asyncio.gather(*(call(ids[number % len(ids)]) for number in range(at_once)))
    return times


def measure(pid: int, port: int, ids: Sequence[str], at_once: int, seconds: float) -> Measured:
    before = cpu_seconds(pid)
    times = asyncio.run(load(port, ids, at_once, seconds))
    return Measured(times, (cpu_seconds(pid) - before) * 1000 / len(times))


@contextmanager
def both_sides(connections: int) -> Iterator[tuple[list[str], dict[str, tuple[int, int]]]]:
    """Start the API and both proxies: the connections' ids, and each side's process and port."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (directory / "api.py").write_text(API)
        (directory / "minimal.py").write_text(MINIMAL)
        ports = [stack.enter_context(reserved_port()) for _ in range(3)]
        api = f"http://127.0.0.1:{ports[0]}"
        postgres, valkey = stack.enter_context(running_postgres()), stack.enter_context(running_valkey())
        url, keys = create_template(postgres), (new_key("k1"),)
        store = Store(open_engine(Secret(url)))
        ids = fill(store, keys, connections)
        store.close()
        stack.enter_context(serving("api:app", ports[0], directory))
        settings = {
            "DATABASE_URL": url,
            "REDIS_URL": valkey.url,
            "ENCRYPTION_KEYS": keys[0].line().reveal(),
            "GATEWAY_KEYS": f"bench:{sha256(b'a key').hexdigest()}",
            "BREEZEDOC_API_URL": api,
            "BREEZEDOC_API_REQUESTS_PER_MINUTE": "1000000",
        }
        ours = stack.enter_context(serving("worker.main:gateway", ports[1], directory, **settings))
        minimal = stack.enter_context(serving("minimal:app", ports[2], directory, API=api))
        yield ids, {"minimal": (minimal, ports[2]), "gateway": (ours, ports[1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = []
    with both_sides(50) as (ids, sides):
        for pid, port in sides.values():
            measure(pid, port, ids, 8, 1)
        print("at once  side      calls/s   p50 ms   p99 ms   CPU ms per call")
        for at_once in given.at_once:
            turns: dict[str, list[Measured]] = {name: [] for name in sides}
            for _ in range(given.rounds):
                for name, (pid, port) in sides.items():
                    turns[name].append(measure(pid, port, ids, at_once, given.seconds))
            found = {name: summarize(own, given.seconds) for name, own in turns.items()}
            for name, (rate, p50, p99, cpu) in found.items():
                print(f"{at_once:>7}  {name:<8}  {rate:>7.0f}  {p50:>7.2f}  {p99:>7.2f}  {cpu:>7.3f}")
            ratios = [ours / theirs for ours, theirs in zip(found["gateway"], found["minimal"], strict=True)]
            print(f"{at_once:>7}  ratio     " + "  ".join(f"{ratio:>7.2f}" for ratio in ratios), flush=True)
            rows.append({"at_once": at_once, **{name: list(own) for name, own in found.items()}})
    if given.json is not None:
        given.json.write_text(json.dumps(rows, indent=2))


def summarize(turns: Sequence[Measured], seconds: float) -> tuple[float, float, float, float]:
    """Return the medians of the turns: calls a second, p50, p99, CPU."""
    return (
        median(len(turn.times) / seconds for turn in turns),
        median(turn.at(0.5) for turn in turns),
        median(turn.at(0.99) for turn in turns),
        median(turn.cpu for turn in turns),
    )


if __name__ == "__main__":
    main()
