"""The HTTP contract, sentence by sentence, as a browser and an application meet it."""

import re
import signal
import socket
import subprocess
import sys
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest

from models.crypto.vault import Place
from models.oauth.authorization import challenge_of, hash_of
from tests.browsing import serving
from tests.hostile_input.conftest import Web
from tests.processes import APPLICATION, Program
from tests.servers import reserved_port, wait_until
from worker.web.app import build_app

FOR_EVERY_PAGE = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


def assert_safe_page(answer: Any) -> None:
    """What every HTML answer owes its reader."""
    assert "server" not in answer.headers
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert {name: answer.headers.get(name) for name in FOR_EVERY_PAGE} == FOR_EVERY_PAGE
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "<script" not in answer.text
    assert re.findall(r'(?:src|href|action)="', answer.text) == []
    [style] = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    assert policy["style-src"] == f"'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'"
    assert "style=" not in answer.text


def test_a_link_leads_to_the_provider_with_all_that_it_needs(web: Web) -> None:
    answer = web.get(web.fleet.link("ada"))
    assert answer.status_code == 302
    address = urlsplit(answer.headers["location"])
    assert f"{address.scheme}://{address.netloc}{address.path}" == f"{web.fleet.provider.url}/oauth/authorize"
    asked = {name: values[0] for name, values in parse_qs(address.query).items()}
    assert asked | {"state": "", "code_challenge": ""} == {
        "client_id": web.fleet.provider.client_id,
        "redirect_uri": f"{web.url}/auth/breezedoc/callback",
        "response_type": "code",
        "scope": "*",
        "state": "",
        "code_challenge": "",
        "code_challenge_method": "S256",
    }
    assert len(asked["state"]) >= 43
    [row] = web.fleet.rows("SELECT * FROM authorization WHERE state_hash = :hash", hash=hash_of(asked["state"]))
    with web.house.store.reading() as tx:
        found = tx.authorizations.get(row.id)
    assert found is not None
    assert found.verifier is not None
    verifier = web.house.vault.open(found.verifier, Place("authorization", found.id, "verifier")).reveal()
    assert asked["code_challenge"] == challenge_of(verifier)
    assert asked["state"] not in str(row)
    assert {name: answer.headers.get(name) for name in FOR_EVERY_PAGE} == FOR_EVERY_PAGE


def test_the_cookie_binds_the_browser_and_nothing_else(web: Web) -> None:
    cookie = web.get(web.fleet.link("ada")).headers["set-cookie"]
    value, *attributes = cookie.split("; ")
    assert re.fullmatch(r"breezesync-[0-9a-f]{32}=[\w-]{43}", value)
    assert sorted(attributes) == ["HttpOnly", "Max-Age=600", "Path=/", "SameSite=lax"]


def test_over_https_the_cookie_belongs_to_this_host_alone(web: Web) -> None:
    [client] = web.house.callback.clients.values()
    served = replace(client, redirect_uri="https://sync.example/auth/breezedoc/callback")
    callback = replace(web.house.callback, clients={"breezedoc": served})
    with serving(build_app(callback)) as url:
        answer = web.get(f"{url}/auth/breezedoc?token={web.house.link('ada')}")
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    cookie = answer.headers["set-cookie"]
    value, *attributes = cookie.split("; ")
    assert re.fullmatch(r"__Host-breezesync-[0-9a-f]{32}=[\w-]{43}", value)
    assert sorted(attributes) == ["HttpOnly", "Max-Age=600", "Path=/", "SameSite=lax", "Secure"]


def test_a_defect_of_ours_is_a_page_that_says_nothing_of_it(web: Web) -> None:
    def fail() -> Any:
        raise ZeroDivisionError("the secret of the universe")

    with serving(build_app(replace(web.house.callback, now=fail))) as url:
        page = web.get(f"{url}/auth/breezedoc?token={web.house.link('ada')}")
    assert page.status_code == 500
    assert_safe_page(page)
    assert "universe" not in page.text


def test_a_callback_leads_to_a_clean_page_and_keeps_the_code_sealed(web: Web) -> None:
    state, cookies = web.begin()
    answer = web.call_back(cookies, state=state, code="the-code-itself")
    assert answer.status_code == 303
    match = re.fullmatch(r"done/([0-9a-f]{32})", answer.headers["location"])
    assert match is not None
    assert {name: answer.headers.get(name) for name in FOR_EVERY_PAGE} == FOR_EVERY_PAGE
    [row] = web.fleet.rows("SELECT step, code FROM authorization WHERE id = :id", id=match[1])
    assert row.step == "received"
    assert row.code.startswith("h1.k1.")
    with web.house.store.reading() as tx:
        found = tx.authorizations.get(match[1])
    assert found is not None
    assert found.code is not None
    assert web.house.vault.open(found.code, Place("authorization", found.id, "code")).reveal() == "the-code-itself"
    page = web.follow(answer)
    assert (page.status_code, 'id="pending"' in page.text) == (200, True)
    assert '<meta http-equiv="refresh"' in page.text
    assert_safe_page(page)
    assert "the-code-itself" not in page.text + web.log()


