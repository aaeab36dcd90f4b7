"""No secret in clear, wherever one looks: database, Redis, logs, events, answers. The life it looks at has troubles."""

import json
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urljoin, urlsplit

import httpx
import pytest
import redis
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.pool import NullPool

from models.crypto.secrets import Sealed
from models.crypto.vault import Place, Vault, parse_keys
from tests.browsing import follow_link
from tests.processes import Fleet, Listener, running_fleet
from tests.servers import running_valkey

TROUBLES: tuple[dict[str, Any], ...] = (
    {"on": "token", "moment": "before", "status": 500},
    {"on": "token", "moment": "before", "kind": "html"},
    {"on": "token", "moment": "before", "kind": "garbage"},
    {"on": "api", "moment": "before", "status": 500},
    {"on": "api", "moment": "before", "kind": "html"},
)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet of this test's own, so that all that was ever written is of this life."""
    with (
        running_valkey(persistent=True) as valkey,
        running_fleet(f"sqlite:///{tmp_path}/breezesync.db", valkey.url, tmp_path) as fleet,
    ):
        yield fleet


def tokens_of(fleet: Fleet, connection: str) -> set[str]:
    """The tokens that the connection holds now, opened."""
    vault = Vault(parse_keys(fleet.environment["ENCRYPTION_KEYS"]))
    [row] = fleet.rows(
        "SELECT access_token, refresh_token, generation FROM credential JOIN connection ON id = connection_id "
        "WHERE id = :id",
        id=connection,
    )
    return {
        vault.open(Sealed(sealed), Place("credential", connection, name, row[2])).reveal()
        for name, sealed in (("access_token", row[0]), ("refresh_token", row[1]))
    }


def in_database(url: str) -> str:
    """Every cell of every table, and the file itself with what was overwritten and is still in it."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as sql:
        names = inspect(sql).get_table_names()
        cells = [str(row) for name in names for row in sql.execute(text(f'SELECT * FROM "{name}"'))]
    files = [path.read_bytes().decode("latin-1") for path in Path(engine.url.database or "").parent.glob("*.db*")]
    return "\n".join(cells + files)


def in_redis(url: str) -> str:
    with redis.Redis.from_url(url) as client:
        dumps = [client.dump(key) for key in client.scan_iter()]
        streams = [client.xrange(key) for key in client.scan_iter(_type="stream")]
    return "\n".join([*(dump.decode("latin-1") for dump in dumps if dump is not None), str(streams)])


@pytest.mark.timeout(400)
def test_no_secret_stands_in_clear_anywhere(fleet: Fleet, listener: Listener) -> None:
    account = fleet.control.add_user("Ada", documents=3)
    with httpx.Client(trust_env=False) as browser:
        back = fleet.control.authorize(follow_link(browser, fleet.link("ada")), account)
        answer = browser.get(back)
        cookies = {value for value in browser.cookies.values() if value}
    query = {name: values[0] for name, values in parse_qs(urlsplit(back).query).items()}
    secrets = {query["code"], query["state"], fleet.environment["BREEZEDOC_CLIENT_SECRET"], *cookies}
    secrets |= {fleet.environment["ENCRYPTION_KEYS"].split(":")[1], fleet.environment["CONNECT_SECRET"]}
    connection = fleet.outcome(urljoin(str(answer.url), answer.headers["location"]))["connection_id"]
    fleet.has_synced(listener, connection)
    secrets |= tokens_of(fleet, connection)
    for trouble in TROUBLES:
        meet(fleet, connection, trouble)
    let_an_hour_pass(fleet, connection)
    fleet.wait_until(lambda: generation(fleet, connection) > 1, "refreshed in spite of them", 150)
    secrets |= tokens_of(fleet, connection)
    fleet.control.revoke_user(account)
    fleet.ask("sync_connection", "sync", connection_id=connection)
    kind = "connection.reauthorization_required"
    fleet.wait_until(lambda: bool(listener.about(connection, kind)), kind)

    unchained = "SELECT count(*) AS lines FROM audit WHERE number IS NULL"
    fleet.wait_until(lambda: fleet.rows(unchained)[0].lines == 0, "the scheduler has chained the audit", 60)
    audit = run_command(fleet, "audit", "--since", "1d", "--json")
    done = {line["action"] for line in map(json.loads, audit.splitlines())}
    assert {"link.opened", "code.exchanged", "token.refreshed", "connection.revoked"} <= done
    assert json.loads(run_command(fleet, "audit", "verify", "--json"))["ok"]

    places = {
        "audit": audit,
        "database": in_database(fleet.database_url),
        "redis": in_redis(fleet.redis_url),
        "logs": "\n".join(program.log.read_text() for program in fleet.programs),
        "page": httpx.get(urljoin(str(answer.url), answer.headers["location"]), trust_env=False).text,
        "metrics": httpx.get(f"{fleet.operator_url}/metrics", trust_env=False).text,
    }
    assert len(secrets) >= 10
    forms = {
        form for secret in secrets for form in (secret, quote(secret, safe=""), b64encode(secret.encode()).decode())
    }
    assert [(name, form[:6]) for name, held in places.items() for form in forms if form in held] == []


def run_command(fleet: Fleet, *words: str) -> str:
    command = [sys.executable, "-m", "worker", *words]
    return subprocess.run(
        command, cwd=fleet.directory, env=fleet.environment, capture_output=True, text=True, check=True
    ).stdout


def meet(fleet: Fleet, connection: str, trouble: dict[str, Any]) -> None:
    """Has the next token request or read end in this trouble."""
    fault = fleet.control.inject(**trouble)
    let_an_hour_pass(fleet, connection)
    fleet.ask("sync_connection", "sync", connection_id=connection)
    fleet.wait_until(lambda: has_happened(fleet, fault), f"trouble: {trouble}", 150)


def has_happened(fleet: Fleet, fault: int) -> bool:
    return all(one["hits"] > 0 for one in fleet.control.faults() if one["id"] == fault)


def let_an_hour_pass(fleet: Fleet, connection: str) -> None:
    """Whatever waits for its time waits no longer: a refresh, its settling, a run's pause."""
    statements = (
        "UPDATE credential SET presented_at = :past WHERE connection_id = :id AND presented_at IS NOT NULL",
        "UPDATE credential SET lease_until = :past WHERE connection_id = :id AND lease_until IS NOT NULL",
        "UPDATE sync_run SET resume_at = :past WHERE connection_id = :id AND resume_at IS NOT NULL",
        "UPDATE connection SET refresh_due_at = :past, refresh_claimed_until = NULL WHERE id = :id",
    )
    past = "2020-01-01 00:00:00.000000"
    fleet.change(*(text(statement).bindparams(past=past, id=connection) for statement in statements))


def generation(fleet: Fleet, connection: str) -> int:
    [row] = fleet.rows("SELECT generation FROM connection WHERE id = :id", id=connection)
    return int(row.generation)
