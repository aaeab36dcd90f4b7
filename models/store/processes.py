"""The processes of the fleet: each reports itself now and then."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import delete, func, select

from models.process import Process, alive_for
from models.store.dialect import insert_or_update
from models.store.rows import names_of, table_of
from models.store.tables import ProcessRow

table = table_of(ProcessRow)
most_listed = 1000


class Processes:
    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def report(self, process: Process) -> None:
        values = {name: getattr(process, name) for name in names_of(Process)}
        changes = {name: value for name, value in values.items() if name != "name"}
        self.sql.execute(insert_or_update(self.sql, table, values, changes))

    def since(self, moment: datetime) -> Sequence[Process]:
        """Return the processes that have reported since then, by role and name."""
        query = select(*(table.c[name] for name in names_of(Process))).where(table.c.reported_at > moment)
        rows = self.sql.execute(query.order_by(table.c.role, table.c.name).limit(most_listed))
        return [Process(*row) for row in rows]

    def count(self, now: datetime) -> Mapping[tuple[str, str], int]:
        """Count the processes that reported lately, by role and version."""
        query = select(table.c.role, table.c.version, func.count()).where(table.c.reported_at > now - alive_for)
        rows = self.sql.execute(query.group_by(table.c.role, table.c.version))
        return {(role, version): number for role, version, number in rows}

    def forget(self, before: datetime) -> int:
        """Delete those that have not reported since then."""
        return self.sql.execute(delete(table).where(table.c.reported_at < before)).rowcount
