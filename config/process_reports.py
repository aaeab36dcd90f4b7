"""Each process that lasts reports itself to the database, for metrics and an operator to see."""

from dataclasses import dataclass

import structlog
from sqlalchemy.exc import SQLAlchemyError

from models.clock import Anchor, offset
from models.errors import SyncError
from models.store import Store
from models.store.processes import Process

every = 3
"""Reports are written with every third measurement of the clock: about twice a minute."""


@dataclass(slots=True, eq=False)
class ProcessReporter:
    """Writes the process's row with a measurement of its clock; a database that does not take it is asked again."""

    store: Store
    name: str
    role: str
    version: str
    measurements: int = 0

    def __call__(self, measured: Anchor) -> None:
        is_turn = self.measurements % every == 0
        self.measurements += 1
        if not is_turn:
            return
        ahead = round(offset(measured).total_seconds(), 3)
        try:
            with self.store.writing() as tx:
                tx.processes.report(Process(self.name, self.role, self.version, measured.fleet, ahead))
        except (SyncError, SQLAlchemyError) as error:
            self.measurements = 0
            structlog.get_logger("process").debug("process.not_reported", error=type(error).__name__)
