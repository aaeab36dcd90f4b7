"""`make run` stopped and started again: nobody whom the sandbox connected has to connect again."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

import sandbox
from config.profiles import profile_directories, read_profile
from models.crypto.vault import Key, Vault, new_key
from models.store import Store
from sandbox.__main__ import read_options
from tests.databases import open_fast_engine
from tests.flows.test_connect_token import connect_token
from tests.harness import Clock, House, join_house
from worker.local.commands import sandbox_command


@contextmanager
def running(directory: Path, url: str, clock: Clock, key: Key) -> Iterator[House]:
    """The sandbox with the options that `breezesync run` gives it, and flows that start with an empty Redis."""
    command = sandbox_command("http://127.0.0.1:0", "http://127.0.0.1:8700", "breezedoc", Path("var/sandbox.json"))
    settings, _, port = read_options(command[command.index("sandbox") + 1 :], {})
    with sandbox.running(port=port, **asdict(settings)) as provider:
        endpoints = {
            "BREEZEDOC_AUTHORIZE_URL": f"{provider.url}/oauth/authorize",
            "BREEZEDOC_TOKEN_URL": f"{provider.url}/oauth/token",
            "BREEZEDOC_API_URL": f"{provider.url}/api",
        }
        profile, store = read_profile("breezedoc", endpoints, profile_directories()), Store(open_fast_engine(url))
        house = join_house(store, provider, profile, Vault((key,)), clock, directory / "spool")
        yield house
        house.close()


def test_users_of_the_sandbox_stay_connected_and_are_refreshed_after_a_restart(
    migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    clock, key = Clock(), new_key("k1")
    with running(tmp_path, migrated_url, clock, key) as before:
        ada = before.refreshable()
        personal = connect_token(before, 2, "grace")
        under_way = before.consent("edsger", 4)
        before.control.edit_document(1, 1002, "Edited before the restart")
    with running(tmp_path, migrated_url, clock, key) as after:
        after.flows.exchange(under_way)
        for _ in range(3):
            after.turn(minutes=16)
            after.sweep()
        with after.store.reading() as tx:
            states = {each.user_id: (each.status.value, each.problem) for each in tx.connections.find()}
        assert states == dict.fromkeys(("ada", "grace", "edsger"), ("active", None))
        assert after.connection(ada.id).generation == ada.generation + 1 == 3
        assert after.connection(personal.id).last_synced_at is not None
        after.control.edit_document(1, 1002, "Edited after it")
        after.turn(minutes=16)
        after.sweep()
        assert after.told("connection.reauthorization_required") == []
        assert "title" in after.told("record.updated", ada.id)[-1]["changed"]
