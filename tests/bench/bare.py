"""The least that a callback can be: an ASGI endpoint that inserts a row. `uvicorn tests.bench.bare:app`."""

import asyncio
import os
import threading
from typing import Any

import psycopg

own = threading.local()


def insert(path: str, query: bytes) -> None:
    if not hasattr(own, "database"):
        own.database = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
    own.database.execute("INSERT INTO callback (path, query) VALUES (%s, %s)", (path, query.decode()))


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    await asyncio.to_thread(insert, scope["path"], scope["query_string"])
    await send(
        {"type": "http.response.start", "status": 303, "headers": [(b"location", b"/done"), (b"content-length", b"0")]}
    )
    await send({"type": "http.response.body", "body": b""})
