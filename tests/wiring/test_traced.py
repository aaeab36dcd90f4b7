"""One trace from a browser's callback to the first sync, and from a gateway's call to the refresh it waits for."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import dramatiq
import httpx
import pytest
import redis
from dramatiq.middleware import AgeLimit, Callbacks, CurrentMessage, Retries
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import sandbox
from models.crypto.vault import new_key
from models.messaging.messages import QUEUES
from models.oauth.credential import place_of_token
from models.queue import MessageQueue
from tests.browsing import serving
from tests.databases import create_sqlite
from tests.flows.test_gateway import expire
from tests.gateway import open_counter
from tests.harness import House, build_house, link_secret
from tests.processes import CHECKOUT
from tests.servers import Valkey, plain_environment, wait_until
from tests.torture.canary import forms
from worker.actors import declare_actors
from worker.queue.broker import Broker
from worker.queue.trace_messages import TraceMessages
from worker.tracing.sdk import SdkTraces
from worker.web.app import build_app

email = "boris.canary@example.org"
user = "boris.user@example.org"
given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
brought: Mapping[str, dict[str, Any]] = {
    "none": {},
    "one that cannot be read": {"traceparent": "00-nonsense"},
    "one of another kind": {"traceparent": [given]},
    "a good one": {"traceparent": given},
}


@dataclass
class Scene:
    """What was traced of a life, and the secrets of it; `sent` are the ids of an application's messages by case."""

    house: House
    exporter: InMemorySpanExporter
    secrets: dict[str, str] = field(default_factory=dict)
    sent: dict[str, str] = field(default_factory=dict)
    dead: str = ""

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    def ended(self, **attributes: str) -> list[ReadableSpan]:
        wanted = {f"breezesync.{name}": value for name, value in attributes.items()}
        return [span for span in self.spans if wanted.items() <= dict(span.attributes or {}).items()]

    def edges(self, trace_id: int) -> set[tuple[str, str]]:
        """Return each span of a trace under its parent, without those that publish events."""
        own = {context_of(span).span_id: span for span in self.spans if context_of(span).trace_id == trace_id}
        labels = {span_id: label(span) for span_id, span in own.items()}
        pairs = {(labels.get(span.parent.span_id if span.parent else 0, ""), label(span)) for span in own.values()}
        return {pair for pair in pairs if pair[1] != "message publish_events"}


def context_of(span: ReadableSpan) -> Any:
    return span.get_span_context()


def label(span: ReadableSpan) -> str:
    said = span.attributes or {}
    names = ("operation", "actor", "grant", "resource", "method")
    return f"{span.name} {next(said[f'breezesync.{name}'] for name in names if f'breezesync.{name}' in said)}"


