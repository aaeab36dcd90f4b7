"""How long a request may take, and that a grace leaves time for a second try."""

from dataclasses import replace
from datetime import timedelta

import pytest

from models.oauth.refresh_policy import Patience, patience_with
from models.provider import Provider

provider = Provider(name="p", authorize_url="https://p/a", token_url="https://p/t", api_url="https://p/api")


@pytest.mark.parametrize("reuse", ["harmless", "family_revoked"])
def test_without_a_grace_it_is_the_usual_one(reuse: str) -> None:
    assert patience_with(replace(provider, refresh_reuse=reuse), Patience()) == Patience()  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [15, 30, 60, 120, 600])
def test_a_grace_leaves_a_third_of_itself_for_the_second_try(seconds: int) -> None:
    patience = patience_with(replace(provider, refresh_reuse="grace", grace_seconds=seconds), Patience())
    assert timedelta(seconds=5) <= patience.deadline < patience.lease <= patience.settle
    assert patience.settle <= timedelta(seconds=seconds) * 2 / 3
    assert patience.settle <= Patience().settle


def test_a_grace_too_short_for_anything_does_not_shorten_a_request_to_nothing() -> None:
    patience = patience_with(replace(provider, refresh_reuse="grace", grace_seconds=0), Patience())
    assert patience.deadline == timedelta(seconds=5)
    assert patience.settle >= patience.lease > patience.deadline