def decide(web: Web, account: int, allow: bool = True, **claims: Any) -> str:
    """One user's way through consent, and the exchange that a worker would do: the path of the result page."""
    asked = web.get(web.fleet.link(f"user-{account}", **claims))
    back = web.fleet.control.authorize(asked.headers["location"], account, allow=allow)
    answer = web.get(back, cookies=dict(asked.cookies))
    assert answer.status_code == 303, answer.text
    path = urljoin(urlsplit(str(answer.url)).path, answer.headers["location"])
    web.house.flows.exchange(path.rsplit("/", 1)[1])
    return path


def test_the_result_is_a_page_for_people_and_json_for_programs(web: Web) -> None:
    account = web.fleet.control.add_user("Ada", documents=1)
    path = decide(web, account)
    page = web.get(path)
    assert (page.status_code, 'id="connected"' in page.text) == (200, True)
    assert "http-equiv" not in page.text
    assert_safe_page(page)
    told = web.get(path, headers={"Accept": "application/json"})
    [connection] = web.fleet.rows("SELECT id FROM connection WHERE account_id = :id", id=str(account))
    assert told.json() == {"status": "connected", "reason": None, "connection_id": connection.id}
    assert (told.headers["content-type"], told.headers["cache-control"]) == ("application/json", "no-store")


def test_a_no_is_told_as_one(web: Web) -> None:
    path = decide(web, web.fleet.control.add_user("Alan", documents=1), allow=False)
    page = web.get(path)
    assert (page.status_code, 'id="denied"' in page.text) == (200, True)
    assert_safe_page(page)
    told = web.get(path, headers={"Accept": "application/json"}).json()
    assert told == {"status": "denied", "reason": "denied", "connection_id": None}


def test_an_error_without_state_ends_the_flow_that_the_browser_names(web: Web) -> None:
    state, cookies = web.begin("no-state")
    answer = web.call_back(cookies, error="invalid_scope", error_description="The scope is invalid")
    assert answer.status_code == 303
    page = web.follow(answer)
    assert 'id="failed"' in page.text
    assert "invalid_scope" not in page.text
    assert_safe_page(page)
    told = web.follow(answer, headers={"Accept": "application/json"}).json()
    assert told == {"status": "failed", "reason": "client_rejected", "connection_id": None}
    late = web.call_back(cookies, state=state, code="late")
    assert (late.status_code, late.headers["location"]) == (303, answer.headers["location"])


def test_return_to_gets_status_and_connection_once_they_are_known(web: Web) -> None:
    account = web.fleet.control.add_user("Grace", documents=1)
    asked = web.get(web.fleet.link("grace", return_to=f"{APPLICATION}/back?tab=1&status=mine"))
    back = web.fleet.control.authorize(asked.headers["location"], account)
    path = "/auth/breezedoc/" + web.get(back, cookies=dict(asked.cookies)).headers["location"]
    assert web.get(path).status_code == 200
    web.house.flows.exchange(path.rsplit("/", 1)[1])
    answer = web.get(path)
    assert answer.status_code == 303
    address = urlsplit(answer.headers["location"])
    [connection] = web.fleet.rows("SELECT id FROM connection WHERE account_id = :id", id=str(account))
    assert f"{address.scheme}://{address.netloc}{address.path}" == f"{APPLICATION}/back"
    assert parse_qs(address.query) == {"tab": ["1"], "status": ["connected"], "connection_id": [connection.id]}
    assert web.get(path, headers={"Accept": "application/json"}).status_code == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 404),
        ("/nowhere", 404),
        ("/auth", 404),
        ("/auth/breezedoc/", 404),
        ("/auth/nowhere?token=x", 404),
        ("/auth/nowhere/callback?code=x&state=x", 404),
        ("/auth/nowhere/done/" + "a" * 32, 404),
        ("/auth/breezedoc/done/" + "a" * 32, 404),
        ("/auth/breezedoc", 400),
        ("/auth/breezedoc/callback", 400),
        ("/auth/breezedoc/callback?code=x&state=x", 403),
    ],
)
def test_every_refusal_is_a_page_with_advice_or_json(web: Web, path: str, status: int) -> None:
    page = web.get(path)
    assert (page.status_code, 'id="refused"' in page.text) == (status, True)
    assert_safe_page(page)
    told = web.get(path, headers={"Accept": "application/json"})
    assert (told.status_code, set(told.json())) == (status, {"error", "advice"})