@pytest.fixture(scope="module")
def scene(valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A user connects, an application sends messages of its own, and then makes a call that needs a refresh."""
    valkey.flush()
    directory = tmp_path_factory.mktemp("traced")
    with sandbox.running() as provider:
        scene = Scene(build_house(create_sqlite(directory / "b.db"), provider, directory), InMemorySpanExporter())
        tracer = TracerProvider(shutdown_on_exit=False)
        tracer.add_span_processor(SimpleSpanProcessor(scene.exporter))
        play(scene, SdkTraces(tracer), valkey.url)
        yield scene
        scene.house.close()


def play(scene: Scene, traces: SdkTraces, redis_url: str) -> None:
    house = scene.house
    middleware = [AgeLimit(), Callbacks(), CurrentMessage(), Retries()]
    broker: Any = Broker(url=redis_url, middleware=middleware)
    broker.add_middleware(TraceMessages(traces), before=AgeLimit)
    queue = MessageQueue(broker, redis.Redis.from_url(redis_url, decode_responses=True), traces.traceparent)
    house.flows.sync.providers["breezedoc"].traces = traces
    flows = replace(
        house.flows,
        exchange=replace(house.flows.exchange, send=queue.send),
        refresh=replace(house.flows.refresh, send=queue.send),
        sync=replace(house.flows.sync, send=queue.send),
        publish=lambda: True,
    )
    declare_actors(broker, flows)
    broker.emit_after("process_boot")
    worker = dramatiq.Worker(broker, worker_timeout=20, worker_threads=2)
    worker.start()
    try:
        connection_id = connect(scene, traces, queue)
        send_as_an_application(scene, broker, connection_id)
        call(scene, traces, queue, connection_id)
    finally:
        worker.stop()
        broker.close()
        queue.client.close()


def connect(scene: Scene, traces: SdkTraces, queue: MessageQueue) -> str:
    house = scene.house
    account = house.control.add_user("Boris Canary", documents=2, email=email)
    app = build_app(replace(house.callback, send=queue.send), traces=traces)
    with serving(app) as url, httpx.Client(base_url=url, trust_env=False) as browser:
        link = house.link(user)
        begun = browser.get("/auth/breezedoc", params={"token": link})
        back = dict(parse_qsl(urlsplit(house.control.authorize(begun.headers["location"], account)).query))
        found = browser.get("/auth/breezedoc/callback", params=back, headers={"traceparent": given})
        browser.get("/auth/breezedoc/" + found.headers["location"].rpartition("breezedoc/")[2])
        scene.secrets |= {
            "link": link,
            "code": back["code"],
            "state": back["state"],
            "client": house.provider.client_secret,
        }
        scene.secrets |= {f"cookie {number}": value for number, value in enumerate(browser.cookies.values())}
    wait_until(lambda: scene.ended(actor="carry_out_sync", outcome="done") != [], "the first sync is traced")
    with house.store.reading() as tx:
        [connection] = tx.connections.find(user_id=user)
    note_tokens(scene, connection.id)
    return connection.id


def note_tokens(scene: Scene, connection_id: str) -> None:
    connection, credential = scene.house.connection(connection_id), scene.house.credential(connection_id)
    for name, sealed in (("access_token", credential.access_token), ("refresh_token", credential.refresh_token)):
        assert sealed is not None
        opened = scene.house.vault.open(sealed, place_of_token(connection, name))
        scene.secrets[f"{name} {connection.generation}"] = opened.reveal()


def send_as_an_application(scene: Scene, broker: Broker, connection_id: str) -> None:
    """Send messages with any trace, one whose id is an e-mail address, and one whose failure repeats it."""
    for case, options in brought.items():
        scene.sent[case] = send(broker, "sync_connection", {"connection_id": connection_id}, options)
    scene.sent["an address"] = send(broker, "sync_connection", {"connection_id": email}, {})
    scene.dead = send(broker, "sync_connection", {"connection_id": connection_id, email: "x"}, {})
    wanted = [*scene.sent.values(), scene.dead]
    wait_until(lambda: all(scene.ended(message_id=each) for each in wanted), "the application's messages are traced")


def send(broker: Broker, actor: str, kwargs: dict[str, str], options: dict[str, Any]) -> str:
    message = dramatiq.Message[Any](QUEUES[actor], actor, (), kwargs, options)
    return str(broker.enqueue(message).message_id)


def call(scene: Scene, traces: SdkTraces, queue: MessageQueue, connection_id: str) -> None:
    with open_counter(scene.house) as counter:
        counter.shell.traces = traces
        counter.office.desk = replace(counter.office.desk, send=queue.send)
        expire(scene.house, connection_id, 1)
        headers = {"traceparent": given}
        assert counter.call(connection_id, "documents?q=canary-query", headers=headers).status_code == 200
        counter.ask("GET", "/v1/connections", "a wrong key", headers=headers)
    scene.secrets |= {"query": "canary-query", "gateway key": "a wrong key"}
    note_tokens(scene, connection_id)
    wait_until(lambda: scene.ended(actor="carry_out_refresh") != [], "the refresh is traced")


def test_a_first_sync_belongs_to_the_trace_of_the_callback(scene: Scene) -> None:
    [callback] = scene.ended(operation="callback")
    edges = scene.edges(context_of(callback).trace_id)
    assert edges >= {
        ("", "web.request callback"),
        ("web.request callback", "message exchange_code"),
        ("message exchange_code", "token.request authorization_code"),
        ("message exchange_code", "api.request account"),
        ("message exchange_code", "message carry_out_sync"),
        ("message carry_out_sync", "api.request document"),
        ("message carry_out_sync", "api.request template"),
    }
    assert {parent for parent, own in edges if own.startswith("api.request")} == {
        "message exchange_code",
        "message carry_out_sync",
    }
    assert callback.parent is None, "a browser's trace is a stranger's"
    assert len(scene.ended(operation="begin")) == 1
    assert {label(span) for span in scene.spans if span.name == "web.request"} == {
        "web.request begin",
        "web.request callback",
    }


def test_a_refresh_belongs_to_the_trace_of_the_call_that_waits_for_it(scene: Scene) -> None:
    [call] = scene.ended(operation="call")
    assert scene.edges(context_of(call).trace_id) >= {
        ("", "gateway.request call"),
        ("gateway.request call", "message carry_out_refresh"),
        ("message carry_out_refresh", "token.request refresh_token"),
        ("gateway.request call", "api.request GET"),
    }
    assert call.parent is not None
    assert call.parent.trace_id == int(given.split("-")[1], 16), "who has a key is believed"
    assert scene.ended(operation="list") == [], "who has none begins no trace"


@pytest.mark.parametrize("case", brought)
def test_a_message_continues_the_trace_that_it_brings_or_begins_its_own(scene: Scene, case: str) -> None:
    [span] = scene.ended(message_id=scene.sent[case])
    trace_id = int(given.split("-")[1], 16)
    assert (context_of(span).trace_id == trace_id) is (case == "a good one")
    assert (span.parent is not None) is (case == "a good one")


def test_a_span_says_that_a_message_failed_and_not_why(scene: Scene) -> None:
    [span] = scene.ended(message_id=scene.dead)
    assert span.status.status_code.name == "ERROR"
    assert (span.status.description, span.events) == (None, ())
    assert (span.attributes or {})["breezesync.outcome"] == "failed"


def test_no_secret_and_no_person_is_in_any_span(scene: Scene) -> None:
    seen = "\n".join(span.to_json() for span in scene.spans)
    looked_for = {**scene.secrets, "e-mail": email, "user": user}
    assert len(looked_for) >= 11
    assert all(len(value) > 8 for value in looked_for.values() if value)
    hits = [(name, form) for name, value in looked_for.items() for form, write in forms.items() if write(value) in seen]
    assert hits == []
    assert {key for span in scene.spans for key in span.attributes or {}} <= {
        "http.response.status_code",
        *(f"breezesync.{fact}" for fact in ("operation", "actor", "provider", "grant", "resource", "method")),
        *(f"breezesync.{fact}" for fact in ("outcome", "message_id", "authorization_id", "connection_id")),
    }


BOOT = """
import json, sys
if len(sys.argv) > 1:
    sys.modules[sys.argv[1]] = None
import dramatiq
from worker import main
from worker.processes import gateway, web
traced = []
build_web, build_gateway = web.build_web, gateway.build_gateway
web.build_web = lambda *given: traced.append(given[-1].is_on) or build_web(*given)
gateway.build_gateway = lambda *given: traced.append(given[-1].is_on) or build_gateway(*given)
main.boot()
main.web()
main.gateway()
names = [type(each).__name__ for each in dramatiq.get_broker().middleware]
ours = {"worker.tracing.sdk", "opentelemetry.sdk.trace"} & set(sys.modules)
print(json.dumps({"worker": "TraceMessages" in names, "others": traced, "imported": sorted(ours)}))
"""


def boot(directory: Path, *without: str, **variables: str) -> dict[str, Any]:
    """Start a worker, a web process and a gateway, in one process and without what serves them, and say what traces."""
    environment = {
        **plain_environment(),
        **variables,
        "PYTHONPATH": str(CHECKOUT),
        "DATABASE_URL": f"sqlite:///{directory}/b.db",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "ENCRYPTION_KEYS": new_key("k1").line().reveal(),
        "CONNECT_SECRET": link_secret.reveal(),
        "BREEZEDOC_CLIENT_ID": "client",
        "BREEZEDOC_CLIENT_SECRET": "client-secret",
        "BREEZEDOC_REDIRECT_URI": "http://127.0.0.1:8700/auth/breezedoc/callback",
        "OPERATOR_ADDRESS": "",
        "GATEWAY_KEYS": f"app:{sha256(b'app').hexdigest()}",
    }
    command = [sys.executable, "-c", BOOT, *without]
    done = subprocess.run(
        command, cwd=directory, env=environment, check=True, capture_output=True, text=True, timeout=60
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_process_that_is_not_asked_to_imports_nothing_of_it_and_needs_nothing_of_it(tmp_path: Path) -> None:
    assert boot(tmp_path, "opentelemetry") == {"worker": False, "others": [False, False], "imported": []}


def test_every_process_that_is_asked_to_traces(tmp_path: Path) -> None:
    found = boot(tmp_path, OTEL_TRACES_EXPORTER="console")
    assert found == {
        "worker": True,
        "others": [True, True],
        "imported": ["opentelemetry.sdk.trace", "worker.tracing.sdk"],
    }
