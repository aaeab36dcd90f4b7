"""The processes that run, as each reports itself."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import delete, select

from models.process import Process
from models.store.dialect import insert_of
from models.store.rows import table_of
from models.store.statement import Statement
from models.store.tables import ProcessRow

table = table_of(ProcessRow)
names = ("name", "role", "version", "ahead", "seen_at")
forgotten_after = timedelta(days=1)
most_listed = 1000

_report = Statement(
    lambda dialect: insert_of(dialect, table).on_conflict_do_update(
        index_elements=["name"],
        set_={name: insert_of(dialect, table).excluded[name] for name in names if name != "name"},
    ),
    names,
)


class Processes:
    """The processes of one transaction's database."""

    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def report(self, process: Process) -> None:
        """Note that it runs, and forget those that have not reported for a day."""
        _report.run(self.sql, **{name: getattr(process, name) for name in names})
        self.sql.execute(delete(table).where(table.c.seen_at < process.seen_at - forgotten_after))

    def forget(self, name: str) -> None:
        """Forget a process that ends."""
        self.sql.execute(delete(table).where(table.c.name == name))

    def since(self, moment: datetime) -> Sequence[Process]:
        """Return those that have reported since then, by name."""
        query = select(*(table.c[name] for name in names)).where(table.c.seen_at >= moment)
        return [Process(*row) for row in self.sql.execute(query.order_by(table.c.name).limit(most_listed))]
