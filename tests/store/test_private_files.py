"""The files with tokens and contracts in them: closed to everyone else, with any umask and whoever made them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from models.crypto.secrets import Secret
from models.store import open_engine
from worker.tokens.spool_backends import Spool


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes(directory: Path) -> dict[str, int]:
    found = {path.name: path for path in (directory, *directory.iterdir())}
    return {name: path.stat().st_mode & 0o777 for name, path in found.items()}


def write_something(path: Path) -> dict[str, int]:
    engine = open_engine(Secret(f"sqlite:///{path}"))
    with engine.begin() as sql:
        sql.execute(text("CREATE TABLE t (x)"))
        sql.execute(text("INSERT INTO t VALUES (1)"))
        found = modes(path.parent)
    engine.dispose()
    return found


def test_a_database_is_its_owners_with_its_directories_and_the_files_beside_it(tmp_path: Path) -> None:
    found = write_something(tmp_path / "var" / "deep" / "x.db")
    assert found == {"deep": 0o700, "x.db": 0o600, "x.db-wal": 0o600, "x.db-shm": 0o600}
    assert (tmp_path / "var").stat().st_mode & 0o777 == 0o700


def test_files_that_were_open_to_others_are_closed(tmp_path: Path) -> None:
    for name in ("x.db", "x.db-wal", "x.db-shm"):
        (tmp_path / name).touch(0o666)
    found = write_something(tmp_path / "x.db")
    assert {found[name] for name in ("x.db", "x.db-wal", "x.db-shm")} == {0o600}


@pytest.mark.parametrize("made", [False, True], ids=["new", "open to others"])
def test_a_spool_and_all_in_it_is_its_owners(tmp_path: Path, made: bool) -> None:
    directory = tmp_path / "spool"
    if made:
        directory.mkdir(0o777)
    spool = Spool(directory)
    assert spool.reserve("a")
    assert spool.keep("b", "text")
    assert modes(directory) == {"spool": 0o700, "a.slot": 0o600, "b.pair": 0o600}
