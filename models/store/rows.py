"""Convert rows to the core's frozen values, and back."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import fields
from functools import cache
from typing import Any, cast

from sqlalchemy import ColumnElement, Table, select
from sqlalchemy import Connection as SqlConnection
from sqlmodel import SQLModel

from models.oauth.authorization import Authorization, Confirmation, Step
from models.oauth.connection import Connection, Status


def table_of(row: type[SQLModel]) -> Table:
    return cast(Table, row.__table__)  # type: ignore[attr-defined]  # SQLModel sets it on table classes


@cache
def names_of(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def begun_ids(sql: SqlConnection, column: ColumnElement[str], prefix: str, limit: int) -> Sequence[str]:
    """Return up to `limit` ids that begin so, in order; of hexadecimal ones only these are looked at."""
    query = select(column).where(column.startswith(prefix, autoescape=True)).order_by(column).limit(limit)
    if re.fullmatch(r"[0-9a-f]+", prefix):
        query = query.where(column >= prefix, column < f"{prefix}g")
    return list(sql.execute(query).scalars())


def to_connection(row: Iterable[Any]) -> Connection:
    """Return the connection of a row whose columns are those of `Connection`, in their order."""
    values = dict(zip(names_of(Connection), row, strict=True))
    values["status"] = Status(values["status"])
    values["team_ids"] = tuple(values["team_ids"])
    return Connection(**values)


def from_connection(connection: Connection) -> dict[str, object]:
    values = {name: getattr(connection, name) for name in names_of(Connection)}
    return values | {"status": connection.status.value, "team_ids": list(connection.team_ids)}


def to_authorization(row: Iterable[Any]) -> Authorization:
    """Return the authorization of a row whose columns are those of `Authorization`, in their order."""
    values = dict(zip(names_of(Authorization), row, strict=True))
    typed = {"step": Step(values["step"]), "confirmation": Confirmation(values["confirmation"])}
    return Authorization(**values | typed | {"team_ids": tuple(values["team_ids"])})


def from_authorization(authorization: Authorization) -> dict[str, object]:
    values = {name: getattr(authorization, name) for name in names_of(Authorization)}
    words = {"step": authorization.step.value, "confirmation": authorization.confirmation.value}
    return values | words | {"team_ids": list(authorization.team_ids)}
