"""`doctor` on `localhost` beside `127.0.0.1`."""

import pytest

from models.health.settings import judge_loopback_names

path = ":8700/auth/breezedoc/callback"


@pytest.mark.parametrize(
    ("host", "origin", "changed"),
    [
        ("127.0.0.1", "http://localhost:3000", "change 127.0.0.1 to localhost in BREEZEDOC_REDIRECT_URI"),
        ("localhost", "http://127.0.0.1:3000", "change localhost to 127.0.0.1 in BREEZEDOC_REDIRECT_URI"),
        ("localhost", "http://[::1]:3000", "change localhost to ::1 in BREEZEDOC_REDIRECT_URI"),
    ],
)
def test_two_names_of_this_machine_get_a_hint(host: str, origin: str, changed: str) -> None:
    origins = {"https://app.example", origin}
    hint = judge_loopback_names("BREEZEDOC_REDIRECT_URI", f"http://{host}{path}", origins)
    assert hint is not None
    assert hint.state == "warn"
    assert changed in hint.remedy


@pytest.mark.parametrize(
    ("uri", "origins"),
    [
        (f"http://localhost{path}", {"http://localhost:3000"}),
        (f"http://localhost{path}", {"http://localhost:3000", "http://127.0.0.1:3000"}),
        (f"http://localhost{path}", set()),
        (f"http://localhost{path}", {"https://app.example"}),
        ("https://app.example/auth/breezedoc/callback", {"http://localhost:3000"}),
    ],
)
def test_one_name_and_public_hosts_get_none(uri: str, origins: set[str]) -> None:
    assert judge_loopback_names("BREEZEDOC_REDIRECT_URI", uri, origins) is None
