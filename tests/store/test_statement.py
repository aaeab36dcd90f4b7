"""Statements that are built once: their values and rows are those of the schema, their errors those of SQLAlchemy."""

from datetime import UTC, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    bindparam,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError

from models.errors import StoreConflict, StoreUnavailable
from models.store.rows import table_of
from models.store.statement import InsertMany, Statement, is_one_of
from models.store.tables import ConnectionRow, DecisionRow
from tests.store.conftest import Opened, add_connection, noon

connections = table_of(ConnectionRow)
decisions = table_of(DecisionRow)
add_decisions = InsertMany(decisions, ("subject", "at", "verb", "evidence"))
of_subject = Statement(
    select(decisions.c.at, decisions.c.evidence)
    .where(decisions.c.subject == bindparam("own_subject"))
    .order_by(decisions.c.position)
)
of_subjects = Statement(
    lambda dialect: select(decisions.c.verb).where(is_one_of(dialect, decisions.c.subject, "subjects"))
)
email_of = Statement(select(connections.c.email).where(connections.c.id == bindparam("own_id")))
set_email = Statement(update(connections).where(connections.c.id == bindparam("own_id")), ("email", "expires_at"))


def row(subject: str, number: int) -> dict[str, object]:
    evidence = {"number": number, "text": "it's 100 % “so”", "flags": [True, None]}
    return {"subject": subject, "at": noon + timedelta(seconds=number), "verb": "authorized", "evidence": evidence}


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_many_rows_come_back_as_they_were_and_in_their_order(opened: Opened, count: int) -> None:
    rows = [row("one", number) for number in range(count)]
    with opened.store.writing() as tx:
        add_decisions.run(tx.sql, rows)
    with opened.store.reading() as tx:
        found = of_subject.all(tx.sql, own_subject="one")
    assert found == [(each["at"], each["evidence"]) for each in rows]


kinds = Table(
    "kind",
    MetaData(),
    Column("number", Integer, primary_key=True),
    Column("large", BigInteger),
    Column("share", Float),
    Column("is_set", Boolean),
    Column("name", Text),
    Column("at", DateTime(timezone=True)),
    Column("document", JSON(none_as_null=True)),
    Column("sealed", LargeBinary),
)
columns = [column.name for column in kinds.columns]
add_kinds = {
    "each by itself": InsertMany(kinds, columns),
    "those alike once": InsertMany(kinds, columns, alike=columns[1:]),
}
hostile = 'say "so" \\ {a,b} NULL \'; DROP TABLE kind; -- é “ü” \U0001f600 \n\t'
full = {
    "large": 2**62,
    "share": 1.5,
    "is_set": True,
    "name": hostile,
    "at": noon,
    "document": {"text": hostile, "list": [1, None, {"deep": "\\"}]},
    "sealed": b'\x00\xff"\\,{}',
}
small = {"large": 1, "share": 0.0, "is_set": False, "name": "", "at": noon, "document": [], "sealed": b""}
empty = dict.fromkeys(full)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([full, full], id="full"),
        pytest.param([empty, empty], id="a column without any value"),
        pytest.param([empty, full, small], id="values and none, small numbers and large"),
        pytest.param([small, {**full, "name": "NULL"}, empty], id="a text that is a word of the language"),
    ],
)
@pytest.mark.parametrize("way", add_kinds)
def test_a_value_of_any_kind_comes_back_as_it_was(opened: Opened, rows: list[dict[str, object]], way: str) -> None:
    given = [{"number": number, **each} for number, each in enumerate(rows)]
    with opened.store.writing() as tx:
        kinds.create(tx.sql)
        add_kinds[way].run(tx.sql, given)
        found = [dict(each) for each in tx.sql.execute(select(kinds).order_by(kinds.c.number)).mappings()]
        kinds.drop(tx.sql)
    for each in found:
        each["at"] = None if each["at"] is None else each["at"].replace(tzinfo=UTC)
    assert found == given


