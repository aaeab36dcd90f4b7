"""Whose account answered: the one answer that names it, read in one place."""

from dataclasses import dataclass

from models.api_response import ApiOutcome, Page
from models.crypto.redact import clean_text
from models.provider import Provider

longest_id = 255
"""What is longer is no id: cut off it might be another account's, and PostgreSQL keeps no such index entry."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who a token belongs to."""

    id: str
    email: str | None


def read_account(provider: Provider, outcome: ApiOutcome) -> Account | None:
    """The account that the profile's account resource names; None where it names none (a number or a text)."""
    match outcome:
        case Page(elements=(dict() as body, *_)):
            identity, email = body.get(provider.account_id), body.get(provider.account_email)
            if isinstance(identity, bool) or not isinstance(identity, int | str):
                return None
            cleaned = clean_text(str(identity))
            if not 0 < len(cleaned) <= longest_id:
                return None
            return Account(cleaned, clean_text(email) if isinstance(email, str) else None)
        case _:
            return None
