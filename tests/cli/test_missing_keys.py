"""A key that rows still need stops what opens with it; the web process opens nothing, and needs none."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from config.settings import read_settings
from config.wiring import open_services
from models.crypto.secrets import Secret
from models.crypto.vault import KeyMissing, Place, Vault, new_key
from models.health.keys import KeyUse, restore_keys
from models.oauth.token_pair import TokenPair
from models.oauth.token_response import TokensGranted
from models.store import Store, open_engine
from tests.browsing import serving
from tests.cli.conftest import Desk
from tests.processes import CHECKOUT
from tests.servers import plain_environment
from worker.processes.web import build_web
from worker.processes.worker import check_or_exit
from worker.startup import find_missing_keys, find_wrong_keys
from worker.tokens.spool import Ticket


def test_a_worker_does_not_start_without_a_key_that_rows_need(either_desk: Desk) -> None:
    desk = either_desk
    desk.house.connect("ada", 1)
    desk.house.consent("grace", 2)
    desk.set(ENCRYPTION_KEYS=new_key("k2").line().reveal())
    with pytest.raises(SystemExit) as stopped:
        check_or_exit(desk.house.store, read_settings(), desk.house.flows.refresh.parking)
    assert "key 'k1' is not configured, and 3 rows need it" in str(stopped.value)
    assert "WITHOUT_KEYS=k1" in str(stopped.value)


def test_another_key_under_the_right_id_is_found_before_anything_works_with_it(either_desk: Desk) -> None:
    desk = either_desk
    desk.house.connect("ada", 1)
    desk.house.consent("grace", 2)
    assert find_wrong_keys(desk.house.store, read_settings(), desk.house.flows.refresh.parking) == {}
    desk.set(ENCRYPTION_KEYS=new_key("k1").line().reveal())
    said = "key k1 is configured, but k1 is not the key that sealed what is stored"
    with pytest.raises(SystemExit) as stopped:
        check_or_exit(desk.house.store, read_settings(), desk.house.flows.refresh.parking)
    assert f"{said}, and 3 rows need it." in str(stopped.value)
    refused = desk.type("run", "--port", "18701")
    assert (refused.exit_code, said in refused.stderr) == (1, True)
    status = desk.type("keys", "status")
    assert (status.exit_code, said in status.stderr, "No key can open them" in status.stdout) == (1, True, True)
    assert desk.read("keys", "status", code=1)["wrong"] == ["k1"]
    checks = desk.read("backup", "check", code=1)["checks"]
    assert (checks[0]["state"], checks[0]["said"]) == ("failed", said)
    found = [each for each in desk.read("doctor", code=1)["checks"] if each["check"] == "keys"]
    assert (found[0]["said"], found[0]["remedy"]) == (f"{said}, and 3 rows need it", restore_keys)
    desk.set(WITHOUT_KEYS="k1")
    check_or_exit(desk.house.store, read_settings(), desk.house.flows.refresh.parking)


def test_one_damaged_secret_proves_nothing_about_its_key(desk: Desk) -> None:
    connection = desk.house.connect("ada", 1)
    with desk.house.store.writing() as tx:
        tx.sql.exec_driver_sql(
            f"UPDATE credential SET access_token = 'v1.k1.{'A' * 80}.{'A' * 44}' "
            f"WHERE connection_id = '{connection.id}'"
        )
    assert find_wrong_keys(desk.house.store, read_settings(), desk.house.flows.refresh.parking) == {}


def test_a_key_that_only_a_parked_pair_needs_is_needed(desk: Desk) -> None:
    granted = TokensGranted(Secret("access"), Secret("refresh"), timedelta(hours=1), "read")
    desk.house.flows.refresh.parking.park(
        Ticket("refresh", "c1", 7), TokenPair(granted, datetime(2026, 1, 2, tzinfo=UTC))
    )
    desk.set(ENCRYPTION_KEYS=new_key("k2").line().reveal(), SPOOL_DIRECTORY=str(desk.house.flows.refresh.parking.spool))
    with pytest.raises(SystemExit) as stopped:
        check_or_exit(desk.house.store, read_settings(), desk.house.flows.refresh.parking)
    assert "key 'k1' is not configured, and 1 parked pair needs it" in str(stopped.value)
    refused = desk.type("run", "--port", "18701")
    assert (refused.exit_code, "and 1 parked pair needs it" in refused.stderr) == (1, True)
    found = [each["said"] for each in desk.read("doctor", code=1)["checks"] if each["check"] == "keys"]
    assert "key k1 is not configured, and 1 parked pair needs it" in found
    desk.set(WITHOUT_KEYS="k1")
    check_or_exit(desk.house.store, read_settings(), desk.house.flows.refresh.parking)


def test_the_workers_process_ends_with_that_as_its_last_word(desk: Desk) -> None:
    desk.house.connect("ada", 1)
    environment = {**plain_environment(), **desk.environment, "ENCRYPTION_KEYS": new_key("k2").line().reveal()}
    command = [sys.executable, "-c", "from worker.main import boot; boot()"]
    ended = subprocess.run(
        command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, "key 'k1' is not configured, and 2 rows need it" in ended.stderr) == (1, True)
    assert "Traceback" not in ended.stderr


def test_a_worker_starts_without_a_key_that_is_given_up(desk: Desk) -> None:
    desk.house.connect("ada", 1)
    desk.set(ENCRYPTION_KEYS=new_key("k2").line().reveal(), WITHOUT_KEYS="k0, k1")
    check_or_exit(desk.house.store, read_settings(), desk.house.flows.refresh.parking)


def test_a_worker_starts_with_every_key_and_with_a_database_that_is_away(desk: Desk) -> None:
    desk.house.connect("ada", 1)
    desk.set(ENCRYPTION_KEYS=f"{new_key('k2').line().reveal()},{desk.environment['ENCRYPTION_KEYS']}")
    check_or_exit(desk.house.store, read_settings(), desk.house.flows.refresh.parking)
    away = Store(open_engine(Secret("postgresql+psycopg://nobody@127.0.0.1:1/nothing")))
    check_or_exit(away, read_settings(), desk.house.flows.refresh.parking)
    away.close()


def test_a_vault_that_is_not_configured_is_a_missing_key_too(desk: Desk) -> None:
    connection = desk.house.connect("ada", 1)
    with desk.house.store.writing() as tx:
        tx.sql.exec_driver_sql(
            f"UPDATE credential SET access_token = 'v1.vault:breezesync:v3.AAAA.AAAA' "
            f"WHERE connection_id = '{connection.id}'"
        )
    assert find_missing_keys(desk.house.store, read_settings(), desk.house.flows.refresh.parking) == {
        "vault:breezesync:v3": KeyUse(rows=1)
    }
    desk.set(VAULT_ADDR="https://vault", VAULT_TOKEN="t")
    assert find_missing_keys(desk.house.store, read_settings(), desk.house.flows.refresh.parking) == {}


def test_run_starts_nothing_while_a_key_is_missing(desk: Desk) -> None:
    desk.house.connect("ada", 1)
    desk.set(ENCRYPTION_KEYS=new_key("k2").line().reveal())
    refused = desk.type("run", "--port", "18701")
    assert (refused.exit_code, "key 'k1'" in refused.stderr) == (1, True)


def test_the_sealing_key_is_printed_and_is_all_that_the_web_process_needs(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = desk.type("keys", "sealing-key").stdout.strip()
    assert desk.read("keys", "sealing-key") == {"sealing_key": line}
    for name in ("ENCRYPTION_KEYS", "BREEZEDOC_CLIENT_SECRET"):
        monkeypatch.delenv(name)
    desk.set(SEALING_KEY=line, CONNECT_CONFIRMATION="off")
    settings = read_settings(needs=("sealing", "registrations", "links"))
    services = open_services(settings, "web")
    with serving(build_web(settings, services)) as url, httpx.Client(base_url=url, trust_env=False) as web:
        link = f"/auth/breezedoc?token={desk.house.link('ada')}"
        first, again = web.get(link), web.get(link)
        assert first.headers["location"] == again.headers["location"], "the challenge is read, no verifier opened"
        back = desk.house.control.authorize(first.headers["location"], 1)
        done = web.get("/auth/breezedoc/callback", params=httpx.URL(back).params)
    services.close()
    authorization_id = done.headers["location"].rpartition("/")[2]
    desk.house.flows.exchange(authorization_id)
    assert desk.house.types() == ["connection.authorized"]


def test_what_the_web_process_stores_it_cannot_open(desk: Desk) -> None:
    authorization_id = desk.house.consent("ada", 1)
    with desk.house.store.reading() as tx:
        found = tx.authorizations.get(authorization_id)
    assert found is not None
    assert not hasattr(desk.house.callback.sealer, "open")
    for sealed in (found.code, found.verifier):
        assert sealed is not None
        assert sealed.text.startswith("h1.k1.")
        with pytest.raises(KeyMissing):
            Vault((new_key("k2"),)).open(sealed, Place("authorization", authorization_id, "code"))
