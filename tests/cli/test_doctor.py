"""What `doctor` finds on real parts, healthy and ill, and that looking costs nothing."""

from typing import Any

import pytest
import redis
from sqlalchemy import text

from config.profiles import profile_directories
from config.version import read_version
from models.crypto.vault import new_key
from models.process import Process
from tests.cli.conftest import Desk
from tests.servers import running_valkey


def states(checks: Any) -> dict[str, list[str]]:
    """Each check's states, in order: a check may have several findings."""
    found: dict[str, list[str]] = {}
    for check in checks["checks"]:
        found.setdefault(check["check"], []).append(check["state"])
    return found


def of(checks: Any, name: str) -> Any:
    return next(check for check in checks["checks"] if check["check"] == name)


def test_a_healthy_stack_passes_every_check(either_desk: Desk) -> None:
    desk = either_desk
    desk.house.connect("ada", 1)
    with desk.house.store.writing() as tx:
        for role in ("worker", "scheduler"):
            tx.processes.report(Process(f"{role} host:1", role, read_version(), tx.overview.time()))
    with running_valkey(persistent=True) as valkey:
        desk.set(REDIS_URL=valkey.url)
        assert states(desk.read("doctor")) == {
            "settings": ["ok"],
            "confirmation": ["ok"],
            "spool": ["ok"],
            "database": ["ok"],
            "keys": ["ok"],
            "clock": ["ok", "ok", "ok"],
            "redis": ["ok"],
            "redis persistence": ["ok"],
            "redis memory": ["ok"],
            "processes": ["ok"],
            "authorize page": ["ok"],
            "token endpoint": ["ok"],
            "api": ["ok"],
        }


def test_looking_presents_no_token_and_revokes_nothing(desk: Desk) -> None:
    connection = desk.house.connect("ada", 1)
    before = desk.house.credential(connection.id)
    desk.read("doctor")
    assert desk.house.presentations() == 0
    assert desk.house.credential(connection.id) == before
    assert desk.house.connection(connection.id) == connection


def test_the_call_made_with_a_users_token_stands_in_the_request_log(desk: Desk) -> None:
    connection = desk.house.connect("ada", 1)
    desk.read("doctor")
    with desk.house.store.reading() as tx:
        calls = [(call.path, call.status) for call in tx.journal.calls_of(connection.id)]
    assert calls == [("/oauth/token", 200), ("/me", 200), ("/me", 200)]


def test_no_token_is_ever_printed(desk: Desk) -> None:
    connection = desk.house.connect("ada", 1)
    for secret in (desk.house.provider.client_secret, desk.environment["ENCRYPTION_KEYS"].split(":")[1]):
        assert secret not in desk.type("doctor").output
    assert connection.id not in desk.type("doctor").output
    assert "eyJ" not in desk.type("doctor", "--json").output


def test_people_get_one_line_each_with_the_remedy_in_it(desk: Desk) -> None:
    desk.set(BREEZEDOC_CLIENT_SECRET="not the secret")
    result = desk.type("doctor")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert all(line.split()[0] in ("ok", "warn", "failed") for line in lines)
    [failed] = [line for line in lines if line.startswith("failed")]
    assert "invalid_client" in failed
    assert failed.endswith("Check BREEZEDOC_CLIENT_ID and BREEZEDOC_CLIENT_SECRET.")
    assert result.stderr == f"1 of {len(lines)} checks failed.\n"


@pytest.mark.parametrize("passport", [12, 13])
def test_a_good_client_is_told_from_a_bad_one_by_either_generation(desk: Desk, passport: int) -> None:
    desk.house.control.set(passport=passport)
    assert of(desk.read("doctor"), "token endpoint")["state"] == "ok"
    desk.set(BREEZEDOC_CLIENT_ID="another")
    assert of(desk.read("doctor", code=1), "token endpoint")["state"] == "failed"


def test_without_a_live_token_the_api_is_only_believed(desk: Desk) -> None:
    checks = desk.read("doctor")
    assert of(checks, "api")["state"] == "warn"
    assert "connect-link" in of(checks, "api")["remedy"]


def test_a_token_that_the_user_revoked_says_nothing_about_the_api(desk: Desk) -> None:
    desk.house.connect("ada", 1)
    desk.house.control.revoke_user(1)
    assert of(desk.read("doctor"), "api")["state"] == "warn"
    desk.house.connect("grace", 2)
    assert of(desk.read("doctor"), "api")["state"] == "ok"


def test_the_base_that_answers_is_named_where_the_configured_one_does_not(desk: Desk) -> None:
    desk.house.connect("ada", 1)
    url = desk.house.provider.url
    profiles = desk.directory / "config" / "providers"
    profiles.mkdir(parents=True)
    written = (profile_directories()[1] / "breezedoc.toml").read_text()
    written = written.replace('["https://breezedoc.com/api"]', f'["{url}/api"]')
    (profiles / "breezedoc.toml").write_text(written.replace("https://api.breezedoc.com/v1", f"{url}/nowhere"))
    desk.monkeypatch.delenv("BREEZEDOC_API_URL")
    found = of(desk.read("doctor", code=1), "api")
    assert found["said"] == f"{url}/nowhere answers 404, {url}/api answers"
    assert found["remedy"] == f"Set BREEZEDOC_API_URL={url}/api"
    desk.set(BREEZEDOC_API_URL=f"{url}/api")
    found = of(desk.read("doctor"), "api")
    assert (found["state"], found["said"]) == ("ok", f"{url}/api answers, {url}/nowhere answers 404")


def test_of_very_many_secrets_some_are_opened(desk: Desk) -> None:
    for number in (1, 2, 3):
        desk.house.connect("ada", number)
    desk.monkeypatch.setattr("worker.cli.health_checks.batch", 1)
    desk.monkeypatch.setattr("worker.cli.health_checks.most_opened", 2)
    said = of(desk.read("doctor"), "keys")["said"]
    assert said == "k1 seals new secrets; all 5 stored secrets that were tried can be opened"


