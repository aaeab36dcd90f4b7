"""The clients of the documents' examples, in Python and in Node, do what the gateway's OpenAPI document describes."""

import asyncio
import json
import re
import shutil
import subprocess
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import httpx
import jsonschema
import pytest
from app import build, create_document, note
from gateway import Call, Connection, Gateway, Problem, Token
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from tests.gateway import Counter, check, document, matches, open_counter
from tests.harness import House
from tests.processes import CHECKOUT
from tests.servers import skip_unless_ci, wait_until

IN_NODE = """
const { Gateway } = await import(process.argv[1])
const gateway = new Gateway(process.argv[2], 'all')
const found = []
for await (const each of gateway.connections({ user_id: 'ada' })) found.push(each.id)
const [id] = found
const token = await gateway.token(id)
const me = await gateway.request(id, 'GET', 'me', { headers: { accept: 'application/json' } })
const made = await gateway.call(id, 'POST', 'documents', { idempotencyKey: 'one', body: { title: 'Contract' } })
const ended = await gateway.wait(made.call_id, { pause: 0.02 })
const problems = []
const refused = []
for (const path of ['../x', '%2e%2e/x', 'a/../../x']) {
  await gateway.request(id, 'GET', path).catch((error) => refused.push(error.name))
}
for (const ask of [() => gateway.connection('none'), () => gateway.callAgain('none')]) {
  await ask().catch((problem) => problems.push([problem.name, problem.type, problem.status]))
}
console.log(JSON.stringify({
  connections: found, user: (await gateway.connection(id)).user_id, generation: token.generation,
  email: (await me.json()).email, status: ended.status, answered: ended.answer.status, problems,
  refused: refused.length,
}))
"""


class Checked(httpx.HTTPTransport):
    """Holds each request of a client, and each answer, to the document."""

    def __init__(self) -> None:
        super().__init__()
        self.used = set[str]()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        [path] = [each for each in document["paths"] if matches(each, request.url.path)]
        operation = document["paths"][path][request.method.lower()]
        self.used.add(operation["operationId"])
        asked = {each["name"] for each in operation["parameters"] if each["in"] == "query"}
        assert "{path}" in path or set(request.url.params) <= asked
        if "requestBody" in operation:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            body = json.loads(request.content)
            jsonschema.validate(body, {**schema, "components": document["components"]}, jsonschema.Draft202012Validator)
        answer = super().handle_request(request)
        answer.read()
        answer.request = request
        check(answer)
        return answer


def play(counter: Counter, transport: Checked) -> dict[str, Any]:
    """Do in Python what IN_NODE does in Node."""
    problems = []
    with Gateway(counter.url, "all", transport=transport) as gateway:
        connections = [each.id for each in gateway.connections(user_id="ada")]
        [id_] = connections
        token = gateway.token(id_)
        assert token.access_token not in repr(token)
        me = gateway.request(id_, "GET", "me", headers={"Accept": "application/json"})
        made = gateway.call(id_, "POST", "documents", idempotency_key="one", body={"title": "Contract"})
        ended = gateway.wait(made.call_id, pause=0.02)
        assert ended.answer is not None
        for ask in (
            lambda: gateway.connection("none"),
            lambda: gateway.call_again("none"),
        ):
            with pytest.raises(Problem) as raised:
                ask()
            problems.append(["Problem", raised.value.type, raised.value.status])
        for path in ("../x", "%2e%2e/x", "a/../../x"):
            with pytest.raises((ValueError, Problem)):
                gateway.request(id_, "GET", path)
        return {
            "refused": 3,
            "connections": connections,
            "user": gateway.connection(id_).user_id,
            "generation": token.generation,
            "email": me.json()["email"],
            "status": ended.status,
            "answered": ended.answer["status"],
            "problems": problems,
        }


@cache
def find_node() -> str:
    found = shutil.which("node")
    if found is None:
        skip_unless_ci("no Node on this machine")
    assert found is not None
    return found


def test_both_clients_do_the_same_as_the_document_says(house: House) -> None:
    connection = house.connect("ada", 1)
    house.queue.held.clear()
    with open_counter(house) as counter:
        transport = Checked()
        in_python = play(counter, transport)
        command = [find_node(), "--input-type=module", "-e", IN_NODE]
        module = (CHECKOUT / "docs/examples/node/gateway.mjs").as_uri()
        done = subprocess.run([*command, module, counter.url], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        assert in_python == json.loads(done.stdout)
    assert in_python["connections"] == [connection.id]
    assert (in_python["user"], in_python["status"], in_python["answered"]) == ("ada", "completed", 201)
    assert in_python["problems"] == [
        ["Problem", "connection_unknown", 404],
        ["Problem", "call_unknown", 404],
    ]
    described = {each["operationId"] for path in document["paths"].values() for each in path.values()}
    assert {each for each in described - transport.used if not each.startswith("call_")} == set()
    assert titles(house).count("Contract") == 1, "the key was the same"


@pytest.mark.parametrize("body", ["", "<html>", "[]", "null", '"busy"'])
def test_what_something_before_the_gateway_answers_is_a_problem_too(body: str) -> None:
    problem = Problem(httpx.Response(502, text=body, headers={"Retry-After": "soon"}))
    assert (problem.type, problem.status, problem.retry_after) == ("failed", 502, None)


@pytest.mark.parametrize("kind", [Connection, Token, Call])
def test_what_the_python_client_reads_is_what_the_document_has(kind: type[Any]) -> None:
    schema = document["components"]["schemas"][kind.__name__]
    hints = get_type_hints(kind)
    assert {each.name for each in fields(kind)} <= set(schema["properties"])
    for each in fields(kind):
        described = schema["properties"][each.name]
        is_nullable = "null" in described.get("type", ()) or None in described.get("enum", ())
        assert not is_nullable or type(None) in get_args(hints[each.name])
        assert each.name in schema["required"] or each.default is not MISSING


def test_the_example_creates_a_document_once_however_often_its_form_is_sent(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = house.connect("ada", 1)
    house.queue.held.clear()
    own = create_engine(f"sqlite:///{tmp_path}/app.db", poolclass=NullPool)
    settings = {
        "DATABASE_URL": str(house.store.engine.url),
        "REDIS_URL": "redis://127.0.0.1:9",
        "CONNECT_SECRET": "c" * 32,
        "APP_USER": "ada",
        "APP_DATABASE_URL": str(own.url),
        "GATEWAY_KEY": "all",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    app = build()
    form = {"connection": connection.id, "key": "one", "title": "Contract"}
    with open_counter(house) as counter, Gateway(counter.url, "all") as gateway:
        assert create_document(gateway, own, "ada", form).status_code == 403, "not connected, as far as it knows"
        data = {"connection_id": connection.id, "user_id": "ada", "email": "ada@example.com"}
        with own.begin() as db:
            note({"type": "dev.breezesync.connection.authorized", "data": data, "sequence": "1"}, db)
        page = asyncio.run(ask(app, "/"))
        assert f'name="connection" value="{connection.id}"' in page
        assert re.search(r'name="key" value="[0-9a-f]{32}"', page)
        assert create_document(gateway, own, "eve", form).status_code == 403, "another user's connection"
        sent = [create_document(gateway, own, "ada", form).headers["location"] for _ in range(2)]
        assert sent == ["/?asked=1", "/?asked=1"]
        wait_until(lambda: "Contract" in titles(house), "the document is there")
    assert titles(house).count("Contract") == 1


async def ask(app: Any, path: str) -> str:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
        return (await client.get(path)).text


def titles(house: House) -> list[str]:
    return [each["title"] for each in house.control.documents(1)]
