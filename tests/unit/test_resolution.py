"""What an unknown outcome comes to, by what the probe says, how often the token was shown, and what that does."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from models.api_response import ApiOutcome, Failed, Forbidden, Missing, Page, Throttled, Unauthorized
from models.crypto.secrets import Sealed
from models.oauth.credential import Credential
from models.oauth.unknown_outcome import (
    Lost,
    PresentAgain,
    Presumed,
    Unspent,
    Verdict,
    Wait,
    pause_between_probes,
    resolve,
)
from models.provider import Provider, RefreshReuse

now = datetime(2026, 11, 24, 12, tzinfo=UTC)
minute = timedelta(minutes=1)
provider = Provider(
    name="p", authorize_url="https://p/a", token_url="https://p/t", api_url="https://p/api", grace_seconds=90
)
credential = Credential("c1", Sealed("v1.k.a"), Sealed("v1.k.r"), presented_at=now - minute, presented_generation=1)

reuses: tuple[RefreshReuse, ...] = ("harmless", "family_revoked", "grace")
let_in: dict[str, ApiOutcome] = {"200": Page(({"id": 1},), 1, 1, 1), "403": Forbidden()}
telling_nothing: dict[str, ApiOutcome] = {
    "404": Missing(),
    "429": Throttled(minute),
    "500": Failed("HTTP 500"),
    "no answer": Failed("timeout"),
}
refused: dict[str, ApiOutcome | None] = {"401": Unauthorized(), "an expired access token": None}


@pytest.mark.parametrize("presentations", [1, 2, 3])
@pytest.mark.parametrize("reuse", reuses)
@pytest.mark.parametrize("probe", let_in)
def test_an_old_access_token_that_is_let_in_proves_the_refresh_token_unspent(
    probe: str, reuse: RefreshReuse, presentations: int
) -> None:
    shown = replace(credential, presentations=presentations)
    assert resolve(replace(provider, refresh_reuse=reuse), shown, let_in[probe], now) == Unspent()


@pytest.mark.parametrize("presentations", [1, 2, 3])
@pytest.mark.parametrize("reuse", reuses)
@pytest.mark.parametrize("probe", telling_nothing)
def test_a_probe_that_tells_nothing_decides_nothing(probe: str, reuse: RefreshReuse, presentations: int) -> None:
    shown = replace(credential, presentations=presentations, presented_at=now - timedelta(days=1))
    verdict = resolve(replace(provider, refresh_reuse=reuse), shown, telling_nothing[probe], now)
    assert verdict == Wait(now + pause_between_probes)


@pytest.mark.parametrize(("presentations", "expected"), [(1, PresentAgain()), (2, Wait(now + pause_between_probes))])
@pytest.mark.parametrize("probe", telling_nothing)
def test_a_grace_waits_for_no_proof(probe: str, presentations: int, expected: Verdict) -> None:
    shown = replace(credential, presentations=presentations)
    assert resolve(replace(provider, refresh_reuse="grace"), shown, telling_nothing[probe], now) == expected


answered = replace(credential, answered_at=now - minute, presentations=1)
refused_before = replace(answered, refused_generation=1, refused_at=now - 2 * minute)
refused_since = replace(refused_before, refused_at=now)
after_503: dict[str, tuple[Credential, ApiOutcome | None, Verdict]] = {
    "let in": (answered, Forbidden(), Unspent()),
    "nothing to ask with": (answered, None, Presumed()),
    "nothing to ask with, shown twice": (replace(answered, presentations=2), None, Presumed()),
    "refused before it was presented": (refused_before, Unauthorized(), Presumed()),
    "dead now": (answered, Unauthorized(), Lost()),
    "refused since": (refused_since, Unauthorized(), Lost()),
    "no one answers": (answered, Failed("timeout"), Wait(now + pause_between_probes)),
}


@pytest.mark.parametrize("case", after_503)
def test_after_a_503_a_token_counts_as_spent_only_where_that_is_seen(case: str) -> None:
    shown, probe, expected = after_503[case]
    assert resolve(replace(provider, refresh_reuse="family_revoked"), shown, probe, now) == expected


spent_or_not: dict[str, tuple[RefreshReuse, int, timedelta, Verdict]] = {
    "harmless, shown once": ("harmless", 1, minute, PresentAgain()),
    "harmless, shown once, long ago": ("harmless", 1, timedelta(days=9), PresentAgain()),
    "harmless, shown twice": ("harmless", 2, minute / 2, Wait(now + minute / 2)),
    "harmless, shown twice, a minute ago": ("harmless", 2, minute, PresentAgain()),
    "harmless, shown three times": ("harmless", 3, minute, Wait(now + minute)),
    "harmless, shown three times, two minutes ago": ("harmless", 3, 2 * minute, PresentAgain()),
    "harmless, shown a hundred times": ("harmless", 100, 59 * minute, Wait(now + minute)),
    "harmless, shown a hundred times, an hour ago": ("harmless", 100, 60 * minute, PresentAgain()),
    "ends the family, shown once": ("family_revoked", 1, minute, Lost()),
    "ends the family, shown twice": ("family_revoked", 2, minute, Lost()),
    "within the grace": ("grace", 1, timedelta(seconds=89), PresentAgain()),
    "at the end of the grace": ("grace", 1, timedelta(seconds=90), Lost()),
    "after the grace": ("grace", 1, timedelta(days=1), Lost()),
    "within the grace, shown twice": ("grace", 2, timedelta(seconds=10), Lost()),
}


@pytest.mark.parametrize("probe", refused)
@pytest.mark.parametrize("case", spent_or_not)
def test_a_token_that_may_be_spent_is_shown_again_only_where_that_harms_nobody_and_ever_more_slowly(
    case: str, probe: str
) -> None:
    reuse, presentations, ago, expected = spent_or_not[case]
    shown = replace(credential, presentations=presentations, presented_at=now - ago)
    assert resolve(replace(provider, refresh_reuse=reuse), shown, refused[probe], now) == expected


def test_a_grace_without_a_known_beginning_is_none() -> None:
    shown = replace(credential, presentations=1, presented_at=None)
    assert resolve(replace(provider, refresh_reuse="grace"), shown, Unauthorized(), now) == Lost()


later = Wait(now + pause_between_probes)
behind_an_open_breaker: dict[str, tuple[RefreshReuse, Credential, ApiOutcome | None, Verdict]] = {
    "proven unspent": ("family_revoked", replace(credential, presentations=1), Page(({"id": 1},), 1, 1, 1), Unspent()),
    "proven spent, which ends the family": (
        "family_revoked",
        replace(credential, presentations=1),
        Unauthorized(),
        Lost(),
    ),
    "proven spent, harmless": ("harmless", replace(credential, presentations=1), Unauthorized(), later),
    "nothing to ask with, ends the family": ("family_revoked", replace(credential, presentations=1), None, later),
    "nothing to ask with, harmless": ("harmless", replace(credential, presentations=9), None, later),
    "the grace is over": ("grace", replace(credential, presentations=1), None, later),
    "nothing to ask with, after a 503": ("family_revoked", answered, None, later),
    "no one answers": ("harmless", credential, Failed("timeout"), later),
}


@pytest.mark.parametrize("case", behind_an_open_breaker)
def test_behind_an_open_breaker_only_what_is_proven_is_decided(case: str) -> None:
    reuse, shown, probe, expected = behind_an_open_breaker[case]
    shown = replace(shown, presented_at=now - timedelta(hours=1))
    assert resolve(replace(provider, refresh_reuse=reuse), shown, probe, now, is_open=True) == expected
