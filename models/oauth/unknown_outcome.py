"""What to do about a refresh token that was presented, if neither a pair nor a clear refusal came back."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from models.api_response import ApiOutcome, Forbidden, Page, Unauthorized
from models.backoff import Backoff
from models.oauth.credential import Credential
from models.provider import Provider

pause_between_probes = timedelta(seconds=30)
most_presentations = 2
"""Of a token that may be spent, within a grace."""
pauses_before_next = Backoff.of_seconds(0, 60, 120, 300, 900, 3600)
"""Where it is harmless: how long after a presentation without a certain answer the next one may follow."""


@dataclass(frozen=True, slots=True)
class Unspent:
    """The old access token still works: the rotation never ran, and the refresh token can be presented."""


@dataclass(frozen=True, slots=True)
class Presumed:
    """The endpoint answered 503, and no probe can tell whether it spent the token: it counts as unspent, and a refusal
    that follows counts as the loss of its pair."""


@dataclass(frozen=True, slots=True)
class PresentAgain:
    """It may be spent, and the provider allows a second try."""


@dataclass(frozen=True, slots=True)
class Lost:
    """It is spent or may be, and presenting it again could end the user's whole grant."""


@dataclass(frozen=True, slots=True)
class Wait:
    """The probe proved nothing: probe again later."""

    until: datetime


Verdict = Unspent | Presumed | PresentAgain | Lost | Wait


def resolve(
    provider: Provider, credential: Credential, probe: ApiOutcome | None, now: datetime, is_open: bool = False
) -> Verdict:
    """Decide by the probe with the old access token (None: no probe was possible), then by the profile's
    `refresh_reuse`.

    A rotation revokes the old access token at once. So a probe that the API accepts proves that none happened; 403 is
    such an answer, because it is about the plan, not the token. 401 proves that a rotation at least began, unless the
    API had refused the token before.

    While the client's breaker `is_open`, only what is proven is decided: nothing is presented, and nothing is given up
    because time has passed.
    """
    verdict, is_proven = _decide(provider, credential, probe, now)
    if is_open and not isinstance(verdict, Unspent) and not (isinstance(verdict, Lost) and is_proven):
        return Wait(now + pause_between_probes)
    return verdict


def _decide(
    provider: Provider, credential: Credential, probe: ApiOutcome | None, now: datetime
) -> tuple[Verdict, bool]:
    """Return the verdict, and whether the probe proves that a rotation began."""
    again = credential.presentations < most_presentations
    match probe:
        case Page() | Forbidden():
            return Unspent(), False
        case None:
            is_proven = False
        case Unauthorized():
            is_proven = not _was_refused_before(credential)
        case _ if provider.refresh_reuse == "grace" and again and _in_grace(provider, credential, now):
            return PresentAgain(), False
        case _:
            return Wait(now + pause_between_probes), False
    if credential.answered_at is not None and not is_proven:
        return Presumed(), False
    match provider.refresh_reuse:
        case "harmless":
            return _present_in_time(credential, now), is_proven
        case "grace" if again and _in_grace(provider, credential, now):
            return PresentAgain(), is_proven
        case _:
            return Lost(), is_proven


def _present_in_time(credential: Credential, now: datetime) -> Verdict:
    """However often it was presented without a certain answer, it may be again, each time after a longer pause."""
    at = (credential.presented_at or now) + pauses_before_next.after(credential.presentations)
    return PresentAgain() if at <= now else Wait(at)


def _was_refused_before(credential: Credential) -> bool:
    """Whether the API refused the access token before its refresh token was presented: then a 401 proves nothing."""
    presented_at, refused_at = credential.presented_at, credential.refused_at
    if presented_at is None or refused_at is None:
        return False
    return credential.refused_generation == credential.presented_generation and refused_at <= presented_at


def _in_grace(provider: Provider, credential: Credential, now: datetime) -> bool:
    presented_at = credential.presented_at
    return presented_at is not None and now < presented_at + timedelta(seconds=provider.grace_seconds)
