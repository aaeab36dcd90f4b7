"""The protocol at a server that knows nothing of us: django-oauth-toolkit, behind a proxy that breaks requests.

`make interop` does 500 rotations each and prints what came of them; in `make test` there are 12.
"""

import hashlib
import os
import random
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args
from urllib.parse import parse_qs, urlsplit

import pytest
from rich.console import Console
from rich.table import Table

from config.profiles import read_profile
from models.crypto.secrets import Secret
from models.crypto.vault import Vault, new_key
from models.migrations import migrate
from models.oauth.connection import Connection
from models.oauth.credential import place_of_token
from models.oauth.refresh_policy import Patience
from models.provider import Provider, RefreshReuse
from models.store import Store, open_engine
from tests.harness import Clock, House, join_house
from tests.servers import reserved_port
from tests.torture.interop.proxy import Fault, Proxy, running_proxy
from tests.torture.interop.toolkit import Toolkit, running_toolkit

rotations = int(os.environ.get("INTEROP_ROTATIONS", "12"))
users = 5
patience = timedelta(seconds=2)
faults: tuple[Fault, ...] = tuple(fault for fault in get_args(Fault) if fault != "none")


@dataclass
class Trial:
    """One connection per user, rotated again and again."""

    toolkit: Toolkit
    proxy: Proxy
    house: House
    closed_url: str
    dice: random.Random = field(default_factory=lambda: random.Random(7))
    counted: Counter[str] = field(default_factory=Counter)

    def consent(self, number: int) -> Connection:
        house = self.house
        self.turn(10)  # after a lost answer the breaker keeps the code back until its probe is due
        begun = house.callback.begin("toolkit", house.link(f"user{number}"), {})
        back = self.toolkit.authorize(begun.location, number)
        query = {name: values[0] for name, values in parse_qs(urlsplit(back).query).items()}
        authorization_id = house.callback.finish("toolkit", query, {begun.flow: begun.binding}).id
        house.flows.exchange(authorization_id)
        with house.store.reading() as tx:
            found = tx.authorizations.get(authorization_id)
        assert found is not None
        assert found.connection_id is not None, found
        return house.connection(found.connection_id)

    def rotate(self, connection: Connection) -> Connection:
        """A refresh that falls due, with a fault or without, and all that follows until it is known what came of it."""
        token = self.fingerprint(connection)
        self.house.make_refresh_due(connection.id)
        for _ in range(40):
            self.refresh_once(connection)
            after = self.house.connection(connection.id)
            if after.generation > connection.generation:
                self.counted["rotations"] += 1
                return after
            if after.status != "active":
                self.judge(after, token)
                return self.consent(int(connection.user_id.removeprefix("user")))
            self.turn(61)
        raise AssertionError("never resolved")

    def refresh_once(self, connection: Connection) -> None:
        roll = self.dice.random()
        client = self.house.flows.refresh.providers["toolkit"]
        if roll < 0.1:
            profile = client.provider
            client.provider = replace(profile, token_url=f"{self.closed_url}/o/token/")
            self.proxy.struck["connection refused"] += 1
            self.house.flows.refresh(connection.id)
            client.provider = profile
            return
        self.proxy.fault = self.dice.choice(faults) if roll < 0.5 else "none"
        self.house.flows.refresh(connection.id)
        self.proxy.fault = "none"

    def judge(self, after: Connection, token: str) -> None:
        """No one here revokes: a connection that ends must have lost its pair, and say so."""
        shown = self.proxy.shown.get(token)
        self.counted["ended as rotation_lost"] += after.revoked_reason == "rotation_lost"
        self.counted["wrong reasons"] += after.revoked_reason != "rotation_lost"
        self.counted["reported lost, but was not"] += shown is None or shown.pairs == 0

    def fingerprint(self, connection: Connection) -> str:
        sealed = self.house.credential(connection.id).refresh_token
        assert sealed is not None
        value = self.house.vault.open(sealed, place_of_token(self.house.connection(connection.id), "refresh_token"))
        return hashlib.sha256(value.reveal().encode()).hexdigest()

    def turn(self, seconds: int) -> None:
        self.house.clock.turn(timedelta(seconds=seconds))
        self.toolkit.advance(seconds)
        self.house.flows.probe_client("toolkit", self.toolkit.client_id)


