"""Whose browser is it? Who answers that for an authorization, and what each answer changes.

State, PKCE and cookies prove that one browser made the whole flow, not that it belongs to the link's user: without an
answer, a link made for one person and opened by another would connect the other's account to the first.
"""

from base64 import urlsafe_b64encode
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from hmac import compare_digest

from models.journal import Note, Verb
from models.messaging.commands import Confirm
from models.oauth.authorization import (
    Authorization,
    AuthorizationChange,
    Confirmation,
    awaits_application,
    awaits_click,
    awaits_user,
    end_of_code,
    fail,
    hash_of,
)


class Verdict(StrEnum):
    """What came of a `confirm`, or of a click on our page.

    accepted: the authorization goes on. repeated: it was accepted before, nothing changes. refused: the authorization
    has ended as `not_confirmed`. not_awaited: nothing waits for it. unknown: there is no such authorization.
    """

    accepted = "accepted"
    repeated = "repeated"
    refused = "refused"
    not_awaited = "not_awaited"
    unknown = "unknown"


@dataclass(frozen=True, slots=True)
class ConfirmDecision:
    """A verdict, and what it changes; None if nothing."""

    verdict: Verdict
    change: AuthorizationChange | None = None


def choose_mode(configured: Confirmation, return_to: str | None) -> Confirmation:
    """Return who confirms an authorization: without a `return_to` no application gets to."""
    if configured is Confirmation.application and return_to is None:
        return Confirmation.page
    return configured


def confirmation_of(binding: str) -> str:
    """Return the one-time confirmation of the flow whose browser has this secret in its cookie.

    32 bytes that only that browser can bring, not stored: a browser whose first answer was lost gets the same value.
    """
    return _derive("confirmation", binding)


def form_token_of(binding: str) -> str:
    """Return what a form of our page has to bring along: another site's page can't know it."""
    return _derive("form", binding)


def decide_confirm(found: Authorization | None, given: Confirm, now: datetime) -> ConfirmDecision:
    """Decide what an application's `confirm` changes.

    Only an authorization whose code waits for it can end by it: what was accepted once stays accepted.
    """
    if found is None:
        return ConfirmDecision(Verdict.unknown)
    if found.confirmation is not Confirmation.application or found.confirmation_hash is None:
        return ConfirmDecision(Verdict.not_awaited)
    is_right = _is_same(found.confirmation_hash, hash_of(given.confirmation.reveal()))
    is_right &= _is_same(found.user_id, given.user_id)
    if not awaits_application(found):
        accepted_before = is_right and found.confirmed_at is not None
        return ConfirmDecision(Verdict.repeated if accepted_before else Verdict.not_awaited)
    if now >= end_of_code(found):
        return _refuse(found, "the application confirmed too late: the code was no longer valid")
    if not is_right:
        return _refuse(found, "the application did not confirm this user with this authorization's confirmation")
    confirmed = replace(found, confirmed_at=now, due_at=now)
    note = Note(Verb.confirmed, {"by": Confirmation.application.value})
    return ConfirmDecision(Verdict.accepted, AuthorizationChange(confirmed, notes=(note,)))


def decide_click(found: Authorization, is_user: bool, now: datetime) -> ConfirmDecision:
    """Decide what a click on our page changes: `is_user`, or "This is not me"."""
    if found.confirmation is not Confirmation.page or not awaits_user(found, now):
        return ConfirmDecision(Verdict.not_awaited)
    if not is_user:
        return _refuse(found, "the person in the browser is not the link's user")
    if not awaits_click(found):
        return ConfirmDecision(Verdict.repeated)
    note = Note(Verb.confirmed, {"by": Confirmation.page.value})
    return ConfirmDecision(Verdict.accepted, AuthorizationChange(replace(found, confirmed_at=now), notes=(note,)))


def _refuse(found: Authorization, why: str) -> ConfirmDecision:
    return ConfirmDecision(Verdict.refused, fail(found, "not_confirmed", why))


def _is_same(one: str, other: str) -> bool:
    """Compare in constant time."""
    return compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


def _derive(purpose: str, binding: str) -> str:
    return urlsafe_b64encode(sha256(f"{purpose}\n{binding}".encode()).digest()).rstrip(b"=").decode()
