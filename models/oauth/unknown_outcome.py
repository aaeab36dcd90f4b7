"""What to do about a refresh token that was presented, if neither a pair nor a clear refusal came back."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from models.api_response import ApiOutcome, Forbidden, Page, Unauthorized
from models.oauth.credential import Credential
from models.provider import Provider

pause_between_probes = timedelta(seconds=30)
most_presentations = 2


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


def resolve(provider: Provider, credential: Credential, probe: ApiOutcome | None, now: datetime) -> Verdict:
    """Decide by the probe with the old access token (None: no probe was possible), then by the profile's
    `refresh_reuse`.

    A rotation revokes the old access token at once. So a probe that the API accepts proves that none happened; 403 is
    such an answer, because it is about the plan, not the token. 401 proves that a rotation at least began, unless the
    API had refused the token before.
    """
    again = credential.presentations < most_presentations
    match probe:
        case Page() | Forbidden():
            return Unspent()
        case None:
            is_proven = False
        case Unauthorized():
            is_proven = not _was_refused_before(credential)
        case _ if provider.refresh_reuse == "grace" and again and _in_grace(provider, credential, now):
            return PresentAgain()
        case _:
            return Wait(now + pause_between_probes)
    if credential.answered_at is not None and not is_proven:
        return Presumed()
    match provider.refresh_reuse:
        case "harmless" if again:
            return PresentAgain()
        case "grace" if again and _in_grace(provider, credential, now):
            return PresentAgain()
        case _:
            return Lost()


def _was_refused_before(credential: Credential) -> bool:
    """Whether the API refused the access token before its refresh token was presented: then a 401 proves nothing."""
    presented_at, refused_at = credential.presented_at, credential.refused_at
    if presented_at is None or refused_at is None:
        return False
    return credential.refused_generation == credential.presented_generation and refused_at <= presented_at


def _in_grace(provider: Provider, credential: Credential, now: datetime) -> bool:
    presented_at = credential.presented_at
    return presented_at is not None and now < presented_at + timedelta(seconds=provider.grace_seconds)
