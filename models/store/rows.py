"""Convert rows to the core's frozen values, and back."""

from dataclasses import fields
from typing import Any, cast

from sqlalchemy import RowMapping, Table
from sqlmodel import SQLModel

from models.oauth.authorization import Authorization, Confirmation, Step
from models.oauth.connection import Connection, Status
from models.oauth.credential import Credential


def table_of(row: type[SQLModel]) -> Table:
    return cast(Table, row.__table__)  # type: ignore[attr-defined]  # SQLModel sets it on table classes


def names_of(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def to_connection(row: RowMapping) -> Connection:
    return Connection(**dict(row) | {"status": Status(row["status"]), "team_ids": tuple(row["team_ids"])})


def from_connection(connection: Connection) -> dict[str, object]:
    values = {name: getattr(connection, name) for name in names_of(Connection)}
    return values | {"status": connection.status.value, "team_ids": list(connection.team_ids)}


def to_credential(row: RowMapping) -> Credential:
    return Credential(**row)


def to_authorization(row: RowMapping) -> Authorization:
    typed = {"step": Step(row["step"]), "confirmation": Confirmation(row["confirmation"])}
    return Authorization(**dict(row) | typed | {"team_ids": tuple(row["team_ids"])})


def from_authorization(authorization: Authorization) -> dict[str, object]:
    values = {name: getattr(authorization, name) for name in names_of(Authorization)}
    words = {"step": authorization.step.value, "confirmation": authorization.confirmation.value}
    return values | words | {"team_ids": list(authorization.team_ids)}