@pytest.mark.parametrize(
    ("subjects", "count"), [([], 0), (["a"], 1), (["a", "b", "c"], 2), (["it's", '"', "a" * 300], 0)]
)
def test_a_list_of_any_length_is_one_parameter(opened: Opened, subjects: list[str], count: int) -> None:
    with opened.store.writing() as tx:
        add_decisions.run(tx.sql, [row("a", 1), row("b", 2), row("d", 3)])
    with opened.store.reading() as tx:
        assert len(of_subjects.all(tx.sql, subjects=subjects)) == count


def test_an_update_says_how_many_rows_it_changed(opened: Opened) -> None:
    connection = add_connection(opened.store)
    with opened.store.writing() as tx:
        assert set_email.run(tx.sql, own_id=connection.id, email="ada@example.com", expires_at=noon) == 1
        assert set_email.run(tx.sql, own_id=uuid4().hex, email="ada@example.com", expires_at=None) == 0
        assert email_of.scalar(tx.sql, own_id=connection.id) == "ada@example.com"
        assert email_of.scalar(tx.sql, own_id=uuid4().hex) is None


def test_it_sees_what_another_statement_of_the_transaction_wrote_and_is_rolled_back_with_it(opened: Opened) -> None:
    connection = add_connection(opened.store)

    def write_and_fail() -> None:
        with opened.store.writing() as tx:
            tx.sql.execute(update(connections).values(email="built@example.com"))
            assert email_of.scalar(tx.sql, own_id=connection.id) == "built@example.com"
            set_email.run(tx.sql, own_id=connection.id, email="once@example.com", expires_at=None)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    with opened.store.reading() as tx:
        assert email_of.scalar(tx.sql, own_id=connection.id) == connection.email


def test_a_row_that_a_constraint_forbids_is_a_conflict_without_its_values(opened: Opened) -> None:
    connection = add_connection(opened.store)
    again = Statement(
        insert(connections).from_select([c.key for c in connections.c], select(connections)),
    )
    with pytest.raises(StoreConflict) as refused, opened.store.writing() as tx:
        again.run(tx.sql)
    assert isinstance(refused.value.__cause__, DBAPIError)
    assert "INSERT INTO connection" in str(refused.value.__cause__)
    assert connection.user_id not in f"{refused.value.__cause__} {refused.value.__cause__.orig}"


@pytest.mark.parametrize("database", ["postgresql"])
def test_a_connection_that_the_server_ended_is_unavailable_and_the_next_transaction_has_another(opened: Opened) -> None:
    one = Statement(select(literal(1)))

    def ask_after_the_end() -> None:
        with opened.store.writing() as tx:
            own = tx.sql.execute(text("SELECT pg_backend_pid()")).scalar_one()
            with opened.other.writing() as killer:
                killer.sql.execute(text(f"SELECT pg_terminate_backend({own})"))
            one.scalar(tx.sql)

    with pytest.raises(StoreUnavailable):
        ask_after_the_end()
    with opened.store.writing() as tx:
        assert one.scalar(tx.sql) == 1


@pytest.mark.parametrize("database", ["postgresql"])
def test_connections_that_were_lost_while_they_lay_idle_are_not_noticed(opened: Opened) -> None:
    own = Statement(select(func.pg_backend_pid()))
    with opened.store.writing() as one, opened.store.reading() as two:
        before = {own.scalar(one.sql), own.scalar(two.sql)}
    for begin in (opened.store.writing, opened.store.reading, opened.store.counting):
        with opened.other.writing() as killer:
            others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            killer.sql.execute(text(f"SELECT pg_terminate_backend(pid, 5000) {others}"))
        with begin() as tx:
            assert own.scalar(tx.sql) not in before
    with opened.other.writing() as killer:
        killer.sql.execute(text(f"SELECT pg_terminate_backend(pid, 5000) {others}"))
    with opened.store.read_then_add(lambda tx: own.scalar(tx.sql)) as (found, _):
        assert found not in before


def test_it_is_built_once_for_a_dialect() -> None:
    built = []
    statement = Statement(lambda dialect: built.append(dialect) or select(literal(1)))  # type: ignore[func-returns-value]
    assert statement.prepare("sqlite") is statement.prepare("sqlite")
    statement.prepare("postgresql")
    assert built == ["sqlite", "postgresql"]