def test_a_database_that_fails_is_a_page_too(web: Web) -> None:
    with web.house.store.writing() as tx:
        tx.sql.exec_driver_sql('ALTER TABLE "authorization" RENAME TO hidden')
    try:
        page = web.get("/auth/breezedoc/done/" + "a" * 32)
        told = web.get("/auth/breezedoc/done/" + "a" * 32, headers={"Accept": "application/json"})
    finally:
        with web.house.store.writing() as tx:
            tx.sql.exec_driver_sql('ALTER TABLE hidden RENAME TO "authorization"')
    assert page.status_code == told.status_code == 503
    assert_safe_page(page)
    assert "sqlite" not in page.text.lower()
    assert page.headers["retry-after"] == "30"
    assert told.json()["error"] == "We can't do this just now"


def test_health_and_readiness_while_redis_is_away(web: Web) -> None:
    assert (web.operator("/healthz").status_code, web.operator("/healthz").text) == (200, "ok\n")
    assert (web.operator("/readyz").status_code, web.operator("/readyz").text) == (200, "ready\n")
    web.valkey.stop()
    try:
        away = web.operator("/readyz")
        assert (away.status_code, away.text) == (503, "not ready: redis\n")
        assert web.operator("/healthz").status_code == 200
        begun = web.get(web.fleet.link("ada"))
        assert begun.status_code == 302
        state = parse_qs(urlsplit(begun.headers["location"]).query)["state"][0]
        assert web.call_back(dict(begun.cookies), state=state, code="kept").status_code == 303
    finally:
        web.valkey.start()
    wait_until(lambda: web.operator("/readyz").status_code == 200, "ready again")


@pytest.mark.parametrize(
    ("part", "database"), [("schema", "sqlite:///empty.db"), ("database", "postgresql+psycopg://a:b@127.0.0.1:9/c")]
)
def test_readiness_names_the_part_that_is_missing(web: Web, part: str, database: str) -> None:
    with reserved_port() as port, reserved_port() as operator_port:
        address = f"127.0.0.1:{operator_port}"
        environment = {**web.fleet.environment, "DATABASE_URL": database, "OPERATOR_ADDRESS": address}
        arguments = ["uvicorn", "--factory", "worker.main:web", "--port", str(port)]
        program = Program(f"web-without-{part}", arguments, environment, web.fleet.directory)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: answers(web, f"http://{address}/healthz"), "the process is up", 60)
            away = web.get(f"http://{address}/readyz")
            assert (away.status_code, away.text) == (503, f"not ready: {part}\n")
            page = web.get(f"{url}/auth/breezedoc/done/" + "a" * 32)
            assert page.status_code == 503
            assert_safe_page(page)
        finally:
            program.kill()


def answers(web: Web, url: str) -> bool:
    try:
        return web.get(url).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/operator", "/"])
def test_the_public_listener_has_nothing_for_operators(web: Web, path: str) -> None:
    page = web.get(path)
    assert page.status_code == 404
    assert_safe_page(page)


def test_the_operators_listener_has_nothing_for_users(web: Web) -> None:
    answer = web.operator("/auth/breezedoc?token=x")
    assert (answer.status_code, "server" in answer.headers) == (404, False)
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_an_address_that_is_taken_is_named_with_the_remedy(web: Web) -> None:
    arguments = [sys.executable, "-m", "uvicorn", "--factory", "worker.main:web", "--port", "0"]
    ended = subprocess.run(
        arguments, env=web.fleet.environment, cwd=web.fleet.directory, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "OPERATOR_ADDRESS: cannot listen at 127.0.0.1:" in ended.stderr
    assert "another process listens there" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_operators_application_runs_alone_and_a_web_process_without_it(web: Web) -> None:
    with reserved_port() as port, reserved_port() as operator_port:
        environment = {**web.fleet.environment, "OPERATOR_ADDRESS": ""}
        alone = Program(
            "operator",
            ["uvicorn", "--factory", "worker.main:operator", "--port", str(operator_port)],
            environment,
            web.fleet.directory,
        )
        public = Program(
            "public",
            ["uvicorn", "--factory", "worker.main:web", "--port", str(port)],
            environment,
            web.fleet.directory,
        )
        try:
            wait_until(lambda: answers(web, f"http://127.0.0.1:{operator_port}/readyz"), "the operator's is ready", 60)
            wait_until(lambda: is_listening(port), "the public one listens", 60)
            assert web.get(f"http://127.0.0.1:{port}/readyz").status_code == 404
            assert "breezesync_connections" in web.get(f"http://127.0.0.1:{operator_port}/metrics").text
            assert public.stop() in (0, -signal.SIGTERM)
        finally:
            alone.kill()
            public.kill()


def is_listening(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def test_metrics_are_prometheus_text(web: Web) -> None:
    answer = web.operator("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "# TYPE" in answer.text
