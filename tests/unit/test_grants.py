"""What each process may do in PostgreSQL, as the document shows it, and the roles that an operator names."""

from pathlib import Path

import pytest

from models.crypto.secrets import Secret
from models.store.grants import GRANTS, Process, Role, parse_roles, processes
from models.store.tables import metadata
from models.store.views import own_views

DOCUMENT = Path(__file__).parents[2] / "docs" / "postgresql.md"


def show(process: Process, table: str) -> str:
    """The first letter of each privilege, a small one if it is for some columns only."""
    privileges = GRANTS[process].get(table, ())
    return "".join(p[0].lower() if "(" in p else p[0] for p in sorted(privileges, key=lambda p: "SIUD".index(p[0])))


def test_the_document_shows_what_is_granted() -> None:
    tables = sorted({table for granted in GRANTS.values() for table in granted})
    rows = [f"| `{table}` | {' | '.join(show(process, table) for process in processes)} |" for table in tables]
    header = [f"| | {' | '.join(f'`{process}`' for process in processes)} |", f"| --- {'| --- ' * len(processes)}|"]
    assert "\n".join([*header, *rows]) in DOCUMENT.read_text()


def test_every_table_has_someone_who_uses_it() -> None:
    granted = {table for tables in GRANTS.values() for table in tables}
    assert granted == {*metadata.tables, "alembic_version", *own_views}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("web", "line 1: expected PROCESS=ROLE:PASSWORD"),
        ("web=a:s3cret\ncook=b:s3cret", "line 2: expected PROCESS=ROLE:PASSWORD"),
        ("web=A-role:s3cret", "line 1: expected a role of small letters"),
        ("web=a\nworker=a:s3cret", "a different role for each process"),
        ("# nothing\n", "expected a line such as"),
    ],
)
def test_roles_that_can_not_be_read_are_named_without_their_passwords(lines: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected) as caught:
        parse_roles(lines)
    assert "s3cret" not in str(caught.value)


def test_roles_are_read_with_or_without_a_password() -> None:
    assert parse_roles("# ours\nweb=a:pass:word\n\nscheduler=b\n") == (
        Role("web", "a", Secret("pass:word")),
        Role("scheduler", "b"),
    )
