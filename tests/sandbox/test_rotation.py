"""What a rotation kills, and what presenting an old refresh token does in each reuse mode."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.sandbox.conftest import Application


def test_a_rotation_kills_the_old_pair_and_gives_a_working_one(app: Application) -> None:
    old = app.connect()
    new = app.refresh(old["refresh_token"]).json()
    assert not app.is_alive(old)
    assert app.is_alive(new)
    assert app.refresh(new["refresh_token"]).status_code == 200


def test_reuse_is_harmless_by_default(app: Application) -> None:
    old = app.connect()
    new = app.refresh(old["refresh_token"]).json()
    app.refresh(old["refresh_token"])
    assert app.is_alive(new)


def test_reuse_can_revoke_the_family_and_only_it(start: Callable[..., Any]) -> None:
    app = start(refresh_reuse="family_revoked")
    old, other = app.connect(), app.connect()
    new = app.refresh(old["refresh_token"]).json()
    assert app.refresh(old["refresh_token"]).status_code == 401
    assert not app.is_alive(new)
    assert app.refresh(new["refresh_token"]).status_code == 401
    assert app.is_alive(other)


def test_reuse_within_the_grace_gives_a_working_pair_and_after_it_ends_the_family(start: Callable[..., Any]) -> None:
    app = start(refresh_reuse="grace", grace_seconds=30)
    old = app.connect()
    new = app.refresh(old["refresh_token"]).json()
    app.control.advance(29)
    again = app.refresh(old["refresh_token"])
    assert again.status_code == 200
    assert app.is_alive(new)
    assert app.is_alive(again.json())

    app.control.advance(2)
    assert app.refresh(old["refresh_token"]).status_code == 401
    assert not app.is_alive(new)


def test_no_grace_for_what_the_user_revoked(start: Callable[..., Any]) -> None:
    app = start(refresh_reuse="grace")
    old = app.connect()
    app.refresh(old["refresh_token"])
    app.control.revoke_user(1)
    assert app.refresh(old["refresh_token"]).status_code == 401


def test_of_two_refreshes_at_once_one_wins(app: Application) -> None:
    token = app.connect()["refresh_token"]
    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(lambda _: app.refresh(token).status_code, range(8)))
    assert statuses == [200] + [401] * 7


def test_with_a_gap_between_check_and_revocation_two_refreshes_both_win(start: Callable[..., Any]) -> None:
    app = start(rotation_gap_ms=300)
    token = app.connect()["refresh_token"]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: app.refresh(token), range(2)))
    assert [answer.status_code for answer in answers] == [200, 200]
    assert all(app.is_alive(answer.json()) for answer in answers)
    assert app.control.counters()["reuses"] == 1


def test_lives_can_be_shortened_for_new_tokens_and_ended_for_old_ones(app: Application) -> None:
    app.control.set(access_ttl=60, refresh_ttl=120)
    tokens = app.connect()
    assert tokens["expires_in"] in (59, 60)
    app.control.advance(61)
    assert not app.is_alive(tokens)
    assert app.refresh(tokens["refresh_token"]).status_code == 200

    app.control.set(access_ttl=3600)
    tokens = app.connect()
    assert app.control.expire(1) >= 1
    assert not app.is_alive(tokens)
