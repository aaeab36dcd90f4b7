"""An outage of the token endpoint, however long and of whatever kind, costs at most what was in flight."""

from datetime import timedelta
from itertools import cycle
from pathlib import Path

import pytest

from models.provider import RefreshReuse
from tests.torture.outage.run import kinds, measure

minute = timedelta(minutes=1)


# Every kind once, the plainest at both servers and on both databases; `make outage` tries all of them with all.
cases = [("sqlite", kind, reuse) for kind, reuse in zip(kinds, cycle(("family_revoked", "harmless")), strict=False)]
cases += [("sqlite", "502", "harmless"), ("postgresql", "502", "family_revoked")]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("database", "kind", "reuse"), cases)
def test_an_outage_costs_at_most_the_refreshes_that_were_in_flight(
    request: pytest.FixtureRequest, tmp_path: Path, database: str, kind: str, reuse: RefreshReuse
) -> None:
    url = f"sqlite:///{tmp_path}/b.db" if database == "sqlite" else request.getfixturevalue("postgres_url")
    cost = measure(
        url, kind, reuse, connections=24, in_flight=2, before=4 * minute, outage=12 * minute, step=timedelta(seconds=10)
    )
    assert cost.lost <= cost.in_flight
    assert cost.most_shown <= (1 if reuse == "family_revoked" and kind != "503" else 3)
    assert cost.shown <= 3 + cost.in_flight
    assert cost.per_minute <= 3
    assert cost.fresh_after is not None
    assert cost.fresh_after < 5 * minute
    assert cost.events["provider.unavailable"] == cost.events["provider.available"] >= 1
    blamed = [type_ for type_ in cost.events if type_.endswith(("access_revoked", "refresh_rejected"))]
    assert blamed == []
