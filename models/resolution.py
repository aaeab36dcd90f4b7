"""What to do about a refresh token that was presented and whose answer nobody kept."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from models.credential import Credential
from models.page import ApiOutcome, Forbidden, Page, Unauthorized
from models.provider import Provider

pause_between_probes = timedelta(seconds=30)
most_presentations = 2


@dataclass(frozen=True, slots=True)
class Unspent:
    """The old access token still works: the rotation never ran, the refresh token is as good as new."""


@dataclass(frozen=True, slots=True)
class PresentAgain:
    """It may be spent, and the provider takes no offence at a second try."""


@dataclass(frozen=True, slots=True)
class Lost:
    """It is or must be taken for spent, and presenting it again could cost the user more."""


@dataclass(frozen=True, slots=True)
class Wait:
    """The probe told nothing: look again later."""

    until: datetime


Verdict = Unspent | PresentAgain | Lost | Wait


def resolve(provider: Provider, credential: Credential, probe: ApiOutcome | None, now: datetime) -> Verdict:
    """Decides by the probe with the old access token (None: there was nothing to ask with), then by the profile's
    `refresh_reuse`.

    A rotation revokes the old access token at once, so a probe that is let in (403 is: the plan, not the token)
    proves that none happened; 401 proves that one at least began.
    """
    match probe:
        case Page() | Forbidden():
            return Unspent()
        case None | Unauthorized():
            pass
        case _:
            return Wait(now + pause_between_probes)
    if credential.presentations >= most_presentations:
        return Lost()
    match provider.refresh_reuse:
        case "harmless":
            return PresentAgain()
        case "grace" if _in_grace(provider, credential, now):
            return PresentAgain()
        case _:
            return Lost()


def settle_for(provider: Provider, settle: timedelta) -> timedelta:
    """How long the provider may work on after we gave up; where only a grace is left to us, two thirds of it."""
    if provider.refresh_reuse == "grace":
        return min(settle, timedelta(seconds=provider.grace_seconds) * 2 / 3)
    return settle


def _in_grace(provider: Provider, credential: Credential, now: datetime) -> bool:
    presented_at = credential.presented_at
    return presented_at is not None and now < presented_at + timedelta(seconds=provider.grace_seconds)
