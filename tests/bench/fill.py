"""A fleet's connections: written by the database, with sealed tokens that open."""

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg

from models.crypto.secrets import Secret
from models.crypto.vault import Place, Vault, parse_keys
from models.sync.records import read_item
from tests.bench.accounts import FLEET, connection_id
from tests.bench.provider import access_token, describe_account, refresh_token
from tests.bench.rows import fill_without_indexes

BATCH = 5_000
KINDS = ("refresh", "pulse", "sync")
"""What a connection may be due for: its refresh, a sync of the account alone, or a sync of its lists."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A connection that becomes due once, so many seconds after the start."""

    account: int
    kind: str
    at: float


def plan_arrivals(
    seed: int, steps: Sequence[tuple[float, float]], mix: Mapping[str, float], accounts: Sequence[int]
) -> list[Arrival]:
    """Return arrivals at random times: for each step's seconds and rate, jobs of every kind by their share.

    No connection is due twice. Raises ValueError if there are not enough of them.
    """
    rng, begun, found = random.Random(seed), 0.0, list[Arrival]()
    for seconds, rate in steps:
        at = begun
        while rate > 0 and (at := at + rng.expovariate(rate)) < begun + seconds:
            if len(found) == len(accounts):
                raise ValueError(f"more jobs are due than there are connections, {len(accounts):,}")
            kind = rng.choices(list(mix), list(mix.values()))[0]
            found.append(Arrival(accounts[len(found)], kind, at))
        begun += seconds
    return found


def fill_fleet(database_url: str, keys: str, count: int, template: str) -> None:
    """Write so many connections like the template, each with tokens of its own, none of them due within a day."""
    with psycopg.connect(database_url.replace("+psycopg", "")) as sql:
        columns = [name for (name,) in sql.execute(COLUMNS, ("connection",)).fetchall()]
    own = {
        "id": "lpad(to_hex(g), 32, '0')",
        "user_id": "'user-' || g",
        "account_id": "g::text",
        "email": "'user' || g || '@example.com'",
        "sync_due_at": "now() + interval '1 day' + interval '1 second' * (g % 86400)",
        "refresh_due_at": "now() + interval '1 day' + interval '1 minute' * (g % 40000)",
    }
    chosen = ", ".join(own.get(name, f"c.{name}") for name in columns)
    statement = (
        f"INSERT INTO connection ({', '.join(columns)}) SELECT {chosen} FROM connection c, "
        f"generate_series({FLEET[0]}, {FLEET[0] + count - 1}) g WHERE c.id = '{template}'"
    )
    fill_without_indexes(database_url, "connection", statement)
    _seal_tokens(database_url, keys, FLEET[:count])


COLUMNS = "SELECT column_name FROM information_schema.columns WHERE table_name = %s ORDER BY ordinal_position"


def _seal_tokens(database_url: str, keys: str, accounts: Sequence[int]) -> None:
    """Seal two tokens for each connection, on every core."""
    batches = [accounts[start : start + BATCH] for start in range(0, len(accounts), BATCH)]
    columns = "connection_id, access_token, refresh_token, issued_at, expires_at, presentations, failures"
    with (
        psycopg.connect(database_url.replace("+psycopg", "")) as sql,
        ProcessPoolExecutor() as pool,
        sql.cursor().copy(f"COPY credential ({columns}) FROM STDIN") as copy,
    ):
        for rows in pool.map(seal_batch, [keys] * len(batches), batches):
            for row in rows:
                copy.write_row((*row, "now", "now", 0, 0))
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as sql:
        sql.execute("UPDATE credential SET expires_at = issued_at + interval '364 days' WHERE expires_at <= now()")
        sql.execute("VACUUM ANALYZE credential")


def seal_batch(key_line: str, accounts: Iterable[int]) -> list[tuple[str, str, str]]:
    vault = Vault(parse_keys(key_line))

    def seal(id_: str, column: str, token: str) -> str:
        return vault.seal(Secret(token), Place("credential", id_, column, 1)).text

    return [
        (
            connection_id(account),
            seal(connection_id(account), "access_token", access_token(account, 1)),
            seal(connection_id(account), "refresh_token", refresh_token(account, 1)),
        )
        for account in accounts
    ]


DUE = (
    "UPDATE connection c SET refresh_due_at = p.due_at "
    "FROM planned p WHERE p.connection_id = c.id AND kind = 'refresh'",
    "UPDATE connection c SET sync_due_at = p.due_at, full_due_at = now() + interval '1 day', "
    "lists_due_at = now() + interval '1 day' FROM planned p WHERE p.connection_id = c.id AND kind = 'pulse'",
    "UPDATE connection c SET sync_due_at = p.due_at, full_due_at = now() - interval '1 day' "
    "FROM planned p WHERE p.connection_id = c.id AND kind = 'sync'",
)
OWN_ACCOUNT = """
    UPDATE record SET external_id = %s, data = %s, content_hash = %s WHERE connection_id = %s AND resource = 'account'
"""


def own_account(account: int) -> tuple[str, str, str, str]:
    """Return the account's own record as it was stored when it was read."""
    item = read_item(json.loads(describe_account(account)), "id", ())
    assert item is not None
    return item.external_id, json.dumps(item.data), item.content_hash, connection_id(account)


def make_due(database_url: str, arrivals: Sequence[Arrival], start: float, template: str) -> None:
    """Make connections due as planned, from `start`; who is to read lists has read them before, as the template has."""
    with psycopg.connect(database_url.replace("+psycopg", "")) as sql:
        sql.execute("DROP TABLE IF EXISTS planned")
        sql.execute("CREATE TABLE planned (connection_id text PRIMARY KEY, kind text, due_at timestamptz, at float)")
        with sql.cursor().copy("COPY planned FROM STDIN") as copy:
            for each in arrivals:
                due_at = datetime.fromtimestamp(start + each.at, UTC)
                copy.write_row((connection_id(each.account), each.kind, due_at, each.at))
        for table in ("record", "resource"):
            columns = [name for (name,) in sql.execute(COLUMNS, (table,)).fetchall() if name != "connection_id"]
            names = ", ".join(columns)
            sql.execute(
                f"INSERT INTO {table} (connection_id, {names}) SELECT p.connection_id, {names} "
                f"FROM planned p, {table} t WHERE t.connection_id = '{template}' AND p.kind = 'sync'".encode()
            )
        readers = [each.account for each in arrivals if each.kind == "sync"]
        sql.cursor().executemany(OWN_ACCOUNT, [own_account(account) for account in readers])
        for statement in DUE:
            sql.execute(statement.encode())
