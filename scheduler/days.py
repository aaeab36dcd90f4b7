"""Keeps the database's days of history: makes those ahead, and drops those that are old enough."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

import structlog

from models.errors import StoreUnavailable
from models.store import Store, Transaction
from models.store.days import Day, choose_missing, choose_old

tries = 3
"""How often in a pass a day is tried whose table is locked."""


@dataclass(frozen=True, slots=True)
class DaysAhead:
    """Make today's and the coming days. Until one is made, its rows go into the default partition, and then move."""

    store: Store
    now: Callable[[], datetime]

    def __call__(self) -> None:
        if not self.store.has_days:
            return
        with self.store.reading() as tx:
            missing = choose_missing(tx.days.existing(), self.now())
        _change(self.store, "days.made", missing, lambda tx, day: tx.days.make(day))


def drop_days(store: Store, before: datetime) -> None:
    """Drop the days that were over before then. Raises `StoreUnavailable` if one is locked: it stays until later."""
    with store.reading() as tx:
        old = choose_old(tx.days.existing(), before)
    _change(store, "days.dropped", old, lambda tx, day: tx.days.drop(day))


def _change(store: Store, event: str, days: Iterable[Day], change: Callable[[Transaction, Day], bool]) -> None:
    """Change each day in a transaction of its own, so that no lock lasts; a day that fails keeps no other from it."""
    failed: StoreUnavailable | None = None
    for day in days:
        for attempt in range(tries):
            try:
                with store.writing() as tx:
                    changed = change(tx, day)
            except StoreUnavailable as error:
                if attempt == tries - 1:
                    failed = error
                continue
            if changed:
                structlog.get_logger("scheduler").info(event, table=day.table, date=day.date.isoformat())
            break
    if failed is not None:
        raise failed
