"""Which account a token belongs to, read from the API's answer for the account resource."""

from dataclasses import dataclass

from models.api_response import ApiOutcome, Page
from models.crypto.redact import clean_text
from models.paging.json_path import look_up
from models.provider import Provider

longest_id = 255
"""A longer value is not accepted: cut off it might be another account's id, and PostgreSQL cannot index it."""


@dataclass(frozen=True, slots=True)
class Account:
    """The account that a token belongs to."""

    id: str
    email: str | None


def read_account(provider: Provider, outcome: ApiOutcome) -> Account | None:
    """Return the account that the outcome names; None if it names none with a number or text as its id."""
    match outcome:
        case Page(elements=(dict() as body,)):
            identity, email = (look_up(body, path) for path in (provider.account_id, provider.account_email))
            if isinstance(identity, bool) or not isinstance(identity, int | str):
                return None
            cleaned = clean_text(str(identity))
            if not 0 < len(cleaned) <= longest_id:
                return None
            return Account(cleaned, clean_text(email) if isinstance(email, str) else None)
        case _:
            return None
