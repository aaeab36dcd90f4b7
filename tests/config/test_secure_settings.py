"""What would travel in clear or could be guessed is refused with the other problems of the settings."""

from base64 import b64encode, urlsafe_b64encode
from pathlib import Path

import pytest

from config.environment import SettingsError
from config.settings import read_settings
from tests.config.test_settings import complete

random_bytes = bytes(range(7, 39))
safe = {
    **complete,
    "BREEZEDOC_REDIRECT_URI": "https://sync.example.com/auth/breezedoc/callback",
    "RETURN_ORIGINS": "https://app.example.com,http://localhost:3000",
}


def problems(**changes: str) -> list[str]:
    try:
        read_settings({**safe, **changes}, None)
    except SettingsError as error:
        return error.problems
    return []


def test_settings_of_a_production_have_no_problem() -> None:
    assert problems() == []


endpoints = ("AUTHORIZE_URL", "TOKEN_URL", "API_URL", "REVOKE_URL", "ISSUER")
hosts = ("provider.example.com", "10.0.0.7", "sandbox:8799", "localhost.example.com", "[2001:db8::1]")


@pytest.mark.parametrize("name", endpoints)
@pytest.mark.parametrize("host", hosts)
def test_an_endpoint_over_http_is_refused(name: str, host: str) -> None:
    [problem] = problems(**{f"BREEZEDOC_{name}": f"http://{host}/x"})
    assert problem.startswith(f"BREEZEDOC_{name}: expected https")


@pytest.mark.parametrize("name", endpoints)
def test_an_endpoint_over_http_is_taken_on_this_machine_and_if_a_setting_says_so(name: str) -> None:
    for host in ("localhost:1", "127.0.0.1:8799", "[::1]:1"):
        assert problems(**{f"BREEZEDOC_{name}": f"http://{host}/x"}) == []
    assert problems(**{f"BREEZEDOC_{name}": "http://sandbox:8799/x", "BREEZEDOC_ALLOW_HTTP": "true"}) == []


def test_origins_over_http_are_refused_where_the_redirect_uri_is_https() -> None:
    [problem] = problems(RETURN_ORIGINS="https://app.example.com,http://app.example.com")
    assert problem == "RETURN_ORIGINS: expected https, as in the redirect URI: http://app.example.com"
    local = "http://localhost:8700/auth/breezedoc/callback"
    assert problems(RETURN_ORIGINS="http://app.example.com", BREEZEDOC_REDIRECT_URI=local) == []


def test_origins_over_http_are_refused_to_a_web_process_without_the_clients_secret_too() -> None:
    given = {**safe, "BREEZEDOC_CLIENT_SECRET": "", "RETURN_ORIGINS": "http://app.example.com"}
    with pytest.raises(SettingsError, match="RETURN_ORIGINS: expected https"):
        read_settings(given, None, needs=("sealing", "registrations", "links"))


weak = {
    "one sign": ("CONNECT_SECRET", "a" * 64),
    "one": ("CONNECT_SECRET", "1"),
    "two signs": ("CONNECT_SECRET", "10" * 32),
    "one of two": ("CONNECT_SECRET", f"{complete['CONNECT_SECRET']},{'ab' * 32}"),
    "a key of zeros": ("ENCRYPTION_KEYS", "k1:" + b64encode(bytes(32)).decode()),
    "a key of a text": ("ENCRYPTION_KEYS", "k1:" + b64encode(b"pass" * 8).decode()),
    "a token of one sign": ("OPERATOR_TOKEN", "1"),
    "a short token": ("OPERATOR_TOKEN", "abcdefgh1234567"),
    "a token that repeats": ("OPERATOR_TOKEN", "token" * 8),
}


@pytest.mark.parametrize("case", weak)
def test_a_weak_secret_is_refused_and_not_shown(case: str) -> None:
    name, text = weak[case]
    [problem] = problems(**{name: text})
    assert problem.startswith(f"{name}: ")
    assert " makes " in problem or text == "1" or "32 bytes or more" in problem
    assert text not in problem or text == "1"


shared = {
    "as it is": b64encode(random_bytes).decode(),
    "for URLs, without padding": urlsafe_b64encode(random_bytes).decode().rstrip("="),
    "the whole line": "k1:" + b64encode(random_bytes).decode(),
}


@pytest.mark.parametrize("case", shared)
def test_a_connect_secret_that_is_a_key_is_refused(case: str) -> None:
    keys = "k1:" + b64encode(random_bytes).decode()
    [problem] = problems(ENCRYPTION_KEYS=keys, CONNECT_SECRET=shared[case])
    assert problem == "CONNECT_SECRET: expected another value than that of ENCRYPTION_KEYS"


def test_an_operator_token_that_is_the_connect_secret_is_refused() -> None:
    [problem] = problems(OPERATOR_TOKEN=complete["CONNECT_SECRET"])
    assert problem.startswith("OPERATOR_TOKEN: expected another value")


def test_an_env_file_is_closed_to_others_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("".join(f"{name}={value}\n" for name, value in safe.items()))
    path.chmod(0o644)
    read_settings({}, path)
    assert path.stat().st_mode & 0o777 == 0o600
