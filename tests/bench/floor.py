"""The floor: the same requests with httpx and the least that must be written with psycopg, without a framework.

`python -m tests.bench.floor` reads a job and its accounts from a line of JSON, works on 8 threads, and answers.
"""

import json
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Any

import httpx
import psycopg

from tests.bench.provider import FAMILY, access_token, refresh_token

SCHEMA = "CREATE TABLE token (account bigint PRIMARY KEY, access_token text, refresh_token text, synced_at timestamptz)"
LISTS = ("documents", "templates", "recipients", "invoices")
own = threading.local()


def open_own() -> tuple[psycopg.Connection[Any], httpx.Client]:
    """Return this thread's connection and client."""
    if not hasattr(own, "database"):
        own.database = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
        own.client = httpx.Client(base_url=os.environ["PROVIDER_URL"], trust_env=False)
    return own.database, own.client


def refresh(account: int, tokens: dict[int, str]) -> None:
    database, client = open_own()
    answer = client.post("/oauth/token", json={"grant_type": "refresh_token", "refresh_token": tokens[account]}).json()
    tokens[account] = answer["refresh_token"]
    database.execute(
        "UPDATE token SET access_token = %s, refresh_token = %s WHERE account = %s",
        (answer["access_token"], answer["refresh_token"], account),
    )


def sync(account: int) -> None:
    database, client = open_own()
    for path in pages(client, account):
        own.last = path
    database.execute("UPDATE token SET synced_at = now() WHERE account = %s", (account,))


def pages(client: httpx.Client, account: int) -> Iterator[Any]:
    """Read every page of every list."""
    headers = {"Authorization": f"Bearer {access_token(account, 1)}"}
    yield client.get("/api/me", headers=headers).json()
    for name in LISTS:
        number, last = 1, 1
        while number <= last:
            answer = client.get(f"/api/{name}?page={number}", headers=headers).json()
            last = answer.get("last_page") or answer["meta"]["last_page"]
            yield answer
            number += 1


def prepare(accounts: list[int]) -> dict[int, str]:
    with psycopg.connect(os.environ["DATABASE_URL"]) as database:
        database.execute(SCHEMA)
        database.cursor().executemany("INSERT INTO token VALUES (%s)", [(each,) for each in accounts])
    return {account: refresh_token(account, 2 * FAMILY) for account in accounts}


def main() -> None:
    tokens: dict[int, str] = {}
    with ThreadPoolExecutor(8) as pool:
        for line in sys.stdin:
            request = json.loads(line)
            accounts = request["accounts"]
            match request["task"]:
                case "prepare":
                    tokens.update(prepare(accounts))
                case "refresh":
                    list(pool.map(refresh, accounts, repeat(tokens)))
                case _:
                    list(pool.map(sync, accounts))
            print("done", flush=True)


if __name__ == "__main__":
    main()
