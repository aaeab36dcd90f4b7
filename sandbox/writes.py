"""What the API lets an application write: create a document, send it, and create one from a template."""

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.accounts import Directory, User
from sandbox.documents import Document, Recipient, sign_urls
from sandbox.http import Answer, Request, answer_json, answer_problem

longest_text = 191
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")

Errors = dict[str, list[str]]


def create_document(directory: Directory, request: Request, user: User, now: float) -> Answer:
    """Answer `POST /documents`: 201 with the new document, or 422."""
    fields = request.fields
    errors: Errors = {}
    _check_text(errors, "title", fields.get("title"))
    given = _read_recipients(errors, fields.get("recipients"), with_party=True)
    if errors:
        return _refuse(errors)
    document = _add(directory, user, fields["title"], given, now)
    return Answer(201, document.render(sign_urls(now)))


def create_from_template(directory: Directory, user: User, template: Document, now: float) -> Answer:
    """Answer `POST /templates/{id}/create-document`: 201 with a document of the template's title and recipients."""
    given = [{"name": one.name, "email": one.email, "party": one.party} for one in template.recipients]
    document = _add(directory, user, template.title, given, now)
    return Answer(201, document.render(sign_urls(now)))


def send_document(request: Request, document: Document, now: float) -> Answer:
    """Answer `POST /documents/{id}/send`: 200 with the document; 400 if it was sent before, or 422."""
    errors: Errors = {}
    listed = request.fields.get("recipients")
    if listed is None:
        errors["recipients"] = ["The recipients field is required."]
    given = _read_recipients(errors, listed, with_party=False)
    if not errors and len(given) != len(document.recipients):
        errors["recipients"] = [f"The recipients field must contain {len(document.recipients)} items."]
    if errors:
        return _refuse(errors)
    if any(one.sent_at is not None for one in document.recipients):
        return answer_problem(request, 400, "The document has already been sent.")
    for recipient, fields in zip(sorted(document.recipients, key=lambda one: one.party), given, strict=True):
        recipient.name, recipient.email = fields["name"], fields["email"]
        recipient.sent_at = recipient.updated_at = now
    document.touch(now)
    return Answer(200, document.render(sign_urls(now)))


def _add(directory: Directory, user: User, title: str, given: Sequence[Mapping[str, Any]], now: float) -> Document:
    number = directory.add_documents(user.desk, 1)[0]
    recipients = [
        Recipient(number * 10 + place, secrets.token_hex(8), fields["name"], fields["email"], fields["party"], now, now)
        for place, fields in enumerate(given, start=1)
    ]
    document = Document(number, title, secrets.token_hex(8), now, now, recipients, edited=True)
    user.desk.documents.put_back(number, document)
    return document


def _read_recipients(errors: Errors, given: object, *, with_party: bool) -> list[dict[str, Any]]:
    """Return the recipients, and note what is wrong with each by Laravel's names."""
    if given is None:
        return []
    if not isinstance(given, list):
        errors["recipients"] = ["The recipients field must be an array."]
        return []
    read = [each if isinstance(each, dict) else {} for each in given]
    for place, fields in enumerate(read):
        name = f"recipients.{place}"
        _check_text(errors, f"{name}.name", fields.get("name"))
        email = fields.get("email")
        _check_text(errors, f"{name}.email", email)
        if f"{name}.email" not in errors and not _EMAIL.fullmatch(str(email)):
            errors[f"{name}.email"] = [f"The {name}.email field must be a valid email address."]
        party = fields.get("party")
        if with_party and party is None:
            errors[f"{name}.party"] = [f"The {name}.party field is required."]
        elif with_party and (not isinstance(party, int) or isinstance(party, bool)):
            errors[f"{name}.party"] = [f"The {name}.party field must be an integer."]
    return read


def _check_text(errors: Errors, name: str, value: object) -> None:
    if value is None or value == "":
        errors[name] = [f"The {name} field is required."]
    elif not isinstance(value, str):
        errors[name] = [f"The {name} field must be a string."]
    elif len(value) > longest_text:
        errors[name] = [f"The {name} field must not be greater than {longest_text} characters."]


def _refuse(errors: Errors) -> Answer:
    """Return Laravel's 422: the first message, how many more there are, and all of them by field."""
    messages = [message for each in errors.values() for message in each]
    more = len(messages) - 1
    rest = f" (and {more} more error{'s' if more > 1 else ''})" if more else ""
    return answer_json(422, {"message": messages[0] + rest, "errors": errors})
