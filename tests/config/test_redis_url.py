"""REDIS_URL in all its forms: what can be used, what is refused with a word, and what is shown of it."""

from pathlib import Path

import pytest

from config.redis_url import connect, parse_redis_url, show_redis_url
from models.crypto.secrets import Secret

good = [
    "redis://127.0.0.1:6379/0",
    "redis://h",
    "redis://:p%40ss@h:6380/3",
    "redis://user:pass@[::1]:6379/0",
    "rediss://user:pass@h:6380/0?ssl_cert_reqs=required&ssl_check_hostname=true",
    "unix:///run/valkey.sock?db=1",
    "redis+sentinel://h1:26379,h2:26380/mymaster/0",
    "redis+sentinel://h1/mymaster",
    "redis+sentinel://user:pass@h1,h2,[::1]:26379/my-master/2?sentinel_password=other",
    "rediss+sentinel://:pass@h1:26379/mymaster/0?sentinel_username=u&sentinel_password=p",
]

bad = [
    "",
    "http://h",
    "redis://",
    "redis://h:port",
    "redis://h/one",
    "redis+sentinel://h1:26379,h2:26379",
    "redis+sentinel:///mymaster/0",
    "redis+sentinel://h1:0/mymaster/0",
    "redis+sentinel://h1:99999/mymaster",
    "redis+sentinel://h1/mymaster/one",
    "rediss://h/0?ssl_ca_cert=/misspelled.pem",
    "rediss://h/0?ssl_ca_certs=/no/such/file.pem",
    "redis://h/0?sentinel_password=p",
]


@pytest.mark.parametrize("url", good)
def test_a_client_is_made_of_a_url_that_can_be_used(url: str) -> None:
    client = connect(parse_redis_url(url), decode_responses=True)
    client.close()


@pytest.mark.parametrize("url", bad)
def test_what_can_not_be_used_is_refused_with_what_was_expected(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected|sentinel"):
        parse_redis_url(url)


def test_a_certificate_authority_is_a_file_that_is_there(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text("")
    assert parse_redis_url(f"rediss://h/0?ssl_ca_certs={authority}")


def test_database_and_user_reach_the_master_through_sentinels() -> None:
    client = connect(Secret("redis+sentinel://user:p%40ss@h1/mymaster/2"), socket_timeout=3)
    told = client.connection_pool.connection_kwargs
    assert (told["username"], told["password"], told["db"], told["socket_timeout"]) == ("user", "p@ss", 2, 3)
    client.close()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://user:hunter2@h/0", "redis://user:***@h/0"),
        ("redis://:hunter2@h/0", "redis://:***@h/0"),
        (
            "redis+sentinel://user:hunter2@h1,h2/m/0?sentinel_password=hunter2&db=1",
            "redis+sentinel://user:***@h1,h2/m/0?sentinel_password=***&db=1",
        ),
    ],
)
def test_no_password_is_shown(url: str, shown: str) -> None:
    assert show_redis_url(Secret(url)) == shown
