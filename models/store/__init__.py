"""The only SQL: short transactions over the schema, one room a table, the same on SQLite and PostgreSQL."""

from models.store.engine import open_engine
from models.store.transaction import Store, Transaction

__all__ = ["Store", "Transaction", "open_engine"]
