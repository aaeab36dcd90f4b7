"""Realistic documents, templates and invoices, and their JSON with page URLs that are new on every read."""

import json
import random
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sandbox.clock import format_time
from sandbox.http import encode_json

DAY = 86_400.0
_URL_SIGNATURE = "\x00signature\x00"
_SIGNATURE_MARK = json.dumps(_URL_SIGNATURE)[1:-1].encode()

_KINDS = ("Service Agreement", "Mutual NDA", "Offer Letter", "Statement of Work", "Lease", "Consent Form")
_PARTIES = ("Northwind", "Blue Fern Studio", "Halden & Sons", "Okapi Labs", "Marlow Dental", "Tern Logistics")
_NAMES = ("Mina Park", "Jonas Weber", "Sofia Rossi", "Amara Obi", "Luis Ortega", "Ivy Chen", "Noor Haddad")
_FIELD_TYPES = ("signature", "initials", "date", "text", "checkbox", "dropdown")


@dataclass(slots=True)
class Recipient:
    """One signer; times are seconds since 1970."""

    id: int
    slug: str
    name: str
    email: str
    party: int
    created_at: float
    updated_at: float
    sent_at: float | None = None
    opened_at: float | None = None
    completed_at: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "slug": self.slug,
            "email": self.email,
            "name": self.name,
            "party": self.party,
            "owner": False,
            "recipient_fields": {},
            "sent_at": _format(self.sent_at),
            "opened_at": _format(self.opened_at),
            "completed_at": _format(self.completed_at),
            "created_at": _format(self.created_at),
            "updated_at": _format(self.updated_at),
        }


@dataclass(slots=True)
class Document:
    """A document or template: its editable fields are stored, the rest is derived from its id."""

    id: int
    title: str
    slug: str
    created_at: float
    updated_at: float
    recipients: list[Recipient]
    is_template: bool = False
    edited: bool = False
    declined: bool = False
    segments: tuple[bytes, ...] | None = field(default=None, repr=False)

    @property
    def completed_at(self) -> float | None:
        """Return when the last recipient completed; None if one has not."""
        times = [recipient.completed_at for recipient in self.recipients]
        return max((at for at in times if at is not None), default=None) if None not in times else None

    def touch(self, now: float) -> None:
        """Record a change: drop the cached JSON and set `updated_at`."""
        self.updated_at = now
        self.edited = True
        self.segments = None

    def render(self, signature: bytes) -> bytes:
        """Return the document's JSON with this signature in each pre-signed URL."""
        if self.segments is None:
            self.segments = tuple(encode_json(self._to_json()).split(_SIGNATURE_MARK))
        return signature.join(self.segments)

    def _to_json(self) -> dict[str, Any]:
        dice = random.Random(self.id)
        pages = dice.choice((1, 1, 1, 2, 2, 3, 5, 12))
        body: dict[str, Any] = {
            "id": self.id,
            "title": self.title,
            "slug": self.slug,
            "created_at": _format(self.created_at),
            "updated_at": _format(self.updated_at),
            "recipients": [recipient.to_json() for recipient in self.recipients],
            "fields": [
                _draft_field(dice, self.id * 1000 + number, self.recipients, pages)
                for number in range(dice.randint(1, 4) * pages)
            ],
            "document_files": [
                {
                    "id": self.id * 10,
                    "name": f"{self.title}.pdf",
                    "document_file_pages": [_draft_page(self.id, page) for page in range(1, pages + 1)],
                }
            ],
        }
        if self.is_template:
            body["is_template"] = True
        return body


@dataclass(slots=True)
class Invoice:
    """An invoice with its line items as (description, quantity, unit price in cents)."""

    id: int
    status: str
    customer_name: str | None
    customer_email: str
    payment_due: str
    created_at: float
    updated_at: float
    items: tuple[tuple[str, int, int], ...]

    @property
    def edited(self) -> bool:
        return self.updated_at != self.created_at

    def to_json(self) -> dict[str, Any]:
        total = sum(quantity * price for _, quantity, price in self.items)
        return {
            "id": self.id,
            "slug": f"inv-{self.id:08x}",
            "currency": "usd",
            "status": self.status,
            "description": self.items[0][0],
            "customer_name": self.customer_name,
            "customer_email": self.customer_email,
            "payment_due": self.payment_due,
            "footer_note": None,
            "total": total / 100,
            "localized_total": _dollars(total),
            "sent_at": _format(None if self.status == "draft" else self.created_at),
            "created_at": _format(self.created_at),
            "updated_at": _format(self.updated_at),
            "items": [
                {
                    "id": self.id * 10 + number,
                    "description": description,
                    "details": None,
                    "quantity": quantity,
                    "unit_price": price,
                    "total_price": quantity * price,
                    "localized_unit_price": _dollars(price),
                    "localized_total": _dollars(quantity * price),
                }
                for number, (description, quantity, price) in enumerate(self.items)
            ],
            "payment_platforms": [{"id": "7f1f3c1e-2f0b-4a52-9d6f-0d2f4c6e9a11", "name": "Stripe"}],
            "pay_url": f"https://breezedoc.example/pay/inv-{self.id:08x}",
        }


