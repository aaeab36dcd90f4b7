"""The same two jobs with Celery, Authlib and SQLAlchemy, written as their documentation shows them.

Run by the Python of its own environment: `celery -A tasks worker`. A refresh locks the row of the tokens, has Authlib
present the refresh token, and commits the new pair. A sync reads every page, compares each record's hash with what is
stored, writes what differs, and commits page by page. No events, no sealed tokens, no limit, no proof of deletions.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from authlib.integrations.requests_client import OAuth2Session  # type: ignore[import-untyped]
from celery import Celery  # type: ignore[import-not-found]
from sqlalchemy import JSON, DateTime, String, Text, create_engine, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

app = Celery("rival", broker=os.environ["BROKER_URL"])
app.conf.update(task_ignore_result=True, task_acks_late=True, broker_connection_retry_on_startup=True)
engine = create_engine(os.environ["DATABASE_URL"], pool_size=16)
provider = os.environ["PROVIDER_URL"]
lists = ("documents", "templates", "recipients", "invoices")


class Base(DeclarativeBase):
    """The schema."""


class Token(Base):
    """An account's pair of tokens."""

    __tablename__ = "token"
    account: Mapped[int] = mapped_column(primary_key=True)
    access_token: Mapped[str] = mapped_column(Text)
    refresh_token: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[int]
    refreshes: Mapped[int] = mapped_column(default=0)
    synced_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    def as_token(self) -> dict[str, Any]:
        return {
            "token_type": "Bearer",
            "access_token": self.access_token,
            "refresh_token": self.refresh_token,
            "expires_at": self.expires_at,
        }


class Record(Base):
    """One record as last read."""

    __tablename__ = "record"
    account: Mapped[int] = mapped_column(primary_key=True)
    resource: Mapped[str] = mapped_column(String(40), primary_key=True)
    external_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    data: Mapped[Any] = mapped_column(JSON)
    content_hash: Mapped[str] = mapped_column(String(64))
    changed_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


@app.task  # type: ignore[untyped-decorator]
def refresh(account: int) -> None:
    with Session(engine) as session, session.begin():
        token = session.get_one(Token, account, with_for_update=True)
        with OAuth2Session("bench", "secret", token=token.as_token()) as client:
            new = client.refresh_token(f"{provider}/oauth/token")
        token.access_token, token.refresh_token = new["access_token"], new["refresh_token"]
        token.expires_at, token.refreshes = int(new["expires_at"]), token.refreshes + 1


@app.task  # type: ignore[untyped-decorator]
def sync(account: int) -> None:
    with Session(engine) as session:
        token = session.get_one(Token, account).as_token()
    with OAuth2Session("bench", "secret", token=token) as client:
        save(account, "account", [_read(client, "/me")])
        for name in lists:
            for page in read_pages(client, name):
                save(account, name, page)
    with Session(engine) as session, session.begin():
        session.execute(update(Token).where(Token.account == account).values(synced_at=datetime.now(timezone.utc)))  # noqa: UP017


def read_pages(client: Any, name: str) -> Iterator[list[Any]]:
    number, last = 1, 1
    while number <= last:
        answer = _read(client, f"/{name}?page={number}")
        last = answer.get("last_page") or answer["meta"]["last_page"]
        yield answer["data"]
        number += 1


def save(account: int, name: str, records: list[Any]) -> None:
    """Write the records that differ from what is stored, and commit."""
    found = {str(record["id"]): (record, _hash_of(record)) for record in records}
    with Session(engine) as session, session.begin():
        query = select(Record.external_id, Record.content_hash).where(
            Record.account == account, Record.resource == name, Record.external_id.in_(found)
        )
        stored = {row.external_id: row.content_hash for row in session.execute(query)}
        changed = [
            {"account": account, "resource": name, "external_id": id_, "data": record, "content_hash": hash_}
            for id_, (record, hash_) in found.items()
            if stored.get(id_) != hash_
        ]
        if changed:
            statement = insert(Record).values(changed)
            new = {"data": statement.excluded.data, "content_hash": statement.excluded.content_hash}
            key = [Record.account, Record.resource, Record.external_id]
            session.execute(statement.on_conflict_do_update(index_elements=key, set_=new | {"changed_at": func.now()}))


def _read(client: Any, path: str) -> Any:
    answer = client.get(f"{provider}/api{path}", timeout=30)
    answer.raise_for_status()
    return answer.json()


def _hash_of(record: Any) -> str:
    """Without the signatures in the URLs of a document's pages, which are new in every answer."""
    for file in record.get("document_files", ()):
        for page in file["document_file_pages"]:
            page["url"] = page["url"].partition("?")[0]
            page["thumbnail_url"] = page["thumbnail_url"].partition("?")[0]
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def prepare(accounts: dict[int, tuple[str, str]]) -> None:
    """Make the tables, with a pair of tokens for each account."""
    Base.metadata.create_all(engine)
    expires_at = int(time.time()) + 31_536_000
    with Session(engine) as session, session.begin():
        session.add_all(
            Token(account=account, access_token=access, refresh_token=renew, expires_at=expires_at)
            for account, (access, renew) in accounts.items()
        )


def send(name: str, accounts: list[int]) -> None:
    """Enqueue one task for each account."""
    task = {"refresh": refresh, "sync": sync}[name]
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        for account in accounts:
            task.apply_async((account,), producer=producer)
