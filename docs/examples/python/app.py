"""A small application whose users connect their BreezeDoc accounts: everything that breezesync needs of an application.

    uvicorn --app-dir docs/examples/python --factory app:build --port 8710

It shares with breezesync a secret, a database and a Redis, and imports nothing of it.
"""

import asyncio
import os
import threading
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import httpx
import jwt
import redis
from consumer import Consumer, Event
from gateway import Gateway, Problem
from sqlalchemy import Connection, Engine, create_engine, text
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.templating import Jinja2Templates
from starlette.types import Lifespan

here = Path(__file__).parent
security_headers = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}

# Other types change nothing here; new versions may add some.
states = {
    "dev.breezesync.connection.authorized": "connected",
    "dev.breezesync.connection.reauthorization_required": "lost",
    "dev.breezesync.connection.access_limited": "limited",
    "dev.breezesync.connection.access_restored": "connected",
    "dev.breezesync.connection.disconnected": "disconnected",
}
account_table = """
CREATE TABLE IF NOT EXISTS account (connection_id TEXT PRIMARY KEY, user_id TEXT NOT NULL, email TEXT,
    state TEXT NOT NULL, sequence BIGINT NOT NULL)
"""
# An event of a dead consumer can arrive after newer ones: then it is ignored.
note_state = """
INSERT INTO account VALUES (:connection_id, :user_id, :email, :state, :sequence)
ON CONFLICT (connection_id) DO UPDATE
SET state = excluded.state, email = coalesce(excluded.email, account.email), sequence = excluded.sequence
WHERE account.sequence < excluded.sequence
"""
find_accounts = "SELECT * FROM account WHERE user_id = :user AND state <> 'disconnected' ORDER BY connection_id"
find_documents = """
SELECT id, title, recipients, recipients_sent, recipients_completed FROM breezedoc_document
WHERE user_id = :user ORDER BY id DESC LIMIT 100
"""
find_last_sync = "SELECT max(last_synced_at) FROM connection WHERE user_id = :user AND status = 'active'"


def note(event: Event, db: Connection) -> None:
    """Change our own database for an event, in the transaction that stores the event's id."""
    if state := states.get(event["type"]):
        data = event["data"]
        found = {"connection_id": data["connection_id"], "user_id": data["user_id"], "email": data.get("email")}
        db.execute(text(note_state), {**found, "state": state, "sequence": int(event["sequence"])})


def confirmation_of(brought: Mapping[str, str], user: str) -> dict[str, str]:
    """Return the command that says: our logged-in user's browser brought this, not someone's whom a link was sent to.

    If another user is logged in, nothing is connected. breezesync's page waits for the result, and comes back with it.
    """
    ids = {name: brought.get(name, "") for name in ("authorization_id", "confirmation")}
    return {"type": "confirm", "user_id": user, **ids}


def send(commands: Any, stream: str, command: dict[str, str]) -> bool:
    """Send a command; return whether it was taken. Bounded, because commands stay there while breezesync is down."""
    try:
        commands.xadd(stream, command, maxlen=10_000)
    except redis.RedisError:
        return False
    return True


def is_from_elsewhere(request: Request) -> bool:
    """Whether another site's page sent this form."""
    return request.headers.get("sec-fetch-site", "same-origin") != "same-origin"


def open_gateway(env: Mapping[str, str]) -> Gateway | None:
    """Open the client of breezesync's gateway, with which the application can write, if there is a key."""
    key = env.get("GATEWAY_KEY")
    return Gateway(env.get("GATEWAY_URL", "http://127.0.0.1:8702"), key) if key else None


def create_document(gateway: Gateway | None, own: Engine, user: str, form: Mapping[str, str]) -> Response:
    """Create a document, once, however often the form is sent: its key comes with the page.

    It arrives as any other: breezesync reads the account after a write.
    """
    with own.connect() as db:
        mine = {account.connection_id for account in db.execute(text(find_accounts), {"user": user})}
    if gateway is None or form.get("connection") not in mine or not form.get("key"):
        return PlainTextResponse("Not your account.", 403)
    document = {"title": form.get("title", "Untitled")}
    try:
        gateway.call(form["connection"], "POST", "documents", idempotency_key=form["key"], body=document)
    except (Problem, httpx.HTTPError):
        return RedirectResponse("/?status=failed", 303, security_headers)
    return RedirectResponse("/?asked=1", 303, security_headers)


