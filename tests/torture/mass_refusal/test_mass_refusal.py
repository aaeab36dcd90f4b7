"""No one is blamed in bulk: a server's trouble ends no connection, and people who revoke are told in time."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.torture.mass_refusal.run import monday, rekey, restore

minute = timedelta(minutes=1)
databases = pytest.mark.parametrize("database", ["postgresql"])


def url_of(request: pytest.FixtureRequest, tmp_path: Path, database: str) -> str:
    return f"sqlite:///{tmp_path}/b.db" if database == "sqlite" else request.getfixturevalue("postgres_url")


@databases
@pytest.mark.timeout(300)
def test_a_server_that_was_rekeyed_ends_nobody_and_all_are_fresh_when_it_is_back(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    cost = rekey(url_of(request, tmp_path, database), connections=60, step=timedelta(seconds=15))
    assert cost.told.total() == 0
    assert cost.erased == 0
    assert cost.held > 10
    assert cost.fresh_after is not None
    assert (cost.events["provider.mass_refusal"], cost.events["provider.mass_refusal_ended"]) == (1, 1)


@databases
@pytest.mark.timeout(300)
def test_a_database_of_theirs_that_was_restored_blames_at_most_a_few(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    cost = restore(url_of(request, tmp_path, database), connections=60, step=timedelta(seconds=15))
    assert cost.told.total() <= 10
    assert cost.erased == cost.told.total()
    assert cost.held == 60 - cost.told.total()


@pytest.mark.timeout(300)
def test_people_who_really_revoke_are_told_each_within_its_time(tmp_path: Path) -> None:
    cost = monday(f"sqlite:///{tmp_path}/b.db", connections=200, share=0.1, length=timedelta(hours=4), step=minute)
    assert cost.told.total() == 20
    assert cost.events["provider.mass_refusal"] == 0
    assert cost.latest is not None
    assert cost.latest <= timedelta(minutes=32)
