from base64 import b64encode
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from config.environment import SettingsError
from config.profiles import profile_directories
from config.setting_texts import Address
from config.settings import Settings, read_settings
from models.crypto.secrets import Secret
from models.crypto.transit_settings import TransitSettings
from models.crypto.vault import Vault, new_key
from models.oauth.client import OAuthClient

key = "k1:" + b64encode(b"abcdefgh" * 4).decode()
connect_secret = "connect-secret-" + "x" * 32
one_secret, other_secret = "abcdefgh" * 4, "ijklmnop" * 4
complete = {
    "BREEZEDOC_CLIENT_ID": "client-1",
    "BREEZEDOC_CLIENT_SECRET": "hunter2-client",
    "BREEZEDOC_REDIRECT_URI": "https://sync.example/auth/breezedoc/callback",
    "ENCRYPTION_KEYS": key,
    "CONNECT_SECRET": connect_secret,
}
secrets_of_complete = ("hunter2", key[3:20], connect_secret)


def read(environ: dict[str, str] | None = None, **options: Any) -> Settings:
    return read_settings({**complete, **(environ or {})}, env_file=None, **options)


def problems(environ: dict[str, str], **options: Any) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        read_settings(environ, **{"env_file": None, **options})
    return refused.value.problems


def test_complete_settings_have_the_documented_defaults() -> None:
    settings = read()
    assert settings.database_url == Secret("sqlite:///var/breezesync.db")
    assert settings.redis_url == Secret("redis://127.0.0.1:6379/0")
    assert settings.return_origins == frozenset()
    assert (settings.confirmation, settings.app_name) == ("page", "")
    assert [provider.name for provider in settings.providers] == ["breezedoc"]
    assert settings.events_stream == "breezesync:events"
    assert settings.records_stream == "breezesync:records"
    assert settings.commands_stream == "breezesync:commands"
    assert (settings.events_maxlen, settings.records_maxlen) == (1_000_000, 1_000_000)
    assert (settings.sync_interval, settings.sweep_interval) == (timedelta(minutes=15), timedelta(seconds=1))
    assert settings.operator_token is None
    assert settings.connect_secrets == (Secret(connect_secret),)
    assert settings.client_for("breezedoc") == OAuthClient(
        provider="breezedoc",
        client_id="client-1",
        client_secret=Secret("hunter2-client"),
        redirect_uri="https://sync.example/auth/breezedoc/callback",
    )
    assert (settings.client_for("other"), settings.provider("other")) == (None, None)
    assert settings.provider("breezedoc") is settings.providers[0]
    assert Vault(settings.encryption_keys)


HOOKS: dict[str, tuple[dict[str, str], list[str]]] = {
    "both": (
        {"ACME_WEBHOOK_PATH": "a-path-no-one-guesses", "ACME_WEBHOOK_SECRET": "a-key-of-the-provider"},
        [],
    ),
    "none": ({}, []),
    "a path only": ({"ACME_WEBHOOK_PATH": "a-path-no-one-guesses"}, ["ACME_WEBHOOK_SECRET: missing"]),
    "a secret only": ({"ACME_WEBHOOK_SECRET": "a-key-of-the-provider"}, ["ACME_WEBHOOK_PATH: missing"]),
    "a short path": ({"ACME_WEBHOOK_PATH": "short"}, ["ACME_WEBHOOK_PATH: expected 16 letters"]),
    "of a profile without one": (
        {"BREEZEDOC_WEBHOOK_PATH": "a-path-no-one-guesses"},
        ["BREEZEDOC_WEBHOOK_PATH: expected a"],
    ),
}


