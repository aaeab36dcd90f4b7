"""A life on PostgreSQL under the roles that `migrate --grant-roles` makes: each has what it uses, and no more."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import fakeredis
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError, ProgrammingError
from typer.testing import CliRunner

import sandbox
from config.profiles import profile_directories, read_profile
from models.audit.entry import Action
from models.crypto.secrets import Secret
from models.crypto.vault import new_key
from models.hook import Hook, HookSecrets
from models.messaging.events import StreamSettings
from models.migrations import migrate
from models.oauth.authorization import Confirmation
from models.oauth.confirmation import confirmation_of
from models.oauth.connection import Status
from models.process import Process
from models.store import Store, open_engine
from models.store.days import Day
from models.store.grants import Process as ProcessKind
from models.store.grants import Role, processes
from models.store.tables import SealedText, metadata
from scheduler.command_stream import Commands
from scheduler.days import DaysAhead, drop_days
from scheduler.prune import Prune
from scheduler.sweep import Sweep
from tests.gateway import open_counter
from tests.harness import House, build_house, link_secret
from tests.operator_site import running_operator
from tests.servers import Postgres, wait_until
from worker.__main__ import build_app
from worker.gateway.desk import Done
from worker.oauth.hold import HoldByOperator
from worker.operations.dead_letters import carry_out_with_webhook, of_webhooks
from worker.provider.rate_limit import Settlement
from worker.queue.publish import PublishEvents
from worker.web.hooks import Hooks
from worker.web.metrics import ConnectionGauges, StoreGauges
from worker.webhooks.endpoints import Endpoints
from worker.webhooks.states import States

Stores = dict[ProcessKind, Store]
SEALED = [
    (table.name, column.name)
    for table in metadata.sorted_tables
    for column in table.columns
    if isinstance(column.type, SealedText)
]


@pytest.fixture(scope="module")
def stores(postgres: Postgres, postgres_template: str) -> Iterator[Stores]:
    """One database as each process sees it, by a role of its own. A migration without roles takes nothing away."""
    owner_url = postgres.create_database(postgres_template)
    prefix = f"of_{uuid4().hex[:8]}"
    roles = [Role(process, f"{prefix}_{process}", Secret("a password")) for process in processes]
    owner = open_engine(Secret(owner_url))
    profile = read_profile("breezedoc", {}, profile_directories())
    migrate(owner, [profile], roles)
    migrate(owner, [profile], roles)
    migrate(owner, [profile])
    url = make_url(owner_url)
    opened = {
        role.process: Store(open_engine(Secret(url.set(username=role.name).render_as_string(False)))) for role in roles
    }
    yield opened
    for store in opened.values():
        store.close()
    with owner.begin() as sql:
        for role in roles:
            sql.execute(text(f"DROP OWNED BY {role.name}"))
            sql.execute(text(f"DROP ROLE {role.name}"))
    owner.dispose()
    postgres.drop_database(owner_url)


@pytest.fixture
def house(stores: Stores, provider: sandbox.Running, tmp_path: Path) -> Iterator[House]:
    """One whose flows work as the worker's role, and its callback as web's."""
    built = build_house(url_of(stores["worker"]), provider, tmp_path / "spool")
    built.callback = replace(built.callback, store=stores["web"])
    yield built
    built.close()


def url_of(store: Store) -> str:
    return store.engine.url.render_as_string(hide_password=False)


def is_refused(store: Store, statement: str) -> bool:
    """Whether the role may not do this; whatever it did is rolled back."""
    with store.engine.connect() as sql:
        try:
            sql.execute(text(statement))
        except ProgrammingError as error:
            return type(error.orig).__name__ == "InsufficientPrivilege"
    return False


def test_a_whole_life_needs_no_more_than_the_roles_have(house: House, stores: Stores) -> None:
    sweep = Sweep(stores["scheduler"], house.queue, house.clock, {"breezedoc": 60})
    redis: Any = fakeredis.FakeRedis()
    commands = Commands(stores["scheduler"], redis, "breezesync:commands", sweep, house.clock)

    def command(type_: str, connection_id: str, **more: str) -> None:
        redis.xadd("breezesync:commands", {"type": type_, "connection_id": connection_id, **more})
        while commands(timedelta(milliseconds=1)) == 0:
            continue
        house.work()

    ada, bob = house.connect("ada", 1), house.connect("bob", 2)
    house.consent("carol", 1, allow=False)
    house.work()
    command("refresh", ada.id)
    assert house.connection(ada.id).generation == 2
    command("sync", ada.id)
    house.control.revoke_user(2)
    house.turn(hours=1)
    sweep()
    house.work()
    for _ in range(2):
        redis.xadd("breezesync:commands", {"type": "disconnect", "connection_id": ada.id})
    command("disconnect", ada.id, erase="true")
    assert house.connection(ada.id).status is Status.disconnected
    assert redis.xlen("breezesync:commands:rejected") == 0
    assert house.types().count("sync.completed") >= 2
    assert "connection.authorization_failed" in house.types()
    stores["web"].check()
    assert len(list(StoreGauges(stores["web"], house.clock).collect())) > 5
    assert len(list(ConnectionGauges(stores["web"]).collect())) == 1
    for role in ("web", "worker", "scheduler"):
        for _ in range(2):
            with stores[role].writing() as tx:
                tx.processes.report(Process(role, role, "1", house.clock()))
    house.turn(days=40)
    sweep()
    house.work()
    assert house.connection(bob.id).status is Status.revoked
    Prune(stores["scheduler"], house.clock)()
    with house.store.reading() as tx:
        assert tx.journal.calls_of(ada.id) == []


def test_the_scheduler_carries_out_a_confirmation_by_its_own_role(house: House, stores: Stores) -> None:
    redis: Any = fakeredis.FakeRedis(server=fakeredis.FakeServer())
    sweep = Sweep(stores["scheduler"], house.queue, house.clock, {"breezedoc": 60})
    commands = Commands(stores["scheduler"], redis, "breezesync:commands", sweep, house.clock)
    callback = replace(house.callback, confirmation=Confirmation.application)
    ended = {}
    for user in ("ada", "eve"):
        begun = callback.begin("breezedoc", house.link("ada", return_to="https://app.example/settings"), {})
        query = dict(parse_qsl(urlsplit(house.control.authorize(begun.location, 1)).query))
        found = callback.finish("breezedoc", query, {begun.flow: begun.binding})
        given = {"authorization_id": found.id, "user_id": user, "confirmation": confirmation_of(begun.binding)}
        entry: dict[Any, Any] = {"type": "confirm", **given}
        redis.xadd("breezesync:commands", entry)
        while commands(timedelta(milliseconds=1)) == 0:
            continue
        sweep()
        house.work()
        with house.store.reading() as tx:
            after = tx.authorizations.get(found.id)
        assert after is not None
        ended[user] = (after.step.value, after.reason)
    assert ended == {"ada": ("connected", None), "eve": ("failed", "not_confirmed")}


def test_a_hold_is_tried_and_released_by_the_schedulers_own_role(house: House, stores: Stores) -> None:
    ada = house.connect("ada", 1)
    house.work()
    client = house.flows.refresh.providers["breezedoc"]
    client.provider = house.profile = replace(client.provider, mass_refusal_count=0, mass_refusal_share=0)
    operator = HoldByOperator(house.store, house.profile)
    operator.hold("sandbox-client")
    house.control.replace_keys()
    house.make_refresh_due(ada.id)
    sweep = Sweep(stores["scheduler"], house.queue, house.clock, {"breezedoc": 60})
    for _ in range(20):
        house.turn(minutes=1)
        sweep()
        house.work()
    with house.store.reading() as tx:
        [hold] = tx.refusals.holds()
    assert (house.connection(ada.id).problem, hold.trials > 0) == ("held", True)
    house.control.restore_keys()
    operator.release("sandbox-client")
    for _ in range(3):
        house.turn(minutes=1)
        sweep()
        house.work()
    after = house.connection(ada.id)
    assert (after.status, after.problem) == (Status.active, None)


def test_a_gateway_does_its_work_by_its_own_role(house: House, stores: Stores) -> None:
    ada = house.refreshable()
    house.work()
    recorded = ("gateway_key.refused", "call.made")
    with open_counter(house, store=stores["gateway"]) as counter:
        assert counter.ask("GET", "/readyz", None).text == "ready\n"
        assert counter.ask("GET", "/v1/connections", "wrong").status_code == 401
        assert len(counter.ask("GET", "/v1/connections?user_id=ada").json()["connections"]) >= 1
        with house.store.engine.begin() as sql:
            sql.execute(text("UPDATE connection SET expires_at = now() + interval '9 seconds'"))
            sql.execute(text("UPDATE credential SET issued_at = now() - interval '1 hour'"))
        assert counter.token(ada.id).status_code == 200
        house.control.expire(1)
        assert counter.call(ada.id, "me", headers={"Accept": "application/json"}).status_code == 200
        counter.call(ada.id, "documents", "POST")
        asked = {"method": "GET", "path": "me", "idempotency_key": "one"}
        call_id = counter.ask("POST", f"/v1/connections/{ada.id}/calls", json=asked).json()["call_id"]
        wait_until(lambda: counter.ask("GET", f"/v1/calls/{call_id}").json()["status"] == "completed", "the call ends")
        counter.flush()
        counter.courier.is_idle = True
        counter.office.desk.finish([Done(ada, Settlement(), 0, is_write=True)])
        assert house.connection(ada.id).sync_requested is True
        with stores["cli"].reading() as tx:
            lines = [line for line in tx.audit.newest({}, None, 1000) if line.action in recorded]
        assert [line.action for line in lines] == ["gateway_key.refused", *["call.made"] * 3]
        assert {line.actor for line in lines[1:]} == {"gateway:billing"}
        with house.store.reading() as tx:
            # Beside them are the refresh and what the courier reads because of the write.
            statuses = [each.status for each in tx.journal.calls_of(ada.id)]
        assert [each for each in statuses if each != 200] == [401, 422]
    with stores["scheduler"].writing() as tx:
        assert tx.calls.connection_of(call_id) == ada.id
        tx.calls.hasten(call_id)
    with stores["worker"].writing() as tx:
        tx.calls.erase(ada.id)  # the keys of another test's house don't open it


def test_an_application_reads_its_data_and_changes_nothing(house: House, stores: Stores) -> None:
    house.connect("ada", 1)
    house.work()
    application = stores["application"]
    with application.engine.connect() as sql:
        for name in ("breezedoc_document", "breezedoc_account", "connection", "record", "event", "sync_run"):
            assert sql.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() > 0, name
    for table in metadata.sorted_tables:
        assert is_refused(application, f'DELETE FROM "{table.name}"'), table.name
        assert is_refused(application, f'LOCK TABLE "{table.name}" IN ROW EXCLUSIVE MODE'), table.name


def test_who_opens_no_token_reads_none(stores: Stores) -> None:
    readable = {
        f"{process}: {table}.{column}"
        for process in ("web", "scheduler", "gateway", "application")
        for table, column in SEALED
        if not is_refused(stores[process], f'SELECT {column} FROM "{table}"')
    }
    own = {f"{each}: authorization.{name}" for each in ("web", "scheduler") for name in ("verifier", "code", "tokens")}
    assert readable == own | {f"gateway: {each}" for each in ("credential.access_token", "call.request", "call.answer")}


def test_no_process_changes_the_schema(stores: Stores) -> None:
    statements = [
        "CREATE TABLE mine (id integer)",
        "CREATE TEMPORARY TABLE mine (id integer)",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "ALTER TABLE connection ADD COLUMN mine integer",
        "DROP TABLE credential",
        "TRUNCATE event",
        "UPDATE alembic_version SET version_num = '0000'",
        "CREATE VIEW mine AS SELECT 1",
        "CREATE FUNCTION mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    ]
    done = [(process, each) for process in processes for each in statements if not is_refused(stores[process], each)]
    assert done == []


def test_only_a_scheduler_makes_and_drops_days_and_only_those(stores: Stores) -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    DaysAhead(stores["scheduler"], lambda: now)()
    with stores["scheduler"].reading() as tx:
        assert Day("event", now.date()) in tx.days.existing()
    drop_days(stores["scheduler"], now + timedelta(days=10))
    with stores["scheduler"].reading() as tx:
        assert Day("event", now.date()) not in tx.days.existing()
    calls = ["make_day('event', '2026-03-01')", "drop_day('event', '2026-03-01')", "stray_rows('event')"]
    may = {(each, call) for each in processes for call in calls if not is_refused(stores[each], call_of(call))}
    assert may == {("scheduler", calls[0]), ("scheduler", calls[1]), ("cli", calls[2])}
    for partition in ("event_live", "event_default", "sync_run_past"):
        assert is_refused(stores["scheduler"], f"SELECT count(*) FROM {partition}"), partition
    for call in ("make_day('credential', '2026-03-01')", "drop_day('audit', '2026-03-01')"):
        with stores["scheduler"].engine.connect() as sql, pytest.raises(DBAPIError, match="22023"):
            sql.execute(text(call_of(call)))


def call_of(call: str) -> str:
    return f"SELECT breezesync_{call}"


def test_what_was_done_is_never_rewritten(stores: Stores) -> None:
    """No process changes a line of the journal or of an audit, and only the scheduler deletes old ones."""
    kept = ["decision", *(name for name in metadata.tables if name.startswith("audit"))]
    changed = [
        (process, name)
        for process in processes
        for name in kept
        if not is_refused(stores[process], f"UPDATE {name} SET {first_column(name)} = {first_column(name)}")
    ]
    deleted = [(p, name) for p in processes for name in kept if not is_refused(stores[p], f"DELETE FROM {name}")]
    assert changed == []
    assert [(p, name) for p, name in deleted if p != "scheduler" or name == "audit_day"] == []


def first_column(table: str) -> str:
    return next(iter(metadata.tables[table].columns)).name


def test_webhooks_of_both_directions_need_no_more_than_the_roles_have(house: House, stores: Stores) -> None:
    ada = house.connect("ada", 1)
    house.work()
    made, _ = Endpoints(stores["cli"], house.vault).add("app", "http://127.0.0.1:9/w", ("*",), allow_private=True)
    redis: Any = fakeredis.FakeRedis()
    streams: Any = {"events": StreamSettings("e", 100), "records": StreamSettings("r", 100)}
    hook = Hook(account="id")
    profiles = {"breezedoc": replace(house.profile, webhook=hook)}
    secrets = {"breezedoc": HookSecrets(Secret("path"))}
    Hooks(stores["web"], profiles, secrets, house.queue.send, house.clock).receive(
        "breezedoc", "path", {}, b'{"id": 1}'
    )
    assert house.connection(ada.id).sync_requested is True
    house.work()
    PublishEvents(stores["worker"], redis, streams, house.clock)()
    Sweep(stores["scheduler"], house.queue, house.clock, {"breezedoc": 60})()
    house.work()
    with stores["web"].reading() as tx:
        assert tx.webhooks.loads()[made.id].waiting >= 1
    for process in ("web", "scheduler", "gateway", "application"):
        assert is_refused(stores[process], "SELECT secret FROM webhook"), process
    house.turn(days=4)
    for _ in range(6):
        Sweep(stores["scheduler"], house.queue, house.clock, {"breezedoc": 60})()
        house.work()
        house.turn(hours=4)
    with stores["cli"].reading() as tx:
        letters = of_webhooks(tx)
    assert carry_out_with_webhook(stores["cli"], Action.dead_letter_dropped, letters[0])
    house.turn(days=40)
    Prune(stores["scheduler"], house.clock)()
    assert States(stores["cli"]).test("app") is not None
    with stores["cli"].reading() as tx:
        assert tx.overview.may_operate()
    assert States(stores["cli"]).remove("app") is not None


def test_each_table_is_read_by_no_one_but_those_who_use_it(stores: Stores) -> None:
    refused: dict[ProcessKind, list[str]] = {
        "web": ["credential", "hold", "lease", "pace", "record", "resource", "revocation", "sync_page"],
        "scheduler": ["lease", "record", "resource", "sync_page"],
        "gateway": ['"authorization"', "audit", "decision", "event", "hold", "lease", "pace", "record", "refusal"],
        "cli": ["lease"],
    }
    for process, tables in refused.items():
        read = [name for name in tables if not is_refused(stores[process], f"SELECT count(*) FROM {name}")]
        assert read == [], process


def test_a_command_needs_no_more_than_its_role_has(
    house: House, stores: Stores, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = house.connect("ada", 1)
    house.work()
    with house.store.writing() as tx:
        # Another test may have asked for a refresh within the minute.
        tx.sql.execute(text("UPDATE connection SET refresh_asked_at = NULL"))
    settings = {
        "DATABASE_URL": url_of(stores["cli"]),
        "REDIS_URL": redis_url,
        "ENCRYPTION_KEYS": f"{new_key('k2').line().reveal()},{house.keys[0].line().reveal()}",
        "CONNECT_SECRET": link_secret.reveal(),
        "BREEZEDOC_CLIENT_ID": house.provider.client_id,
        "BREEZEDOC_CLIENT_SECRET": house.provider.client_secret,
        "BREEZEDOC_REDIRECT_URI": house.provider.redirect_uri,
        "BREEZEDOC_TOKEN_URL": house.profile.token_url,
        "BREEZEDOC_API_URL": house.profile.api_url,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    commands = [
        "connections",
        "status",
        f"explain {connection.id}",
        "authorizations",
        "provider status",
        "provider hold breezedoc",
        "provider accept breezedoc",
        "provider pause breezedoc",
        "provider resume breezedoc",
        "keys status",
        "keys rotate",
        "events",
        "events replay --since 1h",
        f"refresh {connection.id}",
        f"sync {connection.id}",
        f"disconnect {connection.id}",
        "connect-token dora",
        "doctor",
    ]
    token = house.control.personal_token(1)
    ended = {each: CliRunner().invoke(build_app(), each.split(), input=token, prog_name="b") for each in commands}
    failed = {each: done.output for each, done in ended.items() if done.exit_code != 0 or "privilege" in done.output}
    assert failed == {}


def test_roles_are_postgresql_s_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/b.db")
    done = CliRunner().invoke(build_app(), ["migrate", "--grant-roles", "nowhere"], prog_name="breezesync")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "Only PostgreSQL has roles" in done.stderr


def test_the_operator_s_page_is_shown_and_acts_by_the_role_of_the_command_line_only(
    stores: Stores, house: House, redis_url: str
) -> None:
    connection = house.connect("ada", 1)
    with running_operator(stores["cli"], redis_url) as operator:
        for view in ("overview", "connections", "authorizations", "events", "providers", "queues", "groups"):
            operator.get(view)
        assert operator.get(f"connections/{connection.id}")["moments"]
        assert operator.post(f"connections/{connection.id}/sync").status_code == 202
        assert operator.post("providers/breezedoc/pause").status_code == 202
        assert operator.post("providers/breezedoc/resume").status_code == 202
    with running_operator(stores["web"], redis_url) as operator:
        assert operator.ask("GET", "overview").status_code == 404
        page = operator.browser().get("./")
        assert (page.status_code, "worker.main:operator" in page.text) == (404, True)