def test_a_secret_under_a_missing_key_is_found(desk: Desk) -> None:
    connection = desk.house.connect("ada", 1)
    desk.set(ENCRYPTION_KEYS=new_key("k2").line().reveal())
    keys = of(desk.read("doctor", code=1), "keys")
    assert keys["state"] == "failed"
    assert keys["said"] == "key k1 is not configured, and 2 rows need it"
    desk.set(WITHOUT_KEYS="k1")
    assert {each["state"] for each in desk.read("doctor")["checks"] if each["check"] == "keys"} == {"warn", "ok"}
    desk.set(WITHOUT_KEYS="")
    desk.set(ENCRYPTION_KEYS=f"{new_key('k2').line().reveal()},{desk.environment['ENCRYPTION_KEYS']}")
    assert of(desk.read("doctor"), "keys")["state"] == "ok"
    assert connection.generation == 1


def test_a_secret_in_the_wrong_place_is_found(desk: Desk) -> None:
    ada, grace = desk.house.connect("ada", 1), desk.house.connect("grace", 2)
    swap = "UPDATE credential SET access_token = (SELECT access_token FROM credential WHERE connection_id = :a)"
    with desk.house.store.writing() as tx:
        tx.sql.execute(text(f"{swap} WHERE connection_id = :b"), {"a": ada.id, "b": grace.id})
    keys = of(desk.read("doctor", code=1), "keys")
    assert keys["said"].startswith("1 of ")
    assert f"credential.access_token of {grace.id}" in keys["said"]


def test_a_database_without_schema_is_found(desk: Desk) -> None:
    desk.set(DATABASE_URL=f"sqlite:///{desk.directory}/new.db")
    database = of(desk.read("doctor", code=1), "database")
    assert (database["state"], "breezesync migrate" in database["remedy"]) == ("failed", True)


def test_a_schema_of_another_version_is_found(desk: Desk) -> None:
    with desk.house.store.writing() as tx:
        tx.sql.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    assert of(desk.read("doctor", code=1), "database")["state"] == "failed"


def test_servers_that_are_away_are_found_without_a_password(desk: Desk) -> None:
    desk.set(
        DATABASE_URL="postgresql+psycopg://ada:hunter2@127.0.0.1:9/none", REDIS_URL="redis://:hunter2@127.0.0.1:9/0"
    )
    result = desk.type("doctor")
    assert result.exit_code == 1
    assert "postgresql+psycopg://ada:***@127.0.0.1:9/none does not answer" in result.stdout
    assert "redis://:***@127.0.0.1:9/0 does not answer (ConnectionError)" in result.stdout
    assert "hunter2" not in result.output


def test_a_redis_that_evicts_and_forgets_is_warned_about(desk: Desk) -> None:
    with running_valkey() as valkey:
        desk.set(REDIS_URL=valkey.url)
        with redis.Redis.from_url(valkey.url) as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
        checks = desk.read("doctor")
    assert of(checks, "redis memory")["state"] == "warn"
    assert of(checks, "redis persistence")["state"] == "warn"


def test_settings_that_are_missing_are_failures_and_the_rest_is_looked_at(desk: Desk) -> None:
    client = ["BREEZEDOC_CLIENT_ID", "BREEZEDOC_CLIENT_SECRET", "BREEZEDOC_REDIRECT_URI"]
    for name in [*client, "ENCRYPTION_KEYS"]:
        desk.monkeypatch.delenv(name)
    checks = desk.read("doctor", code=1)
    said = [check["said"].split(":")[0] for check in checks["checks"] if check["check"] == "settings"]
    assert said == [*client, "ENCRYPTION_KEYS"]
    assert of(checks, "database")["state"] == "ok"


def test_settings_that_are_wrong_are_all_that_is_said(desk: Desk) -> None:
    desk.set(REDIS_URL="mysql://r", SYNC_INTERVAL="soon")
    checks = desk.read("doctor", code=1)
    assert [check["said"].split(":")[0] for check in checks["checks"]] == ["REDIS_URL", "SYNC_INTERVAL"]


def test_an_env_file_that_others_may_read_is_warned_about(desk: Desk) -> None:
    path = desk.directory / ".env"
    path.write_text("SYNC_INTERVAL=15m\n")
    path.chmod(0o644)
    checks = desk.read("doctor")
    assert [check["remedy"] for check in checks["checks"] if check["check"] == "settings"] == ["", "chmod 600 .env"]
    assert path.stat().st_mode & 0o777 == 0o600  # reading it has closed it
    assert states(desk.read("doctor"))["settings"] == ["ok"]


def test_a_used_up_budget_is_respected(desk: Desk) -> None:
    desk.set(BREEZEDOC_TOKEN_REQUESTS_PER_MINUTE="1")
    assert of(desk.read("doctor"), "token endpoint")["state"] == "ok"
    assert of(desk.read("doctor"), "token endpoint")["state"] == "warn"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("breezesync:events", "stream"),
        ("breezesync:commands", "stream"),
        ("breezesync:commands:rejected", "stream"),
        ("breezesync:parked", "hash"),
        ("dramatiq:refresh.msgs", "hash"),
    ],
)
def test_a_key_of_another_type_is_named(desk: Desk, key: str, expected: str) -> None:
    desk.redis.set(key, "something else")
    failed = [check for check in desk.read("doctor", code=1)["checks"] if check["state"] == "failed"]
    assert [(key in check["said"], f"is a string, not a {expected}" in check["said"]) for check in failed] == [
        (True, True)
    ]
    assert key in failed[0]["remedy"]
