"""A test of your own against the sandbox, for CI: a user connects, revokes access, and you receive the events.

    breezesync run --state state.json &
    BREEZESYNC_STATE=state.json pytest test_with_sandbox.py

The state file exists once everything runs, and has the URLs.
"""

import json
import os
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import redis
from sqlalchemy import create_engine, text


class Breezesync:
    """Acts as the user's browser, as the user at BreezeDoc, and as the application."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.web, self.secret = state["web_url"], state["environment"]["CONNECT_SECRET"]
        self.sandbox = httpx.Client(base_url=f"{state['sandbox_url']}/_sandbox/", trust_env=False)
        self.redis: Any = redis.Redis.from_url(state["redis_url"], decode_responses=True, socket_timeout=60)
        self.database = create_engine(state["database_url"])

    def add_account(self, documents: int) -> int:
        """Add a user of BreezeDoc; the page /_sandbox shows everything that the sandbox can do."""
        account: int = self.sandbox.post("users", json={"name": "Grace", "documents": documents}).json()["ids"][0]
        return account

    def connect(self, user: str, account: int) -> str:
        """Go from the link through consent to the result, as the browser; return the connection's id."""
        now = int(time.time())
        claims = {"sub": user, "iat": now, "exp": now + 300, "jti": uuid.uuid4().hex}
        token = jwt.encode(claims, self.secret, algorithm="HS256")
        with httpx.Client(trust_env=False) as browser:
            asked = browser.get(f"{self.web}/auth/breezedoc", params={"token": token})
            if asked.status_code == 200:  # the page that asks whose browser this is
                form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', asked.text))
                asked = browser.post(f"{self.web}/auth/breezedoc/start", data={**form, "answer": "continue"})
            consent = {"url": asked.headers["location"], "user_id": account}
            returned = browser.get(self.sandbox.post("authorize", json=consent).json()["location"])
            assert returned.next_request is not None
            result, answer = returned.next_request.url, {"status": "pending"}
            while answer["status"] == "pending":
                answer = browser.get(result, headers={"Accept": "application/json"}).json()
        assert answer["status"] == "connected", answer
        return answer["connection_id"]

    def wait_for(self, kind: str, connection: str) -> dict[str, Any]:
        """Wait for the first event of that type about a connection; return its data."""
        last = "0"
        while found := self.redis.xread({"breezesync:events": last}, block=20_000):
            for _, fields in found[0][1]:
                if (fields["type"], fields["connection_id"]) == (kind, connection):
                    return dict(json.loads(fields["event"])["data"])
            last = found[0][1][-1][0]
        raise AssertionError(f"{kind} did not arrive")


@pytest.fixture(scope="session")
def breezesync() -> Iterator[Breezesync]:
    state, patience = Path(os.environ["BREEZESYNC_STATE"]), time.monotonic() + 60
    while not state.exists():
        assert time.monotonic() < patience, "breezesync did not start: see var/log"
        time.sleep(0.1)
    opened = Breezesync(json.loads(state.read_text()))
    yield opened
    opened.sandbox.close()
    opened.redis.close()
    opened.database.dispose()


def test_a_users_documents_can_be_read(breezesync: Breezesync) -> None:
    connection = breezesync.connect("grace", breezesync.add_account(documents=7))
    breezesync.wait_for("sync.completed", connection)
    with breezesync.database.connect() as db:
        query = text("SELECT count(*) FROM breezedoc_document WHERE user_id = 'grace'")
        assert db.execute(query).scalar() == 7


def test_a_revocation_is_told(breezesync: Breezesync) -> None:
    account = breezesync.add_account(documents=1)
    connection = breezesync.connect("hopper", account)
    breezesync.sandbox.post(f"users/{account}/revoke")
    breezesync.redis.xadd("breezesync:commands", {"type": "sync", "connection_id": connection})
    assert breezesync.wait_for("connection.reauthorization_required", connection)["reason"] == "access_revoked"