@contextmanager
def trial(reuse: RefreshReuse, grace_seconds: int) -> Any:
    with (
        running_toolkit(grace_seconds, users) as toolkit,
        running_proxy(toolkit.port) as proxy,
        reserved_port() as closed,
        TemporaryDirectory() as directory,
    ):
        profile = read_profile(
            "toolkit",
            {
                "TOOLKIT_AUTHORIZE_URL": f"{toolkit.url}/o/authorize/",
                "TOOLKIT_TOKEN_URL": f"{proxy.url}/o/token/",
                "TOOLKIT_API_URL": f"{toolkit.url}/api",
                "TOOLKIT_REFRESH_REUSE": reuse,
            },
            (Path(__file__).parent,),
        )
        house = build(directory, toolkit, replace(profile, grace_seconds=grace_seconds))
        yield Trial(toolkit, proxy, house, f"http://127.0.0.1:{closed}")
        house.close()


def build(directory: str, toolkit: Toolkit, profile: Provider) -> House:
    engine = open_engine(Secret(f"sqlite:///{directory}/breezesync.db"))
    migrate(engine, [profile])
    server: Any = toolkit
    return join_house(Store(engine), server, profile, Vault((new_key("k1"),)), Clock(), Path(directory) / "spool")


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("reuse", "grace_seconds"), [("family_revoked", 0), ("grace", 120)])
def test_no_family_is_ended_by_us_whatever_breaks_between_the_servers(
    capsys: pytest.CaptureFixture[str], reuse: RefreshReuse, grace_seconds: int
) -> None:
    with trial(reuse, grace_seconds) as tried:
        connections = [tried.consent(number) for number in range(users)]
        tried.house.flows.refresh.providers["toolkit"].usual_patience = Patience(deadline=patience)
        turn = 0
        while tried.counted["rotations"] < rotations:
            place = turn % users
            connections[place] = tried.rotate(connections[place])
            turn += 1
        families = tried.toolkit.families()
        seen = [shown.seen for shown in tried.proxy.shown.values()]
        figures = {
            "rotations saved": tried.counted["rotations"],
            **{f"fault: {name}": tried.proxy.struck[name] for name in sorted(tried.proxy.struck)},
            "pairs granted and not received": sum(s.pairs for s in tried.proxy.shown.values())
            - tried.counted["rotations"],
            "ended as rotation_lost, and authorized again": tried.counted["ended as rotation_lost"],
            "most presentations of one token": max(seen),
            "tokens presented more than once": sum(count > 1 for count in seen),
            "families": len(families),
            "families ended": sum(alive == 0 for alive in families.values()),
            "wrong reasons": tried.counted["wrong reasons"],
            "reported lost, but was not": tried.counted["reported lost, but was not"],
            "generations skipped or reused": count_gaps(tried.house),
        }
        if rotations > 100:
            with capsys.disabled():
                show(f"django-oauth-toolkit {tried.toolkit.version}, refresh_reuse = {reuse}", figures)
        violations = ("families ended", "wrong reasons", "reported lost, but was not", "generations skipped or reused")
        assert {name: figures[name] for name in violations} == dict.fromkeys(violations, 0)
        if reuse == "family_revoked":
            assert figures["most presentations of one token"] == 1
        assert {tried.house.connection(each.id).status.value for each in connections} == {"active"}


def count_gaps(house: House) -> int:
    """Where a connection's new pairs don't count 1, 2, 3 …"""
    pairs: Counter[str] = Counter()
    for event in house.told():
        if event["type"] in ("connection.authorized", "connection.refreshed"):
            pairs[event["connection_id"]] += 1
    return sum(house.connection(each).generation != count for each, count in pairs.items())


def show(title: str, figures: dict[str, int]) -> None:
    table = Table(title=title, title_justify="left", show_header=False)
    for name, figure in figures.items():
        table.add_row(name, str(figure))
    Console().print(table)