def draft_document(document_id: int, now: float, *, is_template: bool = False) -> Document:
    """Return the document with this id: always the same for the same id and time."""
    dice = random.Random(-document_id)
    created_at = now - dice.uniform(1, 400) * DAY
    count = 0 if is_template else dice.choice((1, 1, 2, 2, 3))
    recipients = [_draft_recipient(dice, document_id * 10 + party, party, created_at) for party in range(1, count + 1)]
    newest = max([created_at, *(recipient.updated_at for recipient in recipients)])
    return Document(
        document_id,
        f"{dice.choice(_KINDS)} with {dice.choice(_PARTIES)}",
        f"{dice.getrandbits(64):016x}",
        created_at,
        newest,
        recipients,
        is_template,
    )


def draft_invoice(invoice_id: int, now: float) -> Invoice:
    dice = random.Random(invoice_id)
    created_at = now - dice.uniform(1, 200) * DAY
    name = dice.choice(_NAMES)
    items = tuple(
        (f"{dice.choice(_KINDS)} review", dice.randint(1, 8), dice.randint(20, 400) * 100)
        for _ in range(dice.randint(1, 3))
    )
    return Invoice(
        invoice_id,
        dice.choice(("draft", "paid", "paid", "void", "uncollectible")),
        name if dice.random() < 0.8 else None,
        _email(name),
        datetime.fromtimestamp(created_at + 30 * DAY, UTC).date().isoformat(),
        created_at,
        created_at,
        items,
    )


def sign_urls(now: float) -> bytes:
    """Return the query of a read's page URLs, which is different each time."""
    at = datetime.fromtimestamp(now, UTC)
    return (
        f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=SANDBOX%2F{at:%Y%m%d}%2Fus-east-1%2Fs3%2Faws4_request"
        f"&X-Amz-Date={at:%Y%m%dT%H%M%SZ}&X-Amz-Expires=1800&X-Amz-SignedHeaders=host"
        f"&X-Amz-Signature={secrets.token_hex(32)}"
    ).encode()


def _draft_recipient(dice: random.Random, recipient_id: int, party: int, created_at: float) -> Recipient:
    name = dice.choice(_NAMES)
    progress = dice.randint(0, 3)
    sent, opened, completed = (created_at + dice.uniform(0.01, 0.3) * step * DAY for step in (1, 2, 3))
    recipient = Recipient(
        recipient_id, f"{dice.getrandbits(64):016x}", name, _email(name), party, created_at, created_at
    )
    if progress >= 1:
        recipient.sent_at = recipient.updated_at = sent
    if progress >= 2:
        recipient.opened_at = recipient.updated_at = max(sent, opened)
    if progress >= 3:
        recipient.completed_at = recipient.updated_at = max(sent, opened, completed)
    return recipient


def _draft_field(dice: random.Random, field_id: int, recipients: list[Recipient], pages: int) -> dict[str, Any]:
    """Return a field with BreezeDoc's inconsistent types: `false` for a string, a missing slug, and so on."""
    kind = dice.choice(_FIELD_TYPES)
    drafted: dict[str, Any] = {
        "id": field_id,
        "field_type": kind,
        "slug": f"{kind}-{field_id}",
        "page": dice.randint(1, pages),
        "position": {"x": round(dice.uniform(20, 560), 2), "y": round(dice.uniform(20, 760), 2)},
        "required": dice.random() < 0.7,
        "properties": {
            kind: {
                "label": dice.choice((False, "Full name", "Date of signing", "")),
                "defaultValue": dice.choice((False, None, "", "n/a")),
                "fontSize": dice.choice((10, 12, "12")),
            }
        },
        "recipient_field": {},
    }
    if recipients:
        recipient = dice.choice(recipients)
        drafted["recipient_field"] = {
            "id": field_id,
            "recipient_id": recipient.id,
            "field_id": field_id,
            "value": dice.choice((False, None, recipient.name)),
        }
    if dice.random() < 0.25:
        del drafted["slug"]
    return drafted


def _draft_page(document_id: int, page: int) -> dict[str, Any]:
    stem = f"https://files.breezedoc.example/documents/{document_id}/pages/{page}"
    return {
        "id": document_id * 100 + page,
        "page_number": page,
        "width": 612,
        "height": 792,
        "url": f"{stem}.png?{_URL_SIGNATURE}",
        "thumbnail_url": f"{stem}-thumb.png?{_URL_SIGNATURE}",
    }


def _format(at: float | None) -> str | None:
    return None if at is None else _format_cached(at)


@lru_cache(maxsize=4096)
def _format_cached(at: float) -> str:
    return format_time(at)


def _dollars(cents: int) -> str:
    return f"${cents / 100:,.2f}"


def _email(name: str) -> str:
    return f"{name.lower().replace(' ', '.')}@example.com"
