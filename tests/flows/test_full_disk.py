"""A disk that becomes full, with the database and the spool on it, and Redis away: a new pair is never lost unseen."""

import errno
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import sandbox
from models.crypto.secrets import Secret
from models.errors import Transient
from models.migrations import migrate
from models.store import open_engine
from tests.harness import House, build_house
from tests.servers import absent_redis
from worker.oauth.refresh import Refresh
from worker.tokens.spool import Parking


@dataclass
class Disk:
    """A file system of its own, a few megabytes large."""

    path: Path

    def fill(self) -> None:
        """Write until nothing more fits."""
        with (self.path / f"ballast-{threading.get_ident()}").open("ab", buffering=0) as ballast:
            for size in (65_536, 4_096, 1):
                with suppress(OSError):
                    while ballast.write(bytes(size)) == size:
                        continue

    def free(self) -> None:
        for ballast in self.path.glob("ballast-*"):
            ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", path], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("this user may not mount a file system")
    yield Disk(path)
    subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture
def house(disk: Disk, provider: sandbox.Running) -> Iterator[House]:
    url = f"sqlite:///{disk.path}/breezesync.db"
    engine = open_engine(Secret(url))
    migrate(engine, [])
    engine.dispose()
    built = build_house(url, provider, disk.path / "spool")
    parking = Parking(built.vault, absent_redis(), built.spool)
    flows = replace(
        built.flows,
        refresh=replace(built.flows.refresh, parking=parking),
        recover_tokens=replace(built.flows.recover_tokens, parking=parking),
    )
    yield replace(built, flows=flows)
    disk.free()
    built.close()


def test_the_fixture_is_a_full_disk(disk: Disk) -> None:
    disk.fill()
    with pytest.raises(OSError, match="No space") as full, (disk.path / "more").open("wb", buffering=0) as file:
        file.write(b"x")
    assert full.value.errno == errno.ENOSPC


def test_no_token_leaves_for_a_disk_that_is_full(house: House, disk: Disk) -> None:
    connection = house.refreshable()
    disk.fill()
    with pytest.raises(Transient):
        house.flows.refresh(connection.id)
    assert house.presentations() == 0
    disk.free()
    house.flows.refresh(connection.id)
    assert house.connection(connection.id).generation == connection.generation + 1


def test_no_code_leaves_for_a_disk_that_is_full(house: House, disk: Disk) -> None:
    parking = house.flows.refresh.parking
    exchange = replace(house.flows.exchange, parking=parking)
    authorization_id = house.consent("ada", 1)
    disk.fill()
    with pytest.raises(Transient):
        exchange(authorization_id)
    disk.free()
    exchange(authorization_id)
    with house.store.reading() as tx:
        found = tx.authorizations.get(authorization_id)
    assert found is not None
    assert found.connection_id is not None


def test_a_pair_that_comes_when_the_disk_has_become_full_is_parked(house: House, disk: Disk) -> None:
    connection = house.refreshable()
    flow: Refresh = house.flows.refresh
    request = flow.take(connection.id)
    assert request is not None
    called = flow.ask(request)
    disk.fill()
    with pytest.raises(Transient):
        flow.save_or_park(request, called)
    disk.free()
    assert house.flows.recover_tokens() == 1
    assert house.connection(connection.id).generation == connection.generation + 1
    assert house.presentations() == 1


def test_nothing_reserved_is_left_behind(house: House) -> None:
    connection = house.refreshable()
    house.flows.refresh(connection.id)
    assert [path.name for path in house.spool.iterdir()] == []


@pytest.mark.no_cover  # runs the same few lines very often
def test_under_load_every_pair_that_was_given_is_saved(house: House, disk: Disk) -> None:
    connections = [house.connect(f"user-{number}", number % 2 + 1) for number in range(8)]
    house.work()
    for connection in connections:
        house.make_refresh_due(connection.id)
    house.sweep()
    house.control.reset_counters()
    stop = threading.Event()

    def refresh_on(connection_id: str) -> None:
        for _ in range(6):
            with suppress(Transient):
                house.make_refresh_due(connection_id)
                house.flows.refresh(connection_id)

    def fill_and_free() -> None:
        while not stop.wait(0.05):
            disk.fill()
            stop.wait(0.1)
            disk.free()

    filler = threading.Thread(target=fill_and_free)
    threads = [threading.Thread(target=refresh_on, args=(each.id,)) for each in connections]
    for thread in (filler, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    filler.join()
    disk.free()
    for _ in range(4):
        house.flows.recover_tokens()
        house.turn(seconds=90)
        for connection in connections:
            house.make_refresh_due(connection.id)
            house.flows.refresh(connection.id)
    assert {house.connection(each.id).status.value for each in connections} == {"active"}
    assert house.told("connection.reauthorization_required") == []
    assert house.presentations() == 1
