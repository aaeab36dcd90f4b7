"""What to do about a refresh token that was presented and of which no pair and no clear refusal came."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from models.api_response import ApiOutcome, Forbidden, Page, Unauthorized
from models.oauth.credential import Credential
from models.provider import Provider

pause_between_probes = timedelta(seconds=30)
most_presentations = 2


@dataclass(frozen=True, slots=True)
class Unspent:
    """The old access token still works: the rotation never ran, the refresh token is as good as new."""


@dataclass(frozen=True, slots=True)
class Presumed:
    """The endpoint said that it could not (503), and there is nothing to ask whether that was so: it counts as unspent,
    and a refusal as the loss it would then be."""


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


Verdict = Unspent | Presumed | PresentAgain | Lost | Wait


def resolve(provider: Provider, credential: Credential, probe: ApiOutcome | None, now: datetime) -> Verdict:
    """Decides by the probe with the old access token (None: there was nothing to ask with), then by the profile's
    `refresh_reuse`.

    A rotation revokes the old access token at once, so a probe that is let in (403 is: the plan, not the token)
    proves that none happened; 401 proves that one at least began, unless the API had refused the token before.
    """
    again = credential.presentations < most_presentations
    match probe:
        case Page() | Forbidden():
            return Unspent()
        case None:
            is_told = False
        case Unauthorized():
            is_told = not _was_refused_before(credential)
        case _ if provider.refresh_reuse == "grace" and again and _in_grace(provider, credential, now):
            return PresentAgain()
        case _:
            return Wait(now + pause_between_probes)
    if credential.answered_at is not None and not is_told:
        return Presumed()
    match provider.refresh_reuse:
        case "harmless" if again:
            return PresentAgain()
        case "grace" if again and _in_grace(provider, credential, now):
            return PresentAgain()
        case _:
            return Lost()


def _was_refused_before(credential: Credential) -> bool:
    """Whether the access token was dead to the API before its refresh token was presented: then 401 is no news."""
    presented_at, refused_at = credential.presented_at, credential.refused_at
    if presented_at is None or refused_at is None:
        return False
    return credential.refused_generation == credential.presented_generation and refused_at <= presented_at


def _in_grace(provider: Provider, credential: Credential, now: datetime) -> bool:
    presented_at = credential.presented_at
    return presented_at is not None and now < presented_at + timedelta(seconds=provider.grace_seconds)
