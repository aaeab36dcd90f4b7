"""No secret and no contents of a record are anywhere that they don't belong; and the search finds what is there."""

from base64 import b64encode

import pytest

from tests.torture.canary import Life, draw, email, live, title


@pytest.fixture(scope="module")
def life() -> Life:
    return live()


def test_nothing_is_where_it_does_not_belong(life: Life) -> None:
    assert life.hits() == [], draw(life)


expected = {
    "pages": "connected",
    "crash": "Traceback",
    "operator's listener": "breezesync_connections",
    "operator's API": email,
    "gateway": "breezesync_gateway_requests_total",
    "log, at the level of debugging": '"level": "debug"',
    "database": "v1.k1.",
    "file of the database": title,
    "spool": "v1.k1.",
    "Redis": "connection.authorized",
    "dead letter": "sync_connection",
    "audit's export": "code.exchanged",
    "command line": email,
}
"""What each place has to have in it, or nothing was looked at."""


def test_each_place_is_one_in_which_something_would_be_seen(life: Life) -> None:
    assert {place for place, seen in life.places.items() if expected[place] in seen} == set(expected)
    assert life.secrets.keys() >= {
        "code",
        "state",
        "client secret",
        "confirmation",
        "access_token 2",
        "refresh_token 2",
    }


def test_what_is_there_is_found_in_its_form() -> None:
    kept = Life(secrets={"token": "a/secret+"}, contents={"title": title}, places={"log": "x"})
    kept.places |= {"dead letter": f"{b64encode(b'a/secret+').decode()} {title}", "page": "a%2Fsecret%2B"}
    assert set(kept.hits()) == {
        ("dead letter", "token", "Base64"),
        ("dead letter", "token", "Base64 for URLs"),
        ("dead letter", "title", "as it is"),
        ("dead letter", "title", "escaped for JSON"),
        ("page", "token", "percent-encoded"),
    }