def listen_with(consumer: Consumer, gateway: Gateway | None) -> Lifespan[Starlette]:
    """Have the consumer listen for as long as the application runs."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        stop = threading.Event()
        listening = threading.Thread(target=partial(consumer.run, stop), name="consumer")
        listening.start()
        yield
        stop.set()
        await asyncio.to_thread(listening.join)
        if gateway is not None:
            gateway.close()

    return lifespan


def build() -> Starlette:
    """Build the application from its environment. It has its own database, and only reads breezesync's."""
    env = os.environ
    origin = env.get("APP_URL", "http://127.0.0.1:8710")
    # The logged-in user, from your session. This example has one user to stay short.
    user = env.get("APP_USER", "demo")
    own = create_engine(env.get("APP_DATABASE_URL", "sqlite:///example.db"))
    breezesync = create_engine(env["DATABASE_URL"])
    commands: Any = redis.Redis.from_url(env["REDIS_URL"])
    stream = env.get("COMMANDS_STREAM", "breezesync:commands")
    pages = Jinja2Templates(here)
    gateway = open_gateway(env)
    with own.begin() as db:
        db.execute(text(account_table))
    consumer = Consumer(
        env["REDIS_URL"],
        own,
        [env.get("EVENTS_STREAM", "breezesync:events")],
        note,
        group="example-app",
        claim_after=float(env.get("CLAIM_AFTER", "60")),
    )

    def confirm(brought: Mapping[str, str], user: str) -> Response:
        sent = send(commands, stream, confirmation_of(brought, user))
        done = f"{env['BREEZESYNC_URL']}/auth/breezedoc/done/{quote(brought.get('authorization_id', ''), safe='')}"
        return RedirectResponse(done if sent else "/?status=failed", 303, security_headers)

    def home(request: Request) -> Response:
        if "confirmation" in request.query_params:
            return confirm(request.query_params, user)
        with own.connect() as db:
            accounts = db.execute(text(find_accounts), {"user": user}).all()
        with breezesync.connect() as db:
            documents = db.execute(text(find_documents), {"user": user}).all()
            synced_at = db.execute(text(find_last_sync), {"user": user}).scalar()
        found = {"accounts": accounts, "documents": documents, "synced_at": synced_at, "query": request.query_params}
        found |= {"key": uuid.uuid4().hex if gateway else ""}
        return pages.TemplateResponse(request, "page.html", found, headers=security_headers)

    def connect(request: Request) -> Response:
        """Sign the link when it is clicked, not when the page is rendered: it works for minutes, and once."""
        now = int(time.time())
        claims = {"sub": user, "iat": now, "exp": now + 300, "jti": uuid.uuid4().hex, "return_to": f"{origin}/"}
        claims |= {"aud": "breezedoc", "name": env.get("APP_USER_NAME", user)}
        if again := request.query_params.get("connection"):
            claims["connection_id"] = again  # breezesync accepts only this user's
        token = jwt.encode(claims, env["CONNECT_SECRET"], algorithm="HS256")
        link = f"{env['BREEZESYNC_URL']}/auth/breezedoc?{urlencode({'token': token})}"
        return RedirectResponse(link, 303, security_headers)

    def sync(request: Request) -> Response:
        """Request a sync now instead of in a quarter of an hour. Requesting it twice is harmless."""
        if is_from_elsewhere(request):
            return PlainTextResponse("Not from another site's page.", 403)
        sent = send(commands, stream, {"type": "sync", "user_id": user})
        return RedirectResponse("/?asked=1" if sent else "/?status=failed", 303)

    async def write(request: Request) -> Response:
        if is_from_elsewhere(request):
            return PlainTextResponse("Not from another site's page.", 403)
        form = dict(parse_qsl((await request.body()).decode()))
        return await asyncio.to_thread(create_document, gateway, own, user, form)

    return Starlette(
        routes=[
            Route("/", home),
            Route("/connect", connect),
            Route("/sync", sync, methods=["POST"]),
            Route("/write", write, methods=["POST"]),
            Route("/live.js", lambda request: FileResponse(here / "live.js")),
        ],
        lifespan=listen_with(consumer, gateway),
    )