@pytest.mark.parametrize("case", HOOKS)
def test_what_opens_a_providers_webhook_is_set_whole(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, faults = HOOKS[case]
    directory = tmp_path / "config" / "providers"
    directory.mkdir(parents=True)
    shipped = next(path for path in profile_directories() if (path / "breezedoc.toml").is_file()) / "breezedoc.toml"
    hook = '\n[webhook]\naccount = "id"\nsignature_header = "X-Signature"\n'
    (directory / "acme.toml").write_text(shipped.read_text() + hook)
    monkeypatch.chdir(tmp_path)
    both = {"PROVIDERS": "breezedoc,acme", **given}
    if not faults:
        assert set(read(both, needs=()).hooks) == ({"acme"} if given else set())
        return
    found = problems(both, needs=())
    assert [each.startswith(fault) for each, fault in zip(found, faults, strict=True)] == [True], found


def test_a_gateway_needs_keys_and_each_names_providers_that_are_in_use() -> None:
    needed = {"ENCRYPTION_KEYS": key}
    missing = problems(needed, needs=("keys", "gateway"))
    assert missing == [
        "GATEWAY_KEYS: missing, expected NAME:SHA256, comma-separated; `breezesync gateway-key NAME` makes one"
    ]
    own = f"a:{'ab' * 32}"
    [found] = read({"GATEWAY_KEYS": f"{own};providers=breezedoc"}).gateway_keys
    assert (found.name, found.providers) == ("a", frozenset({"breezedoc"}))
    assert problems({**complete, "GATEWAY_KEYS": f"{own};providers=other"}) == [
        "GATEWAY_KEYS: other is not in PROVIDERS: expected breezedoc"
    ]
    assert problems({**complete, "GATEWAY_KEYS": "a:b"}) == [
        "GATEWAY_KEYS: key 1: expected NAME:SHA256, as breezesync gateway-key prints it"
    ]


def test_settings_are_frozen_and_show_no_secret() -> None:
    settings = read({"DATABASE_URL": "postgresql+psycopg://u:hunter2@h/d", "REDIS_URL": "redis://:hunter2@h"})
    with pytest.raises(AttributeError):
        settings.events_stream = "other"  # type: ignore[misc]  # that is the point
    assert not [secret for secret in secrets_of_complete if secret in repr(settings)]


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("DATABASE_URL", "sqlite:////data/b.db", "database_url", Secret("sqlite:////data/b.db")),
        ("DATABASE_URL", "postgresql+psycopg://u:p@h/d", "database_url", Secret("postgresql+psycopg://u:p@h/d")),
        ("REDIS_URL", "rediss://u:p@h:6380/3", "redis_url", Secret("rediss://u:p@h:6380/3")),
        ("REDIS_URL", "redis://h", "redis_url", Secret("redis://h")),
        ("REDIS_URL", "unix:///run/valkey.sock?db=1", "redis_url", Secret("unix:///run/valkey.sock?db=1")),
        (
            "CONNECT_SECRET",
            f"{one_secret} , {other_secret}",
            "connect_secrets",
            (Secret(one_secret), Secret(other_secret)),
        ),
        ("CONNECT_SECRET", "äëïöüÿâê" * 2, "connect_secrets", (Secret("äëïöüÿâê" * 2),)),
        (
            "RETURN_ORIGINS",
            "https://A.example:443/, http://localhost:3000",
            "return_origins",
            frozenset({"https://a.example", "http://localhost:3000"}),
        ),
        ("CONNECT_CONFIRMATION", "application", "confirmation", "application"),
        ("CONNECT_CONFIRMATION", " off ", "confirmation", "off"),
        ("CONNECT_CONFIRMATION", "", "confirmation", "page"),
        ("APP_NAME", " Papertrail & Söhne ", "app_name", "Papertrail & Söhne"),
        ("EVENTS_STREAM", "{app}:events", "events_stream", "{app}:events"),
        ("RECORDS_STREAM", "records", "records_stream", "records"),
        ("COMMANDS_STREAM", "commands", "commands_stream", "commands"),
        ("EVENTS_MAXLEN", "1", "events_maxlen", 1),
        ("RECORDS_MAXLEN", " 5000000 ", "records_maxlen", 5_000_000),
        ("SYNC_INTERVAL", "2h", "sync_interval", timedelta(hours=2)),
        ("SYNC_INTERVAL", "90", "sync_interval", timedelta(seconds=90)),
        ("SYNC_INTERVAL", "1d", "sync_interval", timedelta(days=1)),
        ("SWEEP_INTERVAL", "250ms", "sweep_interval", timedelta(milliseconds=250)),
        ("SWEEP_INTERVAL", "0.5s", "sweep_interval", timedelta(milliseconds=500)),
        ("SWEEP_INTERVAL", "5 m", "sweep_interval", timedelta(minutes=5)),
        ("OPERATOR_TOKEN", "abc.DEF_1-abc.DEF_2", "operator_token", Secret("abc.DEF_1-abc.DEF_2")),
        ("OPERATOR_TOKEN", "  ", "operator_token", None),
        ("SYNC_INTERVAL", "", "sync_interval", timedelta(minutes=15)),
    ],
)
def test_a_setting_is_read(name: str, text: str, field: str, value: Any) -> None:
    assert getattr(read({name: text}), field) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("DATABASE_URL", "hunter2"),
        ("DATABASE_URL", "postgres://u:hunter2@h/d"),
        ("DATABASE_URL", "postgresql://u:hunter2@h/d"),
        ("DATABASE_URL", "mysql://u:hunter2@h/d"),
        ("DATABASE_URL", "postgresql+psycopg://u:hunter2@h:port/d"),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "sqlite:///:memory:"),
        ("REDIS_URL", "hunter2"),
        ("REDIS_URL", "http://:hunter2@h"),
        ("REDIS_URL", "redis://"),
        ("REDIS_URL", "redis://:hunter2@h:port"),
        ("REDIS_URL", "redis://:hunter2@h:99999"),
        ("REDIS_URL", "redis://:hunter2@h/one"),
        ("REDIS_URL", "redis://[hunter2"),
        ("REDIS_URL", "unix://"),
        ("ENCRYPTION_KEYS", "hunter2"),
        ("ENCRYPTION_KEYS", f"{key},k2:hunter2"),
        ("CONNECT_SECRET", "hunter2"),
        ("CONNECT_SECRET", f"{one_secret},hunter2"),
        ("CONNECT_SECRET", f"{one_secret},"),
        ("RETURN_ORIGINS", "*"),
        ("RETURN_ORIGINS", "app.example"),
        ("RETURN_ORIGINS", "https://app.example/path"),
        ("RETURN_ORIGINS", "https://app.example?x"),
        ("RETURN_ORIGINS", "https://u:hunter2@app.example"),
        ("RETURN_ORIGINS", "https://a.example https://b.example"),
        ("RETURN_ORIGINS", "https://a.example,,"),
        ("PROVIDERS", "../breezedoc"),
        ("PROVIDERS", "Breezedoc"),
        ("PROVIDERS", "breezedoc,breezedoc"),
        ("PROVIDERS", "breezedoc,"),
        ("EVENTS_STREAM", "two words"),
        ("RECORDS_STREAM", "x" * 201),
        ("COMMANDS_STREAM", "a\x00b"),
        ("EVENTS_MAXLEN", "0"),
        ("CONNECT_CONFIRMATION", "none"),
        ("CONNECT_CONFIRMATION", "PAGE"),
        ("APP_NAME", "two\nlines"),
        ("APP_NAME", "x" * 101),
        ("BREEZEDOC_PROMPT", "con\tsent"),
        ("EVENTS_MAXLEN", "-1"),
        ("EVENTS_MAXLEN", "1e6"),
        ("RECORDS_MAXLEN", "many"),
        ("RECORDS_MAXLEN", "9" * 19),
        ("SYNC_INTERVAL", "0"),
        ("SYNC_INTERVAL", "-5m"),
        ("SYNC_INTERVAL", "soon"),
        ("SYNC_INTERVAL", "15 minutes"),
        ("SYNC_INTERVAL", "999999999d"),
        ("SYNC_INTERVAL", "nan"),
        ("SWEEP_INTERVAL", "1ss"),
        ("SWEEP_INTERVAL", "0.0s"),
        ("OPERATOR_TOKEN", "hunter2 hunter2"),
        ("OPERATOR_TOKEN", "hunter2ü"),
        ("BREEZEDOC_CLIENT_ID", "x" * 256),
        ("BREEZEDOC_CLIENT_ID", "a\nb"),
        ("BREEZEDOC_CLIENT_SECRET", "hunter2\nhunter2"),
        ("BREEZEDOC_REDIRECT_URI", "http://sync.example/cb"),
        ("BREEZEDOC_REDIRECT_URI", "http://localhost.evil.example/cb"),
        ("BREEZEDOC_REDIRECT_URI", "/auth/callback"),
        ("BREEZEDOC_REDIRECT_URI", "https://sync.example/cb#part"),
        ("BREEZEDOC_REDIRECT_URI", "https://u:hunter2@sync.example/cb"),
        ("BREEZEDOC_REDIRECT_URI", "https://sync.example/cb"),
        ("BREEZEDOC_REDIRECT_URI", "https://sync.example/auth/other/callback"),
        ("BREEZEDOC_REDIRECT_URI", "https://sync.example/auth/breezedoc/callback/"),
        ("BREEZEDOC_REDIRECT_URI", "https://sync.example/auth/breezedoc"),
        ("BREEZEDOC_REDIRECT_URI", "https://sync.example/AUTH/breezedoc/callback"),
        ("BREEZEDOC_REDIRECT_URI", "https://sync.example/auth/breezedoc/callback?to=/auth/breezedoc/callback"),
        ("BREEZEDOC_PKCE", "maybe"),
        ("BREEZEDOC_API_URL", "breezedoc.example"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_expected_and_not_shown(name: str, text: str) -> None:
    told = problems({**complete, name: text})
    assert len(told) == 1
    assert told[0].startswith(f"{name}: ")
    assert "hunter2" not in told[0]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8700", "[::1]:8700"])
def test_a_redirect_on_this_machine_needs_no_https(host: str) -> None:
    uri = f"http://{host}/auth/breezedoc/callback"
    assert read({"BREEZEDOC_REDIRECT_URI": uri}).clients[0].redirect_uri == uri


def test_a_redirect_may_lie_behind_a_path_prefix() -> None:
    uri = "https://app.example/sync/auth/breezedoc/callback"
    assert read({"BREEZEDOC_REDIRECT_URI": uri}).clients[0].redirect_uri == uri


def test_a_wrong_path_is_named_even_without_the_rest_of_the_client() -> None:
    told = problems({"BREEZEDOC_REDIRECT_URI": "https://sync.example/cb"}, needs=())
    assert [line.partition(":")[0] for line in told] == [
        "BREEZEDOC_REDIRECT_URI",
        "BREEZEDOC_CLIENT_ID",
        "BREEZEDOC_CLIENT_SECRET",
    ]


def test_every_problem_is_told_at_once() -> None:
    told = problems(
        {"BREEZEDOC_CLIENT_ID": "c", "SYNC_INTERVAL": "soon", "DATABASE_URL": "x", "BREEZEDOC_TOKEN_BODY": "xml"}
    )
    assert [line.partition(":")[0] for line in told] == [
        "DATABASE_URL",
        "SYNC_INTERVAL",
        "BREEZEDOC_TOKEN_BODY",
        "BREEZEDOC_CLIENT_SECRET",
        "BREEZEDOC_REDIRECT_URI",
        "ENCRYPTION_KEYS",
        "CONNECT_SECRET",
    ]


def test_a_broken_key_is_not_called_missing_as_well() -> None:
    assert len(problems({**complete, "ENCRYPTION_KEYS": "k1:AAAA,k2:AAAA"})) == 2


@pytest.mark.parametrize(
    ("needs", "missing"),
    [
        ((), []),
        (("keys",), ["ENCRYPTION_KEYS"]),
        (("links",), ["CONNECT_SECRET"]),
        (("sealing",), ["SEALING_KEY"]),
        (("registrations",), ["BREEZEDOC_CLIENT_ID", "BREEZEDOC_REDIRECT_URI"]),
        (("clients",), ["BREEZEDOC_CLIENT_ID", "BREEZEDOC_CLIENT_SECRET", "BREEZEDOC_REDIRECT_URI"]),
    ],
)
def test_a_process_asks_only_for_what_it_needs(needs: tuple[Any, ...], missing: list[Any]) -> None:
    if missing:
        assert [line.partition(":")[0] for line in problems({}, needs=needs)] == missing
    else:
        assert isinstance(read_settings({}, env_file=None, needs=needs), Settings)


def test_half_a_client_is_a_problem_even_where_none_is_needed() -> None:
    assert [line.partition(":")[0] for line in problems({"BREEZEDOC_CLIENT_ID": "c"}, needs=())] == [
        "BREEZEDOC_CLIENT_SECRET",
        "BREEZEDOC_REDIRECT_URI",
    ]


public = {"BREEZEDOC_CLIENT_ID": "c", "BREEZEDOC_REDIRECT_URI": complete["BREEZEDOC_REDIRECT_URI"]}
sealing_line = new_key("k1").sealing_key.line()


def test_the_web_process_needs_no_key_that_opens_and_no_client_secret() -> None:
    web = {"CONNECT_SECRET": complete["CONNECT_SECRET"], "SEALING_KEY": sealing_line, **public}
    settings = read_settings(web, None, needs=("sealing", "registrations", "links"))
    assert settings.sealing_key is not None
    assert (settings.sealing_key.line(), settings.encryption_keys, settings.clients) == (sealing_line, (), ())
    assert [client.client_id for client in settings.registrations] == ["c"]


def test_the_sealing_key_follows_from_the_first_key() -> None:
    first, second = new_key("k2"), new_key("k1")
    keys = f"{first.line().reveal()},{second.line().reveal()}"
    read = {name: read_settings({"ENCRYPTION_KEYS": keys} | more, None, needs=()).sealing_key for name, more in {
        "derived": {}, "set": {"SEALING_KEY": second.sealing_key.line()}
    }.items()}  # fmt: skip
    assert read == {"derived": first.sealing_key, "set": second.sealing_key}
    assert problems({"ENCRYPTION_KEYS": keys, "SEALING_KEY": sealing_line}, needs=()) == [
        "SEALING_KEY: no key of ENCRYPTION_KEYS opens what 'k1' seals"
    ]


vault = {"VAULT_ADDR": "https://vault:8200/", "VAULT_TOKEN": "t"}


def test_a_vault_is_read(tmp_path: Path) -> None:
    assert read_settings({}, None, needs=()).transit is None
    assert read_settings(vault, None, needs=()).transit == TransitSettings(
        address="https://vault:8200", token=Secret("t")
    )
    (tmp_path / "token").write_text("t\n")
    more = {
        "VAULT_ADDR": "http://127.0.0.1:8200",
        "VAULT_TOKEN_FILE": str(tmp_path / "token"),
        "VAULT_TRANSIT_KEY": "breezesync",
        "VAULT_TRANSIT_MOUNT": "/keys/transit/".strip("/"),
        "VAULT_NAMESPACE": "team/a",
        "VAULT_CACERT": "/etc/ca.pem",
    }
    assert read_settings(more, None, needs=()).transit == TransitSettings(
        address="http://127.0.0.1:8200",
        token=Secret("t"),
        token_file=tmp_path / "token",
        key="breezesync",
        mount="keys/transit",
        namespace="team/a",
        authorities=Path("/etc/ca.pem"),
    )


@pytest.mark.parametrize(
    ("given", "variable"),
    [
        ({"VAULT_ADDR": "https://vault"}, "VAULT_TOKEN"),
        ({"VAULT_TOKEN": "t"}, "VAULT_ADDR"),
        ({"VAULT_TRANSIT_KEY": "k"}, "VAULT_ADDR"),
        (vault | {"VAULT_ADDR": "http://vault:8200"}, "VAULT_ADDR"),
        (vault | {"VAULT_ADDR": "vault:8200"}, "VAULT_ADDR"),
        (vault | {"VAULT_ADDR": "https://u:p@vault"}, "VAULT_ADDR"),
        (vault | {"VAULT_ADDR": "https://vault/?x"}, "VAULT_ADDR"),
        (vault | {"VAULT_ADDR": "https://vault:x"}, "VAULT_ADDR"),
        (vault | {"VAULT_TRANSIT_KEY": "a/b"}, "VAULT_TRANSIT_KEY"),
        (vault | {"VAULT_TRANSIT_MOUNT": "../sys"}, "VAULT_TRANSIT_MOUNT"),
        (vault | {"VAULT_NAMESPACE": "a b"}, "VAULT_NAMESPACE"),
        ({"WITHOUT_KEYS": "a b"}, "WITHOUT_KEYS"),
        ({"SEALING_KEY": "k1"}, "SEALING_KEY"),
    ],
)
def test_what_seals_has_to_be_right(given: dict[str, str], variable: str) -> None:
    assert problems(given, needs=())[0].partition(":")[0] == variable


def test_a_provider_without_a_profile_is_a_problem() -> None:
    assert problems({**complete, "PROVIDERS": "breezedoc,absent"}, needs=()) == [
        "PROVIDERS: there is no profile config/providers/absent.toml"
    ]


def test_two_streams_of_one_name_are_a_problem() -> None:
    assert len(problems({**complete, "EVENTS_STREAM": "s", "RECORDS_STREAM": "s"})) == 1


def test_bytes_that_are_no_text_are_refused_in_every_variable() -> None:
    broken = (
        "DATABASE_URL",
        "REDIS_URL",
        "APP_NAME",
        "PROVIDERS_DIRECTORY",
        "BREEZEDOC_CLIENT_SECRET",
        "BREEZEDOC_TITLE",
    )
    given = complete | {"DATABASE_URL": "sqlite:///\udcff.db", **dict.fromkeys(broken[1:], "\udcff")}
    assert sorted(problems(given)) == sorted(f"{name}: expected UTF-8" for name in broken)


@pytest.mark.parametrize("name", ["DATABASE_URL", "ENCRYPTION_KEYS", "CONNECT_SECRET", "BREEZEDOC_CLIENT_SECRET"])
def test_a_secret_may_stand_in_a_file(tmp_path: Path, name: str) -> None:
    plain = {**complete, "DATABASE_URL": "postgresql+psycopg://u:p@h/d"}
    path = tmp_path / "secret"
    path.write_text(plain[name] + "\n")
    by_file = {key: value for key, value in plain.items() if key != name} | {f"{name}_FILE": str(path)}
    assert read_settings(by_file, env_file=None) == read_settings(plain, env_file=None)


@pytest.mark.parametrize(
    "content", [b"", b" \n", b"\xff\xfe", b"x" * 65_537, None], ids=["empty", "blank", "not UTF-8", "huge", "absent"]
)
def test_an_unfit_secret_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    told = problems(
        {key: value for key, value in complete.items() if key != "CONNECT_SECRET"} | {"CONNECT_SECRET_FILE": str(path)}
    )
    assert len(told) == 1
    assert told[0].startswith(f"CONNECT_SECRET_FILE: cannot read {path}: ")


def test_a_directory_is_no_secret_file(tmp_path: Path) -> None:
    assert len(problems({**complete, "OPERATOR_TOKEN_FILE": str(tmp_path)})) == 1


def test_a_value_and_a_file_for_it_are_one_too_many(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(one_secret)
    told = problems({**complete, "CONNECT_SECRET_FILE": str(tmp_path / "secret")})
    assert len(told) == 1
    assert told[0].startswith("CONNECT_SECRET: set twice")


def test_an_empty_value_beside_a_file_counts_as_unset(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(one_secret)
    settings = read({"CONNECT_SECRET": "", "CONNECT_SECRET_FILE": str(tmp_path / "secret")})
    assert settings.connect_secrets == (Secret(one_secret),)


def test_the_environment_goes_before_the_file_unless_it_is_empty(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("# comment\nSYNC_INTERVAL=1h\nSWEEP_INTERVAL='3s'\nEVENTS_MAXLEN=7\nexport RECORDS_MAXLEN=8\n")
    settings = read_settings({**complete, "SYNC_INTERVAL": "2h", "EVENTS_MAXLEN": ""}, env_file)
    assert (settings.sync_interval, settings.sweep_interval) == (timedelta(hours=2), timedelta(seconds=3))
    assert (settings.events_maxlen, settings.records_maxlen) == (7, 8)


def test_an_absent_env_file_is_fine(tmp_path: Path) -> None:
    assert read_settings(complete, tmp_path / ".env") == read()


def test_an_unreadable_env_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"A=\xff\n")
    assert len(problems(complete, env_file=tmp_path / ".env")) == 1


def test_the_process_environment_and_working_directory_are_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in complete.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("SYNC_INTERVAL=1h\n")
    assert read_settings().sync_interval == timedelta(hours=1)


def test_another_provider_brings_its_own_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config/providers").mkdir(parents=True)
    (tmp_path / "config/providers/other_1.toml").write_text(
        'authorize_url = "https://o.example/a"\ntoken_url = "https://o.example/t"\napi_url = "https://o.example/api/"\n'
    )
    monkeypatch.chdir(tmp_path)
    told = problems({**complete, "PROVIDERS": "breezedoc,other_1"})
    assert [line.partition(":")[0] for line in told] == [
        "OTHER_1_CLIENT_ID",
        "OTHER_1_CLIENT_SECRET",
        "OTHER_1_REDIRECT_URI",
    ]
    settings = read({"PROVIDERS": "breezedoc, other_1", "OTHER_1_PKCE": "no"}, needs=())
    other = settings.provider("other_1")
    assert other is not None
    assert (other.pkce, other.api_url, [client.provider for client in settings.clients]) == (
        False,
        "https://o.example/api",
        ["breezedoc"],
    )


def test_a_directory_of_profiles_goes_before_those_that_come_along(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        'authorize_url = "https://o.example/a"\ntoken_url = "https://o.example/t"\napi_url = "https://o.example/api/"\n'
    )
    named = {"PROVIDERS": "breezedoc, own", "PROVIDERS_DIRECTORY": str(tmp_path)}
    assert [each.name for each in read(named, needs=()).providers] == ["breezedoc", "own"]
    assert problems({**complete, **named, "PROVIDERS": "absent"}, needs=()) == [
        f"PROVIDERS: there is no profile {tmp_path}/absent.toml"
    ]
    nowhere = str(tmp_path / "nowhere")
    assert problems({**complete, "PROVIDERS_DIRECTORY": nowhere}) == [
        f"PROVIDERS_DIRECTORY: expected a directory, and there is none at {nowhere}"
    ]


def test_two_profiles_can_not_have_one_view(tmp_path: Path) -> None:
    for name, view in (("own", "big_order"), ("own_big", "order")):
        (tmp_path / f"{name}.toml").write_text(
            'authorize_url = "https://o.example/a"\ntoken_url = "https://o.example/t"\napi_url = "https://o.example/api"\n'
            'resources = [{name = "order", path = "/orders"}]\n'
            f'views = [{{name = "{view}", resource = "order", columns = [{{name = "id", path = "id"}}]}}]\n'
        )
    named = {"PROVIDERS": "breezedoc,own,own_big", "PROVIDERS_DIRECTORY": str(tmp_path)}
    assert problems({**complete, **named}, needs=()) == [
        "PROVIDERS: the views of two profiles are both called own_big_order: expected another name of one of them"
    ]


def test_the_spool_and_the_heartbeat_are_where_they_are_said_to_be() -> None:
    assert (read().spool, read().heartbeat_file) == (Path("var/spool"), None)
    settings = read({"SPOOL_DIRECTORY": "/var/spool/breezesync", "HEARTBEAT_FILE": "/run/heartbeat"})
    assert settings.spool == Path("/var/spool/breezesync")
    assert settings.heartbeat_file == Path("/run/heartbeat")
    assert problems({**complete, "SPOOL_DIRECTORY": "a\0b"}) == ["SPOOL_DIRECTORY: expected a path"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8701", Address("127.0.0.1", 8701)),
        ("0.0.0.0:80", Address("0.0.0.0", 80)),  # noqa: S104 - as in Compose
        ("[::1]:8701", Address("::1", 8701)),
        ("operator.internal:8701", Address("operator.internal", 8701)),
        ("", None),
        ("  ", None),
    ],
)
def test_the_operators_address_is_a_host_and_a_port_or_nothing(text: str, expected: Address | None) -> None:
    assert read_settings({"OPERATOR_ADDRESS": text}, None, needs=()).operator_address == expected


def test_the_operators_address_is_loopback_unless_it_is_set() -> None:
    assert str(read_settings({}, None, needs=()).operator_address) == "127.0.0.1:8701"


@pytest.mark.parametrize("text", ["8701", ":8701", "127.0.0.1", "127.0.0.1:70000", "http://127.0.0.1:8701", "::1:8701"])
def test_another_operators_address_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"OPERATOR_ADDRESS: expected HOST:PORT"):
        read_settings({"OPERATOR_ADDRESS": text}, None, needs=())


def test_trusted_proxies_are_networks() -> None:
    found = read_settings({"TRUSTED_PROXIES": "10.0.0.0/8, 192.0.2.1, 2001:db8::/32"}, None, needs=()).trusted_proxies
    assert [str(network) for network in found] == ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"]


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "proxy.internal", "*", "10.0.0.0/8,"])
def test_other_trusted_proxies_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="TRUSTED_PROXIES: expected networks"):
        read_settings({"TRUSTED_PROXIES": text}, None, needs=())
